package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
)

// change makes of a function's record what a changed specification asks for: the same generation where the target stays as it is, a new one
// in its place where other tables, rows or columns are wanted, or another order. It gives what follows, for people.
func (r *Registry) change(ctx context.Context, before, after *Function, record *FunctionRecord) (note string, err error) {
	kind, url, name := before.To.place()
	if k, u, n := after.To.place(); k != kind || u != url || n != name || before.Handler != after.Handler {
		return "", refused("function %q: its target cannot change in place: the new one would lack what was written so far; deploy it under a new name, and delete this one", after.Name)
	}
	if before.Source() != after.Source() {
		return "", refused("function %q: it reads source %s and cannot read %s in place: positions of one say nothing in the other; deploy it under a new name, and delete this one", after.Name, before.Source(), after.Source())
	}
	added := slices.DeleteFunc(slices.Clone(after.From), func(from string) bool { return covered(from, before.From) })
	if table := mixed(before, after); table != "" {
		return "", refused("function %q: from cannot change to other tables in place: %s %s holds the rows of those that it read; deploy it under a new name, and delete this one", after.Name, kind, table)
	}
	order := Backfill{Why: "filter, ops, columns, set or mask changed"}
	again := !before.sameShape(after)
	if !again && len(added) > 0 {
		order, again = Backfill{Why: "from has more tables", Tables: added}, true
	}
	if !again && slices.Equal(before.From, after.From) && before.Ordering == after.Ordering {
		return "", nil
	}
	if again = again && after.Takes(event.Read); again {
		if err := r.readable(ctx, after, &order); err != nil {
			return "", err
		}
	}
	record.succeed(before, after, record.Updated)
	if !again {
		return "a new generation takes the place of the old one", nil
	}
	record.AddBackfill(order, record.Updated)
	if order.Full() {
		return "a new generation takes the place of the old one, and its tables are read again", nil
	}
	return fmt.Sprintf("a new generation takes the place of the old one, and %s is read", strings.Join(added, ", ")), nil
}

// mixed names a table of the target in which rows of different tables would meet.
func mixed(before, after *Function) string {
	for i, a := range after.destinations() {
		for j, b := range before.destinations() {
			if overlap(a.name, b.name) && !overlap(after.From[i], before.From[j]) {
				return b.name
			}
		}
	}
	return ""
}

// covered says whether one of some patterns takes all tables that a pattern takes.
func covered(from string, by []string) bool {
	tokens := strings.Split(from, ".")
	return slices.ContainsFunc(by, func(b string) bool {
		for i, t := range strings.Split(b, ".") {
			if t != "*" && t != tokens[i] {
				return false
			}
		}
		return true
	})
}

// readable refuses a backfill that cannot show all rows.
func (r *Registry) readable(ctx context.Context, f *Function, order *Backfill) error {
	known, err := NewestSchemas(ctx, r.Schemas, f)
	if err != nil {
		return fmt.Errorf("read the tables that function %s reads: %w", f.Name, err)
	}
	for _, s := range known {
		if order.Wants(f, s.Table) && len(s.KeyColumns()) == 0 {
			return refused("function %q: this change needs its tables to be read again, and %s has no key: its rows can only be read together with a new slot; deploy it under a new name, with --resnapshot, and delete this one", f.Name, s.Table)
		}
	}
	return nil
}

// Renew makes the record one of a new generation of the same function, which goes on where the present one stands.
func (r *FunctionRecord) Renew(f *Function, now time.Time) {
	r.succeed(f, f, now)
	r.Updated = now.UTC()
}

// succeed makes the record one of a new generation, which begins once every owner of the old one has stopped. One that waited itself was
// never begun: the new one comes in the place of the one before it.
func (r *FunctionRecord) succeed(before, after *Function, now time.Time) {
	if !r.Waits {
		r.Replaces, r.Back = &Replaced{Generation: r.Generation, One: before.Ordering == OrderSource, Back: r.Back}, false
		r.Replay, r.Swap = nil, nil
	}
	r.Generation, r.Waits = max(r.Generation+1, now.Unix()), true
	r.Back = r.Back || r.Replaces.One != (after.Ordering == OrderSource)
}
