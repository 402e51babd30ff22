package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/capture"
	pgsource "github.com/runnel-dev/runnel/capture/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// describeCommand is `runnel describe`.
type describeCommand struct {
	target
	json bool
}

func newDescribe() *cobra.Command {
	d := &describeCommand{}
	cmd := &cobra.Command{
		Use:   "describe NAME",
		Short: "All there is to know of a source or function",
		Args:  exactlyOne("the name of one source or function"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), commandTimeout)
			defer cancel()
			return d.run(ctx, args[0], cmd.OutOrStdout())
		},
	}
	d.add(cmd)
	cmd.Flags().BoolVar(&d.json, "json", false, "print JSON")
	return cmd
}

// described source.
type describedSource struct {
	Kind     string               `json:"kind"`
	Name     string               `json:"name"`
	State    registry.State       `json:"state"`
	Reason   string               `json:"reason,omitempty"`
	Updated  time.Time            `json:"updated"`
	Spec     string               `json:"spec"`
	Capture  *registry.Capture    `json:"capture,omitempty"`
	Stream   *describedStream     `json:"stream,omitempty"`
	Slot     *pgsource.SlotStatus `json:"slot,omitempty"`
	SlotNote string               `json:"slot_note,omitempty"` // why the slot is not shown
	Load     []capture.Progress   `json:"load"`
}

type describedStream struct {
	Name       string    `json:"name"`
	Partitions int       `json:"partitions"`
	First      uint64    `json:"first"`
	Last       uint64    `json:"last"`
	Messages   uint64    `json:"messages"`
	Bytes      uint64    `json:"bytes"`
	MaxBytes   int64     `json:"max_bytes"`
	Newest     time.Time `json:"newest,omitzero"`
}

// described function.
type describedFunction struct {
	Kind       string               `json:"kind"`
	Name       string               `json:"name"`
	State      string               `json:"state"`
	Reason     string               `json:"reason,omitempty"`
	Updated    time.Time            `json:"updated"`
	Version    int                  `json:"version"`
	Generation int64                `json:"generation"`
	Rate       *float64             `json:"rate,omitempty"`
	Messages   *uint64              `json:"lag_messages,omitempty"`
	LagSeconds *float64             `json:"lag_seconds,omitempty"`
	Dead       uint64               `json:"dead_letters"`
	Partitions []describedPartition `json:"partitions"`
	Spec       string               `json:"spec"`
}

type describedPartition struct {
	Partition int           `json:"partition"`
	Owner     string        `json:"owner"` // instance; empty: nobody
	Worker    string        `json:"worker,omitempty"`
	Turn      int64         `json:"turn"`
	Floor     uint64        `json:"floor"`
	Version   event.Version `json:"version"`
	Behind    uint64        `json:"behind"` // sequences from the floor to the stream's end, those of others included
}

func (d *describeCommand) run(ctx context.Context, name string, out io.Writer) error {
	s, err := d.nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	kind, err := d.find(ctx, s.registry, name)
	if err != nil {
		return err
	}
	if kind == "source" {
		v, err := s.describeSource(ctx, name)
		if err != nil {
			return err
		}
		if d.json {
			return printJSON(out, v)
		}
		return v.print(out)
	}
	v, err := s.describeFunction(ctx, name)
	if err != nil {
		return err
	}
	if d.json {
		return printJSON(out, v)
	}
	return v.print(out)
}

func (s *session) describeSource(ctx context.Context, name string) (*describedSource, error) {
	spec, n, err := s.registry.SourceOf(ctx, name)
	if err != nil {
		return nil, err
	}
	v := &describedSource{Kind: "source", Name: name, State: n.Record.State, Reason: n.Record.Reason, Updated: n.Record.Updated, Spec: n.Record.Spec, Load: []capture.Progress{}}
	record, ok, err := s.registry.CaptureOf(ctx, name)
	if err != nil {
		return nil, err
	}
	if ok {
		v.Capture = &record
		if v.Load, err = s.loads(ctx, name, record.Load.ID); err != nil {
			return nil, err
		}
	}
	end, err := s.endOf(ctx, name)
	if err != nil {
		return nil, err
	}
	if end != nil {
		v.Stream = &describedStream{Name: event.StreamName(name), Partitions: spec.Stream.Partitions, First: end.First, Last: end.Last, Messages: end.Messages, Bytes: end.Bytes, MaxBytes: end.MaxBytes}
		if end.Message != nil {
			v.Stream.Newest = time.UnixMilli(end.Message.TimeMS).UTC()
			if state, text := quiet(name, v.State, end.Message, time.Now()); text != "" {
				v.State, v.Reason = state, text
			}
		}
	}
	source, err := newSource(spec, nil)
	if err != nil {
		v.SlotNote = "the slot is not shown: " + err.Error()
		return v, nil
	}
	keeper, ok := source.(slotted)
	if !ok {
		v.SlotNote = "the server keeps its binlog for nobody: see its binlog_expire_logs_seconds"
		return v, nil
	}
	slot, err := keeper.SlotStatus(ctx)
	if err != nil {
		v.SlotNote = "the slot is not shown: " + err.Error()
		return v, nil
	}
	v.Slot = &slot
	return v, nil
}

