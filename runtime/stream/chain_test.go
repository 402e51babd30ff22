package stream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// publish publishes n messages of a writer, waits for them, and gives the acknowledged number.
func publish(ctx context.Context, ch *stream.Chain, source, writer string, from, to uint64, data []byte) error {
	for n := from; n < to; n++ {
		if _, err := ch.Publish(ctx, outgoing(source, writer, n, data)); err != nil {
			return err
		}
	}
	return ch.Wait(ctx, ch.Sent())
}

func TestChainStoresInOrder(t *testing.T) {
	t.Parallel()
	c := embedded(t)
	s := create(t, c, "shop")
	var told atomic.Uint64
	ch := chain(t, s, 7, stream.ChainOptions{Stored: told.Store})
	ctx := deadline(t, *patience)
	if err := publish(ctx, ch, "shop", "a", 0, 5000, []byte("{}\n")); err != nil {
		t.Fatal(err)
	}
	if got, want := ch.Stored(), uint64(event.FenceMarkers+5000); got != want || ch.Sent() != want || told.Load() != want {
		t.Errorf("stored %d, sent %d, told %d, want %d", got, ch.Sent(), told.Load(), want)
	}
	records := verify(t, c, s, map[string]uint64{"a": 5000})
	if got := len(records); got != event.FenceMarkers+5000 {
		t.Errorf("got %d messages", got)
	}
	m, err := s.Message(ctx, event.FenceMarkers+1)
	if err != nil {
		t.Fatal(err)
	}
	want := outgoing("shop", "a", 0, nil)
	if m.ID != want.ID || m.Subject != want.Subject || m.Group.To.Compare(want.Group.To) != 0 || m.Writer != (event.Writer{Epoch: 7, Base: 512}) || string(m.Data) != "{}\n" || m.TimeMS == 0 {
		t.Errorf("got %+v", m)
	}
}

// A message that nobody flushes is stored all the same.
func TestChainSendsWhatIsHeldBack(t *testing.T) {
	t.Parallel()
	c := embedded(t)
	s := create(t, c, "shop")
	stored := make(chan uint64, 10)
	ch := chain(t, s, 1, stream.ChainOptions{Stored: func(n uint64) { stored <- n }})
	n, err := ch.Publish(t.Context(), outgoing("shop", "a", 0, nil))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-stored:
		if got != n {
			t.Errorf("got %d, want %d", got, n)
		}
	case <-time.After(*patience):
		t.Error("not stored")
	}
}

// The window is bounded in messages and in bytes, and a message that is larger than the window travels alone.
func TestChainWindow(t *testing.T) {
	t.Parallel()
	server := start(t, stream.Embedded{Listen: "127.0.0.1:0", MaxPayload: 24 << 20})
	p := newProxy(t, server.ClientURL())
	c, err := stream.Connect(t.Context(), stream.Config{URL: p.url()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for _, test := range []struct {
		name string
		size int
		want uint64
	}{
		{"messages", 10, 512},
		{"bytes", 1 << 20, 7},
		{"alone", 9 << 20, 1},
	} {
		s := create(t, c, test.name)
		ch := chain(t, s, 1, stream.ChainOptions{})
		warm(t, ch, test.name)
		p.mute.Store(true)
		data := bytes.Repeat([]byte("x"), test.size)
		base := ch.Sent()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- publish(ctx, ch, test.name, "a", 1, 2000, data) }()
		eventually(t, func() bool { return ch.Sent() >= base+test.want })
		await(t, 50*time.Millisecond)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", test.name, err)
		}
		if got := ch.Sent() - base; got != test.want {
			t.Errorf("%s: %d messages in flight, want %d", test.name, got, test.want)
		}
		p.mute.Store(false)
		p.cut()
		// A small one at the end: the last message is read again and again.
		if err := publish(deadline(t, *patience), ch, test.name, "a", test.want+1, test.want+2, nil); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		ch.Close()
		verify(t, within(t, server), s, map[string]uint64{"a": test.want + 2})
	}
}

// warm publishes message 0 and waits for it: the chain has its link then.
func warm(t testing.TB, ch *stream.Chain, source string) {
	t.Helper()
	if err := publish(deadline(t, *patience), ch, source, "a", 0, 1, []byte("{}")); err != nil {
		t.Fatal(err)
	}
}

