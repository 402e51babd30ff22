// Command bench measures Runnel against the limit of the same machine in the same run, and writes a table and
// .bench/latest.json. scripts/bench calls it. Absolute numbers are noisy; compare ratios.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// Row is one measurement.
type Row struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Limit float64 `json:"limit"` // of this machine in this run; 0: none is known
	Ratio float64 `json:"ratio"` // value / limit
	What  string  `json:"what"`
}

func main() {
	only := flag.String("only", "", "names of rows, comma separated; default all")
	rows := flag.Int("rows", 300000, "rows of the backlog")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{rows: *rows, binary: ".bench/runnel"}
	results, err := b.run(ctx, func(name string) bool { return *only == "" || strings.Contains(","+*only+",", ","+name+",") })
	b.cleanup()
	if err == nil {
		err = report(results)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func report(results []Row) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "name\tvalue\tunit\tlimit\tratio\twhat")
	for _, r := range results {
		limit, ratio := "-", "-"
		if r.Limit > 0 {
			limit, ratio = fmt.Sprintf("%.0f", r.Limit), fmt.Sprintf("%.2f", r.Ratio)
		}
		fmt.Fprintf(w, "%s\t%.2f\t%s\t%s\t%s\t%s\n", r.Name, r.Value, r.Unit, limit, ratio, r.What)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	out, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(".bench", "latest.json"), append(out, '\n'), 0o644)
}
