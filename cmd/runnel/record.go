package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/fixture"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// schemas finds the versions of tables that events name.
type schemas struct {
	bucket interface {
		Get(ctx context.Context, key string) (stream.Entry, error)
	}
	known map[string]*event.Schema
}

func (s *schemas) find(ctx context.Context, e *event.Event) (*event.Schema, error) {
	key := event.KeyToken(e.Source) + "." + event.KeyToken(e.Table.Schema) + "." + event.KeyToken(e.Table.Name) + "." + event.KeyToken(e.Fingerprint)
	if known := s.known[key]; known != nil {
		return known, nil
	}
	entry, err := s.bucket.Get(ctx, key)
	if errors.Is(err, stream.ErrNotFound) {
		return nil, fmt.Errorf("events of %s name a table version %s that is not in %s: start the capture agent of %s again, which stores it", e.Table, e.Fingerprint, registry.BucketSchemas, e.Source)
	}
	if err != nil {
		return nil, err
	}
	schema, err := event.ParseSchema(entry.Value)
	if err != nil {
		return nil, fmt.Errorf("schema %s in %s: %w", key, registry.BucketSchemas, err)
	}
	s.known[key] = schema
	return schema, nil
}

// recording saves events as a fixture.
type recording struct {
	path    string
	file    *os.File
	out     *bufio.Writer
	fixture *fixture.Writer
	schemas schemas
	count   int
}

// newRecording makes the file: only its owner may read the data.
func newRecording(path string, bucket *stream.Bucket) (*recording, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, misconfigured("%s is there already: delete it, or choose another file", path)
	}
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriter(file)
	return &recording{path: path, file: file, out: out, fixture: fixture.NewWriter(out), schemas: schemas{bucket, map[string]*event.Schema{}}}, nil
}

func (r *recording) write(ctx context.Context, e *event.Event) (err error) {
	if e.Schema, err = r.schemas.find(ctx, e); err != nil {
		return err
	}
	r.count++
	return r.fixture.Write(e)
}

func (r *recording) close(errs io.Writer) error {
	err := errors.Join(r.out.Flush(), r.file.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", r.path, err)
	}
	fmt.Fprintf(errs, "runnel: %d events in %s: they hold what the source holds, neither filtered nor masked; look before you share it\n", r.count, r.path)
	return nil
}
