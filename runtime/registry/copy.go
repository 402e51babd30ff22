package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Copy makes a function one that fills a target of its own beside another function, in whose place that target comes at the end.
type Copy struct {
	Of    string `json:"of"`              // the function
	Into  string `json:"into"`            // what the copy's target is called, as in the specification
	Whole bool   `json:"whole,omitempty"` // it reads all rows that the function's own target may hold
}

// Swap lets the target of a function's copy come in the place of its own. The generation that has it begins where the copy stood.
type Swap struct {
	Copy       string   `json:"copy"`             // the function's name
	Generation int64    `json:"generation"`       // of the copy
	Into       string   `json:"into"`             // what its target is called until then
	Marked     bool     `json:"marked,omitempty"` // the copy has stopped, and from here on the target may have swapped
	Marks      []string `json:"marks,omitempty"`  // by which the target knows the copy's tables, however they are called
	Done       bool     `json:"done,omitempty"`
}

// CopyName is what the copy of a function is called.
func CopyName(function string) string { return function + "-copy" }

// Hosts says whether a worker that was told to host some functions, or all if it was told none, hosts one: who hosts a function hosts its copy
// too.
func Hosts(functions []string, name string) bool {
	return len(functions) == 0 || slices.ContainsFunc(functions, func(f string) bool { return f == name || CopyName(f) == name })
}

// PlannedCopy is the copy of a function that was not ordered yet.
type PlannedCopy struct {
	Function *Function // the copy

	spec     string
	into     string
	revision uint64
}

// PlanCopy makes the specification of a function's copy, which writes into another table or index of the same target.
func (r *Registry) PlanCopy(ctx context.Context, name, into string) (*PlannedCopy, error) {
	live, n, err := r.FunctionOf(ctx, name)
	if err != nil {
		return nil, err
	}
	if n.Record.Copy != nil {
		return nil, refused("function %q: it is a copy of %q itself", name, n.Record.Copy.Of)
	}
	p := &PlannedCopy{into: into}
	if p.Function, p.spec, err = copied(live, n.Record.Spec, into); err != nil {
		return nil, err
	}
	stored, err := r.readStored(ctx)
	if err != nil {
		return nil, err
	}
	if old, there := stored.functions[p.Function.Name]; there {
		if c := old.Record.Copy; c != nil && c.Of == name {
			return nil, refused("function %q: it has a copy already, which fills %s; let it come in its place with `runnel replay %s --swap`, or take it away with `runnel replay %s --cancel`", name, c.Into, name, name)
		}
		return nil, refused("function %q: its copy would be called %q, and another function has that name", name, p.Function.Name)
	}
	f := &Files{Text: map[string]string{}, documents: map[string]*document{}}
	d := &document{file: "the copy of function " + name, text: p.spec}
	if f.add(d); len(d.faults) > 0 {
		return nil, d.faults
	}
	// Patterns of the two may overlap where no two tables do: those that are known decide.
	stored.parsed.Functions = slices.DeleteFunc(stored.parsed.Functions, func(x Function) bool { return x.Name == name })
	if err := f.checkAgainst(stored); err != nil {
		return nil, err
	}
	if err := r.apart(ctx, live, p.Function); err != nil {
		return nil, err
	}
	p.revision, err = absent(ctx, r.Functions, p.Function.Name)
	return p, err
}

// apart refuses a copy that would write one of the tables of its function.
func (r *Registry) apart(ctx context.Context, live, c *Function) error {
	_, _, own := live.To.place()
	if _, _, into := c.To.place(); own == into {
		return refused("function %q: its target is called %q itself; choose another name for the copy's", live.Name, own)
	}
	known, err := NewestSchemas(ctx, r.Schemas, live)
	if err != nil {
		return fmt.Errorf("read the tables that function %s reads: %w", live.Name, err)
	}
	for _, a := range known {
		for _, b := range known {
			if name := c.TargetName(a.Table); name == live.TargetName(b.Table) {
				return refused("function %q: its copy would write %s of %s, which the function writes of %s; choose another name", live.Name, name, a.Table, b.Table)
			}
		}
	}
	return nil
}

// Into is the name of a copy's target as the specification has it: a table of PostgreSQL stays in its schema unless another is named.
func (f *Function) Into(into string) string {
	if p := f.To.Postgres; p != nil && !strings.Contains(into, ".") {
		if schema, _, dotted := strings.Cut(p.Table, "."); dotted {
			return schema + "." + into
		}
	}
	return into
}

