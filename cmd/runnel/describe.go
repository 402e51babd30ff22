package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/capture"
	pgsource "github.com/runnel-dev/runnel/capture/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
)

// describeCommand is `runnel describe`.
type describeCommand struct {
	target
	json bool
}

func newDescribe() *cobra.Command {
	d := &describeCommand{}
	cmd := &cobra.Command{
		Use:     "describe NAME",
		Short:   "All there is to know of a source or function: partitions with owner, floor and lag; agents, slot, loads",
		Example: "  runnel describe orders-search\n  runnel describe shop --json",
		Args:    exactlyOne("the name of one source or function"),
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
	State    string               `json:"state"`
	Reason   string               `json:"reason,omitempty"`
	Updated  time.Time            `json:"updated"`
	Spec     string               `json:"spec"`
	Agents   []registry.Agent     `json:"agents"`
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
	Workers    *int                 `json:"workers,omitempty"`
	MaxWorkers int                  `json:"max_workers,omitempty"`
	Rate       *float64             `json:"rate,omitempty"`
	Messages   *uint64              `json:"lag_messages,omitempty"`
	LagSeconds *float64             `json:"lag_seconds,omitempty"`
	Dead       uint64               `json:"dead_letters"`
	Partitions []describedPartition `json:"partitions"`
	Spec       string               `json:"spec"`
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
	v := &describedSource{Kind: "source", Name: name, Updated: n.Record.Updated, Spec: n.Record.Spec, Load: []capture.Progress{}, Agents: []registry.Agent{}}
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
		}
	}
	agents, err := s.registry.AgentsOf(ctx)
	if err != nil {
		return nil, err
	}
	v.Agents = append(v.Agents, agents[name]...)
	v.State, v.Reason = stateOfSource(n, agents[name], end, time.Now())
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
	line("state", "%s", stateText(v.State, v.Reason))
	for _, a := range v.Agents {
		line("agent", "%s:%d, %s", a.Host, a.PID, stateText(a.State, a.Detail))
	}
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
	_, n, err := s.registry.FunctionOf(ctx, name)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	workers, err := s.registry.ListWorkers(ctx)
	if err != nil {
		return nil, err
	}
	dead, err := s.conn.DeadLetters().Counts(ctx)
	if err != nil {
		return nil, err
	}
	line, err := s.listFunction(ctx, n, workers, now)
	if err != nil {
		return nil, err
	}
	v := &describedFunction{
		Kind: "function", Name: name, State: line.State, Reason: line.Error, Updated: n.Record.Updated, Version: n.Record.Version, Generation: n.Record.Generation,
		Workers: line.Workers, MaxWorkers: line.MaxWorkers,
		Rate: line.Rate, Messages: line.Messages, LagSeconds: line.LagSeconds, Dead: dead[name], Spec: n.Record.Spec,
	}
	if v.Partitions, err = s.partitions(ctx, n, workers, now); v.Partitions == nil {
		v.Partitions = []describedPartition{}
	}
	return v, err
}

func (v *describedFunction) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "function\t%s\n", v.Name)
	fmt.Fprintf(w, "state\t%s\n", stateText(v.State, v.Reason))
	fmt.Fprintf(w, "version\t%d, deployed %s\n", v.Version, v.Updated.Local().Format(time.DateTime))
	fmt.Fprintf(w, "generation\t%d\n", v.Generation)
	if v.MaxWorkers > 0 {
		fmt.Fprintf(w, "workers\t%s, at most %d\n", optional(v.Workers, strconv.Itoa), v.MaxWorkers)
	} else {
		fmt.Fprintf(w, "workers\t%s\n", optional(v.Workers, strconv.Itoa))
	}
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
		fmt.Fprintln(w, "\nPARTITION\tOWNER\tFLOOR\tBACKLOG\tLAG")
		for _, p := range v.Partitions {
			fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\n", p.Partition, p.owner(), p.Floor, whole(p.Messages), seconds(p.LagSeconds))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "\n%s\n", v.Spec)
	return err
}
