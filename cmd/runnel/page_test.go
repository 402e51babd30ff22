package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// page is a page of the documentation whose blocks of ```console show command lines with what they print.
const page = "../../docs/functions.md"

// What differs between one run and another, beside progress; columns move with it.
var (
	places   = regexp.MustCompile(`\b[0-9A-F]+/[0-9A-F]+\b`)
	numbers  = regexp.MustCompile(`(?:[0-9][0-9.,:T+-]*(?:Z|ms|µs|s|m|h|d)?)+\b`)
	none     = regexp.MustCompile(`(?m) -( |$)`)
	progress = regexp.MustCompile(`(?m)^(?:\[[█░]|waiting ).*\n`)
	blanks   = regexp.MustCompile(` +`)
)

// wording is an output without what differs between runs.
func wording(s string) string {
	s = numbers.ReplaceAllString(places.ReplaceAllString(progress.ReplaceAllString(s, ""), "N"), "N")
	return blanks.ReplaceAllString(none.ReplaceAllString(s, " N$1"), " ")
}

// What docs/functions.md shows of the verbs is what they print: every command of the page is run, in its order, against a source and a target with
// traffic, and -update writes what they say.
func TestFunctionsPage(t *testing.T) {
	file, err := filepath.Abs(page) // before the directory is another one
	if err != nil {
		t.Fatal(err)
	}
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	s := newShop(t)
	s.sql(s.source, `ALTER TABLE orders ADD COLUMN amount int`)
	s.named("orders-warehouse", "")
	startRun(t, s.file, "--data", s.data)
	until(t, "1,000 rows copied", func() bool { return s.copied("new") == 1000 })
	s.loaded()
	t.Chdir(filepath.Dir(s.file))

	waits := func(want string) func() {
		return func() { until(t, want, func() bool { return strings.Contains(s.run("list"), want) }) }
	}
	rows := func(n int) func() {
		return func() { until(t, "rows copied", func() bool { return s.copied("new") == n }) }
	}
	before := map[string]func(){
		"deploy shop.yaml --dry-run": func() { s.named("orders-warehouse", "filter: after.id > 100\n") },
		"rollback orders-warehouse":  rows(900),
		"backfill orders-warehouse":  rows(1000),
		"dlq list orders-warehouse": func() {
			s.sql(s.copy, `ALTER TABLE orders ADD CONSTRAINT small CHECK (amount < 100)`)
			s.sql(s.source, `INSERT INTO orders VALUES (5000, 'new', 7000)`)
			until(t, "a dead letter", func() bool { return strings.Contains(s.run("dlq", "list"), "public.orders") })
		},
		"dlq redrive orders-warehouse": func() { s.sql(s.copy, `ALTER TABLE orders DROP CONSTRAINT small`) },
	}
	after := map[string]func(){
		"pause orders-warehouse":                                waits("paused"),
		"resume orders-warehouse":                               waits("running"),
		"replay orders-warehouse --swap":                        func() { s.sql(s.source, `INSERT INTO orders VALUES (4000, 'new', 1)`); rows(1001)() },
		"dlq redrive orders-warehouse":                          rows(1002),
		"replay orders-warehouse --from-start --into orders_v2": func() { s.sql(s.copy, `SELECT 1 / (count(*) / 1000) FROM orders_v2`) },
		"backfill orders-warehouse --cancel":                    func() { s.sql(s.copy, `SELECT 1 / (CASE WHEN to_regclass('orders_v3') IS NULL THEN 1 ELSE 0 END)`) },
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	shown, runs := false, 0
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "```"):
			shown = line == "```console\n"
		case shown && !strings.HasPrefix(line, "$ runnel "):
			continue
		}
		got.WriteString(line)
		if !shown || line == "```console\n" {
			continue
		}
		args := strings.TrimSpace(strings.TrimPrefix(line, "$ runnel "))
		if f := before[args]; f != nil {
			f()
		}
		got.WriteString(strings.ReplaceAll(s.run(strings.Fields(args)...), " "+machine+":", " db1:"))
		if f := after[args]; f != nil {
			f()
		}
		runs++
	}
	if runs < 20 {
		t.Errorf("the page shows %d commands", runs)
	}
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(wording(string(text)), wording(got.String())); d != "" {
		t.Errorf("the page does not show what the commands print (-page +now); -update writes it:\n%s", d)
	}
}
