package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// Actions of a step.
const (
	Create    = "create"
	Change    = "change"
	Unchanged = "unchanged"
)

// Step of a plan.
type Step struct {
	Kind   string `json:"kind"` // source or function
	Name   string `json:"name"`
	Action string `json:"action"`         // create, change, unchanged
	Diff   string `json:"diff,omitempty"` // of a change: lines with -, + or a blank before them
	Note   string `json:"note,omitempty"` // what else follows from it

	bucket   *stream.Bucket
	revision uint64
	record   any // what is to be written
}

// tries of a compare-and-swap that keeps finding somebody else's change.
const tries = 10

// Plan says what Deploy would do, for people: one line per source and function (create, change with a diff, unchanged). What
// cannot be done is an error: Faults, where a line of the files is at fault, or a *RefusedError.
func (r *Registry) Plan(ctx context.Context, f *Files) ([]Step, error) {
	stored, err := r.readStored(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.checkAgainst(stored); err != nil {
		return nil, err
	}
	var steps []Step
	for i := range f.Sources {
		step, err := r.planSource(ctx, &f.Sources[i], f.Text, stored)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step)
	}
	for i := range f.Functions {
		step, err := r.planFunction(ctx, &f.Functions[i], f.Text, stored)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// Deploy carries it out. It may be repeated: what was written is unchanged the next time.
func (r *Registry) Deploy(ctx context.Context, f *Files) ([]Step, error) {
	written := map[string]Step{}
	for range tries {
		steps, err := r.Plan(ctx, f)
		if err == nil {
			err = r.write(ctx, steps, written)
		}
		if errors.Is(err, stream.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for i, s := range steps {
			if w, ok := written[s.Kind+"/"+s.Name]; ok {
				steps[i] = w
			}
		}
		return steps, nil
	}
	return nil, errors.New("deploy: somebody else keeps changing the same specifications; try again")
}

func (r *Registry) write(ctx context.Context, steps []Step, written map[string]Step) error {
	for _, s := range steps {
		if s.Action == Unchanged {
			continue
		}
		value, err := json.Marshal(s.record)
		if err != nil {
			return fmt.Errorf("deploy %s %s: %w", s.Kind, s.Name, err)
		}
		if record, ok := s.record.(FunctionRecord); ok {
			if err := r.keep(ctx, s.Name, record, s.Diff); err != nil {
				return err
			}
		}
		if _, err := s.bucket.Swap(ctx, s.Name, value, s.revision); err != nil {
			return fmt.Errorf("deploy %s %s: %w", s.Kind, s.Name, err)
		}
		written[s.Kind+"/"+s.Name] = s
	}
	return nil
}

// stored is what KV holds.
type stored struct {
	sources   map[string]Named[SourceRecord]
	functions map[string]Named[FunctionRecord]
	parsed    Files
}

func (r *Registry) readStored(ctx context.Context) (*stored, error) {
	s := &stored{sources: map[string]Named[SourceRecord]{}, functions: map[string]Named[FunctionRecord]{}, parsed: Files{copies: map[string]string{}}}
	sources, err := r.ListSources(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range sources {
		parsed, err := ParseSource(n.Name, n.Record.Spec)
		if err != nil {
			return nil, fmt.Errorf("stored specification: %w", err)
		}
		s.sources[n.Name], s.parsed.Sources = n, append(s.parsed.Sources, *parsed)
	}
	functions, err := r.ListFunctions(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range functions {
		parsed, err := ParseFunction(n.Name, n.Record.Spec)
		if err != nil {
			return nil, fmt.Errorf("stored specification: %w", err)
		}
		s.functions[n.Name], s.parsed.Functions = n, append(s.parsed.Functions, *parsed)
		if c := n.Record.Copy; c != nil {
			s.parsed.copies[n.Name] = c.Of
		}
	}
	return s, nil
}

// checkAgainst checks the files together with what is deployed and not in them.
func (f *Files) checkAgainst(s *stored) error {
	others := &Files{copies: s.parsed.copies}
	for _, source := range s.parsed.Sources {
		if !slices.ContainsFunc(f.Sources, func(x Source) bool { return x.Name == source.Name }) {
			others.Sources = append(others.Sources, source)
		}
	}
	for _, fn := range s.parsed.Functions {
		if !slices.ContainsFunc(f.Functions, func(x Function) bool { return x.Name == fn.Name }) {
			others.Functions = append(others.Functions, fn)
		}
	}
	f.checkTogether(others)
	if faults := f.takeFaults(); len(faults) > 0 {
		return faults
	}
	return nil
}

func (r *Registry) planSource(ctx context.Context, s *Source, text map[string]string, kept *stored) (Step, error) {
	step := Step{Kind: kindSource, Name: s.Name, Action: Create, bucket: r.Sources}
	record := SourceRecord{Spec: text[kindSource+"/"+s.Name], State: Running, Updated: time.Now().UTC()}
	old, ok := kept.sources[s.Name]
	if !ok {
		var err error
		step.record = record
		step.revision, err = absent(ctx, r.Sources, s.Name)
		return step, err
	}
	step.revision = old.Revision
	if old.Record.Spec == record.Spec {
		step.Action = Unchanged
		return step, nil
	}
	before, err := ParseSource(s.Name, old.Record.Spec)
	if err != nil {
		return Step{}, fmt.Errorf("stored specification: %w", err)
	}
	if err := allowSource(before, s); err != nil {
		return Step{}, err
	}
	step.Action, step.Diff = Change, diff(old.Record.Spec, record.Spec)
	record.State, record.Reason = afterChange(old.Record.State, old.Record.Reason)
	step.record = record
	return step, nil
}

// absent is the revision of a key that is not there: 0, or that of its deletion marker.
func absent(ctx context.Context, b *stream.Bucket, key string) (uint64, error) {
	e, err := b.Get(ctx, key)
	switch {
	case errors.Is(err, stream.ErrNotFound):
		return e.Revision, nil
	case err != nil:
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	return 0, fmt.Errorf("deploy %s: %w", key, stream.ErrConflict) // it came into being meanwhile
}

// allowSource refuses what a source cannot change during its life.
func allowSource(before, after *Source) error {
	if before.Stream.Partitions != after.Stream.Partitions {
		return refused("source %q: stream.partitions is %d and cannot change: it was fixed when the stream was created, because keys are spread by it; keep it, or deploy under a new name", after.Name, before.Stream.Partitions)
	}
	was, _ := before.Connector()
	if is, _ := after.Connector(); is != was {
		return refused("source %q: it reads %s and cannot read %s in place: the stream would hold changes of two servers; deploy it under a new name", after.Name, was, is)
	}
	if before.Postgres != nil && after.Postgres != nil && before.Postgres.Slot != after.Postgres.Slot {
		return refused("source %q: postgres.slot is %q and cannot change: a new slot would leave a gap; keep it, or deploy under a new name", after.Name, before.Postgres.Slot)
	}
	return nil
}

func (r *Registry) planFunction(ctx context.Context, f *Function, text map[string]string, kept *stored) (Step, error) {
	if err := r.fits(ctx, f); err != nil {
		return Step{}, err
	}
	step := Step{Kind: kindFunction, Name: f.Name, Action: Create, bucket: r.Functions}
	record := FunctionRecord{Spec: text[kindFunction+"/"+f.Name], Version: 1, State: Running, Updated: time.Now().UTC()}
	old, ok := kept.functions[f.Name]
	if !ok {
		last, err := r.lastGeneration(ctx, f.Name)
		if err != nil {
			return Step{}, err
		}
		record.Generation = max(last+1, record.Updated.Unix())
		step.record = record
		step.revision, err = absent(ctx, r.Functions, f.Name)
		return step, err
	}
	step.revision = old.Revision
	if old.Record.Spec == record.Spec {
		step.Action = Unchanged
		return step, nil
	}
	before, err := ParseFunction(f.Name, old.Record.Spec)
	if err != nil {
		return Step{}, fmt.Errorf("stored specification: %w", err)
	}
	if err := old.Record.unswapped(f.Name); err != nil {
		return Step{}, err
	}
	step.Action, step.Diff = Change, diff(old.Record.Spec, record.Spec)
	next := old.Record
	next.Spec, next.Version, next.Updated = record.Spec, old.Record.Version+1, record.Updated
	next.State, next.Reason = afterChange(old.Record.State, old.Record.Reason)
	if step.Note, err = r.change(ctx, before, f, &next); err != nil {
		return Step{}, err
	}
	step.record = next
	return step, nil
}

// afterChange is the state after a changed specification: what halted because of the old one tries again.
func afterChange(state State, reason string) (State, string) {
	if state == Halted {
		return Running, ""
	}
	return state, reason
}

// lastGeneration is the highest generation that a function of this name ever had, as far as KV remembers.
func (r *Registry) lastGeneration(ctx context.Context, name string) (int64, error) {
	entries, err := r.Functions.History(ctx, name)
	if err != nil && !errors.Is(err, stream.ErrNotFound) {
		return 0, fmt.Errorf("read the history of function %s: %w", name, err)
	}
	var last int64
	for _, e := range entries {
		var record FunctionRecord
		if !e.Deleted && json.Unmarshal(e.Value, &record) == nil {
			last = max(last, record.Generation)
		}
	}
	return last, nil
}
