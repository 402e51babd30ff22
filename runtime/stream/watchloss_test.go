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

// TestWatchSeesALostTail loses the newest revision of a key, and gives it to another one before anybody can look: the watch
// still tells what each key is now.
func TestWatchSeesALostTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fakenats.New(fakenats.Options{})
		t.Cleanup(server.Close)
		c, err := stream.Connect(t.Context(), stream.Config{InProcess: server.Client("test"), Replicas: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		b, err := stream.OpenBucket(t.Context(), c, stream.BucketConfig{Name: "functions", History: 8})
		if err != nil {
			t.Fatal(err)
		}
		put := func(key, value string) {
			t.Helper()
			if _, err := b.Put(t.Context(), key, []byte(value)); err != nil {
				t.Fatal(err)
			}
		}
		told := map[string]string{}
		ctx, stop := context.WithCancel(t.Context())
		var watching sync.WaitGroup
		defer watching.Wait()
		defer stop()
		watching.Go(func() {
			if err := b.Watch(ctx, ">", func(e stream.Entry) { told[e.Key] = string(e.Value) }, nil); err != nil {
				t.Error(err)
			}
		})
		put("a", "runs")
		old := server.Snapshot()
		put("a", "is paused")
		time.Sleep(time.Second)
		server.Restore(old, 100*time.Millisecond)
		time.Sleep(500 * time.Millisecond)
		put("b", "runs")
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(map[string]string{"a": "runs", "b": "runs"}, told); diff != "" {
			t.Errorf("what is (-) and what was told last (+):\n%s", diff)
		}
	})
}