// Lost acknowledgements, lost messages, and connections cut in the middle.
func TestChainSurvivesTheNetwork(t *testing.T) {
	t.Parallel()
	server := start(t, stream.Embedded{Listen: "127.0.0.1:0"})
	p := newProxy(t, server.ClientURL())
	c, err := stream.Connect(t.Context(), stream.Config{URL: p.url()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := create(t, c, "shop")
	var held atomic.Int64
	ch := chain(t, s, 1, stream.ChainOptions{Holds: func(context.Context) error { held.Add(1); return nil }})
	warm(t, ch, "shop")
	done := make(chan error, 1)
	const messages = 12_000
	go func() { done <- publish(t.Context(), ch, "shop", "a", 1, messages, make([]byte, 300)) }()
	// Each fault waits until something went through since the last one.
	faults := []func(){
		p.cut,
		func() { p.mute.Store(true); await(t, 400*time.Millisecond); p.mute.Store(false) },
		func() { p.swallow.Store(true); await(t, 50*time.Millisecond); p.swallow.Store(false); p.cut() },
		func() { p.mute.Store(true); await(t, 50*time.Millisecond); p.cut(); p.mute.Store(false) },
		p.cut,
	}
	for _, fault := range faults {
		if err := ch.Wait(deadline(t, *patience), min(ch.Stored()+1000, ch.Sent())); err != nil {
			t.Fatal(err)
		}
		fault()
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(*patience):
		t.Fatalf("stored %d, sent %d", ch.Stored(), ch.Sent())
	}
	if held.Load() == 0 {
		t.Error("nobody asked whether the slot is still held")
	}
	verify(t, within(t, server), s, map[string]uint64{"a": messages})
}

// await lets a fault last.
func await(t testing.TB, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

func TestChainEndsWithoutTheSlot(t *testing.T) {
	t.Parallel()
	server := start(t, stream.Embedded{Listen: "127.0.0.1:0"})
	p := newProxy(t, server.ClientURL())
	c, err := stream.Connect(t.Context(), stream.Config{URL: p.url()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := create(t, c, "shop")
	lost := errors.New("the slot was taken")
	ch := chain(t, s, 1, stream.ChainOptions{Holds: func(context.Context) error { return lost }})
	warm(t, ch, "shop")
	p.cut()
	select {
	case <-ch.Failed():
	case <-time.After(*patience):
		t.Fatal("the chain goes on")
	}
	if !errors.Is(ch.Err(), lost) {
		t.Errorf("got %v", ch.Err())
	}
	if _, err := ch.Publish(t.Context(), outgoing("shop", "a", 1, nil)); !errors.Is(err, lost) {
		t.Errorf("got %v", err)
	}
}

// A writer with a full window in flight, whose packets arrive after its successor's fence and messages of another shape.
func TestZombieIsFenced(t *testing.T) {
	t.Parallel()
	server := start(t, stream.Embedded{Listen: "127.0.0.1:0"})
	direct := within(t, server)
	s := create(t, direct, "shop")
	for round := range uint32(6) {
		zombieRound(t, server.ClientURL(), s, round)
	}
	verify(t, direct, s, nil)
}

// zombieRound fences a writer at full speed. In some rounds its packets race with the fence first; in the end they are held
// back until the fence is there, because without that nothing bounds how often the stream's end moves in between.
func zombieRound(t *testing.T, url string, s *stream.Stream, round uint32) {
	t.Helper()
	p := newProxy(t, url)
	c, err := stream.Connect(t.Context(), stream.Config{URL: p.url()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	own, err := stream.Open(t.Context(), c, s.Source())
	if err != nil {
		t.Fatal(err)
	}
	old := chain(t, own, 1+2*round, stream.ChainOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	zombie := make(chan error, 1)
	go func() {
		zombie <- publish(ctx, old, s.Source(), fmt.Sprintf("old%d", round), 0, 1<<40, make([]byte, 100))
	}()
	defer cancel()
	if !eventually(t, func() bool { return old.Stored() > 0 }) {
		t.Fatal("the zombie stores nothing")
	}
	name := fmt.Sprintf("new%d", round)
	ch := overtake(t, p, old, s, 2+2*round, int(round%3))
	if err := publish(deadline(t, *patience), ch, s.Source(), name, 0, 1500, make([]byte, 70)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-zombie:
		if !errors.Is(err, stream.ErrFenced) {
			t.Fatalf("the zombie ended with %v", err)
		}
	case <-time.After(*patience):
		t.Fatal("the zombie goes on")
	}
	ch.Close()
}

// overtake fences while packets of the old chain are late; so many tries race with them. They arrive after the fence, while
// the new chain publishes.
func overtake(t *testing.T, p *proxy, old *stream.Chain, s *stream.Stream, epoch uint32, races int) *stream.Chain {
	t.Helper()
	for try := 0; ; try++ {
		p.gate.Lock()
		release := sync.OnceFunc(p.gate.Unlock)
		t.Cleanup(release)
		if !eventually(t, func() bool { return old.Sent() >= old.Stored()+256 || old.Err() != nil }) {
			t.Fatal("the zombie never had many messages in flight")
		}
		last, err := s.LastOn(deadline(t, *patience), ">")
		if err != nil {
			t.Fatal(err)
		}
		if try < races {
			release()
		}
		ch, err := takeOverAt(t, s, last, epoch)
		release()
		if errors.Is(err, stream.ErrMoved) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return ch
	}
}

// takeOver fences a stream whose last packets are still arriving: it tries again as long as the end has moved.
func takeOver(t testing.TB, s *stream.Stream, epoch uint32) *stream.Chain {
	t.Helper()
	for {
		last, err := s.LastOn(deadline(t, *patience), ">")
		if err != nil {
			t.Fatal(err)
		}
		ch, err := takeOverAt(t, s, last, epoch)
		if errors.Is(err, stream.ErrMoved) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return ch
	}
}

func takeOverAt(t testing.TB, s *stream.Stream, last *event.Message, epoch uint32) (*stream.Chain, error) {
	t.Helper()
	w, err := s.Fence(deadline(t, *patience), last.Sequence, epoch, last.Group, fmt.Sprintf("instance-%d", instances.Add(1)))
	if err != nil {
		return nil, err
	}
	ch := s.Chain(w, w.Base, stream.ChainOptions{})
	t.Cleanup(ch.Close)
	return ch, nil
}

// eventually polls until ok.
func eventually(t testing.TB, ok func() bool) bool {
	t.Helper()
	ctx := deadline(t, *patience)
	for !ok() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Millisecond):
		}
	}
	return true
}

func TestCloseLeavesAPrefix(t *testing.T) {
	t.Parallel()
	c := embedded(t)
	s := create(t, c, "shop")
	ch := chain(t, s, 1, stream.ChainOptions{})
	go func() { _ = publish(t.Context(), ch, "shop", "a", 0, 1<<40, make([]byte, 50)) }()
	if !eventually(t, func() bool { return ch.Stored() > 2000 }) {
		t.Fatal("nothing is stored")
	}
	ch.Close()
	if err := ch.Err(); !errors.Is(err, stream.ErrClosed) {
		t.Errorf("got %v", err)
	}
	verify(t, c, s, map[string]uint64{"a": ch.Stored() - event.FenceMarkers})
}

func TestLargeMessage(t *testing.T) {
	t.Parallel()
	server := start(t, stream.Embedded{MaxPayload: 1 << 20})
	c := within(t, server)
	s := create(t, c, "shop")
	ch := chain(t, s, 1, stream.ChainOptions{})
	ctx := deadline(t, *patience)
	data := bytes.Repeat([]byte(`{"op":"c"}`), 300_000)
	n, err := ch.Publish(ctx, outgoing("shop", "a", 0, data))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.Publish(ctx, outgoing("shop", "a", 1, []byte("{}"))); err != nil {
		t.Fatal(err)
	}
	if err := ch.Wait(ctx, ch.Sent()); err != nil {
		t.Fatal(err)
	}
	m, err := s.Message(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Data, data) || m.Large == "" {
		t.Errorf("got %d bytes of %d, large %q", len(m.Data), len(data), m.Large)
	}
	// The same message again, by a successor that does not know that its payload is stored.
	ch.Close()
	again := takeOver(t, s, 2)
	if _, err := again.Publish(ctx, outgoing("shop", "a", 2, data)); err != nil {
		t.Fatal(err)
	}
	if err := again.Wait(ctx, again.Sent()); err != nil {
		t.Fatal(err)
	}
	m.Data = nil
	m.Large = "missing"
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := s.Resolve(short, m); err == nil || !strings.Contains(err.Error(), "RUNNEL_large") {
		t.Errorf("got %v", err)
	}
	verify(t, c, s, map[string]uint64{"a": 3})
}
