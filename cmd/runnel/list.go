package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// listCommand is `runnel list`.
type listCommand struct {
	nats natsFlags
	json bool
}

// listed is one line of the list.
type listed struct {
	Kind       string   `json:"kind"`
	Name       string   `json:"name"`
	State      string   `json:"state"` // running, paused, halted; of functions stalled, starting, idle (nobody hosts it); of sources what their agent says, or silent
	Generation int64    `json:"generation,omitempty"`
	Workers    *int     `json:"workers,omitempty"`     // that have partitions of a function; agents of a source, standbys included
	MaxWorkers int      `json:"max_workers,omitempty"` // as runnel scale says
	Rate       *float64 `json:"rate,omitempty"`
	Messages   *uint64  `json:"lag_messages,omitempty"` // of a function: not yet done
	LagSeconds *float64 `json:"lag_seconds,omitempty"`  // of a function: age of the oldest of them; of a source: since it last published anything, markers included
	Stored     *uint64  `json:"stored_messages,omitempty"`
	Dead       *uint64  `json:"dead_letters,omitempty"` // of a function
	Error      string   `json:"error,omitempty"`
}

func newList() *cobra.Command {
	l := &listCommand{}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "Sources and functions: state, workers, rate, backlog, last error",
		Example: `  runnel list
  runnel list --json | jq '.[] | select(.state == "halted") | .error'`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), commandTimeout)
			defer cancel()
			return l.run(ctx, cmd.OutOrStdout())
		},
	}
	l.nats.add(cmd.Flags())
	cmd.Flags().BoolVar(&l.json, "json", false, "print JSON")
	return cmd
}

func (l *listCommand) run(ctx context.Context, out io.Writer) error {
	s, err := l.nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	lines, err := s.list(ctx, time.Now())
	if err != nil {
		return err
	}
	if l.json {
		return printJSON(out, lines)
	}
	if len(lines) == 0 {
		_, err := fmt.Fprintln(out, "nothing is deployed: runnel deploy FILES")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tNAME\tSTATE\tGENERATION\tWORKERS\tEVENTS/S\tBACKLOG\tLAG\tDEAD\tERROR")
	for _, line := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", line.Kind, line.Name, line.State, line.generation(), line.workers(),
			optional(line.Rate, count), optional(line.Messages, whole), optional(line.LagSeconds, seconds), optional(line.Dead, whole), oneLine(line.Error))
	}
	return w.Flush()
}

func (l *listed) generation() string {
	if l.Generation == 0 {
		return "-"
	}
	return strconv.FormatInt(l.Generation, 10)
}

// workers shows how many there are, and how many there may be.
func (l *listed) workers() string {
	text := optional(l.Workers, strconv.Itoa)
	if l.MaxWorkers > 0 {
		text += "/" + strconv.Itoa(l.MaxWorkers)
	}
	return text
}

func whole(n uint64) string { return number(int64(n)) }

func optional[T any](v *T, text func(T) string) string {
	if v == nil {
		return "-"
	}
	return text(*v)
}

func (s *session) list(ctx context.Context, now time.Time) ([]listed, error) {
	lines := []listed{}
	sources, err := s.registry.ListSources(ctx)
	if err != nil {
		return nil, err
	}
	agents, err := s.registry.AgentsOf(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range sources {
		line := listed{Kind: "source", Name: n.Name}
		here := len(agents[n.Name])
		line.Workers = &here
		end, err := s.endOf(ctx, n.Name)
		if err != nil {
			return nil, err
		}
		if end != nil {
			line.Stored = &end.Messages
			if end.Message != nil {
				lag := max(0, now.Sub(time.UnixMilli(end.Message.TimeMS)).Seconds())
				line.LagSeconds = &lag
			}
		}
		line.State, line.Error = stateOfSource(n, agents[n.Name], end, now)
		if agent := acting(agents[n.Name]); agent != nil && n.Record.State == registry.Running {
			line.Rate = &agent.Rate
		}
		lines = append(lines, line)
	}
	functions, err := s.registry.ListFunctions(ctx)
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
	for _, n := range functions {
		line, err := s.listFunction(ctx, n, workers, now)
		if err != nil {
			return nil, err
		}
		n := dead[n.Name]
		line.Dead = &n
		lines = append(lines, line)
	}
	return lines, nil
}

// listFunction adds up what the workers say; what a function lacks of which nobody says anything, the stream knows.
func (s *session) listFunction(ctx context.Context, n registry.Named[registry.FunctionRecord], workers []registry.Named[registry.Worker], now time.Time) (listed, error) {
	line := summed(n, workers)
	if line.LagSeconds != nil {
		return line, nil
	}
	partitions, err := s.partitions(ctx, n, workers, now)
	if err != nil || partitions == nil {
		return line, err
	}
	messages, lag := uint64(0), 0.0
	for _, p := range partitions {
		messages, lag = messages+p.Messages, max(lag, p.LagSeconds)
	}
	line.Messages, line.LagSeconds = &messages, &lag
	return line, nil
}

// summed is what the workers say. Without its lag where not all of them are known.
func summed(n registry.Named[registry.FunctionRecord], workers []registry.Named[registry.Worker]) listed {
	key := fmt.Sprintf("%s.%d", n.Name, n.Record.Generation)
	line := listed{Kind: "function", Name: n.Name, State: string(n.Record.State), Error: n.Record.Reason, Generation: n.Record.Generation, MaxWorkers: n.Record.Workers}
	var sum registry.FunctionStatus
	hosts, ready, owners := 0, 0, 0
	line.Workers = &owners
	for _, w := range workers {
		if owned, is := w.Record.Owns[key]; is {
			ready++
			if len(owned) > 0 {
				owners++
			}
		}
		status, ok := w.Record.Status[n.Name]
		if !ok {
			continue
		}
		hosts++
		sum.Rate += status.Rate
		sum.Backlog += status.Backlog
		sum.LagSeconds = max(sum.LagSeconds, status.LagSeconds)
		sum.Stalled = sum.Stalled || status.Stalled
		if status.LastError != "" {
			sum.LastError = status.LastError
		}
	}
	if n.Record.State != registry.Running {
		return line
	}
	line.Error = sum.LastError
	switch {
	case hosts == 0:
		line.State, line.Error = "idle", unhosted(n, workers)
		return line
	case sum.Stalled:
		line.State = "stalled"
	case ready == 0:
		line.State = "starting"
	}
	if line.Rate = &sum.Rate; owners > 0 {
		line.Messages, line.LagSeconds = &sum.Backlog, &sum.LagSeconds
	}
	return line
}

// endOf is the end of a source's stream; nil where there is none yet.
func (s *session) endOf(ctx context.Context, source string) (*stream.End, error) {
	st, err := stream.Open(ctx, s.conn, source)
	if errors.Is(err, stream.ErrNoStream) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	end, err := st.End(ctx)
	return &end, err
}
