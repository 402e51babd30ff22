package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// teller takes what a process logs into the history, and counts it: what is worth a line is a path worth taking.
type teller struct {
	p     *process
	attrs string
}

func (t teller) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (t teller) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(t.attrs)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	t.p.w.c.count(t.p.kind + ": " + r.Message)
	t.p.w.h.note(t.p.name, "%s: %s%s", r.Level, r.Message, b.String())
	return nil
}

func (t teller) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		t.attrs += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return t
}

func (t teller) WithGroup(string) slog.Handler { return t }
