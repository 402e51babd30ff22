package stream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

func letter(function string, n uint64) *event.DeadLetter {
	w := event.Writer{Epoch: 1}
	return &event.DeadLetter{
		Function: function, Generation: 7, Original: event.Subject("shop", event.Table{Schema: "public", Name: "order items"}, 3),
		Sequence: n, Version: w.Version(n, 1), Attempts: 2, Time: time.Unix(1769860800, 0).UTC(), Reason: fmt.Sprint("too long: ", n), Line: fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

func ids(t *testing.T, d *stream.DeadLetters, function string) []uint64 {
	t.Helper()
	var all []uint64
	if err := d.Each(deadline(t, *patience), function, func(l *stream.Letter) error {
		all = append(all, l.ID)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	c := embedded(t)
	d := c.DeadLetters()
	if counts, err := d.Counts(t.Context()); err != nil || len(counts) != 0 {
		t.Errorf("before the first one: %v, %v", counts, err)
	}
	if got := ids(t, d, ""); got != nil {
		t.Errorf("before the first one: %v", got)
	}
	for _, l := range []*event.DeadLetter{letter("a", 1), letter("b", 2), letter("a", 3), letter("a", 1)} {
		if err := d.Put(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	counts, err := d.Counts(t.Context())
	if diff := cmp.Diff(map[string]uint64{"a": 2, "b": 1}, counts); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if a, all := ids(t, d, "a"), ids(t, d, ""); !slices.Equal(a, []uint64{1, 3}) || !slices.Equal(all, []uint64{1, 2, 3}) || ids(t, d, "none") != nil {
		t.Errorf("of a %v, all %v", a, all)
	}
	got, err := d.Get(t.Context(), 3)
	if diff := cmp.Diff(letter("a", 3), &got.DeadLetter); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	for range 2 { // gone is gone
		if err := d.Delete(t.Context(), 3); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.Get(t.Context(), 3); !errors.Is(err, stream.ErrNoMessage) || !slices.Equal(ids(t, d, "a"), []uint64{1}) {
		t.Errorf("after its deletion: %v", err)
	}
}

// The stream is made by who needs it first, and again where it was deleted.
func TestDeadLetterStream(t *testing.T) {
	t.Parallel()
	c := embedded(t)
	js, err := jetstream.New(c.NC)
	if err != nil {
		t.Fatal(err)
	}
	d := c.DeadLetters()
	if err := d.Put(t.Context(), letter("a", 1)); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), event.DeadLetterStream)
	if err != nil {
		t.Fatal(err)
	}
	got := s.CachedInfo().Config
	if got.Discard != jetstream.DiscardNew || got.MaxAge != 0 || got.MaxBytes <= 0 || got.Retention != jetstream.LimitsPolicy || got.Storage != jetstream.FileStorage || got.Replicas != 1 {
		t.Errorf("%+v", got)
	}
	if err := js.DeleteStream(t.Context(), event.DeadLetterStream); err != nil {
		t.Fatal(err)
	}
	ctx := deadline(t, *patience)
	for err = d.Put(ctx, letter("a", 2)); err != nil && ctx.Err() == nil; {
		err = d.Put(ctx, letter("a", 2))
	}
	if err != nil || len(ids(t, d, "a")) != 1 {
		t.Errorf("after the stream was deleted: %v", err)
	}
}

// Nothing is dropped where the stream is full: it is refused until there is room.
func TestDeadLettersAreFull(t *testing.T) {
	t.Parallel()
	c := embedded(t)
	js, err := jetstream.New(c.NC)
	if err != nil {
		t.Fatal(err)
	}
	d := c.DeadLetters()
	if err := d.Put(t.Context(), letter("a", 1)); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), event.DeadLetterStream)
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.MaxBytes = 1 << 10
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	large := letter("a", 2)
	large.Line = bytes.Repeat([]byte("x"), 2<<10)
	if err := d.Put(t.Context(), large); err == nil || !strings.Contains(err.Error(), "runnel dlq purge") {
		t.Errorf("a full stream says %v", err)
	}
	config.MaxBytes = 1 << 20
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := d.Put(t.Context(), large); err != nil || !slices.Equal(ids(t, d, "a"), []uint64{1, 2}) {
		t.Errorf("once there is room: %v", err)
	}
	large.Line = bytes.Repeat([]byte("x"), c.MaxMessage()+1)
	if err := d.Put(t.Context(), large); !errors.Is(err, stream.ErrLetterTooLarge) {
		t.Errorf("%d bytes: %v", len(large.Line), err)
	}
}

func TestDeadLetterWithoutAServer(t *testing.T) {
	t.Parallel()
	s := start(t, stream.Embedded{})
	c := within(t, s)
	d := c.DeadLetters()
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := d.Put(ctx, letter("a", 1)); err == nil {
		t.Error("stored without a server")
	}
}
