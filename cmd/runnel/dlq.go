package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

func newDLQ() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "Dead letters: events that their function could never write",
		Long: `An event that can never be written (the target refuses it for good, or an expression of the function fails on it) goes, whole,
to the stream ` + event.DeadLetterStream + `, and the function goes on with the next one.`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDLQList(), newDLQShow(), newDLQRedrive(), newDLQPurge())
	return cmd
}

// letterFilter chooses dead letters.
type letterFilter struct {
	nats     natsFlags
	function string
	table    string
	reason   string
	since    string
}

func (f *letterFilter) add(cmd *cobra.Command) {
	f.nats.add(cmd.Flags())
	cmd.Flags().StringVar(&f.table, "table", "", "only of this table, such as public.orders or shop.public.orders")
	cmd.Flags().StringVar(&f.reason, "reason", "", "only with this text in their reason, in any case of letters")
	cmd.Flags().StringVar(&f.since, "since", "", "only those that were given up since then: 2h, 2026-01-31 or 2026-01-31T12:00:00Z")
}

// atMostOne takes the name of a function, or none.
func (f *letterFilter) atMostOne(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError{fmt.Errorf("expected the name of at most one function, found %d arguments", len(args))}
	}
	f.function = strings.Join(args, "")
	return nil
}

// from is the time that --since names.
func (f *letterFilter) from(now time.Time) (time.Time, error) {
	if f.since == "" {
		return time.Time{}, nil
	}
	return parseTime("--since", f.since, now)
}

// parseTime reads a time, or how long ago it was.
func parseTime(flag, text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError{fmt.Errorf("%s %q: expected a duration or a time, such as 2h, 2026-01-31 or 2026-01-31T12:00:00Z", flag, text)}
}

// find gives the letters that were asked for, of those given up since then, oldest first, without their events.
func (f *letterFilter) find(ctx context.Context, d *stream.DeadLetters, from time.Time) ([]*stream.Letter, error) {
	var found []*stream.Letter
	err := d.Each(ctx, f.function, func(l *stream.Letter) error {
		source, table, err := l.Table()
		if err != nil {
			return err
		}
		if f.table != "" && f.table != table.String() && f.table != source+"."+table.String() ||
			!strings.Contains(strings.ToLower(l.Reason), strings.ToLower(f.reason)) || l.Time.Before(from) {
			return nil
		}
		found = append(found, l)
		return nil
	})
	return found, err
}

// shownLetter is a letter in JSON.
type shownLetter struct {
	ID         uint64          `json:"id"`
	Function   string          `json:"function"`
	Generation int64           `json:"generation"`
	Source     string          `json:"source"`
	Table      event.Table     `json:"table"`
	Subject    string          `json:"subject"`
	Sequence   uint64          `json:"sequence"`
	Version    event.Version   `json:"version"`
	Attempts   int             `json:"attempts"`
	Time       time.Time       `json:"time"`
	Reason     string          `json:"reason"`
	Event      json.RawMessage `json:"event,omitempty"`
}

func shown(l *stream.Letter) (shownLetter, error) {
	source, table, err := l.Table()
	return shownLetter{
		ID: l.ID, Function: l.Function, Generation: l.Generation, Source: source, Table: table, Subject: l.Original, Sequence: l.Sequence,
		Version: l.Version, Attempts: l.Attempts, Time: l.Time, Reason: l.Reason, Event: l.Line,
	}, err
}

func newDLQList() *cobra.Command {
	f, asJSON := &letterFilter{}, false
	cmd := &cobra.Command{
		Use:   "list [FUNCTION]",
		Short: "List dead letters, oldest first",
		Example: `  runnel dlq list
  runnel dlq list orders-search --table public.orders --reason mapper_parsing --since 2h`,
		Args: f.atMostOne,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.list(cmd.Context(), asJSON, cmd.OutOrStdout()) },
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (f *letterFilter) list(ctx context.Context, asJSON bool, out io.Writer) error {
	from, err := f.from(time.Now())
	if err != nil {
		return err
	}
	s, err := f.nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	found, err := f.find(ctx, s.conn.DeadLetters(), from)
	if err != nil {
		return err
	}
	list := make([]shownLetter, len(found))
	for i, l := range found {
		if list[i], err = shown(l); err != nil {
			return err
		}
	}
	if asJSON {
		return printJSON(out, list)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "no dead letters")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tTIME\tFUNCTION\tTABLE\tSEQUENCE\tATTEMPTS\tREASON")
	for _, l := range list {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s.%s\t%d\t%d\t%s\n", l.ID, l.Time.Local().Format(time.DateTime), l.Function, l.Source, l.Table, l.Sequence, l.Attempts, oneLine(l.Reason))
	}
	return w.Flush()
}

func newDLQShow() *cobra.Command {
	nats, asJSON := &natsFlags{}, false
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one dead letter whole, as `runnel dlq list` numbers it",
		Long: `Show prints a dead letter with its event as it stands in the stream of its source: neither filtered nor masked by the
function.`,
		Example: "  runnel dlq show 17",
		Args:    exactlyOne("the ID of one dead letter"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil || id == 0 {
				return usageError{fmt.Errorf("%q is no ID of a dead letter: expected a number", args[0])}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), commandTimeout)
			defer cancel()
			return showLetter(ctx, nats, id, asJSON, cmd.OutOrStdout())
		},
	}
	nats.add(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func showLetter(ctx context.Context, nats *natsFlags, id uint64, asJSON bool, out io.Writer) error {
	s, err := nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	letter, err := s.conn.DeadLetters().Get(ctx, id)
	if errors.Is(err, stream.ErrNoMessage) {
		return misconfigured("there is no dead letter %d: see `runnel dlq list`", id)
	}
	if err != nil {
		return err
	}
	l, err := shown(letter)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(out, l)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "dead letter\t%d, given up %s after %d attempts\n", l.ID, l.Time.Local().Format(time.DateTime), l.Attempts)
	fmt.Fprintf(w, "function\t%s, generation %d\n", l.Function, l.Generation)
	fmt.Fprintf(w, "table\t%s.%s\n", l.Source, l.Table)
	fmt.Fprintf(w, "event\tsequence %d of %s, version %d, subject %s\n", l.Sequence, event.StreamName(l.Source), l.Version, l.Subject)
	fmt.Fprintf(w, "reason\t%s\n", l.Reason)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\n%s\n", l.Event)
	return err
}
