package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	State      string   `json:"state"` // running, paused, halted, stalled; idle: nobody hosts it; silent, starting: see quiet
	Rate       *float64 `json:"rate,omitempty"`
	Messages   *uint64  `json:"lag_messages,omitempty"` // of a function: not yet done
	LagSeconds *float64 `json:"lag_seconds,omitempty"`  // of a source: since it last published anything, markers included
	Stored     *uint64  `json:"stored_messages,omitempty"`
	Dead       *uint64  `json:"dead_letters,omitempty"` // of a function
	Error      string   `json:"error,omitempty"`
}

func newList() *cobra.Command {
	l := &listCommand{}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "Sources and functions: state, rate, lag, last error",
		Args:    nothing,
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
	fmt.Fprintln(w, "KIND\tNAME\tSTATE\tEVENTS/S\tLAG\tMESSAGES\tDEAD\tERROR")
	for _, line := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", line.Kind, line.Name, line.State,
			optional(line.Rate, count), optional(line.LagSeconds, seconds), optional(line.Messages, whole), optional(line.Dead, whole), oneLine(line.Error))
	}
	return w.Flush()
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
	for _, n := range sources {
		line := listed{Kind: "source", Name: n.Name, State: string(n.Record.State), Error: n.Record.Reason}
		end, err := s.endOf(ctx, n.Name)
		if err != nil {
			return nil, err
		}
		if end != nil {
			line.Stored = &end.Messages
			if end.Message != nil {
				lag := max(0, now.Sub(time.UnixMilli(end.Message.TimeMS)).Seconds())
				line.LagSeconds = &lag
				if state, text := quiet(n.Name, n.Record.State, end.Message, now); text != "" {
					line.State, line.Error = string(state), text
				}
			}
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
		line, n := listFunction(n, workers), dead[n.Name]
		line.Dead = &n
		lines = append(lines, line)
	}
	return lines, nil
}

// listFunction adds up what the workers say.
func listFunction(n registry.Named[registry.FunctionRecord], workers []registry.Named[registry.Worker]) listed {
	line := listed{Kind: "function", Name: n.Name, State: string(n.Record.State), Error: n.Record.Reason}
	var sum registry.FunctionStatus
	hosts := 0
	for _, w := range workers {
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
		line.State, line.Error = "idle", "no worker hosts it: start runnel worker or runnel run"
		return line
	case sum.Stalled:
		line.State = "stalled"
	}
	line.Rate, line.Messages, line.LagSeconds = &sum.Rate, &sum.Backlog, &sum.LagSeconds
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
