package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"time"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/process"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// replayCommand is `runnel replay`.
type replayCommand struct {
	again
	sequence, to uint64
	time, rate   string
	start        bool
}

func newReplay() *cobra.Command {
	r := &replayCommand{}
	cmd := &cobra.Command{
		Use:   "replay FUNCTION",
		Short: "Let a function read a part of the stream once more, in place or into a copy",
		Long: `Replay gives a function a new generation that begins at a place in the stream which it has passed already, once its workers have
stopped, and waits until it is back where it was. What it brings depends on the target:

Elasticsearch and ClickHouse compare versions: events that the target holds change nothing, and what it lacks comes back.
PostgreSQL has no versions: rows become old ones, in order, and are the newest at the end, so it cannot be cancelled.

With --into NAME the function goes on as it is, and a copy of it fills another table or index beside it, and then follows the stream. --swap lets
that come in the place of the function's own: an alias in Elasticsearch, EXCHANGE TABLES in ClickHouse, names in PostgreSQL. Readers see the
one or the other, and never an older state than before.

A part that the stream does not hold any more is read from the source's tables: runnel backfill.`,
		Example: `  runnel replay orders-search --from-time 2026-11-01T10:00:00Z
  runnel replay orders-search --from-time 2h --rate 500/s
  runnel replay orders-search --from-seq 120000 --to-seq 130000 --dry-run
  runnel replay orders-search --from-start --into orders_v2
  runnel replay orders-search --swap
  runnel replay orders-search --cancel`,
		Args: exactlyOne("the name of one function"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.check(); err != nil {
				return err
			}
			out, screen := cmd.OutOrStdout(), process.NewScreen(cmd.ErrOrStderr())
			return r.run(cmd.Context(), args[0], job{withdraw: r.withdrawals, none: "function %s has no replay that goes on, and no copy\n",
				read: func(ctx context.Context, s *session, f *registry.Function, record registry.FunctionRecord) (*reading, error) {
					return r.reading(ctx, s, f, record, out, screen)
				}}, out, screen)
		},
	}
	f := cmd.Flags()
	r.add(f, "only say how many messages would be read, what would swap, or be withdrawn", "withdraw what goes on: the function goes on where it was, and a copy of it is taken away with its target")
	f.Uint64Var(&r.sequence, "from-seq", 0, "begin at this sequence of the stream")
	f.StringVar(&r.time, "from-time", "", "begin at this time: 2h (ago), 2026-01-31 or 2026-01-31T12:00:00Z")
	f.BoolVar(&r.start, "from-start", false, "begin at the oldest message of the stream")
	f.Uint64Var(&r.to, "to-seq", 0, "end with this sequence, and go on where the function was (not into PostgreSQL)")
	f.StringVar(&r.rate, "rate", "", "events a second at most while it goes on: 500/s, 30/m")
	return cmd
}

func (r *replayCommand) check() error {
	begins := 0
	for _, set := range []bool{r.sequence > 0, r.time != "", r.start} {
		if set {
			begins++
		}
	}
	if err := r.again.check(begins > 0 || r.to > 0 || r.rate != ""); err != nil {
		return err
	}
	switch {
	case !r.cancel && begins != 1 && (!r.swap || r.into != ""):
		return usageError{errors.New("expected one of --from-seq, --from-time and --from-start")}
	case r.to > 0 && r.to < r.sequence:
		return usageError{fmt.Errorf("--to-seq %d is before --from-seq %d", r.to, r.sequence)}
	case r.to > 0 && r.into != "":
		return usageError{errors.New("--into reads on to where the function stands: expected no --to-seq")}
	}
	return nil
}

func (r *replayCommand) reading(ctx context.Context, s *session, f *registry.Function, record registry.FunctionRecord, out io.Writer, screen *process.Screen) (*reading, error) {
	st, err := stream.Open(ctx, s.conn, f.Source())
	if err != nil {
		return nil, err
	}
	order, err := r.order(ctx, st, f)
	if err != nil {
		return nil, err
	}
	messages, err := s.between(ctx, st, f, record, order)
	if err != nil {
		return nil, err
	}
	again := &reading{name: f.Name, would: fmt.Sprintf("function %s would read %s messages once more, from sequence %d on\n", f.Name, number(int64(messages)), order.From.Sequence+1)}
	if r.into == "" {
		again.order = func(ctx context.Context) (registry.FunctionRecord, string, error) {
			record, err := s.registry.OrderReplay(ctx, f.Name, order)
			if err != nil {
				return record, "", err
			}
			return record, fmt.Sprintf("function %s reads %s messages once more, from sequence %d on, in generation %d\n", f.Name, number(int64(messages)), record.Replay.From.Sequence+1, record.Generation), nil
		}
		again.await = func(ctx context.Context, record registry.FunctionRecord) error {
			return s.awaitReplay(ctx, f, record.Generation, out, screen)
		}
		return again, nil
	}
	return again, r.copying(ctx, s, st, f, record, order, messages, again, out, screen)
}

