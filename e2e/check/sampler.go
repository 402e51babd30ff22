package check

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Sampler looks at a target again and again. What it cannot reach it leaves out: no look is no breach.
type Sampler struct {
	Recorder *Recorder
	Target   string
	Rows     func(ctx context.Context) (Rows, error)
	Floors   func(ctx context.Context) ([]Floor, error) // of the target's function; nil: its checkpoints are not judged
	Every    time.Duration                              // default 250ms

	before Rows
}

// limit of one look: a target that hangs is not looked at.
const limit = 10 * time.Second

// Run looks until ctx ends, and then gives the error of the last look that failed, if none succeeded.
func (s *Sampler) Run(ctx context.Context) error {
	return looks(ctx, s.Every, s.Look)
}

// looks calls look until ctx ends, and then gives the error of the last one that failed, if none succeeded.
func looks(ctx context.Context, pause time.Duration, look func(context.Context) error) error {
	succeeded := 0
	var failed error
	every(ctx, pause, func() {
		if err := look(ctx); err == nil {
			succeeded++
		} else if ctx.Err() == nil {
			failed = err
		}
	})
	if succeeded == 0 {
		return failed
	}
	return nil
}

// every calls f, with a pause in between, until ctx ends.
func every(ctx context.Context, pause time.Duration, f func()) {
	if pause <= 0 {
		pause = 250 * time.Millisecond
	}
	t := time.NewTicker(pause)
	defer t.Stop()
	for ctx.Err() == nil {
		f()
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
}

// Look looks once.
func (s *Sampler) Look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var floors []Floor
	var unread error
	if s.Floors != nil { // before the rows: what they cover must be among them
		floors, unread = s.Floors(ctx)
	}
	began := time.Now()
	rows, err := s.Rows(ctx)
	if err != nil {
		return errors.Join(err, unread)
	}
	t := &TargetSample{Target: s.Target, Began: began, Ended: time.Now(), Tables: map[string]Delta{}, Floors: floors}
	for table, now := range rows {
		d := Delta{Seen: map[string]int64{}}
		old := s.before[table]
		for k, change := range now {
			t.Newest = max(t.Newest, change)
			if was, known := old[k]; !known || was != change {
				d.Seen[k] = change
			}
		}
		for k := range old {
			if _, still := now[k]; !still {
				d.Gone = append(d.Gone, k)
			}
		}
		slices.Sort(d.Gone)
		t.Tables[table] = d
	}
	s.before = rows
	s.Recorder.Add(Record{Target: t})
	return unread
}