// loads is the progress of the newest load of all tables.
func (s *session) loads(ctx context.Context, source, load string) ([]capture.Progress, error) {
	entries, err := s.registry.Snapshots.All(ctx, event.KeyToken(source)+"."+event.KeyToken(load)+".*.*")
	if err != nil {
		return nil, fmt.Errorf("read the loads of %s: %w", source, err)
	}
	all := []capture.Progress{}
	for _, e := range entries {
		var p capture.Progress
		if err := json.Unmarshal(e.Value, &p); err != nil {
			return nil, fmt.Errorf("progress %s: %w", e.Key, err)
		}
		if !e.Deleted && !p.Gone {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b capture.Progress) int { return strings.Compare(a.Table.String(), b.Table.String()) })
	return all, nil
}

func (v *describedSource) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, a ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, a...)) }
	line("source", "%s", v.Name)
	line("state", "%s", stateText(string(v.State), v.Reason))
	if c := v.Capture; c != nil {
		line("position", "%s", c.Position)
		line("slot began", "%s", c.First)
		line("server", "%s", c.Identity)
		line("writer", "epoch %d, base %d", c.Epoch, c.Base)
	} else {
		line("position", "no agent has started yet")
	}
	if s := v.Slot; s != nil {
		line("slot", "%s", s)
	} else {
		line("slot", "%s", v.SlotNote)
	}
	if s := v.Stream; s != nil {
		line("stream", "%s: %s messages (%d to %d), %s of %s, %d partitions", s.Name, number(int64(s.Messages)), s.First, s.Last, size(int64(s.Bytes)), size(s.MaxBytes), s.Partitions)
	}
	for i, p := range v.Load {
		name := ""
		if i == 0 {
			name = "load"
		}
		line(name, "%s", loadText(p))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%s\n", v.Spec)
	return err
}

func loadText(p capture.Progress) string {
	switch {
	case p.Skipped != "":
		return fmt.Sprintf("%s: not loaded: %s", p.Table, p.Skipped)
	case p.Done:
		return fmt.Sprintf("%s: done, %s rows", p.Table, number(p.Rows))
	case p.Estimate > 0:
		return fmt.Sprintf("%s: %s of about %s rows (%d%%)", p.Table, number(p.Rows), number(max(p.Rows, p.Estimate)), min(99, 100*p.Rows/p.Estimate))
	}
	return fmt.Sprintf("%s: %s rows", p.Table, number(p.Rows))
}

func stateText(state, reason string) string {
	if reason == "" {
		return state
	}
	return state + ": " + reason
}

func (s *session) describeFunction(ctx context.Context, name string) (*describedFunction, error) {
	spec, n, err := s.registry.FunctionOf(ctx, name)
	if err != nil {
		return nil, err
	}
	workers, err := s.registry.ListWorkers(ctx)
	if err != nil {
		return nil, err
	}
	dead, err := s.conn.DeadLetters().Counts(ctx)
	if err != nil {
		return nil, err
	}
	line := listFunction(n, workers)
	v := &describedFunction{
		Kind: "function", Name: name, State: line.State, Reason: line.Error, Updated: n.Record.Updated, Version: n.Record.Version, Generation: n.Record.Generation,
		Rate: line.Rate, Messages: line.Messages, LagSeconds: line.LagSeconds, Dead: dead[name], Spec: n.Record.Spec, Partitions: []describedPartition{},
	}
	owners, err := s.registry.OwnersOf(ctx, name, n.Record.Generation)
	if err != nil {
		return nil, err
	}
	end, err := s.endOf(ctx, spec.Source())
	if err != nil {
		return nil, err
	}
	if end == nil {
		end = &stream.End{}
	}
	for _, partition := range slices.Sorted(maps.Keys(owners)) {
		o := owners[partition]
		p := describedPartition{Partition: partition, Owner: o.Instance, Turn: o.Turn, Floor: o.Floor.Sequence, Version: o.Floor.Version}
		if end.Last > p.Floor {
			p.Behind = end.Last - p.Floor
		}
		for _, w := range workers {
			if w.Name == o.Instance {
				p.Worker = fmt.Sprintf("%s:%d", w.Record.Host, w.Record.PID)
			}
		}
		v.Partitions = append(v.Partitions, p)
	}
	return v, nil
}

func (v *describedFunction) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "function\t%s\n", v.Name)
	fmt.Fprintf(w, "state\t%s\n", stateText(v.State, v.Reason))
	fmt.Fprintf(w, "version\t%d, deployed %s\n", v.Version, v.Updated.Local().Format(time.DateTime))
	fmt.Fprintf(w, "generation\t%d\n", v.Generation)
	fmt.Fprintf(w, "rate\t%s events/s\n", optional(v.Rate, count))
	fmt.Fprintf(w, "lag\t%s, %s messages\n", optional(v.LagSeconds, seconds), optional(v.Messages, whole))
	if v.Dead > 0 {
		fmt.Fprintf(w, "dead letters\t%s: runnel dlq list %s\n", whole(v.Dead), v.Name)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(v.Partitions) > 0 {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "\nPARTITION\tOWNER\tFLOOR\tBEHIND")
		for _, p := range v.Partitions {
			owner := p.Worker
			switch {
			case p.Owner == "":
				owner = "nobody"
			case owner == "":
				owner = p.Owner + " (gone)"
			}
			fmt.Fprintf(w, "%d\t%s\t%d\t%d\n", p.Partition, owner, p.Floor, p.Behind)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "\n%s\n", v.Spec)
	return err
}
