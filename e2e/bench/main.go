// Command bench measures Runnel against the limit of the same machine in the same run, and writes a table and
// .bench/latest.json. scripts/bench calls it. Absolute numbers are noisy; compare ratios.
//
// It is also what Runnel is compared with: as `bench loop` a loop of thirty lines from a slot to JetStream, and as `bench discard` a
// worker whose handler throws all events away.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "loop" {
		exit(loop(context.Background(), os.Args[2:]))
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "discard" {
		discard()
		return
	}
	only := flag.String("only", "", "names of rows, comma separated; default all")
	rows := flag.Int("rows", 1_000_000, "rows of a backlog; the other workloads follow it")
	seconds := flag.Int("seconds", 10, "how long latencies are looked at")
	quick := flag.Bool("quick", false, "few rows, under a minute in all; fails only far below what must be reached")
	flag.Parse()
	if *quick {
		*rows, *seconds = 20_000, 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{rows: *rows, seconds: *seconds, binary: ".bench/runnel"}
	began := time.Now()
	results, err := b.run(ctx, func(name string) bool { return *only == "" || strings.Contains(","+*only+",", ","+name+",") })
	if e := report(results); err == nil {
		err = e
	}
	fmt.Fprintf(os.Stderr, "bench: %s\n", time.Since(began).Round(time.Second))
	if err == nil && *quick {
		err = far(results)
	}
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// far is the error of rows that are so far from what must be reached that no noise explains it.
func far(rows []Row) error {
	for _, r := range rows {
		if g := r.goal(); !g.value && g.distance(r) > 6 {
			return fmt.Errorf("%s is %.2f %s, %.2f of its limit: far from %.2f", r.Name, r.Value, r.Unit, r.Ratio, r.Must)
		}
	}
	return nil
}

func report(rows []Row) error {
	if err := table(os.Stdout, rows); err != nil {
		return err
	}
	out, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(".bench", "latest.json"), append(out, '\n'), 0o644)
}

// table is Markdown, in columns.
func table(out io.Writer, rows []Row) error {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| name\t| value\t| unit\t| limit\t| ratio\t| must\t| aim\t| pass\t| what\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	number := func(v float64) string {
		switch {
		case v == 0:
			return "-"
		case v >= 1000:
			return fmt.Sprintf("%.0f", v)
		default:
			return fmt.Sprintf("%.2f", v)
		}
	}
	for _, r := range rows {
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %t\t| %s\t|\n", r.Name, number(r.Value), r.Unit, number(r.Limit), number(r.Ratio),
			number(r.Must), number(r.Aim), r.Pass, r.What)
	}
	return w.Flush()
}
