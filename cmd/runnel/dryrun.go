package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/fixture"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/rehearse"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// dryRunCommand is `runnel dry-run`.
type dryRunCommand struct {
	nats natsFlags
	last int
	from string
	spec string
	json bool
}

func newDryRun() *cobra.Command {
	d := &dryRunCommand{}
	cmd := &cobra.Command{
		Use:   "dry-run FUNCTION",
		Short: "Show what a function would send, without sending it",
		Long: `Dry-run takes the last events of the stream that a function reads, or those of a file, through filter, set, mask and
columns, and prints the requests that its target would get: a bulk body, INSERTs, transactions, HTTP requests. Nothing is sent,
and neither the target nor the function's place in the stream is touched. Statements for tables are those for tables that Runnel
makes. For a handler of your own the events are printed as it would get them.`,
		Example: `  runnel dry-run orders-search
  runnel dry-run orders-search --last 100 --spec shop.yaml          with a specification that is not deployed yet
  runnel dry-run orders-search --from orders.jsonl --spec shop.yaml without any server; the file is of runnel tail --record`,
		Args: exactlyOne("the name of one function"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("from") && cmd.Flags().Changed("last") {
				return usageError{errors.New("--from and --last exclude each other")}
			}
			return d.run(cmd.Context(), args[0], cmd.OutOrStdout())
		},
	}
	d.nats.add(cmd.Flags())
	cmd.ValidArgsFunction = names(&d.nats, false)
	cmd.Flags().IntVar(&d.last, "last", 20, "so many events, the newest that the function reads")
	cmd.Flags().StringVar(&d.from, "from", "", "events of this file instead, which runnel tail --record has written")
	cmd.Flags().StringVar(&d.spec, "spec", "", "file with the function's specification (default: as it is deployed)")
	cmd.Flags().BoolVar(&d.json, "json", false, "print JSON")
	return cmd
}

// rehearsal is what is played.
type rehearsal struct {
	spec       *registry.Function
	generation int64
	partitions int
	events     []event.Event
}

func (d *dryRunCommand) run(ctx context.Context, name string, out io.Writer) error {
	r, err := d.collect(ctx, name)
	if err != nil {
		return err
	}
	spec := withoutReferences(r.spec, os.LookupEnv)
	handler, err := previewer(spec)
	if err != nil {
		return err
	}
	if c, ok := handler.(sink.Closer); ok {
		defer c.Close()
	}
	function, err := rehearse.New(spec, handler, r.generation, r.partitions)
	if err != nil {
		return err
	}
	result, err := function.Play(ctx, r.events)
	if err != nil {
		return fmt.Errorf("the function would halt: %w", err)
	}
	if d.json {
		return printRehearsal(out, result)
	}
	return d.print(out, r, function, result)
}

// collect finds specification and events, where the command line says that they are.
func (d *dryRunCommand) collect(ctx context.Context, name string) (*rehearsal, error) {
	r := &rehearsal{partitions: 8}
	if d.spec != "" {
		files, err := registry.ReadFiles(d.spec)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(files.Functions, func(f registry.Function) bool { return f.Name == name })
		if i < 0 {
			return nil, misconfigured("no function %q in %s", name, d.spec)
		}
		r.spec = &files.Functions[i]
	}
	if d.from != "" {
		events, err := fixture.ReadFile(d.from)
		if err != nil {
			return nil, configurationError{err}
		}
		r.events = events
	}
	if r.spec != nil && r.events != nil {
		return r, nil
	}
	s, err := d.nats.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if r.spec == nil {
		f, record, err := s.registry.FunctionOf(ctx, name)
		if err != nil {
			return nil, err
		}
		r.spec, r.generation = f, record.Record.Generation
	}
	if r.events == nil {
		err = d.read(ctx, s, r)
	}
	return r, err
}

