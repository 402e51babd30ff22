package main

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/runnel-dev/runnel/e2e/crash/ledger"
	"github.com/runnel-dev/runnel/e2e/mutate/mutation"
)

// Files of the page, from the root of the repository.
const (
	pageFile      = "docs/guarantees.md"
	ledgerFile    = "e2e/crash/ledger.json"
	simulatedFile = "e2e/simulation/ledger.json"
)

// page makes the whole page from the tables here and from what was recorded.
func page(root string) ([]byte, error) {
	l, err := ledger.Read(filepath.Join(root, ledgerFile))
	if err != nil {
		return nil, err
	}
	simulated, err := ledger.Read(filepath.Join(root, simulatedFile))
	if err != nil {
		return nil, err
	}
	results, err := mutation.ReadResults(root)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(opening)
	writePromises(&b)
	writeFaults(&b, l, simulated)
	writeMutations(&b, results)
	b.WriteString(recovery)
	writeLimits(&b)
	writePains(&b)
	return b.Bytes(), nil
}

const opening = `<!-- made by go run ./e2e/guarantees: change what is there, not this -->
# Guarantees

For who decides whether to trust Runnel: what it promises, how that was tried, what it does not promise, and what is done about the
ways in which other systems have hurt their users. Each line can be repeated:

    ./scripts/test                               # all tests that are named here, against real servers
    ./scripts/crash --seconds 50 --seed 7        # kill, freeze, cut and restore everything at random, then judge; --source mysql or mariadb
    ./scripts/crash --simulate --seconds 60      # thousands of schedules in simulated time
    go run ./e2e/mutate                          # break Runnel on purpose: each breakage must be found
    go run ./e2e/guarantees                      # make this page from what was recorded

A test is named by its package and its name, so that ` + "`go test ./e2e -run TestKillNine`" + ` runs ` + "`e2e TestKillNine`" + `.

`

func writePromises(b *bytes.Buffer) {
	b.WriteString("## What is promised\n\nEvery run under faults is judged by all of them, by checkers that know nothing of how Runnel works (`e2e/check`).\n\n")
	b.WriteString("| | promise | judged in every run by | shown alone by |\n|---|---|---|---|\n")
	for i, p := range promises {
		fmt.Fprintf(b, "| %d | **%s.** %s | %s | %s |\n", i+1, p.name, p.text, p.judged, code(p.tests))
	}
	b.WriteString("\n")
}

func writeFaults(b *bytes.Buffer, real, simulated *ledger.Ledger) {
	b.WriteString("## What it was tried under\n\n")
	if real.Runs == 0 {
		b.WriteString("No runs on real servers are recorded yet. `./scripts/crash --list` names the faults.\n\n")
	} else {
		b.WriteString("Recorded runs on real servers:\n\n| source | runs | seconds of traffic | changes judged | processes killed with SIGKILL | found |\n|---|---|---|---|---|---|\n")
		for _, s := range sources {
			l := real.Of(s.kind)
			fmt.Fprintf(b, "| %s | %d | %d | %d | %d | %s |\n", s.name, l.Runs, l.Seconds, l.Events, l.Kills, found(l))
		}
		b.WriteString("\nHow often each fault came, by the source (– where a source has no such thing):\n\n")
		writeMatrix(b, real)
	}
	if simulated.Runs > 0 {
		fmt.Fprintf(b, "%d recorded schedules in simulated time, with servers that misbehave as the real ones were seen to, %d changes judged; %s.\n\n",
			simulated.Runs, simulated.Events, found(simulated))
		writeCounts(b, simulated)
	}
}

func found(l *ledger.Ledger) string {
	return fmt.Sprintf("lost %d, duplicated %d, disordered %d, backwards %d, differing %d",
		l.Found.Lost, l.Found.Duplicated, l.Found.Disordered, l.Found.Backwards, l.Found.Differing)
}

// sources in the order of the columns.
var sources = []struct{ kind, name string }{{ledger.Postgres, "PostgreSQL"}, {"mysql", "MySQL"}, {"mariadb", "MariaDB"}}

