package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// Version is a specification of a function as it was deployed.
type Version struct {
	Version  int       `json:"version"`
	Spec     string    `json:"spec"`
	Diff     string    `json:"diff,omitempty"` // against the one before
	Deployed time.Time `json:"deployed"`
}

func versionKey(function string, version int) string { return function + "." + strconv.Itoa(version) }

// keep writes a version down, before the record that says that it is deployed.
func (r *Registry) keep(ctx context.Context, name string, record FunctionRecord, diff string) error {
	v := Version{Version: record.Version, Spec: record.Spec, Diff: diff, Deployed: record.Updated}
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := r.Versions.Put(ctx, versionKey(name, v.Version), value); err != nil {
		return fmt.Errorf("write version %d of function %s: %w", v.Version, name, err)
	}
	return nil
}

// VersionsOf are the versions of a function that were deployed, oldest first; the last one is the one that is deployed now.
func (r *Registry) VersionsOf(ctx context.Context, name string) ([]Version, error) {
	_, n, err := r.FunctionOf(ctx, name)
	if err != nil {
		return nil, err
	}
	all, err := list[Version](ctx, r.Versions, "versions of function "+name, name+".*")
	if err != nil {
		return nil, err
	}
	var versions []Version
	for _, v := range all {
		if v.Record.Version <= n.Record.Version { // later ones were begun, or are of a function that was deleted
			versions = append(versions, v.Record)
		}
	}
	slices.SortFunc(versions, func(a, b Version) int { return a.Version - b.Version })
	return versions, nil
}

// VersionOf gives a version of a function as files that can be deployed; 0 is the one before the one that is deployed now.
func (r *Registry) VersionOf(ctx context.Context, name string, version int) (*Files, Version, error) {
	_, n, err := r.FunctionOf(ctx, name)
	if err != nil {
		return nil, Version{}, err
	}
	if version == 0 {
		version = n.Record.Version - 1
	}
	v, err := get[Version](ctx, r.Versions, versionKey(name, version))
	if errors.Is(err, stream.ErrNotFound) || version > n.Record.Version {
		versions, err := r.VersionsOf(ctx, name)
		if err != nil {
			return nil, Version{}, err
		}
		var known []string
		for _, k := range versions {
			known = append(known, strconv.Itoa(k.Version))
		}
		return nil, Version{}, refused("function %q: there is no version %d of it; there are %s", name, version, strings.Join(known, ", "))
	}
	if err != nil {
		return nil, Version{}, fmt.Errorf("read version %d of function %s: %w", version, name, err)
	}
	f := &Files{Text: map[string]string{}, documents: map[string]*document{}}
	d := &document{file: fmt.Sprintf("version %d of function %s", version, name), text: v.Record.Spec}
	if f.add(d); len(d.faults) > 0 {
		return nil, v.Record, d.faults
	}
	return f, v.Record, nil
}