// read takes the last events that the function reads from the stream, each with its schema.
func (d *dryRunCommand) read(ctx context.Context, s *session, r *rehearsal) error {
	st, err := stream.Open(ctx, s.conn, r.spec.Source())
	if errors.Is(err, stream.ErrNoStream) {
		return fmt.Errorf("source %s has no stream yet: its agent has not started", r.spec.Source())
	}
	if err != nil {
		return err
	}
	r.partitions = st.Partitions()
	js, err := jetstream.New(s.conn.NC)
	if err != nil {
		return err
	}
	subjects := make([]string, len(r.spec.From))
	var from uint64
	for i, pattern := range r.spec.From {
		subjects[i] = "cdc." + pattern + ".*"
		begin, err := lastMessages(ctx, js, st, subjects[i], uint64(max(d.last, 0)))
		if err != nil {
			return err
		}
		if i == 0 || begin < from {
			from = begin
		}
	}
	consumer, err := js.OrderedConsumer(ctx, st.Name(), jetstream.OrderedConsumerConfig{
		FilterSubjects: subjects, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from, 1),
	})
	if err != nil {
		return fmt.Errorf("read stream %s: %w", st.Name(), err)
	}
	if info := consumer.CachedInfo(); info == nil || info.NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("read stream %s: %w", st.Name(), err)
	}
	defer messages.Stop()
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	known := schemas{s.registry.Schemas, map[string]*event.Schema{}}
	for pending := uint64(1); pending > 0; {
		m, err := messages.Next()
		if err != nil {
			return errors.Join(ctx.Err(), fmt.Errorf("read stream %s: %w", st.Name(), err))
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		pending = meta.NumPending
		msg, err := stream.Decode(m.Subject(), meta.Sequence.Stream, m.Headers(), meta.Timestamp, m.Data())
		if err != nil {
			return err
		}
		if msg.For != "" && msg.For != r.spec.Name {
			continue
		}
		if err := st.Resolve(ctx, msg); err != nil {
			return err
		}
		if r.events, err = msg.Decode(r.events); err != nil {
			return err
		}
		r.events = r.events[max(0, len(r.events)-d.last):]
	}
	for i := range r.events {
		if r.events[i].Schema, err = known.find(ctx, &r.events[i]); err != nil {
			return err
		}
	}
	return nil
}

// print shows requests with what they are for as comments.
func (d *dryRunCommand) print(out io.Writer, r *rehearsal, f *rehearse.Function, result *rehearse.Result) error {
	fmt.Fprintf(out, "-- function %s: %s of %s for %s, %d passed over, %d can never be written; nothing is sent\n",
		r.spec.Name, counted(len(r.events), "event"), r.spec.Source(), r.spec.Target(), result.Skipped, len(result.Dead))
	for i := range result.Steps {
		s := &result.Steps[i]
		first, last := &s.Events[0], &s.Events[len(s.Events)-1]
		if s.Place {
			what := "rows of the table that are older are swept"
			if first.Op == event.Mark {
				what = "a backfill begins"
			} else if r.spec.Truncate != registry.TruncateApply {
				what = "truncate: " + r.spec.Truncate
			}
			fmt.Fprintf(out, "-- sequence %d: %s %s: %s\n", first.Sequence, opNames[first.Op], first.Table, what)
			continue
		}
		var partitions []string
		for _, e := range s.Events {
			if p := fmt.Sprint(e.Partition); !slices.Contains(partitions, p) {
				partitions = append(partitions, p)
			}
		}
		fmt.Fprintf(out, "-- sequence %d to %d, partition %s: %s\n", first.Sequence, last.Sequence, strings.Join(partitions, ", "), counted(len(s.Events), "event"))
		if !f.Previews() {
			for i := range s.Events {
				fmt.Fprintf(out, "%s\n", fixture.AppendEvent(nil, &s.Events[i]))
			}
			continue
		}
		if _, err := out.Write(s.Request); err != nil {
			return err
		}
	}
	for i := range result.Dead {
		x := &result.Dead[i]
		fmt.Fprintf(out, "-- dead letter: sequence %d, %s %s: %s\n", x.Event.Sequence, opNames[x.Event.Op], x.Event.Table, strings.ReplaceAll(x.Err.Error(), "\n", "\n--   "))
	}
	return nil
}

// rehearsed is a result as JSON.
type rehearsed struct {
	Requests []string          `json:"requests"` // in their order; none of a handler that shows none
	Events   []json.RawMessage `json:"events"`   // as the handler gets them, places in the stream too
	Dead     []deadEvent       `json:"dead"`
	Skipped  int               `json:"skipped"`
}

type deadEvent struct {
	Sequence uint64        `json:"sequence"`
	Version  event.Version `json:"version"`
	Reason   string        `json:"reason"`
}

func printRehearsal(out io.Writer, result *rehearse.Result) error {
	all := rehearsed{Requests: []string{}, Events: []json.RawMessage{}, Dead: []deadEvent{}, Skipped: result.Skipped}
	for _, s := range result.Steps {
		if s.Request != nil {
			all.Requests = append(all.Requests, string(s.Request))
		}
		for i := range s.Events {
			all.Events = append(all.Events, fixture.AppendEvent(nil, &s.Events[i]))
		}
	}
	for _, x := range result.Dead {
		all.Dead = append(all.Dead, deadEvent{x.Event.Sequence, x.Event.Version, x.Err.Error()})
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(all)
}
