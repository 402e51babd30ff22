package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/runnel-dev/runnel/runtime/doctor"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// doctorCommand is `runnel doctor`.
type doctorCommand struct {
	nats natsFlags
	json bool
}

// examined is a source, a function or the stream with what was found.
type examined struct {
	Kind     string           `json:"kind"`
	Name     string           `json:"name"`
	Findings []doctor.Finding `json:"findings"`
}

func newDoctor() *cobra.Command {
	d := &doctorCommand{}
	cmd := &cobra.Command{
		Use:   "doctor [FILES]",
		Short: "Look at sources, stream and targets before the first run, and say how to fix what is wrong",
		Long: `Doctor looks at what the files name, or at what is deployed: the source's settings, permissions, slot, publication, keys;
the stream's server; the targets' permissions and structure. It changes nothing. Each line that is not ok ends with what
to do. The exit code is 1 if anything would fail.`,
		Example: "  runnel doctor shop.yaml\n  runnel doctor --nats nats://nats:4222",
		RunE:    func(cmd *cobra.Command, args []string) error { return d.run(cmd.Context(), args, cmd.OutOrStdout()) },
	}
	d.nats.add(cmd.Flags())
	cmd.Flags().BoolVar(&d.json, "json", false, "print JSON")
	return cmd
}

// examineTimeout bounds the look at one source or target.
const examineTimeout = 20 * time.Second

func (d *doctorCommand) run(ctx context.Context, paths []string, out io.Writer) error {
	var files *registry.Files
	if len(paths) > 0 {
		var err error
		if files, err = registry.ReadFiles(paths...); err != nil {
			return err
		}
	}
	s, jetstream, err := d.stream(ctx)
	if s != nil {
		defer s.close()
	}
	if files == nil {
		if err != nil {
			return fmt.Errorf("%w; or name the files to look at: runnel doctor FILES", err)
		}
		if files, err = s.registry.Files(ctx); err != nil {
			return err
		}
	}
	var all []examined
	for i := range files.Sources {
		all = append(all, d.source(ctx, &files.Sources[i]))
	}
	all = append(all, jetstream)
	for i := range files.Functions {
		all = append(all, d.function(ctx, s, &files.Functions[i]))
	}
	if d.json {
		err = printJSON(out, all)
	} else {
		err = printExamined(out, all)
	}
	if err != nil {
		return err
	}
	failed := 0
	for _, e := range all {
		for _, f := range e.Findings {
			if f.Level == doctor.Fail {
				failed++
			}
		}
	}
	if failed > 0 {
		return statusError{exitRuntime, fmt.Sprintf("%d of the findings must be fixed first", failed)}
	}
	return nil
}

