package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/servers"
)

// targetFaults are troubles of the targets, each of them for each target. None is a loss: a function waits for its target, and the
// others do not wait for the function.
var targetFaults = func() (all []Fault) {
	for _, f := range []struct {
		name, what string
		exclusive  bool
		inject     func(ctx context.Context, w *World, t *Target, r *rand.Rand) error
	}{
		{"restart", "is shut down and started again", false, restartTarget},
		{"crash", "is killed and started again", false, crashTarget},
		{"slow", "answers each request seconds later", false, slowTarget},
		{"refuses", "takes no writes for a while", false, refuseWrites},
		{"away", "cannot be reached for longer than any other target may be late", true, targetAway},
		{"restored", "gets the data that it had some seconds before", true, restoreTarget},
	} {
		for _, function := range []string{"search", "analytics", "warehouse"} {
			all = append(all, Fault{
				Name: "target." + f.name + "." + function, What: "the target of " + function + " " + f.what, Exclusive: f.exclusive,
				Needs: func(w *World) bool { return w.Target(function) != nil },
				Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
					t := w.Target(function)
					t.owner.Lock()
					defer t.owner.Unlock()
					return f.inject(ctx, w, t, r)
				},
			})
		}
	}
	return all
}()

// stop shuts the target down as its operator does.
func (t *Target) stop() {
	if t.Kind == "postgres" {
		t.Server.Stop(syscall.SIGINT) // SIGTERM waits for its clients
		return
	}
	t.Server.Stop(syscall.SIGTERM)
}

func restartTarget(ctx context.Context, w *World, t *Target, r *rand.Rand) error {
	t.stop()
	defer t.Server.Restart(w)
	return pause(ctx, between(r, 0, 2*time.Second))
}

func crashTarget(ctx context.Context, w *World, t *Target, r *rand.Rand) error {
	t.Server.Kill()
	defer t.Server.Restart(w)
	return pause(ctx, between(r, 0, 2*time.Second))
}

// slowTarget is slow enough that a write meets its deadline and is split, or not.
func slowTarget(ctx context.Context, w *World, t *Target, r *rand.Rand) error {
	p := w.Proxy(t.Link)
	defer p.Heal()
	p.Delay(between(r, 200*time.Millisecond, 2500*time.Millisecond), time.Second)
	return pause(ctx, between(r, 3*time.Second, 10*time.Second))
}

// refuseWrites lasts long enough that what is tried again has not given up in the meantime: nothing halts.
func refuseWrites(ctx context.Context, w *World, t *Target, r *rand.Rand) error {
	d := between(r, 500*time.Millisecond, 6*time.Second)
	switch t.Kind {
	case "elasticsearch": // as a full disk makes it do
		block := func(value string) error {
			return t.put(ctx, "/shop-*/_settings", `{"index.blocks.read_only_allow_delete": `+value+`}`)
		}
		if err := block("true"); err != nil {
			return err
		}
		err := pause(ctx, d)
		if e := block("null"); err == nil {
			err = e
		}
		return err
	case "clickhouse": // as a table does whose Keeper is away
		origin, err := url.Parse(t.base())
		if err != nil {
			return err
		}
		through := httputil.NewSingleHostReverseProxy(origin)
		front := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, q *http.Request) {
			if q.Method == http.MethodGet {
				through.ServeHTTP(out, q)
				return
			}
			out.Header().Set("X-ClickHouse-Exception-Code", "242")
			out.WriteHeader(http.StatusInternalServerError)
			_, _ = fmt.Fprint(out, "Code: 242. DB::Exception: Table is in readonly mode (replica path: /clickhouse/tables/1). (TABLE_IS_READ_ONLY)")
		}))
		p := w.Proxy(t.Link)
		defer func() {
			p.Retarget(t.Server.Addr)
			p.Cut()
			front.Close()
		}()
		p.Retarget(front.URL)
		p.Cut()
		return pause(ctx, d)
	default: // as an operator makes it do
		set := func(value string) error {
			return execute(ctx, t.Server.PostgresURL(), "set default_transaction_read_only = off", "alter system set default_transaction_read_only = "+value, "select pg_reload_conf()")
		}
		if err := set("on"); err != nil {
			return err
		}
		err := pause(ctx, d)
		if e := set("off"); err == nil {
			err = e
		}
		return err
	}
}

// put changes a setting of Elasticsearch.
func (t *Target) put(ctx context.Context, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, t.base()+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("PUT %s: %s", path, res.Status)
	}
	return nil
}

// lateness is how far other targets, and the release of the source's log, may be behind while one target is away, on a machine
// that is busy; absent is how long it is away.
const (
	lateness = 20 * time.Second
	absent   = 28 * time.Second
)

func targetAway(ctx context.Context, w *World, t *Target, _ *rand.Rand) error {
	if err := w.grown(ctx); err != nil {
		return err
	}
	p := w.Proxy(t.Link)
	defer p.Heal()
	from := time.Now()
	p.Refuse()
	p.Cut()
	err := pause(ctx, absent)
	w.Recorder.Away(check.Away{Target: t.Function, From: from, Until: time.Now(), Bound: lateness})
	return err
}

// restoreTarget: PostgreSQL has its checkpoints beside the rows, so the function goes on from there by itself. The others have none,
// and an operator loads everything again.
func restoreTarget(ctx context.Context, w *World, t *Target, r *rand.Rand) error {
	if err := w.settled(ctx, t); err != nil { // a copy without its tables would be another trouble: they were dropped
		return err
	}
	var restore func()
	if t.Kind == "postgres" {
		copied := t.Server.Backup(w)
		restore = func() { t.Server.Restore(w, copied) }
	} else {
		copied := filepath.Join(t.Server.Dir, "copy")
		servers.Freeze(w, t.Server.PID()) // what a snapshot of its disk would hold
		err := copyFolder(filepath.Join(t.Server.Dir, "data"), copied)
		servers.Thaw(w, t.Server.PID())
		if err != nil {
			return err
		}
		restore = func() {
			t.Server.Kill()
			data := filepath.Join(t.Server.Dir, "data")
			err := os.RemoveAll(data)
			if err == nil {
				err = os.Rename(copied, data)
			}
			if err != nil {
				w.Fatal(err)
			}
			t.Server.Restart(w)
		}
	}
	if err := pause(ctx, between(r, time.Second, 5*time.Second)); err != nil {
		return err
	}
	from := time.Now()
	restore()
	if t.Kind != "postgres" {
		if err := w.Resnapshot(ctx); err != nil {
			return err
		}
	}
	if err := w.settled(ctx, t); err != nil {
		return err
	}
	w.allow(t.Function, from, "the target of "+t.Function+" was restored to the past", check.Backwards, check.Undurable)
	return nil
}

// copyFolder keeps owners and rights: servers run as other users.
func copyFolder(from, to string) error {
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	return nil
}
