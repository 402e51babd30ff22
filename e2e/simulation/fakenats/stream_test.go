package fakenats_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runnel-dev/runnel/e2e/simulation/fakenats"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

func connect(t testing.TB, s *fakenats.Server, client string) *stream.Conn {
	t.Helper()
	c, err := stream.Connect(t.Context(), stream.Config{InProcess: s.Client(client), SyncInterval: time.Second, Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func server(t testing.TB, o fakenats.Options) *fakenats.Server {
	s := fakenats.New(o)
	t.Cleanup(s.Close)
	return s
}

// TestStream publishes by a fence and a chain, in virtual time.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, fakenats.Options{Faults: fakenats.Faults{LatencyMin: time.Millisecond, LatencyMax: 3 * time.Millisecond}})
		c := connect(t, s, "agent")
		if _, err := registry.Open(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		st, err := stream.Create(t.Context(), c, "shop", stream.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		w, err := st.Fence(t.Context(), 0, 7, event.Group{K: 1, N: 1}, "one")
		if err != nil {
			t.Fatal(err)
		}
		chain := st.Chain(w, w.Base, stream.ChainOptions{})
		defer chain.Close()
		for n := range uint64(2000) {
			if _, err := chain.Publish(t.Context(), outgoing("shop", n)); err != nil {
				t.Fatal(err)
			}
		}
		if err := chain.Wait(t.Context(), chain.Sent()); err != nil {
			t.Fatal(err)
		}
		end, err := st.End(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := end.Last, uint64(2512); got != want {
			t.Errorf("last sequence: got %d, want %d", got, want)
		}
		if got, want := end.Message.ID, outgoing("shop", 1999).ID; got != want {
			t.Errorf("last message: got %s, want %s", got, want)
		}
	})
}

func outgoing(source string, n uint64) *stream.Outgoing {
	p := event.Position{Commit: 1 << 20, Change: n + 1}
	return &stream.Outgoing{
		Subject: event.Subject(source, event.Table{Schema: "public", Name: "orders"}, int(n%8)),
		ID:      fmt.Sprintf("%s:%d", source, n),
		Group:   event.Group{From: p, To: p, K: 1, N: 1},
		Data:    fmt.Appendf(nil, `{"n":%d}`, n),
	}
}
