package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// drive injects the schedule's steps until it is over.
func (w *World) drive(ctx context.Context, s *Schedule, over func() bool, r *Report) error {
	for !over() {
		step := s.Next()
		if err := pause(ctx, step.After); err != nil {
			return err
		}
		if err := w.step(ctx, step, r); err != nil {
			return err
		}
	}
	return nil
}

// step injects the faults of a step and waits until the flow has come back.
func (w *World) step(ctx context.Context, step Step, report *Report) error {
	names := make([]string, len(step.Faults))
	for i, f := range step.Faults {
		names[i] = f.Name
	}
	name := strings.Join(names, " + ")
	w.Logf("inject %s", name)
	w.mark()
	began := time.Now()
	c, cancel := context.WithTimeout(ctx, limitInject)
	defer cancel()
	var all sync.WaitGroup
	failed := make([]error, len(step.Faults))
	for i, f := range step.Faults {
		r := rand.New(rand.NewPCG(step.Seeds[i], 0))
		all.Go(func() {
			if err := guard(func() error { return f.Inject(c, w, r) }); err != nil {
				failed[i] = fmt.Errorf("%s could not be injected and healed, after %.0f s: %w", f.Name, time.Since(began).Seconds(), err)
				w.Logf("%v", failed[i])
			}
		})
	}
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	healed := time.Now()
	took, err := w.recovered(ctx)
	if err != nil {
		return fmt.Errorf("after %s: %w", name, err)
	}
	report.injected(names, took)
	w.Logf("healed after %.1f s, flows again after %.1f s more", healed.Sub(began).Seconds(), took.Seconds())
	return w.faultless()
}

// faultless says what no process may have done so far.
func (w *World) faultless() error {
	var all []error
	for _, p := range w.processes() {
		all = append(all, p.Fault())
		log := p.logFrom(0)
		for _, sign := range []string{"\npanic: ", "\nfatal error: ", "DATA RACE"} {
			if strings.Contains(string(log), sign) {
				all = append(all, fmt.Errorf("%s: %q in its log %s", p.Name, strings.TrimSpace(sign), p.log))
			}
		}
	}
	return errors.Join(all...)
}

// recovered writes a row into the source and waits until every target has it.
func (w *World) recovered(ctx context.Context) (took time.Duration, err error) {
	began := time.Now()
	c, cancel := context.WithTimeout(ctx, limitRecover)
	defer cancel()
	id, err := w.probe(c)
	if err != nil {
		return 0, err
	}
	waiting := slices.Clone(w.Targets)
	for {
		var trouble error
		waiting = slices.DeleteFunc(waiting, func(t *Target) bool {
			found, err := t.has(c, id)
			trouble = errors.Join(trouble, err)
			return found
		})
		if len(waiting) == 0 {
			return time.Since(began), nil
		}
		if pause(c, 30*time.Millisecond) != nil {
			return 0, fmt.Errorf("a change of the source does not reach %s within %v: %w", waiting[0].Function, limitRecover, errors.Join(c.Err(), trouble))
		}
	}
}
