package registry

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/shape"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// ColumnChoice says which columns the target gets. The key comes always.
type ColumnChoice struct {
	Include []string          `yaml:"include"` // these only
	Exclude []string          `yaml:"exclude"` // all but these
	Rename  map[string]string `yaml:"rename"`  // the source's name: the target's
}

// Computation is a column that is computed by CEL.
type Computation struct{ Column, Expression string }

// Masking names columns whose values are hidden before anything leaves the worker.
type Masking struct {
	Hash   []string `yaml:"hash"`   // HMAC-SHA256 with the salt, in hex
	Salt   string   `yaml:"salt"`   // of hash; a reference
	Redact []string `yaml:"redact"` // NULL
	Last4  []string `yaml:"last4"`  // asterisks, and the last four characters
}

// Shape is what the function does to events, with the references resolved.
func (f *Function) Shape() (shape.Spec, error) {
	salt, err := Resolve(f.Mask.Salt)
	if err != nil {
		return shape.Spec{}, fmt.Errorf("mask.salt of function %s: %w", f.Name, err)
	}
	return f.shape(salt), nil
}

func (f *Function) shape(salt string) shape.Spec {
	s := shape.Spec{Filter: f.Filter, Include: f.Columns.Include, Exclude: f.Columns.Exclude, Rename: f.Columns.Rename, Mask: map[string]shape.Mask{}}
	for _, op := range f.Ops {
		s.Ops = append(s.Ops, event.Op(op[0]))
	}
	for _, c := range f.Set {
		s.Set = append(s.Set, shape.Computed(c))
	}
	for kind, names := range map[shape.MaskKind][]string{shape.Hash: f.Mask.Hash, shape.Redact: f.Mask.Redact, shape.Last4: f.Mask.Last4} {
		for _, name := range names {
			s.Mask[name] = shape.Mask{Kind: kind, Salt: []byte(salt)}
		}
	}
	s.Several = len(f.From) > 1 || slices.ContainsFunc(f.From, func(from string) bool { return strings.Contains(from, "*") })
	return s
}

// fits says whether the function's filter and columns fit the tables that are known: a fault is told at the deployment, not by a
// worker later.
func (r *Registry) fits(ctx context.Context, f *Function) error {
	spec := f.shape("any salt")
	if spec.Zero() {
		return nil
	}
	schemas, err := NewestSchemas(ctx, r.Schemas, f)
	if err != nil {
		return fmt.Errorf("read the tables that function %s reads: %w", f.Name, err)
	}
	for _, s := range schemas {
		if _, err := shape.New(spec, s); err != nil {
			return refused("function %q does not fit its source: %v", f.Name, err)
		}
	}
	return nil
}

// NewestSchemas are the newest versions of the tables that a function reads, as far as agents have told them to RUNNEL_schemas.
func NewestSchemas(ctx context.Context, bucket interface {
	All(ctx context.Context, pattern string) ([]stream.Entry, error)
}, f *Function) ([]*event.Schema, error) {
	entries, err := bucket.All(ctx, event.KeyToken(f.Source())+".>")
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b stream.Entry) int { return cmp.Compare(b.Revision, a.Revision) })
	var newest []*event.Schema
	seen := map[event.Table]bool{}
	for _, e := range entries {
		schema, err := event.ParseSchema(e.Value)
		if err != nil {
			return nil, fmt.Errorf("schema %s in %s: %w", e.Key, BucketSchemas, err)
		}
		if !seen[schema.Table] && f.Matches(schema.Table) {
			seen[schema.Table] = true
			newest = append(newest, schema)
		}
	}
	return newest, nil
}

// Takes says whether a kind of events counts.
func (f *Function) Takes(op event.Op) bool {
	return len(f.Ops) == 0 || slices.Contains(f.Ops, op.String())
}

// References are the values of the function that may hold references.
func (f *Function) References() []string {
	references := append(f.To.References(), f.Mask.Salt)
	for _, name := range slices.Sorted(maps.Keys(f.Config)) {
		references = append(references, f.Config[name])
	}
	return references
}

// sameShape says whether two specifications make the same of an event.
func (f *Function) sameShape(g *Function) bool {
	return f.Filter == g.Filter && slices.Equal(f.Ops, g.Ops) && slices.Equal(f.Set, g.Set) &&
		slices.Equal(f.Columns.Include, g.Columns.Include) && slices.Equal(f.Columns.Exclude, g.Columns.Exclude) && maps.Equal(f.Columns.Rename, g.Columns.Rename) &&
		slices.Equal(f.Mask.Hash, g.Mask.Hash) && f.Mask.Salt == g.Mask.Salt && slices.Equal(f.Mask.Redact, g.Mask.Redact) && slices.Equal(f.Mask.Last4, g.Mask.Last4)
}

// checkShape reports what is wrong whatever the tables look like.
func (d *document) checkShape(f *Function) {
	for i, op := range f.Ops {
		if len(op) != 1 || !strings.Contains("cudr", op) {
			d.at(index("ops", i), "ops: expected c (insert), u (update), d (delete) or r (row of a load), found %q", op)
		}
	}
	if len(f.Columns.Include) > 0 && len(f.Columns.Exclude) > 0 {
		d.at("columns", "columns: expected include or exclude, found both")
	}
	if d.checkSecret("mask.salt", f.Mask.Salt); len(f.Mask.Hash) > 0 && f.Mask.Salt == "" {
		d.at("mask", "mask: a hash without a salt can be looked up in a table; add salt: \"${%s_SALT}\"", strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")))
	}
	seen := map[string]bool{}
	for _, list := range [][]string{f.Mask.Hash, f.Mask.Redact, f.Mask.Last4} {
		for _, name := range list {
			if seen[name] {
				d.at("mask", "mask: column %s is there twice", name)
			}
			seen[name] = true
		}
	}
}
