package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/runnel-dev/runnel/runtime/process"
	"github.com/runnel-dev/runnel/runtime/registry"
)

// again is what `runnel replay` and `runnel backfill` have in common: what a function has read is read once more, in place or into a copy
// that comes in its place at the end.
type again struct {
	nats                                natsFlags
	into                                string
	swap, force, dryRun, detach, cancel bool
}

func (a *again) add(f *pflag.FlagSet, dryRun, cancel string) {
	a.nats.add(f)
	f.StringVar(&a.into, "into", "", "write into another table or index of this name, as in the specification, side by side with the function: {table}_v2")
	f.BoolVar(&a.swap, "swap", false, "let what was written with --into come in the place of the function's own, once it has caught up")
	f.BoolVar(&a.force, "force", false, "with --swap: also where rows would be missing that did not change since the copy begins")
	f.BoolVar(&a.dryRun, "dry-run", false, dryRun)
	f.BoolVar(&a.detach, "detach", false, "order it, and do not wait for its end")
	f.BoolVar(&a.cancel, "cancel", false, cancel)
}

// check refuses choices that mean nothing together. chosen: something says what is to be read.
func (a *again) check(chosen bool) error {
	switch {
	case a.cancel && (chosen || a.into != "" || a.swap || a.detach || a.force):
		return usageError{errors.New("--cancel withdraws what goes on: expected no other choice")}
	case a.force && !a.swap:
		return usageError{errors.New("--force belongs to --swap")}
	case a.swap && a.into != "" && a.detach:
		return usageError{errors.New("--detach does not wait until the copy has caught up: order --swap later, by itself")}
	case a.swap && a.into == "" && chosen:
		return usageError{errors.New("--swap by itself lets the copy that is there come in the function's place; to make one, say --into NAME too")}
	}
	return nil
}

// reading is something that is read once more.
type reading struct {
	name  string                                                                         // of the function
	would string                                                                         // what a dry run says
	order func(context.Context) (record registry.FunctionRecord, told string, err error) // told: what it says afterwards
	await func(context.Context, registry.FunctionRecord) error
}

// withdrawal is something that goes on, and does not after do.
type withdrawal struct {
	what string
	do   func(context.Context) error
}

// job is what the two commands do not have in common.
type job struct {
	read     func(context.Context, *session, *registry.Function, registry.FunctionRecord) (*reading, error)
	withdraw func(context.Context, *session, *registry.Function, registry.FunctionRecord) ([]withdrawal, error)
	none     string // what is said where there is nothing to be withdrawn
}

const nothingChanged = "nothing was changed: this is a dry run\n"

func (a *again) run(ctx context.Context, name string, j job, out io.Writer, screen *process.Screen) error {
	s, err := a.nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	f, n, err := s.registry.FunctionOf(ctx, name)
	if err != nil {
		return err
	}
	if a.cancel {
		return a.withdraw(ctx, s, f, n.Record, j, out)
	}
	var r *reading
	if a.swap && a.into == "" {
		r, err = a.exchange(ctx, s, f, n.Record, out, screen)
	} else {
		r, err = j.read(ctx, s, f, n.Record)
	}
	if err != nil {
		return err
	}
	if err := a.carryOut(ctx, r, out); err != nil || a.into == "" || a.dryRun || a.detach {
		return err
	}
	if !a.swap {
		_, err := fmt.Fprintf(out, "the copy follows the stream beside function %s: `runnel replay %s --swap` lets it come in its place, `runnel replay %s --cancel` takes it away\n", name, name, name)
		return err
	}
	if _, n, err = s.registry.FunctionOf(ctx, name); err != nil {
		return err
	}
	if r, err = a.exchange(ctx, s, f, n.Record, out, screen); err != nil {
		return err
	}
	return a.carryOut(ctx, r, out)
}

func (a *again) carryOut(ctx context.Context, r *reading, out io.Writer) error {
	if a.dryRun {
		_, err := io.WriteString(out, r.would+nothingChanged)
		return err
	}
	record, told, err := r.order(ctx)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, told); err != nil {
		return err
	}
	if record.State == registry.Paused {
		_, err := fmt.Fprintf(out, "function %s is paused: it begins with `runnel resume %s`\n", r.name, r.name)
		return err
	}
	if a.detach {
		return nil
	}
	return r.await(ctx, record)
}

func (a *again) withdraw(ctx context.Context, s *session, f *registry.Function, record registry.FunctionRecord, j job, out io.Writer) error {
	all, err := j.withdraw(ctx, s, f, record)
	if err != nil {
		return err
	}
	copied, err := s.withdrawCopy(ctx, f, &record)
	if err != nil {
		return err
	}
	if all = append(all, copied...); len(all) == 0 {
		_, err := fmt.Fprintf(out, j.none, f.Name)
		return err
	}
	for _, w := range all {
		said := "withdrawn: "
		if a.dryRun {
			said = "would be withdrawn: "
		} else if err := w.do(ctx); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s%s\n", said, w.what); err != nil {
			return err
		}
	}
	if a.dryRun {
		_, err = io.WriteString(out, nothingChanged)
	}
	return err
}
