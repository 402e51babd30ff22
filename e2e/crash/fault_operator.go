package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
)

// operatorFaults are what an operator does with functions while all flows, and a worker dies in its middle.
var operatorFaults = []Fault{
	{
		Name: "operator.rollback", What: "a function's filter is changed, which begins a new generation and reads its tables again, and rolled back while a worker dies",
		Inject: rollBack,
	},
	{
		Name: "operator.redrive", What: "a target refuses some rows for good; then it does not any more, and its dead letters are redriven while a worker dies",
		Needs:  func(w *World) bool { return w.Target("warehouse") != nil },
		Inject: redrive,
	},
}

// rollBack changes a function to one that takes the same rows, and back.
func rollBack(ctx context.Context, w *World, r *rand.Rand) error {
	defer own(w.Workers)()
	t := w.Targets[r.IntN(len(w.Targets))]
	t.owner.Lock()
	defer t.owner.Unlock()
	began := time.Now()
	file := filepath.Join(w.Dir, t.Function+".yaml")
	yaml := strings.ReplaceAll(functionYAML[t.chosen], "SCHEMA", w.DB.Schema()) + "filter: 'true'\n"
	if err := os.WriteFile(file, []byte(yaml), 0o644); err != nil {
		return err
	}
	if err := w.operate(ctx, "deploy", file); err != nil {
		return err
	}
	if err := pause(ctx, between(r, 0, 2*time.Second)); err != nil {
		return err
	}
	w.Workers[r.IntN(len(w.Workers))].Kill()
	if err := w.operate(ctx, "rollback", t.Function); err != nil {
		return err
	}
	if err := w.settled(ctx, t); err != nil {
		return err
	}
	w.allow(t.Function, began, t.Function+" was changed and rolled back", check.Undurable)
	return nil
}

// redrive makes dead letters and redrives them. What was refused is not in the target until then, although its floor has passed it.
func redrive(ctx context.Context, w *World, r *rand.Rand) error {
	defer own(w.Workers)()
	t := w.Target("warehouse")
	t.owner.Lock()
	defer t.owner.Unlock()
	if err := w.settled(ctx, t); err != nil {
		return err
	}
	began := time.Now()
	if err := execute(ctx, t.Server.PostgresURL(), `alter table public.orders add constraint refused check (change % 5 <> 0) not valid`); err != nil {
		return err
	}
	if _, err := w.AwaitLog(ctx, w.Workers, "event is a dead letter"); err != nil {
		return fmt.Errorf("no row that the target refuses became a dead letter: %w", err)
	}
	if err := execute(ctx, t.Server.PostgresURL(), `alter table public.orders drop constraint refused`); err != nil {
		return err
	}
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		if pause(ctx, between(r, 0, time.Second)) == nil {
			w.Workers[0].Kill()
		}
	}()
	err := w.operate(ctx, "dlq", "redrive", t.Function)
	<-killed
	if err != nil {
		return err
	}
	if err := w.settled(ctx, t); err != nil {
		return err
	}
	w.allow(t.Function, began, "dead letters of "+t.Function+" were redriven", check.Undurable)
	return nil
}

// operate runs a command until it is taken: another fault may be in its way.
func (w *World) operate(ctx context.Context, args ...string) error {
	for {
		limited, cancel := context.WithTimeout(ctx, time.Minute)
		err := w.runnel(limited, args...)
		cancel()
		if err == nil {
			return nil
		}
		if p := pause(ctx, 200*time.Millisecond); p != nil {
			return fmt.Errorf("%w: %w", p, err)
		}
	}
}
