package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// deleteCommand is `runnel delete`.
type deleteCommand struct {
	target
	dropTarget, dropSlot, dropStream, yes, dryRun bool
}

func newDelete() *cobra.Command {
	d := &deleteCommand{}
	cmd := &cobra.Command{
		Use:   "delete NAME...",
		Short: "Delete sources or functions; what they wrote stays, unless told otherwise",
		Long: `Delete takes a function or a source away, and lists what it leaves behind.

A function's tables and indexes stay in the target; --drop-target drops those that it made. A source's slot, publications
and stream stay too, so that deploying it again goes on without a gap: --drop-slot drops what is in its database, --drop-stream
deletes the stream with all that is remembered of the source. What drops asks first.`,
		Example: `  runnel delete orders-search
  runnel delete orders-search --drop-target
  runnel delete shop --drop-slot --drop-stream --dry-run`,
		Args: atLeastOne("names of sources or functions"),
		RunE: func(cmd *cobra.Command, names []string) error {
			return d.each(cmd.Context(), names, func(s *session, n named) error {
				ctx, cancel := context.WithTimeout(cmd.Context(), dropTimeout)
				defer cancel()
				if n.kind == "source" {
					return d.source(ctx, s, n, cmd.InOrStdin(), cmd.OutOrStdout())
				}
				return d.function(ctx, s, n, cmd.InOrStdin(), cmd.OutOrStdout())
			})
		},
	}
	d.add(cmd)
	cmd.Flags().BoolVar(&d.dropTarget, "drop-target", false, "of a function: drop the tables or indexes that it made")
	cmd.Flags().BoolVar(&d.dropSlot, "drop-slot", false, "of a source: drop slot and publications in its database")
	cmd.Flags().BoolVar(&d.dropStream, "drop-stream", false, "of a source: delete its stream, and what is remembered of it")
	cmd.Flags().BoolVar(&d.yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&d.dryRun, "dry-run", false, "say what would be deleted and what would stay, and delete nothing")
	return cmd
}

// dropTimeout bounds one deletion, the question included.
const dropTimeout = 5 * time.Minute

func (d *deleteCommand) function(ctx context.Context, s *session, n named, in io.Reader, out io.Writer) error {
	if d.dropSlot || d.dropStream {
		return usageError{fmt.Errorf("%s is no source: it has no slot and no stream", n)}
	}
	spec, _, err := s.registry.FunctionOf(ctx, n.name)
	if err != nil && !damaged(err) {
		return err
	}
	if spec == nil || err != nil {
		if d.dropTarget {
			return fmt.Errorf("%w; without --drop-target it can be deleted", err)
		}
		return d.take(out, n, nil, nil, func() error { return s.registry.DeleteFunction(ctx, n.name) })
	}
	schemas, err := registry.NewestSchemas(ctx, s.registry.Schemas, spec)
	if err != nil {
		return err
	}
	if !d.dropTarget {
		var stays []string
		if names := targetNames(spec, schemas); len(names) > 0 {
			stays = append(stays, fmt.Sprintf("in %s: %s", spec.Target(), strings.Join(names, ", ")))
		}
		return d.take(out, n, nil, stays, func() error { return s.registry.DeleteFunction(ctx, n.name) })
	}
	h, done, err := lookAt(spec)
	if err != nil {
		return err
	}
	defer done()
	dropper, ok := h.(sink.Dropper)
	if !ok {
		return fmt.Errorf("%s cannot be dropped by runnel: delete the function without --drop-target", spec.Target())
	}
	gone, kept, err := dropper.Drop(ctx, schemas, true)
	if err != nil {
		return fmt.Errorf("look at what %s has written: %w; nothing was deleted", n, err)
	}
	var drops, stays []string
	if len(gone) > 0 {
		drops = append(drops, fmt.Sprintf("in %s: %s", spec.Target(), strings.Join(gone, ", ")))
	}
	if len(kept) > 0 {
		stays = append(stays, fmt.Sprintf("in %s, since it was there before: %s", spec.Target(), strings.Join(kept, ", ")))
	}
	if err := d.ask(in, out, n, drops); err != nil {
		return err
	}
	return d.take(out, n, drops, stays, func() error {
		if err := s.registry.DeleteFunction(ctx, n.name); err != nil {
			return err
		}
		if err := s.letGo(ctx, n.name); err != nil {
			return fmt.Errorf("%s is deleted, %s stays: %w", n, strings.Join(gone, ", "), err)
		}
		if _, _, err := dropper.Drop(ctx, schemas, false); err != nil {
			return fmt.Errorf("%s is deleted, %s stays, and can be dropped by hand: %w", n, strings.Join(gone, ", "), err)
		}
		return nil
	})
}

// targetNames are what the function's tables are called in its target.
func targetNames(f *registry.Function, schemas []*event.Schema) []string {
	var names []string
	for _, s := range schemas {
		if f.TargetName(s.Table) == "" {
			continue // only its handler knows
		}
		names = append(names, f.TargetName(s.Table))
	}
	return names
}

