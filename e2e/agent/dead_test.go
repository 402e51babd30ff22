package agent_test

import (
	"net/url"
	"testing"

	"github.com/runnel-dev/runnel/e2e/proxy"
)

// TestDeadConnectionIsNoticed: what stands between agent and server has forgotten their connections. Nothing closes them, nothing comes
// through, and both processes live: the agent must not wait for ever.
func TestDeadConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)`, "wal_sender_timeout=2s")
	u, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	between := proxy.New(t, u.Host)
	u.Host = between.Addr()
	w.start(func(o *options) { o.source.URL = u.String() })
	w.loaded()
	w.settled()
	between.Strand()
	w.exec(`INSERT INTO a VALUES (2)`)
	w.settled()
	w.stop()
	if diff := w.differences("a"); diff != "" {
		t.Error(diff)
	}
}
