package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/process"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// planCopy plans a copy of a function, and looks whether its target is free and can swap. Where this environment lacks what the
// specification refers to, only a worker can look.
func (s *session) planCopy(ctx context.Context, f *registry.Function, into string) (p *registry.PlannedCopy, tables string, err error) {
	if p, err = s.registry.PlanCopy(ctx, f.Name, f.Into(into)); err != nil {
		return nil, "", err
	}
	known, err := registry.NewestSchemas(ctx, s.registry.Schemas, f)
	if err != nil {
		return nil, "", fmt.Errorf("read the tables of function %s: %w", f.Name, err)
	}
	err = swapperOf(ctx, p.Function, func(ctx context.Context, t sink.Swapper) error {
		taken, err := t.Taken(ctx, known)
		if err == nil && len(taken) > 0 {
			err = misconfigured("%s is there already, and a copy must begin with nothing: drop it, or choose another name", strings.Join(taken, ", "))
		}
		return err
	})
	if err == nil {
		err = swapperOf(ctx, f, func(ctx context.Context, t sink.Swapper) error {
			_, err := t.Marks(ctx, sink.Swap{Into: f.Into(into), Schemas: known})
			return err
		})
	}
	return p, strings.Join(targetNames(p.Function, known), ", "), err
}

// swapperOf lets the target of a function be looked at, if it can be reached from here.
func swapperOf(ctx context.Context, f *registry.Function, look func(context.Context, sink.Swapper) error) error {
	for _, text := range f.References() {
		if _, err := registry.Resolve(text); err != nil {
			return nil // a worker will see
		}
	}
	ctx, cancel := context.WithTimeout(ctx, reachableWithin)
	defer cancel()
	h, done, err := lookAt(f)
	if err != nil {
		return err
	}
	defer done()
	t, ok := h.(sink.Swapper)
	if !ok {
		return misconfigured("targets of function %s (%s) cannot be swapped", f.Name, f.To.Kind())
	}
	if err := look(ctx, t); err != nil {
		return configurationError{fmt.Errorf("function %s: %w", f.Name, err)}
	}
	return nil
}

// whole says whether a part of the stream shows all rows that a target may hold.
func (s *session) whole(ctx context.Context, f *registry.Function, from sink.Point) (bool, error) {
	c, ok, err := s.registry.CaptureOf(ctx, f.Source())
	return ok && c.Load.ID != "" && c.Load.Sequence >= from.Sequence, err
}

// exchange lets the function's copy come in its place.
func (a *again) exchange(ctx context.Context, s *session, f *registry.Function, record registry.FunctionRecord, out io.Writer, screen *process.Screen) (*reading, error) {
	c, n, ok, err := s.registry.CopyOf(ctx, f.Name)
	if err != nil {
		return nil, err
	}
	known, err := registry.NewestSchemas(ctx, s.registry.Schemas, f)
	if err != nil {
		return nil, fmt.Errorf("read the tables of function %s: %w", f.Name, err)
	}
	r := &reading{name: f.Name}
	r.order = func(ctx context.Context) (registry.FunctionRecord, string, error) {
		record, err := s.registry.OrderSwap(ctx, f.Name, a.force)
		return record, fmt.Sprintf("what %s has written comes in the place of what function %s has, in generation %d\n", registry.CopyName(f.Name), f.Name, record.Generation), err
	}
	r.await = func(ctx context.Context, record registry.FunctionRecord) error {
		return s.awaitSwap(ctx, f, record, known, out, screen)
	}
	if !ok || record.Waits && record.Swap != nil { // ordering it says what is wrong, or has been done
		if !ok && a.dryRun {
			_, _, err := r.order(ctx) // changes nothing where there is no copy
			return nil, err
		}
		r.would = fmt.Sprintf("function %s waits for its copy already\n", f.Name)
		return r, nil
	}
	if err := s.swappable(ctx, f, record, c, n.Record); err != nil {
		return nil, err
	}
	err = swapperOf(ctx, f, func(ctx context.Context, t sink.Swapper) error {
		_, err := t.Marks(ctx, sink.Swap{Into: n.Record.Copy.Into, Schemas: known})
		return err
	})
	r.would = fmt.Sprintf("%s would come in the place of %s, in %s: function %s stops until its copy is where it stands\n",
		strings.Join(targetNames(c, known), ", "), strings.Join(targetNames(f, known), ", "), f.To.Kind(), f.Name)
	return r, err
}

// swappable refuses what the function's workers would withdraw: what was read for function or copy alone must be in its target to the end.
func (s *session) swappable(ctx context.Context, f *registry.Function, record registry.FunctionRecord, c *registry.Function, copied registry.FunctionRecord) error {
	st, err := stream.Open(ctx, s.conn, f.Source())
	if err != nil {
		return err
	}
	for _, one := range []struct {
		f      *registry.Function
		record registry.FunctionRecord
	}{{f, record}, {c, copied}} {
		for _, b := range one.record.Backfills {
			status, _, err := s.registry.BackfillOf(ctx, f.Source(), one.f.Name, b.ID)
			if err != nil {
				return err
			}
			left := 1
			if status.Sequence > 0 {
				if left, err = s.behind(ctx, st, one.f, one.record, status.Sequence); err != nil {
					return err
				}
			}
			if left > 0 {
				return misconfigured("backfill %d of function %s is not in its target yet: wait until it is, or withdraw it with `runnel backfill %s --cancel`", b.ID, one.f.Name, one.f.Name)
			}
		}
	}
	return nil
}

