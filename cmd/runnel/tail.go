package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/fixture"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// tailCommand is `runnel tail`.
type tailCommand struct {
	nats     natsFlags
	sequence uint64
	last     int
	follow   bool
	json     bool
	record   string
}

func newTail() *cobra.Command {
	t := &tailCommand{}
	cmd := &cobra.Command{
		Use:   "tail TABLE|SUBJECT",
		Short: "Print events as they come",
		Long: `Tail prints the events of a table, or of all subjects that match. It reads the stream beside everything else and
changes nothing.`,
		Example: `  runnel tail public.orders             new events of a table, and the last 10
  runnel tail shop.public.orders        of source shop, where several are deployed
  runnel tail 'cdc.shop.>' --last 100   of everything, fences and markers included
  runnel tail public.orders --from-seq 1 --follow=false --json
  runnel tail public.orders --last 20 --follow=false --record orders.jsonl     a fixture for runnel test and dry-run`,
		Args: exactlyOne("one table or subject"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("from-seq") && cmd.Flags().Changed("last") {
				return usageError{errors.New("--from-seq and --last exclude each other")}
			}
			return t.run(cmd.Context(), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	t.nats.add(cmd.Flags())
	cmd.Flags().Uint64Var(&t.sequence, "from-seq", 0, "begin at this sequence of the stream")
	cmd.Flags().IntVar(&t.last, "last", 10, "begin with so many events that match")
	cmd.Flags().BoolVar(&t.follow, "follow", true, "wait for more")
	cmd.Flags().BoolVar(&t.json, "json", false, "print one JSON object for each event")
	cmd.Flags().StringVar(&t.record, "record", "", "save the events in this new file too, with the structure of their tables: it holds their data as the source has it")
	return cmd
}

func (t *tailCommand) run(ctx context.Context, what string, out, errs io.Writer) (err error) {
	s, err := t.nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	source, subject, err := subjectOf(ctx, s.registry, what)
	if err != nil {
		return err
	}
	st, err := stream.Open(ctx, s.conn, source)
	if errors.Is(err, stream.ErrNoStream) {
		return fmt.Errorf("source %s has no stream yet: its agent has not started", source)
	}
	if err != nil {
		return err
	}
	js, err := jetstream.New(s.conn.NC)
	if err != nil {
		return err
	}
	from := t.sequence
	if from == 0 {
		if from, err = lastMessages(ctx, js, st, subject, uint64(max(t.last, 0))); err != nil {
			return err
		}
	}
	shown := &display{out: out, most: t.last, free: t.sequence != 0}
	if t.record != "" {
		if shown.record, err = newRecording(t.record, s.registry.Schemas); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, shown.record.close(errs)) }()
	}
	return t.read(ctx, js, st, subject, from, shown)
}

// entry is a line that is shown, and the event that it shows; nil for a marker.
type entry struct {
	text  string
	event *event.Event
}

// display shows entries. Until it is free it keeps the last ones: messages hold many events each.
type display struct {
	out    io.Writer
	record *recording // nil: none
	most   int
	kept   []entry
	free   bool
}

func (d *display) put(ctx context.Context, e entry) error {
	if !d.free {
		d.kept = append(d.kept, e)
		d.kept = d.kept[max(0, len(d.kept)-d.most):]
		return nil
	}
	if d.record != nil && e.event != nil {
		if err := d.record.write(ctx, e.event); err != nil {
			return err
		}
	}
	_, err := io.WriteString(d.out, e.text)
	return err
}

func (d *display) release(ctx context.Context) error {
	d.free = true
	for _, e := range d.kept {
		if err := d.put(ctx, e); err != nil {
			return err
		}
	}
	d.kept = nil
	return nil
}

func (t *tailCommand) read(ctx context.Context, js jetstream.JetStream, st *stream.Stream, subject string, from uint64, out *display) error {
	end, err := st.End(ctx)
	if err != nil {
		return err
	}
	consumer, err := js.OrderedConsumer(ctx, st.Name(), jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from, 1),
	})
	if err != nil {
		return fmt.Errorf("read stream %s: %w", st.Name(), err)
	}
	info := consumer.CachedInfo()
	if !t.follow && (info == nil || info.NumPending == 0 || from > end.Last) {
		return nil
	}
	out.free = out.free || info == nil || info.NumPending == 0
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("read stream %s: %w", st.Name(), err)
	}
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	defer messages.Stop()
	markers := strings.Contains(subject, "._") || strings.HasSuffix(subject, ".>") && strings.Count(subject, ".") == 2
	for {
		m, err := messages.Next()
		if ctx.Err() != nil || errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read stream %s: %w", st.Name(), err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if err := t.print(ctx, out, st, m, meta, markers); err != nil {
			return err
		}
		if !out.free && meta.NumPending == 0 {
			if err := out.release(ctx); err != nil {
				return err
			}
		}
		if !t.follow && meta.NumPending == 0 {
			return nil
		}
	}
}

