package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/process"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// redriveCommand is `runnel dlq redrive`.
type redriveCommand struct {
	letterFilter
	all, dryRun, detach bool
}

func newDLQRedrive() *cobra.Command {
	r := &redriveCommand{}
	cmd := &cobra.Command{
		Use:   "redrive [FUNCTION]",
		Short: "Bring the rows of dead letters into the target, as they are now",
		Long: `Redrive reads the rows of dead letters again from the source, by their keys, and gives them to the function as they are now; rows
that are gone are deleted from the target. So what was given up long ago never overwrites what came since. Letters whose rows have
arrived are deleted; one that is refused once more is a new letter.`,
		Example: `  runnel dlq redrive orders-search --dry-run
  runnel dlq redrive --table public.orders --reason 'too long' --since 2h`,
		Args: r.atMostOne,
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen := r.function != "" || r.table != "" || r.reason != "" || r.since != ""
			if chosen == r.all {
				return usageError{errors.New("expected a function, --table, --reason or --since; or --all, alone")}
			}
			return r.run(cmd.Context(), cmd.OutOrStdout(), process.NewScreen(cmd.ErrOrStderr()))
		},
	}
	r.add(cmd)
	cmd.Flags().BoolVar(&r.all, "all", false, "all of them")
	cmd.Flags().BoolVar(&r.dryRun, "dry-run", false, "say which rows would be read, and read none")
	cmd.Flags().BoolVar(&r.detach, "detach", false, "order it, and do not wait for its end; the letters stay")
	return cmd
}

// redrive is what is done for one function.
type redrive struct {
	spec    *registry.Function
	lists   []registry.KeyList
	rows    map[event.Table]int
	letters []uint64
}

// keysPerList: the agent reads a list at once.
const keysPerList = 50

func (r *redriveCommand) run(ctx context.Context, out io.Writer, screen *process.Screen) error {
	from, err := r.from(time.Now())
	if err != nil {
		return err
	}
	s, err := r.nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	letters, err := r.find(ctx, s.conn.DeadLetters(), from)
	if err != nil {
		return err
	}
	if len(letters) == 0 {
		_, err := fmt.Fprintln(out, "no dead letters")
		return err
	}
	functions, err := s.redrives(ctx, letters, out)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(functions)) {
		if err := r.redrive(ctx, s, name, functions[name], out, screen); err != nil {
			return err
		}
	}
	if r.dryRun {
		_, err = fmt.Fprintln(out, "nothing was changed: this is a dry run")
	}
	return err
}

func (r *redriveCommand) redrive(ctx context.Context, s *session, name string, d *redrive, out io.Writer, screen *process.Screen) error {
	verb := "reads"
	if r.dryRun {
		verb = "would read"
	}
	for _, l := range slices.SortedFunc(maps.Keys(d.rows), func(a, b event.Table) int {
		return slices.Compare([]string{a.Schema, a.Name}, []string{b.Schema, b.Name})
	}) {
		if _, err := fmt.Fprintf(out, "function %s %s %d rows of %s again, for %d letters in all\n", name, verb, d.rows[l], l, len(d.letters)); err != nil {
			return err
		}
	}
	if r.dryRun || len(d.lists) == 0 {
		return nil
	}
	st, err := stream.Open(ctx, s.conn, d.spec.Source())
	if err != nil {
		return err
	}
	end, err := st.End(ctx)
	if err != nil {
		return err
	}
	id, err := s.registry.OrderBackfill(ctx, name, registry.Backfill{Start: endPoint(end), Why: "dead letters are redriven"}, d.lists...)
	if err != nil || r.detach {
		return err
	}
	if err := s.awaitBackfill(ctx, d.spec, id, out, screen); err != nil {
		return err
	}
	status, _, err := s.registry.BackfillOf(ctx, d.spec.Source(), name, id)
	if err != nil {
		return err
	}
	if len(status.Skipped) > 0 {
		return fmt.Errorf("the letters of function %s stay, since not all rows could be read", name)
	}
	for _, letter := range d.letters {
		if err := s.conn.DeadLetters().Delete(ctx, letter); err != nil && !errors.Is(err, stream.ErrNoMessage) {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "deleted %d letters of function %s\n", len(d.letters), name)
	return err
}

// redrives sorts letters by function, and finds the keys of their rows. What cannot be redriven is told, and left out.
func (s *session) redrives(ctx context.Context, letters []*stream.Letter, out io.Writer) (map[string]*redrive, error) {
	all := map[string]*redrive{}
	schemas := map[string]map[event.Table]*event.Schema{}
	seen := map[string]bool{}
	for _, head := range letters {
		l, err := s.conn.DeadLetters().Get(ctx, head.ID)
		if errors.Is(err, stream.ErrNoMessage) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		d := all[l.Function]
		if d == nil {
			d = &redrive{rows: map[event.Table]int{}}
			var missing *registry.NotDeployedError
			if d.spec, _, err = s.registry.FunctionOf(ctx, l.Function); err != nil && !errors.As(err, &missing) {
				return nil, err
			}
			all[l.Function] = d
			if d.spec != nil {
				known, err := registry.NewestSchemas(ctx, s.registry.Schemas, d.spec)
				if err != nil {
					return nil, fmt.Errorf("read the tables of function %s: %w", l.Function, err)
				}
				schemas[l.Function] = map[event.Table]*event.Schema{}
				for _, k := range known {
					schemas[l.Function][k.Table] = k
				}
			}
		}
		_, table, err := l.Table()
		if err != nil {
			return nil, err
		}
		key, why := keyOf(l, schemas[l.Function][table])
		if why != "" {
			if _, err := fmt.Fprintf(out, "letter %d stays: %s\n", l.ID, why); err != nil {
				return nil, err
			}
			continue
		}
		d.letters = append(d.letters, l.ID)
		if id := fmt.Sprintf("%s %s %s", l.Function, table, key); !seen[id] {
			seen[id] = true
			d.rows[table]++
			d.list(table, key)
		}
	}
	return all, nil
}

func (d *redrive) list(table event.Table, key json.RawMessage) {
	for i := range d.lists {
		if l := &d.lists[i]; l.Table == table && len(l.Keys) < keysPerList {
			l.Keys = append(l.Keys, key)
			return
		}
	}
	d.lists = append(d.lists, registry.KeyList{Table: table, Keys: []json.RawMessage{key}})
}

// keyOf is the key of a letter's row, or why there is none.
func keyOf(l *stream.Letter, schema *event.Schema) (key json.RawMessage, why string) {
	switch {
	case schema == nil:
		return nil, fmt.Sprintf("function %s does not read its table any more", l.Function)
	case len(schema.KeyColumns()) == 0:
		return nil, fmt.Sprintf("table %s has no key", schema.Table)
	}
	m := event.Message{Subject: l.Original, Sequence: 1, Data: l.Line}
	events, err := m.Decode(nil)
	if err != nil || len(events) != 1 {
		return nil, fmt.Sprintf("its event cannot be read: %v", err)
	}
	row := events[0].Key()
	key = append(key, '{')
	for n, i := range schema.KeyColumns() {
		name := schema.Columns[i].Name
		v, ok := row.Column(name)
		if !ok {
			return nil, fmt.Sprintf("its event has no column %s, which is of the key now", name)
		}
		if n > 0 {
			key = append(key, ',')
		}
		key = append(event.AppendJSONString(key, name), ':')
		key = append(key, v...)
	}
	return append(key, '}'), ""
}