// writeMatrix writes faults by sources; those that kill at a step of the flow stand together.
func writeMatrix(b *bytes.Buffer, l *ledger.Ledger) {
	all := map[string]bool{}
	for _, s := range sources {
		for name := range l.Of(s.kind).Faults {
			all[name] = true
		}
	}
	names := slices.Sorted(maps.Keys(all))
	row := func(name, shown string) {
		fmt.Fprintf(b, "| %s |", shown)
		for _, s := range sources {
			times, has := l.Of(s.kind).Faults[name]
			if !has {
				b.WriteString(" – |")
				continue
			}
			fmt.Fprintf(b, " %d |", times)
		}
		b.WriteString("\n")
	}
	head := func(what string) {
		fmt.Fprintf(b, "| %s |", what)
		for _, s := range sources {
			fmt.Fprintf(b, " %s |", s.name)
		}
		b.WriteString("\n|---|" + strings.Repeat("---|", len(sources)) + "\n")
	}
	head("fault")
	for _, name := range names {
		if !strings.HasPrefix(name, killAt) {
			row(name, name)
		}
	}
	b.WriteString("\n")
	head("killed at a step of the flow (`runtime/failpoint`)")
	for _, name := range names {
		if point, ok := strings.CutPrefix(name, killAt); ok {
			row(name, point)
		}
	}
	b.WriteString("\n")
}

// killAt begins the names of faults that kill at a failpoint.
const killAt = "kill@"

func writeCounts(b *bytes.Buffer, l *ledger.Ledger) {
	var points []string
	b.WriteString("| fault | times |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(l.Faults)) {
		if point, ok := strings.CutPrefix(name, killAt); ok {
			points = append(points, fmt.Sprintf("%s %d", point, l.Faults[name]))
			continue
		}
		fmt.Fprintf(b, "| %s | %d |\n", name, l.Faults[name])
	}
	b.WriteString("\n")
	if len(points) > 0 {
		fmt.Fprintf(b, "Killed at a step of the flow (`runtime/failpoint`), and how often: %s.\n\n", strings.Join(points, ", "))
	}
}

func writeMutations(b *bytes.Buffer, results mutation.Results) {
	b.WriteString("## Who watches the watchers\n\nA checker is worth what it finds. `go run ./e2e/mutate` breaks Runnel on purpose, " +
		"in one way after the other, and each must be found within a run of a minute.")
	if len(results) == 0 {
		b.WriteString(" No run of it is recorded yet; `-list` shows the ways.\n\n")
		return
	}
	b.WriteString(" Those that were, with the time it took, on a busy machine and of some with compiling:\n\n")
	b.WriteString("| breakage | what comes of it | found by |\n|---|---|---|\n")
	for i := range mutation.All {
		m := &mutation.All[i]
		if results[m.Name] == nil {
			continue
		}
		var by []string
		for _, c := range m.By {
			text := "`" + strings.ReplaceAll(c.Name(), "|", `\|`) + "`"
			for _, r := range results[m.Name] {
				switch {
				case r.By != c.Name():
				case r.Caught:
					text += fmt.Sprintf(" in %.0f s", r.Seconds)
				default:
					text += " **missed it**"
				}
			}
			by = append(by, text)
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", m.Name, m.Breaks, strings.Join(by, ", "))
	}
	b.WriteString("\n")
}

func writeLimits(b *bytes.Buffer) {
	b.WriteString("## What is not promised\n\n")
	for _, l := range limits {
		fmt.Fprintf(b, "- **%s.** %s\n", l.title, l.text)
	}
	b.WriteString("\n")
}

func writePains(b *bytes.Buffer) {
	b.WriteString("## What hurt the users of other systems\n\nReports of real losses and outages, and why each cannot happen here: tests, or the reason.\n\n")
	for _, group := range pains {
		fmt.Fprintf(b, "### %s\n\n| | report | prevented by |\n|---|---|---|\n", group.title)
		for _, p := range group.pains {
			var links []string
			for i, r := range p.reports {
				links = append(links, fmt.Sprintf("[%d](%s%s)", i+1, github, r))
			}
			why := code(p.tests)
			if why != "" && p.because != "" {
				why += ". "
			}
			why += p.because
			fmt.Fprintf(b, "| %s | %s (%s) | %s |\n", p.number, p.hurt, strings.Join(links, ", "), why)
		}
		b.WriteString("\n")
	}
}

// code prints names.
func code(names []string) string {
	var quoted []string
	for _, n := range names {
		quoted = append(quoted, "`"+n+"`")
	}
	return strings.Join(quoted, ", ")
}
