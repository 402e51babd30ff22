package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/process"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// backfillCommand is `runnel backfill`.
type backfillCommand struct {
	again
	tables []string
	where  string
}

func newBackfill() *cobra.Command {
	b := &backfillCommand{}
	cmd := &cobra.Command{
		Use:   "backfill FUNCTION",
		Short: "Read a function's tables again, for it alone, while the flow goes on",
		Long: `Backfill lets the source's agent read the tables of a function again, beside the log and for this function alone, and waits until
the target holds all of it. At the end rows that the source does not have any more are removed from the target, unless --where
chose some rows only. A function that had halted goes on.

With --into NAME a copy of the function fills another table or index, side by side with it, and --swap lets that come in the place of
its own, at once for readers: see runnel replay --help.

What was ordered goes on without this command, and after any crash; --cancel withdraws it.`,
		Example: `  runnel backfill orders-search
  runnel backfill orders-search --table public.orders --where "created_at > '2026-01-01'"
  runnel backfill orders-search --into orders_v2 --swap
  runnel backfill orders-search --cancel`,
		Args: exactlyOne("the name of one function"),
		RunE: func(cmd *cobra.Command, args []string) error {
			some := b.where != "" || len(b.tables) > 0
			if err := b.check(some); err != nil {
				return err
			}
			if b.into != "" && some {
				return usageError{errors.New("--into reads all rows of all tables: expected neither --table nor --where")}
			}
			out, screen := cmd.OutOrStdout(), process.NewScreen(cmd.ErrOrStderr())
			return b.run(cmd.Context(), args[0], job{withdraw: b.withdrawals, none: "function %s has no backfill that is not done, and no copy\n",
				read: func(ctx context.Context, s *session, f *registry.Function, _ registry.FunctionRecord) (*reading, error) {
					return b.reading(ctx, s, f, out, screen)
				}}, out, screen)
		},
	}
	f := cmd.Flags()
	b.add(f, "only say what would be read, or withdrawn", "withdraw what is not done; what was written stays, but for a copy")
	f.StringSliceVar(&b.tables, "table", nil, "only this table, such as public.orders; may be repeated")
	f.StringVar(&b.where, "where", "", "only rows for which this is true, in the source's SQL; needs one table, and removes nothing from the target")
	return cmd
}

func (b *backfillCommand) reading(ctx context.Context, s *session, f *registry.Function, out io.Writer, screen *process.Screen) (*reading, error) {
	order, tables, err := b.order(ctx, s, f)
	if err != nil {
		return nil, err
	}
	list := strings.Join(tables, ", ")
	r := &reading{name: f.Name, would: fmt.Sprintf("would read again for function %s: %s\n", f.Name, list)}
	if b.into == "" {
		var id int64
		r.order = func(ctx context.Context) (registry.FunctionRecord, string, error) {
			if id, err = s.registry.OrderBackfill(ctx, f.Name, order); err != nil {
				return registry.FunctionRecord{}, "", err
			}
			_, n, err := s.registry.FunctionOf(ctx, f.Name)
			return n.Record, fmt.Sprintf("backfill %d of function %s is ordered: %s\n", id, f.Name, list), err
		}
		r.await = func(ctx context.Context, _ registry.FunctionRecord) error {
			return s.awaitBackfill(ctx, f, id, out, screen)
		}
		return r, nil
	}
	p, into, err := s.planCopy(ctx, f, b.into)
	if err != nil {
		return nil, err
	}
	r.name, r.would = p.Function.Name, fmt.Sprintf("would read %s for %s, a copy of function %s, into %s\n", list, p.Function.Name, f.Name, into)
	r.order = func(ctx context.Context) (registry.FunctionRecord, string, error) {
		record, err := s.registry.OrderCopy(ctx, f.Name, p, nil, order.Start, true)
		return record, fmt.Sprintf("%s, a copy of function %s, reads %s into %s\n", p.Function.Name, f.Name, list, into), err
	}
	r.await = func(ctx context.Context, record registry.FunctionRecord) error {
		return s.awaitBackfill(ctx, p.Function, record.LastBackfill(), out, screen)
	}
	return r, nil
}

// withdrawals are the backfills that are not done.
func (b *backfillCommand) withdrawals(ctx context.Context, s *session, f *registry.Function, record registry.FunctionRecord) ([]withdrawal, error) {
	var all []withdrawal
	for _, one := range record.Backfills {
		status, _, err := s.registry.BackfillOf(ctx, f.Source(), f.Name, one.ID)
		if err != nil {
			return nil, err
		}
		if status.Done {
			continue
		}
		what := fmt.Sprintf("backfill %d of function %s, %s rows are read; what it has written stays", one.ID, f.Name, number(status.Rows))
		all = append(all, withdrawal{what, func(ctx context.Context) error {
			if len(all) == 0 { // they were withdrawn together
				return nil
			}
			all = nil
			_, err := s.registry.CancelBackfills(ctx, f.Name)
			return err
		}})
	}
	return all, nil
}