// copying makes it the reading of a copy.
func (r *replayCommand) copying(ctx context.Context, s *session, st *stream.Stream, f *registry.Function, record registry.FunctionRecord, order registry.Replay, messages uint64, again *reading, out io.Writer, screen *process.Screen) error {
	whole, err := s.whole(ctx, f, order.From)
	if err != nil {
		return err
	}
	if !whole && r.swap && !r.force {
		return misconfigured("from sequence %d on the stream does not show all rows: those that did not change since would be missing in the copy; make it with `runnel backfill %s --into %s --swap`, or take it as it is with --force", order.From.Sequence+1, f.Name, r.into)
	}
	p, into, err := s.planCopy(ctx, f, r.into)
	if err != nil {
		return err
	}
	if order.Until, err = s.floorsOf(ctx, st, f, record); err != nil {
		return err
	}
	note := ""
	if !whole {
		note = fmt.Sprintf("it will lack rows that did not change since: `runnel backfill %s --into NAME` makes a copy of all\n", f.Name)
	}
	again.name = p.Function.Name
	again.would = fmt.Sprintf("%s, a copy of function %s, would read %s messages into %s, from sequence %d on\n", p.Function.Name, f.Name, number(int64(messages)), into, order.From.Sequence+1) + note
	again.order = func(ctx context.Context) (registry.FunctionRecord, string, error) {
		record, err := s.registry.OrderCopy(ctx, f.Name, p, &order, order.From, whole)
		return record, fmt.Sprintf("%s, a copy of function %s, reads %s messages into %s, from sequence %d on\n", p.Function.Name, f.Name, number(int64(messages)), into, order.From.Sequence+1) + note, err
	}
	again.await = func(ctx context.Context, record registry.FunctionRecord) error {
		return s.awaitReplay(ctx, p.Function, record.Generation, out, screen)
	}
	return nil
}

// withdrawals is the replay in place that goes on.
func (r *replayCommand) withdrawals(ctx context.Context, s *session, f *registry.Function, record registry.FunctionRecord) ([]withdrawal, error) {
	p := record.Replay
	if p == nil || p.Cancelled {
		return nil, nil
	}
	if !record.Waits {
		st, err := stream.Open(ctx, s.conn, f.Source())
		if err != nil {
			return nil, err
		}
		floors, err := s.floorsOf(ctx, st, f, record)
		if err != nil {
			return nil, err
		}
		if _, over := replayShare(&record, floors); over {
			return nil, nil
		}
	}
	return []withdrawal{{fmt.Sprintf("the replay of function %s, which goes on where it was", f.Name), func(ctx context.Context) error {
		_, err := s.registry.CancelReplay(ctx, f.Name)
		return err
	}}}, nil
}

// order finds the place where the replay begins.
func (r *replayCommand) order(ctx context.Context, st *stream.Stream, f *registry.Function) (registry.Replay, error) {
	order := registry.Replay{To: r.to}
	var err error
	if r.rate != "" {
		if order.Rate, err = registry.ParseRate(r.rate); err != nil || order.Rate <= 0 {
			return order, usageError{fmt.Errorf("--rate %q: expected events in a second, minute or hour, such as 500/s or 30/m", r.rate)}
		}
	}
	end, err := st.End(ctx)
	if err != nil {
		return order, err
	}
	from := r.sequence
	switch {
	case r.start:
		from = end.First
	case r.time != "":
		at, err := parseTime("--from-time", r.time, time.Now())
		if err != nil {
			return order, err
		}
		if from, err = firstAt(ctx, st, end, at); err != nil {
			return order, err
		}
		oldest, err := st.Next(ctx, ">", end.First)
		if err == nil && end.First > 1 && from <= end.First && time.UnixMilli(oldest.TimeMS).After(at) && !olderThanStream(st, at) {
			return order, tooOld(f.Name, fmt.Sprintf("what was stored at %s", at.Format(time.RFC3339)), oldest.Sequence, oldest.TimeMS)
		}
	case from > end.Last:
		return order, misconfigured("sequence %d is beyond the end of the stream, which is %d", from, end.Last)
	case from < end.First:
		oldest, err := st.Next(ctx, ">", end.First)
		if err != nil {
			return order, fmt.Errorf("read the oldest message of %s: %w", st.Name(), err)
		}
		return order, tooOld(f.Name, fmt.Sprintf("sequence %d", from), oldest.Sequence, oldest.TimeMS)
	}
	order.From, err = host.Before(ctx, st, from)
	return order, err
}

// olderThanStream says whether there was no stream yet: then nothing of it was removed.
func olderThanStream(st *stream.Stream, at time.Time) bool { return at.Before(st.Created()) }

