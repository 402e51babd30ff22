package stream_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/runtime/stream"
)

func bucket(t testing.TB, c *stream.Conn, cfg stream.BucketConfig) *stream.Bucket {
	t.Helper()
	b, err := stream.OpenBucket(t.Context(), c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBucketSwap(t *testing.T) {
	t.Parallel()
	b := bucket(t, embedded(t), stream.BucketConfig{Name: "RUNNEL_test"})
	ctx := deadline(t, *patience)
	if e, err := b.Get(ctx, "a.b"); !errors.Is(err, stream.ErrNotFound) || e.Revision != 0 {
		t.Errorf("got %+v, %v", e, err)
	}
	first, err := b.Swap(ctx, "a.b", []byte("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []uint64{0, first + 1} {
		if _, err := b.Swap(ctx, "a.b", []byte("2"), wrong); !errors.Is(err, stream.ErrConflict) {
			t.Errorf("revision %d: got %v", wrong, err)
		}
	}
	second, err := b.Swap(ctx, "a.b", []byte("2"), first)
	if err != nil || second <= first {
		t.Fatalf("got %d, %v", second, err)
	}
	if e, err := b.Get(ctx, "a.b"); err != nil || string(e.Value) != "2" || e.Revision != second || e.Key != "a.b" || e.Created.IsZero() {
		t.Errorf("got %+v, %v", e, err)
	}
	if err := b.Delete(ctx, "a.b", first); !errors.Is(err, stream.ErrConflict) {
		t.Errorf("got %v", err)
	}
	if err := b.Delete(ctx, "a.b", second); err != nil {
		t.Fatal(err)
	}
	gone, err := b.Get(ctx, "a.b")
	if !errors.Is(err, stream.ErrNotFound) || !gone.Deleted || gone.Revision <= second {
		t.Errorf("got %+v, %v", gone, err)
	}
	if _, err := b.Swap(ctx, "a.b", []byte("3"), 0); !errors.Is(err, stream.ErrConflict) {
		t.Errorf("got %v", err)
	}
	if _, err := b.Swap(ctx, "a.b", []byte("3"), gone.Revision); err != nil {
		t.Error(err)
	}
}

func TestBucketListsAndRemembers(t *testing.T) {
	t.Parallel()
	c := embedded(t)
	b := bucket(t, c, stream.BucketConfig{Name: "RUNNEL_test", History: 3})
	ctx := deadline(t, *patience)
	for _, kv := range []string{"a.x=1", "b.x=2", "a.y=3", "a.x=4", "a.x=5", "a.x=6", "c=7"} {
		key, value, _ := strings.Cut(kv, "=")
		if _, err := b.Put(ctx, key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Delete(ctx, "c", 7); err != nil {
		t.Fatal(err)
	}
	list := func(es []stream.Entry, err error) []string {
		if err != nil {
			t.Error(err)
		}
		var out []string
		for _, e := range es {
			s := e.Key + "=" + string(e.Value)
			if e.Deleted {
				s = e.Key + " deleted"
			}
			out = append(out, s)
		}
		return out
	}
	for _, test := range []struct {
		name      string
		got, want []string
	}{
		{"All", list(b.All(ctx, ">")), []string{"a.x=6", "a.y=3", "b.x=2"}},
		{"Some", list(b.All(ctx, "a.*")), []string{"a.x=6", "a.y=3"}},
		{"None", list(b.All(ctx, "z.>")), nil},
		{"History", list(b.History(ctx, "a.x")), []string{"a.x=4", "a.x=5", "a.x=6"}},
		{"Deleted", list(b.History(ctx, "c")), []string{"c=7", "c deleted"}},
		// It is there already, and stays what it is.
		{"Again", list(bucket(t, c, stream.BucketConfig{Name: "RUNNEL_test", History: 3}).History(ctx, "b.x")), []string{"b.x=2"}},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

func TestBucketForgets(t *testing.T) {
	t.Parallel()
	b := bucket(t, embedded(t), stream.BucketConfig{Name: "RUNNEL_test", TTL: 500 * time.Millisecond})
	if _, err := b.Put(t.Context(), "k", nil); err != nil {
		t.Fatal(err)
	}
	if !eventually(t, func() bool { _, err := b.Get(t.Context(), "k"); return errors.Is(err, stream.ErrNotFound) }) {
		t.Error("the key outlives its time")
	}
}

// watched collects what a watch tells.
type watched struct {
	mu    sync.Mutex
	seen  map[string]string
	ready int // keys at ready
}

func watchAll(t testing.TB, b *stream.Bucket, pattern string) *watched {
	t.Helper()
	w := &watched{seen: map[string]string{}, ready: -1}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- b.Watch(ctx, pattern, func(e stream.Entry) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.seen[e.Key] = string(e.Value); e.Deleted {
				delete(w.seen, e.Key)
			}
		}, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ready = len(w.seen)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	return w
}

func (w *watched) is(key, value string) func() bool {
	return func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		got, ok := w.seen[key]
		return ok && got == value
	}
}

func (w *watched) atReady() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ready
}

func TestBucketWatch(t *testing.T) {
	t.Parallel()
	e := stream.Embedded{Dir: t.TempDir(), Listen: freePort(t)}
	server := start(t, e)
	c := over(t, server.ClientURL())
	b := bucket(t, c, stream.BucketConfig{Name: "RUNNEL_test"})
	ctx := deadline(t, *patience)
	put := func(key, value string) {
		t.Helper()
		for {
			// What is written to a server that goes away has no answer.
			if _, err := b.Put(ctx, key, []byte(value)); err == nil {
				return
			} else if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	empty := watchAll(t, b, ">")
	if !eventually(t, func() bool { return empty.atReady() == 0 }) {
		t.Fatal("an empty bucket is never ready")
	}
	put("a.1", "x")
	put("a.2", "y")
	put("b.1", "z")
	w := watchAll(t, b, "a.*")
	if !eventually(t, func() bool { return w.atReady() == 2 }) {
		t.Errorf("%d keys at ready, want 2", w.atReady())
	}
	put("a.3", "new")
	if !eventually(t, w.is("a.3", "new")) || !eventually(t, empty.is("b.1", "z")) {
		t.Error("a change is not told")
	}
	server.Stop()
	start(t, e)
	put("a.1", "after the restart")
	if !eventually(t, w.is("a.1", "after the restart")) {
		t.Error("the watch does not survive a restart of the server")
	}
	if w.is("b.1", "z")() {
		t.Error("told of a key that does not match")
	}
}