// order makes the order, and names the tables that it reads.
func (b *backfillCommand) order(ctx context.Context, s *session, f *registry.Function) (registry.Backfill, []string, error) {
	order := registry.Backfill{Where: b.where, Why: "ordered by `runnel backfill`"}
	for _, t := range b.tables {
		order.Tables = append(order.Tables, pattern(f.Source(), t))
	}
	if !f.Takes(event.Read) {
		return order, nil, misconfigured("function %s leaves out r, the rows of a load, by its ops: a backfill would change nothing", f.Name)
	}
	known, err := registry.NewestSchemas(ctx, s.registry.Schemas, f)
	if err != nil {
		return order, nil, fmt.Errorf("read the tables of function %s: %w", f.Name, err)
	}
	var tables, all []string
	for _, k := range known {
		all = append(all, k.Table.String())
		switch {
		case !order.Wants(f, k.Table):
		case len(k.KeyColumns()) == 0:
			return order, nil, misconfigured("table %s has no key: its rows can only be read together with a new slot; name the others with --table, or start the agent once with --resnapshot", k.Table)
		default:
			tables = append(tables, k.Table.String())
		}
	}
	switch {
	case len(tables) == 0 && len(all) == 0:
		return order, nil, misconfigured("the source %s has not told its tables yet: start its agent", f.Source())
	case len(tables) == 0:
		return order, nil, misconfigured("function %s reads no table %s; its tables are %s", f.Name, strings.Join(b.tables, ", "), strings.Join(all, ", "))
	case b.where != "" && len(tables) > 1:
		return order, nil, usageError{fmt.Errorf("--where needs one table: name it with --table, of %s", strings.Join(tables, ", "))}
	}
	st, err := stream.Open(ctx, s.conn, f.Source())
	if err != nil {
		return order, nil, err
	}
	end, err := st.End(ctx)
	if err != nil {
		return order, nil, err
	}
	order.Start = endPoint(end)
	return order, tables, nil
}

// pattern is the value of from that stands for a table as people name it, with or without its source.
func pattern(source, table string) string {
	table = strings.TrimPrefix(table, source+".")
	schema, name, _ := strings.Cut(table, ".")
	return source + "." + event.EscapeToken(schema) + "." + event.EscapeToken(name)
}

func endPoint(end stream.End) sink.Point {
	p := sink.Point{Sequence: end.Last}
	if end.Message != nil {
		p.Version = end.Message.Last()
	}
	return p
}

// awaitBackfill shows how far a backfill is until the target holds it.
func (s *session) awaitBackfill(ctx context.Context, f *registry.Function, id int64, out io.Writer, screen *process.Screen) error {
	st, err := stream.Open(ctx, s.conn, f.Source())
	if err != nil {
		return err
	}
	progress := newGauge(out, screen)
	defer progress.end()
	began := time.Now()
	for {
		_, n, err := s.registry.FunctionOf(ctx, f.Name)
		if err != nil {
			return err
		}
		status, begun, err := s.registry.BackfillOf(ctx, f.Source(), f.Name, id)
		if err != nil {
			return err
		}
		left := 0
		if status.Sequence > 0 {
			if left, err = s.behind(ctx, st, f, n.Record, status.Sequence); err != nil {
				return err
			}
		}
		switch {
		case n.Record.State != registry.Running:
			return fmt.Errorf("function %s is %s; the backfill goes on when it does: `runnel resume %s`", f.Name, stateText(string(n.Record.State), n.Record.Reason), f.Name)
		case !hasBackfill(n.Record, id):
			return fmt.Errorf("backfill %d of function %s was withdrawn", id, f.Name)
		case status.Sequence > 0 && left == 0:
			progress.end()
			for _, skipped := range status.Skipped {
				if _, err := fmt.Fprintf(out, "not read: %s\n", skipped); err != nil {
					return err
				}
			}
			_, err := fmt.Fprintf(out, "done: %s rows in %s\n", number(status.Rows), time.Since(began).Round(time.Second/10))
			return err
		}
		progress.line(backfillText(status, begun, left, time.Since(began)))
		if err := waitFor(ctx, time.Second/2); err != nil {
			return err
		}
	}
}

func hasBackfill(r registry.FunctionRecord, id int64) bool {
	for _, b := range r.Backfills {
		if b.ID == id {
			return true
		}
	}
	return false
}

// backfillText is one line for people.
func backfillText(s registry.BackfillStatus, begun bool, left int, since time.Duration) string {
	switch {
	case !begun:
		return "waiting for the source's agent to begin"
	case s.Problem != "":
		return "waiting: " + oneLine(s.Problem)
	case s.Sequence > 0:
		return fmt.Sprintf("%s all %s rows are read; %d partitions still write", bar(1, 24), number(s.Rows), left)
	}
	share := float64(s.Rows) / float64(max(s.Estimate, 1))
	text := fmt.Sprintf("%s %s of about %s rows, %d of %d tables", bar(share, 24), number(s.Rows), number(s.Estimate), s.Read, s.Tables)
	if s.Rows > 0 && s.Estimate > s.Rows {
		text += fmt.Sprintf(", %s left", (time.Duration(float64(since) * float64(s.Estimate-s.Rows) / float64(s.Rows))).Round(time.Second))
	}
	return text
}

// behind counts the partitions that have not written all up to a sequence.
func (s *session) behind(ctx context.Context, st *stream.Stream, f *registry.Function, r registry.FunctionRecord, sequence uint64) (int, error) {
	owners, err := s.registry.OwnersOf(ctx, f.Name, r.Generation)
	if err != nil {
		return 0, err
	}
	left, lanes := 0, f.Lanes(st.Partitions())
	for p := range st.Partitions() {
		lane := min(p, lanes-1) // one reads all partitions, where transactions stay whole
		at := r.StartOf(lane).Sequence
		if o, ok := owners[lane]; ok {
			at = o.Floor.Sequence
		}
		if at >= sequence {
			continue
		}
		next, err := st.Next(ctx, f.Subject(p), at+1)
		switch {
		case errors.Is(err, stream.ErrNoMessage):
		case err != nil:
			return 0, err
		case next.Sequence <= sequence:
			left++
		}
	}
	return left, nil
}