func (d *deleteCommand) source(ctx context.Context, s *session, n named, in io.Reader, out io.Writer) error {
	if d.dropTarget {
		return usageError{fmt.Errorf("%s is no function: it has no target", n)}
	}
	spec, _, err := s.registry.SourceOf(ctx, n.name)
	if err != nil && !damaged(err) {
		return err
	}
	if err := s.registry.Unread(ctx, n.name); err != nil {
		return err
	}
	var drops, stays []string
	if end, err := s.endOf(ctx, n.name); err != nil {
		return err
	} else if end != nil {
		text := fmt.Sprintf("stream %s, %s messages, %s, and what is remembered of the source: nats stream rm %s", event.StreamName(n.name), whole(end.Messages), size(int64(end.Bytes)), event.StreamName(n.name))
		if d.dropStream {
			drops = append(drops, strings.TrimSuffix(text, ": nats stream rm "+event.StreamName(n.name)))
		} else {
			stays = append(stays, text)
		}
	}
	var keeper dropping
	if spec != nil && spec.Postgres != nil {
		p := spec.Postgres
		slot := fmt.Sprintf("slot %s, for which the database keeps its log: SELECT pg_drop_replication_slot('%s');", p.Slot, p.Slot)
		publications := fmt.Sprintf("publications: DROP PUBLICATION IF EXISTS %q, %q;", p.Publication, p.Publication+"_insert")
		if d.dropSlot {
			source, err := newSource(spec, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			keeper, _ = source.(dropping)
			drops = append(drops, "slot "+p.Slot, fmt.Sprintf("publications %s and %s_insert, if they are there", p.Publication, p.Publication))
		} else {
			stays = append(stays, slot, publications)
		}
	} else if d.dropSlot {
		return usageError{fmt.Errorf("%s has no slot: its server keeps its log for nobody", n)}
	}
	if err := d.ask(in, out, n, drops); err != nil {
		return err
	}
	return d.take(out, n, drops, stays, func() error {
		if err := s.registry.DeleteSource(ctx, n.name); err != nil {
			return err
		}
		if len(drops) == 0 {
			return nil
		}
		if err := s.abandoned(ctx, n.name); err != nil {
			return fmt.Errorf("%s is deleted, nothing of it was dropped: %w", n, err)
		}
		if keeper != nil {
			if err := keeper.Drop(ctx); err != nil {
				return fmt.Errorf("%s is deleted, and what it has in its database stays: %w", n, err)
			}
		}
		if !d.dropStream {
			return nil
		}
		if err := stream.Remove(ctx, s.conn, n.name); err != nil {
			return fmt.Errorf("%s is deleted, its stream stays: %w", n, err)
		}
		return s.registry.ForgetSource(ctx, n.name)
	})
}

// dropping is a source that has something in its server.
type dropping interface {
	Drop(ctx context.Context) error
}

// ask lets the operator confirm what cannot be undone.
func (d *deleteCommand) ask(in io.Reader, out io.Writer, n named, drops []string) error {
	if d.yes || d.dryRun || len(drops) == 0 {
		return nil
	}
	for _, one := range drops {
		if _, err := fmt.Fprintf(out, "  %s\n", one); err != nil {
			return err
		}
	}
	return confirm(in, out, fmt.Sprintf("delete %s, and drop that for ever?", n))
}

// take deletes, and says what went and what stays.
func (d *deleteCommand) take(out io.Writer, n named, drops, stays []string, do func() error) error {
	deleted, dropped, stay := "deleted ", "dropped ", "stays: "
	if d.dryRun {
		deleted, dropped, stay = "would delete ", "would drop ", "would stay: "
	} else if err := do(); err != nil {
		return err
	}
	text := deleted + n.String() + "\n"
	for _, one := range drops {
		text += "  " + dropped + one + "\n"
	}
	for _, one := range stays {
		text += "  " + stay + one + "\n"
	}
	_, err := io.WriteString(out, text)
	return err
}

// letGo waits until no worker has a partition of a function that was deleted: who writes late would make its tables again.
func (s *session) letGo(ctx context.Context, function string) error {
	return cleared(ctx, func() (string, error) {
		workers, err := s.registry.ListWorkers(ctx)
		for _, w := range workers {
			for key := range w.Record.Owns {
				if strings.HasPrefix(key, function+".") {
					return fmt.Sprintf("worker %s:%d still runs it", w.Record.Host, w.Record.PID), err
				}
			}
		}
		return "", err
	})
}

// abandoned waits until no agent captures a source that was deleted.
func (s *session) abandoned(ctx context.Context, source string) error {
	return cleared(ctx, func() (string, error) {
		agents, err := s.registry.AgentsOf(ctx)
		for _, a := range agents[source] {
			return fmt.Sprintf("agent %s:%d still captures it", a.Host, a.PID), err
		}
		return "", err
	})
}

// Those who are told to stop by a record do so within a second; announcements of those that were killed are forgotten by then.
const (
	goneWithin = 2 * registry.WorkerTTL
	goneLook   = 100 * time.Millisecond
)

// cleared polls what is still in the way.
func cleared(ctx context.Context, inTheWay func() (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, goneWithin)
	defer cancel()
	for {
		what, err := inTheWay()
		if err != nil || what == "" {
			return err
		}
		t := time.NewTimer(goneLook)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return errors.New(what)
		}
	}
}