func (t *tailCommand) print(ctx context.Context, out *display, st *stream.Stream, m jetstream.Msg, meta *jetstream.MsgMetadata, markers bool) error {
	msg, err := stream.Decode(m.Subject(), meta.Sequence.Stream, m.Headers(), meta.Timestamp, m.Data())
	if err != nil {
		return err
	}
	if source := st.Source(); m.Subject() == event.FenceSubject(source) || m.Subject() == event.MarkSubject(source) {
		if !markers || t.json {
			return nil
		}
		text := fmt.Sprintf("%-8d %s  marker    %s  writer %s  position %s\n", msg.Sequence, meta.Timestamp.Local().Format(clock), m.Subject(), msg.Writer, msg.Group.To)
		return out.put(ctx, entry{text: text})
	}
	if err := st.Resolve(ctx, msg); err != nil {
		return err
	}
	events, err := msg.Decode(nil)
	if err != nil {
		return err
	}
	for i := range events {
		if err := out.put(ctx, entry{t.line(msg, &events[i]), &events[i]}); err != nil {
			return err
		}
	}
	return nil
}

const clock = "15:04:05.000"

var opNames = map[event.Op]string{
	event.Create: "create", event.Update: "update", event.Delete: "delete", event.Read: "read", event.Truncate: "truncate", event.Mark: "mark",
}

func (t *tailCommand) line(m *event.Message, e *event.Event) string {
	if t.json {
		return string(fixture.AppendEvent(nil, e)) + "\n"
	}
	at := e.CommitMS
	if at == 0 {
		at = m.TimeMS
	}
	row := e.After
	if row.IsNull() {
		row = e.Before
	}
	return fmt.Sprintf("%-8d %s  %-8s  %s  %s\n", m.Sequence, time.UnixMilli(at).Format(clock), opNames[e.Op], e.Table, row.Raw())
}

// lastMessages is the sequence from which about n messages match. The server counts what a consumer would get, so a search
// over start sequences finds it in a few questions.
func lastMessages(ctx context.Context, js jetstream.JetStream, st *stream.Stream, subject string, n uint64) (uint64, error) {
	end, err := st.End(ctx)
	if err != nil {
		return 0, err
	}
	pending := func(from uint64) (uint64, error) {
		c, err := js.CreateConsumer(ctx, st.Name(), jetstream.ConsumerConfig{
			FilterSubject: subject, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
			AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: 5 * time.Second,
		})
		if err != nil {
			return 0, fmt.Errorf("look into stream %s: %w", st.Name(), err)
		}
		defer func() { _ = js.DeleteConsumer(ctx, st.Name(), c.CachedInfo().Name) }()
		return c.CachedInfo().NumPending, nil
	}
	low, high := max(end.First, 1), end.Last+1 // at low as many as there are, at high none
	for low < high {
		middle := low + (high-low)/2
		count, err := pending(middle)
		if err != nil {
			return 0, err
		}
		if count > n {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// subjectOf finds out what a subject, a table or a source means.
func subjectOf(ctx context.Context, r *registry.Registry, what string) (source, subject string, err error) {
	if rest, ok := strings.CutPrefix(what, "cdc."); ok {
		source, _, _ = strings.Cut(rest, ".")
		return source, what, nil
	}
	sources, err := r.ListSources(ctx)
	if err != nil {
		return "", "", err
	}
	tokens := strings.Split(what, ".")
	names := make([]string, len(sources))
	for i, s := range sources {
		names[i] = s.Name
		if s.Name == tokens[0] && len(tokens) != 2 {
			return s.Name, "cdc." + what + strings.Repeat(".*", max(0, 3-len(tokens))) + ".*", nil
		}
	}
	switch {
	case len(sources) == 0:
		return "", "", misconfigured("no source is deployed: runnel deploy FILES")
	case len(sources) > 1:
		return "", "", misconfigured("%q: say which source, as SOURCE.SCHEMA.TABLE; there are %s", what, strings.Join(names, ", "))
	case len(tokens) > 2:
		return "", "", misconfigured("%q: no source %q; there is %s", what, tokens[0], names[0])
	}
	if len(tokens) == 1 {
		tokens = []string{"*", tokens[0]}
	}
	return names[0], "cdc." + names[0] + "." + strings.Join(tokens, ".") + ".*", nil
}
