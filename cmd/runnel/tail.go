package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/event"
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
  runnel tail public.orders --from-seq 1 --follow=false --json`,
		Args: exactlyOne("one table or subject"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("from-seq") && cmd.Flags().Changed("last") {
				return usageError{errors.New("--from-seq and --last exclude each other")}
			}
			return t.run(cmd.Context(), args[0], cmd.OutOrStdout())
		},
	}
	t.nats.add(cmd.Flags())
	cmd.Flags().Uint64Var(&t.sequence, "from-seq", 0, "begin at this sequence of the stream")
	cmd.Flags().IntVar(&t.last, "last", 10, "begin with so many events that match")
	cmd.Flags().BoolVar(&t.follow, "follow", true, "wait for more")
	cmd.Flags().BoolVar(&t.json, "json", false, "print one JSON object for each event")
	return cmd
}

func (t *tailCommand) run(ctx context.Context, what string, out io.Writer) error {
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
	if t.sequence == 0 {
		out = &lastLines{out: out, most: t.last}
	}
	return t.read(ctx, js, st, subject, from, out)
}

// lastLines keeps the last lines that are written, until it is released: messages hold many events each.
type lastLines struct {
	out   io.Writer
	most  int
	lines []string
	free  bool
}

func (l *lastLines) Write(p []byte) (int, error) {
	if l.free {
		return l.out.Write(p)
	}
	l.lines = append(l.lines, string(p))
	l.lines = l.lines[max(0, len(l.lines)-l.most):]
	return len(p), nil
}

func (l *lastLines) release() error {
	l.free = true
	_, err := io.WriteString(l.out, strings.Join(l.lines, ""))
	l.lines = nil
	return err
}

func (t *tailCommand) read(ctx context.Context, js jetstream.JetStream, st *stream.Stream, subject string, from uint64, out io.Writer) error {
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
	history, _ := out.(*lastLines)
	if history != nil && (info == nil || info.NumPending == 0) {
		history.free = true
	}
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
		if history != nil && !history.free && meta.NumPending == 0 {
			if err := history.release(); err != nil {
				return err
			}
		}
		if !t.follow && meta.NumPending == 0 {
			return nil
		}
	}
}

func (t *tailCommand) print(ctx context.Context, out io.Writer, st *stream.Stream, m jetstream.Msg, meta *jetstream.MsgMetadata, markers bool) error {
	msg, err := stream.Decode(m.Subject(), meta.Sequence.Stream, m.Headers(), meta.Timestamp, m.Data())
	if err != nil {
		return err
	}
	if source := st.Source(); m.Subject() == event.FenceSubject(source) || m.Subject() == event.MarkSubject(source) {
		if !markers || t.json {
			return nil
		}
		_, err := fmt.Fprintf(out, "%-8d %s  marker    %s  writer %s  position %s\n", msg.Sequence, meta.Timestamp.Local().Format(clock), m.Subject(), msg.Writer, msg.Group.To)
		return err
	}
	if err := st.Resolve(ctx, msg); err != nil {
		return err
	}
	events, err := msg.Decode(nil)
	if err != nil {
		return err
	}
	for i := range events {
		if err := t.event(out, msg, &events[i]); err != nil {
			return err
		}
	}
	return nil
}

const clock = "15:04:05.000"

var opNames = map[event.Op]string{
	event.Create: "create", event.Update: "update", event.Delete: "delete", event.Read: "read", event.Truncate: "truncate", event.Mark: "mark",
}

func (t *tailCommand) event(out io.Writer, m *event.Message, e *event.Event) error {
	if t.json {
		_, err := fmt.Fprintf(out, "{\"sequence\":%d,\"subject\":%s,\"version\":%d,\"event\":%s}\n", m.Sequence, strconv.Quote(m.Subject), e.Version, e.Line)
		return err
	}
	at := e.CommitMS
	if at == 0 {
		at = m.TimeMS
	}
	row := e.After
	if row.IsNull() {
		row = e.Before
	}
	_, err := fmt.Fprintf(out, "%-8d %s  %-8s  %s  %s\n", m.Sequence, time.UnixMilli(at).Format(clock), opNames[e.Op], e.Table, row.Raw())
	return err
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
