package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/process"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	b := newBoard()
	now := time.Now()
	a := b.agent("shop")
	a.State(capture.Streaming, "")
	a.Published(5, 100, now)
	a.Loading(capture.Loading{Table: event.Table{Schema: "public", Name: "orders"}, Rows: 5000, Estimate: 20000, Began: now.Add(-10 * time.Second)})
	a.Loading(capture.Loading{Table: event.Table{Schema: "public", Name: "items"}, Rows: 7, Estimate: 7, Done: true})
	a.Waiting("search")
	b.agent("other").State(capture.Standby, "runnel other 1f (process 7)")
	got := b.Status(now)
	want := []process.Line{
		{Name: "other", Text: "standby (runnel other 1f (process 7))"},
		{Name: "shop", Text: "streaming         0 events/s   published 5"},
		{Text: "public.orders                [█████░░░░░░░░░░░░░░░]  25%  5,000 rows of about 20,000, 30s left"},
		{Text: "load waits for function search"},
	}
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
	} {
		b := newBoard()
		c.do(b)
		if got := strings.Join(b.Unready(time.Now().Add(c.after)), "\n"); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