func tooOld(function, what string, oldest uint64, ms int64) error {
	return misconfigured("%s is not in the stream any more: the oldest message is %d, of %s; begin there with --from-seq %d, or read the tables again with `runnel backfill %s`",
		what, oldest, time.UnixMilli(ms).Format(time.RFC3339), oldest, function)
}

// firstAt is the sequence of the first message that was stored at a time or later.
func firstAt(ctx context.Context, st *stream.Stream, end stream.End, at time.Time) (uint64, error) {
	var failed error
	span := int(end.Last + 1 - min(end.First, end.Last+1))
	n := sort.Search(span, func(i int) bool {
		if failed != nil {
			return true
		}
		m, err := st.Next(ctx, ">", end.First+uint64(i))
		if errors.Is(err, stream.ErrNoMessage) {
			return true
		}
		if err != nil {
			failed = fmt.Errorf("look for the message of %s: %w", at.Format(time.RFC3339), err)
			return true
		}
		return !time.UnixMilli(m.TimeMS).Before(at)
	})
	return end.First + uint64(n), failed
}

// between counts the messages that a replay reads before it is where the function is now.
func (s *session) between(ctx context.Context, st *stream.Stream, f *registry.Function, r registry.FunctionRecord, order registry.Replay) (uint64, error) {
	floors, err := s.floorsOf(ctx, st, f, r)
	if err != nil {
		return 0, err
	}
	var n uint64
	for p := range st.Partitions() {
		at := floors[0]
		if len(floors) > 1 {
			at = floors[p]
		}
		to := at.Sequence
		if order.To > 0 {
			to = min(to, order.To)
		}
		if to <= order.From.Sequence {
			continue
		}
		all, err := st.Pending(ctx, f.Subject(p), order.From.Sequence+1)
		if err != nil {
			return 0, err
		}
		behind, err := st.Pending(ctx, f.Subject(p), to+1)
		if err != nil {
			return 0, err
		}
		n += all - min(behind, all)
	}
	return n, nil
}

// floorsOf is how far each lane of a function has come.
func (s *session) floorsOf(ctx context.Context, st *stream.Stream, f *registry.Function, r registry.FunctionRecord) ([]sink.Point, error) {
	generation, lanes := r.Generation, f.Lanes(st.Partitions())
	if r.Waits {
		generation = r.Replaces.Generation
	}
	owners, err := s.registry.OwnersOf(ctx, f.Name, generation)
	if err != nil {
		return nil, err
	}
	floors := make([]sink.Point, lanes)
	for p := range floors {
		floors[p] = r.StartOf(p)
		if o, ok := owners[p]; ok {
			floors[p] = o.Floor
		}
	}
	return floors, nil
}

// awaitReplay shows how far a replay is until it is over.
func (s *session) awaitReplay(ctx context.Context, f *registry.Function, generation int64, out io.Writer, screen *process.Screen) error {
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
		r := n.Record
		switch {
		case r.State != registry.Running:
			return fmt.Errorf("function %s is %s; the replay goes on when it does: `runnel resume %s`", f.Name, stateText(string(r.State), r.Reason), f.Name)
		case r.Generation != generation:
			return fmt.Errorf("generation %d of function %s has another one in its place, which goes on from where this one was", generation, f.Name)
		case r.Waits:
			progress.line("waiting until the workers of the older generation have stopped")
		default:
			floors, err := s.floorsOf(ctx, st, f, r)
			if err != nil {
				return err
			}
			share, over := replayShare(&r, floors)
			if over {
				progress.end()
				_, err := fmt.Fprintf(out, "done in %s\n", time.Since(began).Round(time.Second/10))
				return err
			}
			text := fmt.Sprintf("%s %.0f%%", bar(share, 24), 100*share)
			if left := time.Duration(float64(time.Since(began)) * (1 - share) / max(share, 0.001)); share > 0.01 {
				text += fmt.Sprintf(", %s left", left.Round(time.Second))
			}
			progress.line(text)
		}
		if err := waitFor(ctx, time.Second/2); err != nil {
			return err
		}
	}
}

// replayShare is how much of a replay is done.
func replayShare(r *registry.FunctionRecord, floors []sink.Point) (share float64, over bool) {
	over = true
	var done, all float64
	for p, at := range floors {
		if r.Replay == nil || p >= len(r.Replay.Until) {
			continue
		}
		from, until := r.StartOf(p).Sequence, r.Replay.Until[p].Sequence
		if r.Replay.To > 0 {
			until = max(min(until, r.Replay.To), from)
		}
		all += float64(until - min(from, until))
		if r.Replay.Over(p, at) {
			done += float64(until - min(from, until))
			continue
		}
		over = false
		done += float64(min(at.Sequence, until) - min(from, at.Sequence, until))
	}
	return done / max(all, 1), over
}
