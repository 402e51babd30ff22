package host

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runnel-dev/runnel/runtime/sink"
)

func testPause(first, longest time.Duration) *pause {
	return (&Host{cfg: Config{RetryMin: first, RetryMax: longest}}).backoff()
}

// A target that is away for an hour, and eight lanes that want to write: one batch at a time knocks, more and more rarely; once it
// answers, all go on at once.
func TestBreakerProbesWithOneBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(testPause(100*time.Millisecond, 30*time.Second))
		began, back := time.Now(), time.Now().Add(time.Hour)
		var mu sync.Mutex
		var late []time.Duration // tries after the first minute, while it is away
		together, most := 0, 0
		ends := map[int]time.Duration{}
		var lanes sync.WaitGroup
		for n := range 8 {
			l, own := &lane{}, testPause(100*time.Millisecond, 30*time.Second)
			lanes.Go(func() {
				for {
					if err := b.enter(t.Context(), l); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					since := time.Since(began)
					if time.Now().Before(back) && since > time.Minute {
						if late, together = append(late, since), together+1; together > most {
							most = together
						}
					}
					mu.Unlock()
					time.Sleep(time.Second) // of a connection that is not answered
					var err error
					mu.Lock()
					if time.Now().Before(back) {
						err = errors.New("away")
						if since > time.Minute {
							together--
						}
					}
					mu.Unlock()
					if b.leave(l, err); err == nil {
						mu.Lock()
						ends[n] = time.Since(back)
						mu.Unlock()
						return
					}
					if b.rest(t.Context(), own.next(err), asked(err)) != nil {
						return
					}
				}
			})
		}
		lanes.Wait()
		if most != 1 {
			t.Errorf("%d tries at the same time", most)
		}
		if n := len(late); n < 60 || n > 360 { // a pause of 15 to 45 s, and the try
			t.Errorf("%d tries in 59 minutes", n)
		}
		first, last := time.Hour, time.Duration(0)
		for _, d := range ends {
			first, last = min(first, d), max(last, d)
		}
		if len(ends) != 8 || first > 47*time.Second || last-first > 2*time.Second {
			t.Errorf("%d lanes go on, the first after %v, the last after %v", len(ends), first, last)
		}
	})
}

// A part of the target is away: others find out at once that theirs is not. What a target asks for is waited for in full.
func TestBreakerOfOneLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(testPause(time.Minute, time.Hour))
		bad, good := &lane{}, &lane{}
		for range opening {
			b.leave(bad, errors.New("shard 0 is away"))
		}
		began := time.Now()
		if err := b.enter(t.Context(), good); err != nil || time.Since(began) > 0 {
			t.Errorf("a lane that has not failed waits for %v, %v", time.Since(began), err)
		}
		b.leave(good, nil)
		if err := b.enter(t.Context(), bad); err != nil || time.Since(began) > 0 {
			t.Errorf("the breaker is closed, but a lane waits for %v, %v", time.Since(began), err)
		}
		busy := sink.RetryAfter(time.Hour, errors.New("busy"))
		b.leave(bad, busy)
		b.leave(bad, busy)
		time.AfterFunc(time.Minute, func() { b.leave(good, nil) })
		if err := b.rest(t.Context(), 2*time.Hour, asked(busy)); err != nil || time.Since(began) < time.Hour {
			t.Errorf("waited for %v, %v", time.Since(began), err)
		}
	})
}

func TestPaceInVirtualTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		perSecond float64
		share     float64
		events    int
	}{{500, 1, 30_000}, {500, 3.0 / 8, 10_000}, {0.5, 1, 100}, {1e6, 1, 5_000_000}} {
		synctest.Test(t, func(t *testing.T) {
			p, began := newPace(c.perSecond), time.Now()
			for left := c.events; left > 0; {
				n := min(p.limit(5000), left)
				if err := p.wait(t.Context(), n, c.share); err != nil {
					t.Fatal(err)
				}
				left -= n
			}
			got, want := time.Since(began).Seconds(), float64(c.events)/(c.perSecond*c.share)
			if got < 0.9*want || got > 1.02*want {
				t.Errorf("%v: took %.1f s, want %.1f s", c, got, want)
			}
		})
	}
	if p := newPace(0); p.limit(5000) != 5000 || p.wait(t.Context(), 1e9, 1) != nil {
		t.Error("no rate limits")
	}
}

// A throttled target gets batches that it writes within the goal; one that is fast again gets whole ones.
func TestSizeFollowsTheTarget(t *testing.T) {
	t.Parallel()
	s := newSize(5000, time.Second)
	write := func(perRow time.Duration) int {
		rows, bytes := s.now(5000, 8<<20)
		if want := int64(8<<20) * int64(rows) / 5000; bytes != max(want, 1) {
			t.Errorf("%d rows and %d bytes", rows, bytes)
		}
		s.took(rows, true, time.Duration(rows)*perRow)
		return rows
	}
	for _, c := range []struct {
		perRow   time.Duration
		from, to int
	}{{time.Microsecond, 5000, 5000}, {5 * time.Millisecond, 100, 200}, {2 * time.Second, 1, 1}, {time.Millisecond, 500, 1000}, {10 * time.Microsecond, 5000, 5000}} {
		got := 0
		for range 20 {
			got = write(c.perRow)
		}
		if got < c.from || got > c.to {
			t.Errorf("%v a row: %d rows, want %d to %d", c.perRow, got, c.from, c.to)
		}
	}
	s.took(5000, false, 5*time.Second) // in vain
	if rows, _ := s.now(5000, 1); rows != 1000 {
		t.Errorf("after a write that took too long: %d rows", rows)
	}
	if s.took(10, false, time.Millisecond); s.rows != 1000 {
		t.Errorf("a batch that is not full says nothing: %d rows", s.rows)
	}
}
