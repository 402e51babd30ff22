package functiontest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// table is a target in memory.
type table struct {
	mu   sync.Mutex
	list []string // of sinks that only insert
	rows map[string]row
}

type row struct {
	value   string // "": deleted
	version event.Version
}

func newTable() *table { return &table{rows: map[string]row{}} }

func (t *table) Reset(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list, t.rows = nil, map[string]row{}
	return nil
}

func (t *table) Rows(context.Context) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rows := slices.Clone(t.list)
	for _, key := range slices.Sorted(maps.Keys(t.rows)) {
		if r := t.rows[key]; r.value != "" {
			rows = append(rows, r.value)
		}
	}
	return rows, nil
}

// sink is a handler of a function for each event, under the table's lock.
type sink struct {
	*table
	one func(t *table, key string, e *event.Event) error
}

func (s sink) Handle(ctx context.Context, b functions.Batch) error {
	for i := range b.Spans {
		for j := range b.Spans[i].Events {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := s.event(&b.Spans[i].Events[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s sink) event(e *event.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, err := e.Schema.AppendKey(nil, e.Key())
	if err != nil {
		return err
	}
	return s.one(s.table, string(key), e)
}

// newest writes what is newer than what is there, and remembers deletes.
func newest(t *table, key string, e *event.Event) error {
	if e.Version > t.rows[key].version {
		t.rows[key] = row{string(e.After.Raw()), e.Version}
	}
	return nil
}

// strict refuses what does not fit its column.
func strict(t *table, key string, e *event.Event) error {
	if v, ok := e.After.Column("amount"); ok && !v.IsNull() {
		if _, err := v.Float64(); err != nil {
			return functions.Permanent(err)
		}
	}
	return newest(t, key, e)
}

// Sinks that are wrong, each in its way.
var wrong = map[string]func(t *table) functions.Handler{
	"insert": each(func(t *table, key string, e *event.Event) error {
		if e.Op == event.Delete {
			delete(t.rows, key)
			t.list = slices.DeleteFunc(t.list, func(row string) bool { return sameKey(e, row) })
			return nil
		}
		if e.Op != event.Create {
			t.list = slices.DeleteFunc(t.list, func(row string) bool { return sameKey(e, row) })
		}
		t.list = append(t.list, string(e.After.Raw()))
		return nil
	}),
	"last-write-wins": each(func(t *table, key string, e *event.Event) error {
		t.rows[key] = row{string(e.After.Raw()), e.Version}
		return nil
	}),
	"forgets-deletes": each(func(t *table, key string, e *event.Event) error {
		if e.Op == event.Delete && e.Version > t.rows[key].version {
			delete(t.rows, key)
			return nil
		}
		return newest(t, key, e)
	}),
	"ignores-deletes": each(func(t *table, key string, e *event.Event) error {
		if e.Op == event.Delete {
			return nil
		}
		return newest(t, key, e)
	}),
	"keeps-nulls-out": each(func(t *table, key string, e *event.Event) error { // NULL leaves what was there
		was := event.RowOf([]byte(t.rows[key].value))
		if e.Version <= t.rows[key].version {
			return nil
		}
		var parts []string
		for name, v := range e.After.All() {
			if v.IsNull() {
				v, _ = was.Column(name)
			}
			if !v.IsNull() {
				parts = append(parts, fmt.Sprintf("%q:%s", name, v))
			}
		}
		t.rows[key] = row{version: e.Version}
		if len(parts) > 0 {
			t.rows[key] = row{"{" + strings.Join(parts, ",") + "}", e.Version}
		}
		return nil
	}),
	"drops-what-does-not-fit": each(func(t *table, key string, e *event.Event) error {
		_ = strict(t, key, e)
		return nil
	}),
	"stalls": each(func(t *table, key string, e *event.Event) error {
		if err := strict(t, key, e); err != nil {
			return errors.New("the amount is not a number")
		}
		return nil
	}),
	"panics": each(func(t *table, key string, e *event.Event) error {
		if e.Op == event.Delete {
			_ = e.After.Raw()[0]
		}
		return newest(t, key, e)
	}),
	"sweeps-what-comes-late": func(t *table) functions.Handler { return forgets{sink{t, newest}} },
	"hides-errors":           func(t *table) functions.Handler { return hides{sink{t, newest}} },
	"buffers":                func(t *table) functions.Handler { return &buffers{sink: sink{t, newest}} },
	"keeps-memory":           func(t *table) functions.Handler { return keeps{t} },
}

// right are sinks that hold in everything.
var right = map[string]func(t *table) functions.Handler{
	"newest":   each(newest),
	"strict":   each(strict),
	"combined": func(t *table) functions.Handler { return combined{sink{t, newest}} },
	"typed":    typed,
	"sweeps":   func(t *table) functions.Handler { return sweeps{sink{t, newest}} },
	"names":    func(t *table) functions.Handler { return names{sink{t, strict}} },
}

func each(one func(t *table, key string, e *event.Event) error) func(t *table) functions.Handler {
	return func(t *table) functions.Handler { return sink{t, one} }
}

func sameKey(e *event.Event, row string) bool {
	a, _ := e.Schema.AppendKey(nil, e.Key())
	b, _ := e.Schema.AppendKey(nil, event.RowOf([]byte(row)))
	return string(a) == string(b)
}

// hides says nil when its deadline passes.
type hides struct{ sink }

func (h hides) Handle(ctx context.Context, b functions.Batch) error {
	_ = h.sink.Handle(ctx, b)
	return nil
}

// buffers writes a batch with the next one.
type buffers struct {
	sink
	mu   sync.Mutex
	held []functions.Batch
}

func (h *buffers) Handle(ctx context.Context, b functions.Batch) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.held) < 2 {
		for i := range b.Spans {
			b.Spans[i].Events = slices.Clone(b.Spans[i].Events)
		}
		h.held = append(h.held, b)
		return nil
	}
	return h.sink.Handle(ctx, b)
}

// keeps remembers slices of the message.
type keeps struct{ *table }

func (h keeps) Handle(_ context.Context, b functions.Batch) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range b.Spans {
		for _, e := range s.Events {
			key, _ := e.Schema.AppendKey(nil, e.Key())
			if e.Version > h.rows[string(key)].version {
				h.rows[string(key)] = row{unsafeString(e.After.Raw()), e.Version}
			}
		}
	}
	return nil
}

// combined takes all partitions in one batch.
type combined struct{ sink }

func (combined) Combine() {}

// names writes what it can, and names the others.
type names struct{ sink }

func (h names) Handle(_ context.Context, b functions.Batch) error {
	var failed functions.BatchError
	for i := range b.Spans {
		for j := range b.Spans[i].Events {
			if err := h.event(&b.Spans[i].Events[j]); err != nil {
				failed.Failed = append(failed.Failed, functions.Failure{Span: i, Event: j, Err: err})
			}
		}
	}
	if len(failed.Failed) > 0 {
		return &failed
	}
	return nil
}

// counter counts changes of each name.
type counter struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *counter) Handle(_ context.Context, b functions.Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range b.Spans {
		for _, e := range s.Events {
			c.counts["rows"] += map[event.Op]int{event.Create: 1, event.Delete: -1}[e.Op]
		}
	}
	return nil
}