// copied is a function with another name and another name of its target, and its specification.
func copied(live *Function, spec, into string) (*Function, string, error) {
	f := *live
	f.Name = CopyName(live.Name)
	field := "table"
	switch to := live.To; {
	case to.Elasticsearch != nil:
		t := *to.Elasticsearch
		t.Index, f.To.Elasticsearch, field = into, &t, "index"
	case to.ClickHouse != nil:
		t := *to.ClickHouse
		t.Table, f.To.ClickHouse = into, &t
	case to.Postgres != nil:
		t := *to.Postgres
		t.Table, f.To.Postgres = into, &t
	default:
		return nil, "", refused("function %q: its target has no tables or indexes by which a copy could be told from it", live.Name)
	}
	if !validName.MatchString(f.Name) {
		return nil, "", refused("function %q: its copy would be called %q, which is longer than the 40 characters of a name", live.Name, f.Name)
	}
	text, err := rewritten(spec, map[string]string{"$.name": f.Name, "$.to." + f.To.Kind() + "." + field: into})
	if err != nil {
		return nil, "", refused("function %q: its specification cannot be changed for a copy: %v", live.Name, err)
	}
	made, err := ParseFunction(f.Name, text)
	if err != nil {
		return nil, "", err
	}
	if !reflect.DeepEqual(made, &f) {
		return nil, "", refused("function %q: the place of its target in the specification is not found; write it without anchors, and deploy it", live.Name)
	}
	return made, text, nil
}

// rewritten is a YAML document with other scalars at some paths, which are added where they are missing. Comments and order stay.
func rewritten(text string, scalars map[string]string) (string, error) {
	file, err := parser.ParseBytes([]byte(text), parser.ParseComments)
	if err != nil {
		return "", err
	}
	for _, at := range slices.Sorted(maps.Keys(scalars)) {
		value, err := yaml.MarshalWithOptions(scalars[at], yaml.JSON())
		if err != nil {
			return "", err
		}
		path, err := yaml.PathString(at)
		if err != nil {
			return "", err
		}
		if _, err := path.FilterFile(file); err == nil {
			if err := path.ReplaceWithReader(file, strings.NewReader(string(value))); err != nil {
				return "", err
			}
			continue
		}
		dot := strings.LastIndexByte(at, '.')
		parent, err := yaml.PathString(at[:dot])
		if err != nil {
			return "", err
		}
		if err := parent.MergeFromReader(file, strings.NewReader(at[dot+1:]+": "+string(value))); err != nil {
			return "", err
		}
	}
	return file.String(), nil
}

// OrderCopy deploys a copy. It begins with a part of the stream, up to where the function stands; or, if p is nil, at start, with all
// tables read again for it.
func (r *Registry) OrderCopy(ctx context.Context, of string, c *PlannedCopy, p *Replay, start sink.Point, whole bool) (FunctionRecord, error) {
	last, err := r.lastGeneration(ctx, c.Function.Name)
	if err != nil {
		return FunctionRecord{}, err
	}
	now := time.Now().UTC()
	record := FunctionRecord{
		Spec: c.spec, Version: 1, Generation: max(last+1, now.Unix()), State: Running, Updated: now,
		Start: start, Copy: &Copy{Of: of, Into: c.into, Whole: whole},
	}
	if p != nil {
		record.Start, record.Replay = p.From, p
	} else {
		record.AddBackfill(Backfill{Start: start, Why: "a copy of function " + of + " begins with it"}, now)
	}
	if err := r.keep(ctx, c.Function.Name, record, ""); err != nil {
		return FunctionRecord{}, err
	}
	err = swap(ctx, r.Functions, Named[FunctionRecord]{Name: c.Function.Name, Revision: c.revision, Record: record})
	if errors.Is(err, stream.ErrConflict) {
		return FunctionRecord{}, refused("function %q: somebody else has just made a copy of it", of)
	}
	return record, err
}

// CopyOf is the record of a function's copy; ok is false where it has none.
func (r *Registry) CopyOf(ctx context.Context, name string) (f *Function, n Named[FunctionRecord], ok bool, err error) {
	f, n, err = r.FunctionOf(ctx, CopyName(name))
	var none *NotDeployedError
	switch {
	case errors.As(err, &none):
		return nil, n, false, nil
	case err != nil:
		return nil, n, false, err
	}
	return f, n, n.Record.Copy != nil && n.Record.Copy.Of == name, nil
}

// OrderSwap lets the target of a function's copy come in the place of its own: a new generation, which begins where the copy stands once
// that has come as far as the function. It may be ordered again. force takes a copy that does not show all rows.
func (r *Registry) OrderSwap(ctx context.Context, name string, force bool) (FunctionRecord, error) {
	for range tries {
		f, n, err := r.FunctionOf(ctx, name)
		if err != nil {
			return FunctionRecord{}, err
		}
		if n.Record.Waits && n.Record.Swap != nil {
			return n.Record, nil
		}
		if err := r.orderSwap(ctx, f, &n.Record, force); err != nil {
			return FunctionRecord{}, err
		}
		if err := swap(ctx, r.Functions, n); !errors.Is(err, stream.ErrConflict) {
			return n.Record, err
		}
	}
	return FunctionRecord{}, fmt.Errorf("swap function %s with its copy: somebody else keeps changing it; try again", name)
}

