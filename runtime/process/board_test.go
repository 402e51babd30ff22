package process

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reporter stands for another part of the work.
type reporter struct{ *Board }

func (reporter) Status(time.Time) []Line {
	return []Line{{"a-long-name", "streaming"}, {"", "a table"}}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	b := NewBoard(NewMetrics("1"))
	o := b.Observer()
	o.State("search", registry.Running, "")
	o.Lag("search", 1234, 0.25)
	o.Stalled("slow", true)
	o.Retried("slow", errors.New("connection\nrefused"))
	o.State("wrong", registry.Halted, "a column is missing")
	p := Process{Reporters: []Reporter{reporter{b}, b}}
	got := strings.Join(p.status(time.Now()), "\n")
	want := strings.Join([]string{
		strings.Repeat("─", 60),
		"a-long-name  streaming",
		"  a table",
		"search       running           0 events/s   written 0   lag 0.2 s, 1,234 messages",
		"slow         stalled: connection refused",
		"wrong        halted: a column is missing",
	}, "\n")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do    func(b *Board)
		after time.Duration
		want  string
	}{
		"Nothing": {func(*Board) {}, 0, ""},
		"Paused":  {func(b *Board) { b.Observer().State("f", registry.Paused, "") }, time.Hour, ""},
		"Halted":  {func(b *Board) { b.Observer().State("f", registry.Halted, "why") }, 0, "function f: halted: why"},
		"Stalled": {func(b *Board) { b.Observer().Stalled("f", true) }, 0, "function f: stalled: "},
		"Stuck":   {func(b *Board) { b.Observer().Lag("f", 9, 1) }, time.Minute, "function f: 9 messages wait and nothing was written for 1m0s"},
		"Moving": {func(b *Board) {
			b.Observer().Lag("f", 9, 1)
			b.Observer().Floor("f", 0, sink.Point{})
		}, 10 * time.Second, ""},
		"Deleted": {func(b *Board) {
			b.Observer().State("f", registry.Halted, "why")
			b.Observer().State("f", "", "")
		}, 0, ""},
	} {
		b := NewBoard(NewMetrics("1"))
		c.do(b)
		if got := strings.Join(b.Unready(time.Now().Add(c.after)), "\n"); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	var r Rate
	start := time.Unix(1_000_000, 0)
	for i := range 20 {
		r.Add(start.Add(time.Duration(i)*500*time.Millisecond), 50)
	}
	if got := r.PerSecond(start.Add(10 * time.Second)); got != 100 {
		t.Errorf("got %v, want 100", got)
	}
	if got := r.PerSecond(start.Add(12 * time.Second)); got != 60 {
		t.Errorf("2 s later: got %v, want 60", got)
	}
	if got := r.PerSecond(start.Add(time.Hour)); got != 0 {
		t.Errorf("much later: got %v, want 0", got)
	}
}

// The block stays below the log, however much is logged in between.
func TestScreen(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &Screen{live: true, out: &out, width: func() int { return 10 }}
	p.Show([]string{"one", "a line that is too long"})
	if _, err := p.Write([]byte("logged\n")); err != nil {
		t.Fatal(err)
	}
	p.Show(nil)
	want := "one\na line t…\n" + "\x1b[2A\r\x1b[J" + "logged\n" + "one\na line t…\n" + "\x1b[2A\r\x1b[J"
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