// awaitSwap shows how far a swap is until it is done.
func (s *session) awaitSwap(ctx context.Context, f *registry.Function, ordered registry.FunctionRecord, known []*event.Schema, out io.Writer, screen *process.Screen) error {
	progress := newGauge(out, screen)
	defer progress.end()
	began := time.Now()
	for {
		_, n, err := s.registry.FunctionOf(ctx, f.Name)
		if err != nil {
			return err
		}
		switch r := n.Record; {
		case r.State != registry.Running:
			return fmt.Errorf("function %s is %s; the swap goes on when it does: `runnel resume %s`", f.Name, stateText(string(r.State), r.Reason), f.Name)
		case r.Generation != ordered.Generation || r.Swap == nil:
			return fmt.Errorf("the swap of function %s was withdrawn: by an operator, or because a backfill of the function was not at its end", f.Name)
		case r.Swap.Done && !r.Waits:
			progress.end()
			text := "what it had written before is now in " + strings.Join(intoNames(r.Swap.Into, known), ", ") + ": drop it when nobody needs it"
			if f.To.Elasticsearch != nil {
				text = strings.Join(targetNames(f, known), ", ") + " is an alias now; the index that was there before is deleted"
			}
			_, err := fmt.Fprintf(out, "done in %s: %s\n", time.Since(began).Round(time.Second/10), text)
			return err
		case r.Swap.Marked:
			progress.line("waiting for the target to swap")
		default:
			c, _, _, err := s.registry.CopyOf(ctx, f.Name)
			if err != nil {
				return err
			}
			progress.line(s.waitsForCopy(ctx, c))
		}
		if err := waitFor(ctx, time.Second/5); err != nil {
			return err
		}
	}
}

// waitsForCopy says what a swap waits for.
func (s *session) waitsForCopy(ctx context.Context, c *registry.Function) string {
	if c != nil {
		if _, n, err := s.registry.FunctionOf(ctx, c.Name); err == nil && n.Record.State == registry.Halted {
			return fmt.Sprintf("waiting for the copy %s, which is %s", c.Name, stateText(string(n.Record.State), n.Record.Reason))
		}
	}
	return "waiting until the function has stopped and its copy is where it stands"
}

// intoNames are the names that a copy's tables had.
func intoNames(into string, known []*event.Schema) []string {
	var names []string
	for _, k := range known {
		names = append(names, registry.Name(into, k.Table))
	}
	return names
}

// withdrawCopy gives what takes a function's copy away, with its target.
func (s *session) withdrawCopy(ctx context.Context, f *registry.Function, record *registry.FunctionRecord) ([]withdrawal, error) {
	var all []withdrawal
	if record.Waits && record.Swap != nil {
		all = append(all, withdrawal{"the swap of function " + f.Name + ", which goes on with its own target", func(ctx context.Context) error {
			_, err := s.registry.CancelSwap(ctx, f.Name)
			return err
		}})
	}
	c, _, ok, err := s.registry.CopyOf(ctx, f.Name)
	if err != nil || !ok {
		return all, err
	}
	known, err := registry.NewestSchemas(ctx, s.registry.Schemas, c)
	if err != nil {
		return nil, err
	}
	return append(all, withdrawal{fmt.Sprintf("the copy %s, and with it in %s: %s", c.Name, c.To.Kind(), strings.Join(targetNames(c, known), ", ")), func(ctx context.Context) error {
		if err := s.registry.DeleteFunction(ctx, c.Name); err != nil {
			return err
		}
		if _, now, err := s.registry.FunctionOf(ctx, f.Name); err != nil || now.Record.Swap != nil && now.Record.Swap.Marked && now.Record.Swap.Copy == c.Name && now.Record.Updated.After(record.Updated) {
			return fmt.Errorf("the copy %s is deleted; its target stays, since somebody else has let it come in the function's place: %w", c.Name, err)
		}
		if err := s.letGo(ctx, c.Name); err != nil {
			return fmt.Errorf("the copy %s is deleted, its target stays: %w", c.Name, err)
		}
		h, done, err := lookAt(c)
		if err != nil {
			return fmt.Errorf("the copy %s is deleted, its target stays, and can be dropped by hand: %w", c.Name, err)
		}
		defer done()
		dropper, ok := h.(sink.Dropper)
		if !ok {
			return errors.New("the copy is deleted, its target stays, and can be dropped by hand")
		}
		if _, _, err := dropper.Drop(ctx, known, false); err != nil {
			return fmt.Errorf("the copy %s is deleted, its target stays, and can be dropped by hand: %w", c.Name, err)
		}
		return nil
	}}), nil
}
