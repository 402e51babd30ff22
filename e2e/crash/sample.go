package main

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/runnel-dev/runnel/e2e/check"
)

// How often all rows of a target, and the source's slot, are looked at: two cores carry the servers too.
const (
	lookAtTarget = 3 * time.Second
	lookAtSearch = 12 * time.Second // a look at all documents costs Elasticsearch more than what it is asked to write
	lookAtSource = time.Second
)

// sample looks at targets and source until stop, past all proxies.
func (w *World) sample(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	server := w.reader()
	for _, t := range w.Targets {
		looking.Go(func() {
			rows, end := t.rows()
			every := lookAtTarget
			if t.Kind == "elasticsearch" {
				every = lookAtSearch
			}
			defer end()
			s := check.Sampler{
				Recorder: w.Recorder, Target: t.Function, Rows: rows, Every: every,
				Floors: func(ctx context.Context) ([]check.Floor, error) { return server.Floors(ctx, t.Function) },
			}
			w.looked(s.Run(ctx))
		})
	}
	looking.Go(func() { w.sampleSource(ctx, server) })
	return sync.OnceFunc(func() {
		cancel()
		looking.Wait()
		server.Close()
	})
}

// reader reads what Runnel keeps in NATS.
func (w *World) reader() *check.Server {
	return &check.Server{Source: SourceName, Dial: func() (*nats.Conn, error) {
		a, err := w.access()
		if err != nil {
			return nil, err
		}
		return nats.Connect(a.URL, nats.UserInfo(a.User, a.Password), nats.Timeout(2*time.Second))
	}}
}

// sampleSource looks at the source as it is at the moment, also after a failover.
func (w *World) sampleSource(ctx context.Context, server *check.Server) {
	for ctx.Err() == nil {
		at := w.Source
		s := w.DB.Sampler(w.Recorder, at, server.End)
		for ctx.Err() == nil && w.Source == at {
			_ = s.Look(ctx) // what cannot be reached is not looked at
			_ = pause(ctx, lookAtSource)
		}
		s.Close()
	}
}

// looked notes that a target could never be looked at: its promises would go unchecked.
func (w *World) looked(err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unseen = append(w.unseen, err)
}

// rows looks at the target's tables.
func (t *Target) rows() (look func(ctx context.Context) (check.Rows, error), end func()) {
	switch t.Kind {
	case "elasticsearch":
		return check.ElasticsearchRows(t.base(), "", func(table string) string { return "shop-" + table }), func() {}
	case "clickhouse":
		return check.ClickHouseRows(t.base(), func(table string) string { return table }), func() {}
	}
	return check.PostgresRows(t.Server.PostgresURL(), "public")
}

// record opens the history of what is seen.
func (w *World) record() error {
	f, err := os.Create(w.Dir + "/history.jsonl")
	if err != nil {
		return err
	}
	w.Cleanup(func() { f.Close() })
	w.Recorder = check.NewRecorder(f)
	return nil
}
