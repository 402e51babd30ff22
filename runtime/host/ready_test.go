package host

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// slowKV answers late, each time as late as it likes.
type slowKV struct {
	Bucket
	took  func() time.Duration
	value func(key string) []byte
}

func (k slowKV) Get(ctx context.Context, key string) (stream.Entry, error) {
	if err := sleep(ctx, k.took()); err != nil {
		return stream.Entry{}, err
	}
	return stream.Entry{Key: key, Value: k.value(key)}, nil
}

type slowWorld map[string]Bucket

func (w slowWorld) Bucket(name string) Bucket                    { return w[name] }
func (slowWorld) Stream(context.Context, string) (Stream, error) { return nil, stream.ErrNoStream }
func (slowWorld) Bury(context.Context, *event.DeadLetter) error  { return nil }

// A batch of many lanes begins only while the answer of each is young enough, however slowly KV answers.
func TestLanesOfABatchAreConfirmedTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		took := func() time.Duration { return time.Duration(n.Add(1)%12) * 100 * time.Millisecond }
		cfg := Config{Lease: 10 * time.Second, WriteDeadline: 6 * time.Second, RetryMin: 10 * time.Millisecond, World: slowWorld{
			registry.BucketFunctions: slowKV{took: took, value: func(string) []byte { return encode(registry.FunctionRecord{Generation: 1, State: registry.Running}) }},
			registry.BucketOwners:    slowKV{took: took, value: func(key string) []byte { return encode(registry.Owner{Instance: "me", Turn: 1}) }},
		}}
		g := &generation{f: &function{name: "f"}, host: &Host{cfg: cfg, instance: "me"}, log: slog.New(slog.DiscardHandler), record: registry.FunctionRecord{Generation: 1}}
		var jobs []*job
		for p := range 20 {
			l := &lane{g: g, host: g.host, key: fmt.Sprint("f.1.", p), owner: registry.Owner{Instance: "me", Turn: 1}}
			jobs = append(jobs, &job{lane: l})
		}
		for range 5 {
			for left := jobs; len(left) > 0; {
				now, later := (&writer{g: g}).ready(t.Context(), left)
				if len(now) == 0 || len(now)+len(later) != len(left) {
					t.Fatalf("%d now and %d later, of %d", len(now), len(later), len(left))
				}
				for _, j := range now {
					if old := time.Since(j.lane.confirmed); old > cfg.Lease-cfg.WriteDeadline {
						t.Errorf("%s was confirmed %v ago", j.lane.key, old)
					}
				}
				left = later
			}
			time.Sleep(5 * time.Second)
		}
	})
}
