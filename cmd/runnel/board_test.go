package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	b := newBoard(newMetrics())
	now := time.Now()
	a, h := b.agent("shop"), b.host()
	a.State(capture.Streaming, "")
	a.Published(5, 100, now)
	a.Loading(capture.Loading{Table: event.Table{Schema: "public", Name: "orders"}, Rows: 5000, Estimate: 20000, Began: now.Add(-10 * time.Second)})
	a.Loading(capture.Loading{Table: event.Table{Schema: "public", Name: "items"}, Rows: 7, Estimate: 7, Done: true})
	b.agent("other").State(capture.Standby, "runnel other 1f (process 7)")
	h.State("search", registry.Running, "")
	h.Lag("search", 1234, 0.25)
	h.Stalled("slow", true)
	h.Retried("slow", errors.New("connection\nrefused"))
	h.State("wrong", registry.Halted, "a column is missing")
	got := strings.Join(b.status(now), "\n")
	want := strings.Join([]string{
		strings.Repeat("─", 60),
		"other     standby (runnel other 1f (process 7))",
		"shop      streaming         0 events/s   published 5",
		"  public.orders                [█████░░░░░░░░░░░░░░░]  25%  5,000 rows of about 20,000, 30s left",
		"search    running           0 events/s   written 0   lag 0.2 s, 1,234 messages",
		"slow      stalled: connection refused",
		"wrong     halted: a column is missing",
	}, "\n")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do    func(b *board)
		after time.Duration
		want  string
	}{
		"Nothing":   {func(*board) {}, 0, ""},
		"Streaming": {func(b *board) { b.agent("s").State(capture.Streaming, "") }, time.Hour, ""},
		"Standby":   {func(b *board) { b.agent("s").State(capture.Standby, "x") }, time.Hour, ""},
		"Starting":  {func(b *board) { b.agent("s").State(capture.Starting, "") }, 0, "source s: starting for 0s"},
		"Unstored": {func(b *board) {
			b.agent("s").State(capture.Streaming, "")
			b.agent("s").Published(1, 1, time.Now())
		}, time.Minute, "source s: JetStream has stored nothing for 1m0s"},
		"Stored": {func(b *board) {
			b.agent("s").State(capture.Streaming, "")
			b.agent("s").Published(1, 1, time.Now())
			b.agent("s").Stored(1)
		}, time.Minute, ""},
		"Paused":  {func(b *board) { b.host().State("f", registry.Paused, "") }, time.Hour, ""},
		"Halted":  {func(b *board) { b.host().State("f", registry.Halted, "why") }, 0, "function f: halted: why"},
		"Stalled": {func(b *board) { b.host().Stalled("f", true) }, 0, "function f: stalled: "},
		"Stuck":   {func(b *board) { b.host().Lag("f", 9, 1) }, time.Minute, "function f: 9 messages wait and nothing was written for 1m0s"},
		"Moving": {func(b *board) {
			b.host().Lag("f", 9, 1)
			b.host().Floor("f", 0, sink.Point{})
		}, 10 * time.Second, ""},
		"Deleted": {func(b *board) {
			b.host().State("f", registry.Halted, "why")
			b.host().State("f", "", "")
		}, 0, ""},
	} {
		b := newBoard(newMetrics())
		c.do(b)
		if got := strings.Join(b.unready(time.Now().Add(c.after)), "\n"); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	var r rate
	start := time.Unix(1_000_000, 0)
	for i := range 20 {
		r.add(start.Add(time.Duration(i)*500*time.Millisecond), 50)
	}
	if got := r.perSecond(start.Add(10 * time.Second)); got != 100 {
		t.Errorf("got %v, want 100", got)
	}
	if got := r.perSecond(start.Add(12 * time.Second)); got != 60 {
		t.Errorf("2 s later: got %v, want 60", got)
	}
	if got := r.perSecond(start.Add(time.Hour)); got != 0 {
		t.Errorf("much later: got %v, want 0", got)
	}
}

// The block stays below the log, however much is logged in between.
func TestPainter(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &painter{live: true, out: &out, width: func() int { return 10 }}
	p.show([]string{"one", "a line that is too long"})
	if _, err := p.Write([]byte("logged\n")); err != nil {
		t.Fatal(err)
	}
	p.show(nil)
	want := "one\na line t…\n" + "\x1b[2A\r\x1b[J" + "logged\n" + "one\na line t…\n" + "\x1b[2A\r\x1b[J"
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		number(0): "0", number(999): "999", number(1000): "1,000", number(-1234567): "-1,234,567",
		count(0): "0", count(2.25): "2.2", count(12345.6): "12,345",
		seconds(0.04): "0.0 s", seconds(75): "75 s", seconds(7200): "2h0m0s",
		size(1000): "1000 B", size(1 << 20): "1.0 MiB", size(10 << 30): "10.0 GiB",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