func printExamined(out io.Writer, all []examined) error {
	for _, e := range all {
		if _, err := fmt.Fprintln(out, strings.TrimSpace(e.Kind+" "+e.Name)); err != nil {
			return err
		}
		for _, f := range e.Findings {
			if _, err := fmt.Fprintf(out, "  %-4s  %s: %s\n", f.Level, f.Subject, f.Text); err != nil {
				return err
			}
			if f.Fix == "" || f.Level == doctor.OK {
				continue
			}
			for line := range strings.Lines(f.Fix) {
				if _, err := fmt.Fprintf(out, "        → %s\n", strings.TrimRight(line, "\n")); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// stream looks at the JetStream that runs, or at the folder in which one would be embedded. The error says why none runs.
func (d *doctorCommand) stream(ctx context.Context) (*session, examined, error) {
	e := examined{Kind: "stream"}
	var report doctor.Report
	c, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	s, err := d.nats.connect(c)
	switch {
	case err == nil:
		d.server(ctx, s, &report)
	case d.nats.External():
		report.Fail("server", "", "%v", err)
	default:
		d.folder(&report)
	}
	e.Findings = report
	return s, e, err
}

func (d *doctorCommand) server(ctx context.Context, s *session, report *doctor.Report) {
	nc := s.conn.NC
	report.OK("server", "nats-server %s at %s, JetStream on", nc.ConnectedServerVersion(), nc.ConnectedUrlRedacted())
	clustered := nc.ConnectedClusterName() != ""
	switch {
	case clustered && s.conn.Replicas() == 1:
		report.Warn("replicas", "use --nats-replicas 3", "1 on a cluster: a server that is lost takes the stream with it")
	default:
		report.OK("replicas", "%d", s.conn.Replicas())
	}
	if payload := s.conn.MaxMessage(); payload < 1<<20-8<<10 {
		report.Warn("max_payload", "set max_payload: 8MB on the servers", "%s: larger rows take the way through the object store", size(int64(payload)))
	} else {
		report.OK("max_payload", "messages of up to %s; larger rows go to the object store", size(int64(payload)))
	}
	report.OK("fsync", "what JetStream stored counts as durable after %s (twice sync_interval and a second)", s.conn.Horizon())
	sources, err := s.registry.ListSources(ctx)
	if err != nil {
		report.Fail("records", "", "%v", err)
		return
	}
	for _, n := range sources {
		end, err := s.endOf(ctx, n.Name)
		name := event.StreamName(n.Name)
		switch {
		case err != nil:
			report.Fail(name, "", "%v", err)
		case end == nil:
			report.OK(name, "it will be made")
		case end.Deleted > 0:
			report.Fail(name, "find out who deleted them; then runnel capture "+n.Name+" --resnapshot", "%d messages are missing within the stream", end.Deleted)
		default:
			report.OK(name, "%s messages, %s of %s", number(int64(end.Messages)), size(int64(end.Bytes)), size(end.MaxBytes))
		}
	}
}

// folder looks at where JetStream would be embedded.
func (d *doctorCommand) folder(report *doctor.Report) {
	dir := d.nats.Data
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		dir = "."
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		report.Fail("data folder", "choose another one with --data", "%s: %v", d.nats.Data, err)
		return
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		report.Warn("data folder", "", "%s: %v", d.nats.Data, err)
		return
	}
	free := int64(st.Bavail) * st.Bsize
	if free < 2<<30 {
		report.Warn("data folder", "make room, or choose another one with --data", "%s has %s free", d.nats.Data, size(free))
	} else {
		report.OK("data folder", "JetStream would be embedded in %s, which has %s free", d.nats.Data, size(free))
	}
}

func (d *doctorCommand) source(ctx context.Context, spec *registry.Source) examined {
	e := examined{Kind: "source", Name: spec.Name}
	source, err := newSource(spec, nil)
	if err != nil {
		e.Findings = []doctor.Finding{{Level: doctor.Fail, Subject: "specification", Text: err.Error()}}
		return e
	}
	c, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	e.Findings = source.Doctor(c)
	return e
}

// function looks at a target through its sink.
func (d *doctorCommand) function(ctx context.Context, s *session, f *registry.Function) examined {
	var report doctor.Report
	c, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	d.target(c, s, f, &report)
	return examined{Kind: "function", Name: f.Name, Findings: report}
}

func (d *doctorCommand) target(ctx context.Context, s *session, f *registry.Function, report *doctor.Report) {
	if f.Handler != "" {
		d.handler(ctx, s, f, report)
		return
	}
	h, done, err := lookAt(f)
	if err != nil {
		report.Fail("specification", "", "%v", err)
		return
	}
	defer done()
	checker, ok := h.(sink.Checker)
	if !ok {
		return
	}
	schemas, err := d.schemas(ctx, s, f)
	if err != nil {
		report.Fail("schemas", "", "%v", err)
		return
	}
	err = checker.Check(ctx, schemas)
	switch {
	case err != nil:
		for _, one := range each(err) {
			report.Fail(f.To.Kind(), "", "%v", one)
		}
	case len(schemas) == 0:
		report.OK(f.To.Kind(), "it can be reached; its structure is looked at once tables are captured")
	default:
		report.OK(f.To.Kind(), "it can be reached, and fits %d tables", len(schemas))
	}
}

// handler looks for a worker that has the function's handler: what it writes to only that one knows.
func (d *doctorCommand) handler(ctx context.Context, s *session, f *registry.Function, report *doctor.Report) {
	if s == nil {
		return // nothing is deployed where workers could be
	}
	switch why, err := s.handlerless(ctx, f); {
	case err != nil:
		report.Fail("workers", "", "%v", err)
	case why != "":
		report.Warn("handler "+f.Handler, "", "%s", why)
	default:
		report.OK("handler "+f.Handler, "a worker has it")
	}
}

// schemas are the newest ones of the function's tables, as far as its target may be looked at with them: Elasticsearch and
// ClickHouse would be given indexes and tables by the look, so only a function that runs already.
func (d *doctorCommand) schemas(ctx context.Context, s *session, f *registry.Function) ([]*event.Schema, error) {
	if s == nil {
		return nil, nil
	}
	if f.To.Postgres == nil {
		_, n, err := s.registry.FunctionOf(ctx, f.Name)
		if err != nil || n.Record.State != registry.Running {
			return nil, nil
		}
	}
	entries, err := s.registry.Schemas.All(ctx, event.KeyToken(f.Source())+".*.*.*")
	if err != nil {
		return nil, fmt.Errorf("read the schemas of source %s: %w", f.Source(), err)
	}
	newest := map[event.Table]stream.Entry{}
	for _, entry := range entries {
		schema, err := event.ParseSchema(entry.Value)
		if err != nil {
			return nil, fmt.Errorf("schema %s: %w", entry.Key, err)
		}
		if f.Matches(schema.Table) && entry.Revision > newest[schema.Table].Revision {
			newest[schema.Table] = entry
		}
	}
	var schemas []*event.Schema
	for _, entry := range newest {
		schema, err := event.ParseSchema(entry.Value)
		if err != nil {
			return nil, err
		}
		schemas = append(schemas, schema)
	}
	return schemas, nil
}

// each takes errors apart that were joined.
func each(err error) []error {
	several, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range several.Unwrap() {
		all = append(all, each(e)...)
	}
	return all
}
