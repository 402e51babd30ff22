package stream_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/e2e/simulation/fakenats"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// spied is a bucket in a server in memory, and what a watch of it has told last of each key.
type spied struct {
	t      *testing.T
	server *fakenats.Server
	bucket *stream.Bucket
	told   map[string]string
}

func newSpied(t *testing.T) *spied {
	w := &spied{t: t, server: fakenats.New(fakenats.Options{}), told: map[string]string{}}
	t.Cleanup(w.server.Close)
	c, err := stream.Connect(t.Context(), stream.Config{InProcess: w.server.Client("test"), Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if w.bucket, err = stream.OpenBucket(t.Context(), c, stream.BucketConfig{Name: "functions", History: 8}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	t.Cleanup(watching.Wait)
	t.Cleanup(stop)
	watching.Go(func() {
		if err := w.bucket.Watch(ctx, ">", func(e stream.Entry) { w.told[e.Key] = string(e.Value) }, nil); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *spied) put(key, value string) {
	w.t.Helper()
	if _, err := w.bucket.Put(w.t.Context(), key, []byte(value)); err != nil {
		w.t.Fatal(err)
	}
}

// want waits for as long as a watch may take to find what it lacks.
func (w *spied) want(want map[string]string) {
	w.t.Helper()
	time.Sleep(time.Minute)
	synctest.Wait()
	if diff := cmp.Diff(want, w.told); diff != "" {
		w.t.Errorf("what is (-) and what was told last (+):\n%s", diff)
	}
}

// TestWatchSeesALostTail loses the newest revision of a key, and gives it to another one before anybody can look: the watch
// still tells what each key is now.
func TestWatchSeesALostTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSpied(t)
		w.put("a", "runs")
		old := w.server.Snapshot()
		w.put("a", "is paused")
		time.Sleep(time.Second)
		w.server.Restore(old, 100*time.Millisecond)
		time.Sleep(500 * time.Millisecond)
		w.put("b", "runs")
		w.want(map[string]string{"a": "runs", "b": "runs"})
	})
}

// TestWatchMissesTheLast loses the last entry on its way, after which nothing comes that would show it.
func TestWatchMissesTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSpied(t)
		w.put("a", "runs")
		time.Sleep(time.Second)
		w.server.SetFaults(fakenats.Faults{DeliveryLost: 1})
		w.put("b", "runs")
		time.Sleep(time.Second)
		w.server.SetFaults(fakenats.Faults{})
		w.want(map[string]string{"a": "runs", "b": "runs"})
	})
}
