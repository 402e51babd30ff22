package fakenats_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runnel-dev/runnel/e2e/simulation/fakenats"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// TestDeadLetters stores letters of two workers that find no RUNNEL_DLQ, over a server that loses requests, answers and letters: each
// is there once in the end.
func TestDeadLetters(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			s := server(t, fakenats.Options{Rand: rand.New(rand.NewPCG(seed, 0))})
			workers := map[string]*stream.DeadLetters{"one": connect(t, s, "one").DeadLetters(), "two": connect(t, s, "two").DeadLetters()}
			s.SetFaults(fakenats.Faults{
				LatencyMin: time.Millisecond, LatencyMax: 3 * time.Millisecond, PublishLost: 0.1, AckLost: 0.2, NoResponders: 0.1, StoreRefuses: 0.1,
				RequestLost: 0.1, ReplyLost: 0.2, Unavailable: 0.1,
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			var under sync.WaitGroup
			for name, d := range workers {
				for n := range 4 {
					under.Go(func() {
						for put(ctx, d, name, n) != nil && ctx.Err() == nil {
							time.Sleep(100 * time.Millisecond) // the pause between two tries, in virtual time; ctx is the deadline
						}
					})
				}
			}
			under.Wait()
			if _, last := s.Ends(event.DeadLetterStream); last != 8 || ctx.Err() != nil {
				t.Errorf("seed %d: %d letters, want 8 (%v)", seed, last, ctx.Err())
			}
		})
	}
}

func put(ctx context.Context, d *stream.DeadLetters, function string, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	w := event.Writer{Epoch: 1}
	return d.Put(ctx, &event.DeadLetter{
		Function: function, Original: event.Subject("shop", event.Table{Schema: "public", Name: "orders"}, n), Sequence: uint64(n + 1),
		Version: w.Version(uint64(n+1), 1), Time: time.Now(), Line: []byte("{}"),
	})
}