func (r *Registry) orderSwap(ctx context.Context, f *Function, record *FunctionRecord, force bool) error {
	name := f.Name
	copyOf, c, ok, err := r.CopyOf(ctx, name)
	switch {
	case err != nil:
		return err
	case !ok:
		return refused("function %q: it has no copy; make one with `runnel replay %s --from-start --into NAME`, or with `runnel backfill %s --into NAME`", name, name, name)
	case c.Record.State != Running || c.Record.Waits:
		return refused("function %q: its copy %s is %s and must have caught up first; `runnel resume %s`", name, c.Name, stateOf(c.Record), c.Name)
	case !c.Record.Copy.Whole && !force:
		return refused("function %q: its copy holds only what the stream brought since sequence %d: rows that did not change since would be missing. Make one with `runnel backfill %s --into NAME`, or take it as it is with --force", name, c.Record.Start.Sequence, name)
	}
	if _, want, err := copied(f, record.Spec, c.Record.Copy.Into); err != nil {
		return err
	} else if want != c.Record.Spec {
		return refused("function %q: its specification, or that of its copy, has changed since the copy was made: the copy would not hold what it asks for; take it away with `runnel replay %s --cancel` and make another one", name, name)
	}
	for _, one := range []struct {
		f         *Function
		backfills []Backfill
	}{{f, record.Backfills}, {copyOf, c.Record.Backfills}} {
		for _, b := range one.backfills {
			s, _, err := r.BackfillOf(ctx, one.f.Source(), one.f.Name, b.ID)
			if err != nil {
				return err
			}
			if !s.Done {
				return refused("function %q: backfill %d of %s is not done yet; wait for it, or withdraw it with `runnel backfill %s --cancel`", name, b.ID, one.f.Name, one.f.Name)
			}
		}
	}
	record.Updated = time.Now().UTC()
	record.succeed(f, f, record.Updated)
	record.State, record.Reason = afterChange(record.State, record.Reason)
	record.Swap = &Swap{Copy: c.Name, Generation: c.Record.Generation, Into: c.Record.Copy.Into}
	return nil
}

func stateOf(r FunctionRecord) string {
	if r.Waits {
		return "waiting for an older generation"
	}
	return string(r.State)
}

// CancelSwap withdraws a swap that has not begun: the function goes on with its own target. ok is false where none is under way.
func (r *Registry) CancelSwap(ctx context.Context, name string) (ok bool, err error) {
	for range tries {
		_, n, err := r.FunctionOf(ctx, name)
		if err != nil {
			return false, err
		}
		switch s := n.Record.Swap; {
		case s == nil || !n.Record.Waits:
			return false, nil
		case s.Marked:
			return false, refused("function %q: its target may have swapped already, so that it cannot be cancelled any more; it goes on by itself as soon as the target answers: `runnel describe %s`", name, name)
		}
		n.Record.Swap, n.Record.Updated = nil, time.Now().UTC()
		n.Record.State, n.Record.Reason = afterChange(n.Record.State, n.Record.Reason)
		if err := swap(ctx, r.Functions, n); !errors.Is(err, stream.ErrConflict) {
			return err == nil, err
		}
	}
	return false, fmt.Errorf("cancel the swap of function %s: somebody else keeps changing it; try again", name)
}

// unclaimed refuses to delete a copy whose target is, or is about to be, that of its function.
func (r *Registry) unclaimed(ctx context.Context, name string, record *FunctionRecord) error {
	if record.Copy == nil {
		return nil
	}
	of, err := get[FunctionRecord](ctx, r.Functions, record.Copy.Of)
	if errors.Is(err, stream.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the record of function %s: %w", record.Copy.Of, err)
	}
	if s := of.Record.Swap; s != nil && s.Copy == name && s.Generation == record.Generation && (of.Record.Waits || s.Done) {
		return refused("function %q: it is about to come in the place of %q, or has; withdraw that first with `runnel replay %s --cancel`, or wait until it is done", name, record.Copy.Of, record.Copy.Of)
	}
	return nil
}

// unswapped refuses to change a function while its copy comes in its place.
func (r *FunctionRecord) unswapped(name string) error {
	if r.Waits && r.Swap != nil {
		return refused("function %q: its copy is about to come in its place; try again once that is done, or withdraw it first with `runnel replay %s --cancel`", name, name)
	}
	return nil
}