func (c *counter) Rows(context.Context) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return []string{fmt.Sprintf(`{"rows":%d}`, c.counts["rows"])}, nil
}

func (c *counter) Reset(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts = map[string]int{}
	return nil
}

// thing is a row of the suite's table.
type thing struct {
	ID     int64        `json:"id"`
	Name   *string      `json:"name"`
	Amount *json.Number `json:"amount"`
}

// typed is a sink as a user writes it: rows as a type of its own, the newest of each key only.
func typed(t *table) functions.Handler {
	return functions.Typed(func(_ context.Context, changes []functions.Change[thing]) error {
		t.mu.Lock()
		defer t.mu.Unlock()
		var failed functions.Failures
		for _, c := range functions.Latest(changes) {
			value := ""
			if !c.Deleted() {
				b, err := json.Marshal(c.After)
				if err != nil {
					failed.Add(c.Item, functions.Permanent(err))
					continue
				}
				value = string(b)
			}
			if c.Version > t.rows[c.ID()].version {
				t.rows[c.ID()] = row{value, c.Version}
			}
		}
		return failed.Err()
	})
}

// sweeps executes a TRUNCATE.
type sweeps struct{ sink }

func (h sweeps) Sweep(_ context.Context, s functions.Sweep) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, r := range h.rows {
		if event.Partition([]byte(key), s.Partitions) == s.Partition && r.version < s.Older {
			h.rows[key] = row{version: s.Older}
		}
	}
	return nil
}

// forgets leaves nothing where it sweeps.
type forgets struct{ sink }

func (h forgets) Sweep(_ context.Context, s functions.Sweep) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.rows, func(key string, r row) bool {
		return event.Partition([]byte(key), s.Partitions) == s.Partition && r.version < s.Older
	})
	return nil
}
