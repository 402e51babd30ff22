package fakenats_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/runnel-dev/runnel/e2e/simulation/fakenats"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// TestConformance holds the same conversations with the real server and with this one, and compares all answers.
func TestConformance(t *testing.T) {
	for _, c := range conversations {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// The real server counts some things a moment later: one of a few conversations must be the same.
			diff := "never held"
			for try := 0; try < 4 && diff != ""; try++ {
				real, err := stream.Start(stream.Embedded{Dir: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(real.Stop)
				fake := server(t, fakenats.Options{RealTime: true})
				want := hold(t, c, func() *stream.Conn {
					conn, err := real.Connect(t.Context(), "conformance")
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(conn.Close)
					return conn
				})
				got := hold(t, c, func() *stream.Conn { return connect(t, fake, "conformance") })
				diff = cmp.Diff(want, got)
			}
			if diff != "" {
				t.Errorf("answers of the real server (-) and of the fake (+):\n%s", diff)
			}
		})
	}
}

type conversation struct {
	name string
	hold func(*talk)
}

// talk is a client that notes all answers.
type talk struct {
	*testing.T
	conn   *stream.Conn
	nc     *nats.Conn
	inbox  *nats.Subscription
	prefix string
	lines  []string
}

func hold(t *testing.T, c conversation, open func() *stream.Conn) []string {
	conn := open()
	k := &talk{T: t, conn: conn, nc: conn.NC}
	var err error
	k.prefix = k.nc.NewInbox()
	if k.inbox, err = k.nc.SubscribeSync(k.prefix + ".>"); err != nil {
		t.Fatal(err)
	}
	c.hold(k)
	return k.lines
}

// say publishes with an inbox for answers, and notes as many answers as are expected.
func (k *talk) say(expect int, subject, body string, headers ...string) {
	k.Helper()
	m := &nats.Msg{Subject: subject, Reply: k.prefix + ".answer", Data: []byte(body), Header: nats.Header{}}
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	if err := k.nc.PublishMsg(m); err != nil {
		k.Fatal(err)
	}
	k.note("> " + subject + " " + strings.Join(headers, " ") + " " + body)
	k.hear(expect)
}

// hear notes what comes.
func (k *talk) hear(expect int) {
	k.Helper()
	for range expect {
		m, err := k.inbox.NextMsg(5 * time.Second)
		if err != nil {
			k.note("< " + err.Error())
			continue
		}
		k.note("< " + k.show(m))
	}
}

// silence notes whether something comes that should not.
func (k *talk) silence() {
	k.Helper()
	if err := k.nc.FlushTimeout(5 * time.Second); err != nil {
		k.Fatal(err)
	}
	if m, err := k.inbox.NextMsg(20 * time.Millisecond); err == nil {
		k.note("< unexpected: " + k.show(m))
	}
}

func (k *talk) note(line string) {
	k.lines = append(k.lines, strings.ReplaceAll(line, k.prefix, "_INBOX"))
}

func (k *talk) show(m *nats.Msg) string {
	var b strings.Builder
	if !strings.HasPrefix(m.Subject, "_INBOX") {
		fmt.Fprintf(&b, "%s ", m.Subject)
	}
	if m.Reply != "" {
		words := strings.Split(m.Reply, ".")
		if len(words) > 8 {
			words[7] = "T"
		}
		fmt.Fprintf(&b, "(%s) ", strings.ReplaceAll(strings.Join(words, "."), k.prefix, "_INBOX"))
	}
	for _, key := range slices.Sorted(mapKeys(m.Header)) {
		if key != "Nats-Time-Stamp" {
			fmt.Fprintf(&b, "%s: %s; ", key, m.Header.Get(key))
		}
	}
	return b.String() + plain(m.Data)
}

func mapKeys(h nats.Header) func(func(string) bool) {
	return func(yield func(string) bool) {
		for key := range h {
			if !yield(key) {
				return
			}
		}
	}
}

// plain is an answer without what differs from run to run.
func plain(data []byte) string {
	var v any
	if json.Unmarshal(data, &v) != nil {
		return string(data)
	}
	out, _ := json.Marshal(strip(v))
	return string(out)
}

// strip leaves out what differs from run to run, and what a client takes for the same as nothing: zero values.
func strip(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			inner = strip(inner)
			switch key {
			case "created", "ts", "time", "first_ts", "last_ts", "last_active", "_nats.ver", "_nats.level", "_nats.req.level", "limit", "did_create", "cluster":
				delete(v, key)
				continue
			case "hdrs": // nats.go writes them in any order
				raw, _ := base64.StdEncoding.DecodeString(fmt.Sprint(inner))
				lines := strings.Split(string(raw), "\r\n")
				slices.Sort(lines)
				inner = strings.Join(lines, ",")
			}
			if nothing(inner) {
				delete(v, key)
			} else {
				v[key] = inner
			}
		}
		if len(v) == 0 {
			return nil
		}
		return v
	case []any:
		for i := range v {
			v[i] = strip(v[i])
		}
		if len(v) == 0 {
			return nil
		}
	}
	return v
}

func nothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case float64:
		return v == 0
	case string:
		return v == "" || v == "none"
	}
	return false
}

func (k *talk) pause(d time.Duration) { <-time.After(d) }
