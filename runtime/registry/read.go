package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// Named is a record with its key and revision.
type Named[T any] struct {
	Name     string
	Revision uint64
	Record   T
}

// NotDeployedError says that there is no such source or function.
type NotDeployedError struct {
	Kind, Name string
	Names      []string // that exist
}

func (e *NotDeployedError) Error() string {
	if len(e.Names) == 0 {
		return fmt.Sprintf("no %s %q: none is deployed; runnel deploy FILES", e.Kind, e.Name)
	}
	return fmt.Sprintf("no %s %q%s", e.Kind, e.Name, suggest(e.Name, e.Names))
}

// Configuration says that the operator's configuration is at fault.
func (e *NotDeployedError) Configuration() bool { return true }

func list[T any](ctx context.Context, b *stream.Bucket, what, pattern string) ([]Named[T], error) {
	entries, err := b.All(ctx, pattern)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	var all []Named[T]
	for _, e := range entries {
		if e.Deleted {
			continue
		}
		n := Named[T]{Name: e.Key, Revision: e.Revision}
		if err := json.Unmarshal(e.Value, &n.Record); err != nil {
			return nil, fmt.Errorf("read %s: record %s: %w", what, e.Key, err)
		}
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b Named[T]) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func get[T any](ctx context.Context, b *stream.Bucket, key string) (Named[T], error) {
	n := Named[T]{Name: key}
	e, err := b.Get(ctx, key)
	n.Revision = e.Revision
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(e.Value, &n.Record)
}

// ListSources are the deployed sources by name.
func (r *Registry) ListSources(ctx context.Context) ([]Named[SourceRecord], error) {
	return list[SourceRecord](ctx, r.Sources, "sources", ">")
}

// ListFunctions are the deployed functions by name.
func (r *Registry) ListFunctions(ctx context.Context) ([]Named[FunctionRecord], error) {
	return list[FunctionRecord](ctx, r.Functions, "functions", ">")
}

// ListWorkers are the workers that announced themselves within WorkerTTL, by instance.
func (r *Registry) ListWorkers(ctx context.Context) ([]Named[Worker], error) {
	return list[Worker](ctx, r.Workers, "workers", ">")
}

// SourceOf reads a source's record and specification: *NotDeployedError.
func (r *Registry) SourceOf(ctx context.Context, name string) (*Source, Named[SourceRecord], error) {
	n, err := get[SourceRecord](ctx, r.Sources, name)
	if errors.Is(err, stream.ErrNotFound) {
		return nil, n, r.notDeployed(ctx, kindSource, name)
	}
	if err != nil {
		return nil, n, fmt.Errorf("read source %s: %w", name, err)
	}
	s, err := ParseSource(name, n.Record.Spec)
	return s, n, err
}

// FunctionOf reads a function's record and specification: *NotDeployedError.
func (r *Registry) FunctionOf(ctx context.Context, name string) (*Function, Named[FunctionRecord], error) {
	n, err := get[FunctionRecord](ctx, r.Functions, name)
	if errors.Is(err, stream.ErrNotFound) {
		return nil, n, r.notDeployed(ctx, kindFunction, name)
	}
	if err != nil {
		return nil, n, fmt.Errorf("read function %s: %w", name, err)
	}
	f, err := ParseFunction(name, n.Record.Spec)
	return f, n, err
}

func (r *Registry) notDeployed(ctx context.Context, kind, name string) error {
	e := &NotDeployedError{Kind: kind, Name: name}
	if kind == kindSource {
		all, err := r.ListSources(ctx)
		if err != nil {
			return err
		}
		for _, n := range all {
			e.Names = append(e.Names, n.Name)
		}
		return e
	}
	all, err := r.ListFunctions(ctx)
	if err != nil {
		return err
	}
	for _, n := range all {
		e.Names = append(e.Names, n.Name)
	}
	return e
}

// CaptureOf is the record of a source's agent; ok is false before its first start.
func (r *Registry) CaptureOf(ctx context.Context, source string) (c Capture, ok bool, err error) {
	n, err := get[Capture](ctx, r.Captures, source)
	if errors.Is(err, stream.ErrNotFound) {
		return Capture{}, false, nil
	}
	if err != nil {
		return Capture{}, false, fmt.Errorf("read the capture record of source %s: %w", source, err)
	}
	return n.Record, true, nil
}

// OwnersOf are the records of a generation's partitions.
func (r *Registry) OwnersOf(ctx context.Context, function string, generation int64) (map[int]Owner, error) {
	all, err := list[Owner](ctx, r.Owners, "owners of function "+function, function+"."+strconv.FormatInt(generation, 10)+".*")
	if err != nil {
		return nil, err
	}
	owners := make(map[int]Owner, len(all))
	for _, n := range all {
		partition, err := strconv.Atoi(n.Name[strings.LastIndexByte(n.Name, '.')+1:])
		if err != nil {
			return nil, fmt.Errorf("read owners of function %s: record %s names no partition", function, n.Name)
		}
		owners[partition] = n.Record
	}
	return owners, nil
}

// Files is what is deployed, as if it had been read from files.
func (r *Registry) Files(ctx context.Context) (*Files, error) {
	s, err := r.readStored(ctx)
	if err != nil {
		return nil, err
	}
	return &s.parsed, nil
}
