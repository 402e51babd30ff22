// Package ledger is the account of crash runs: what was injected, how often, and what was found. A run adds to the file;
// docs/guarantees.md is made from it. Runs with PostgreSQL as the source stand at the top, those of another one under its name.
package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
)

// Ledger sums up runs.
type Ledger struct {
	Runs       int            `json:"runs"`
	Seconds    int            `json:"seconds"` // of traffic
	Events     int64          `json:"events"`  // journalled changes that were checked
	Kills      int            `json:"kills"`   // processes of Runnel that were killed with SIGKILL
	Faults     map[string]int `json:"faults"`  // by name, how often; 0 of those that were not injected yet
	Failpoints map[string]int `json:"failpoints"`
	Found      Counts         `json:"found"`

	Sources map[string]*Ledger `json:"sources,omitempty"` // other sources than PostgreSQL
}

// Postgres is the source whose runs stand at the top.
const Postgres = "postgres"

// Of is the account of a source's runs.
func (l *Ledger) Of(source string) *Ledger {
	if source == Postgres {
		return l
	}
	if l.Sources == nil {
		l.Sources = map[string]*Ledger{}
	}
	if l.Sources[source] == nil {
		l.Sources[source] = &Ledger{Faults: map[string]int{}, Failpoints: map[string]int{}}
	}
	return l.Sources[source]
}

// Counts are violations: a promise that holds has none.
type Counts struct {
	Lost       int `json:"lost"`
	Duplicated int `json:"duplicated"`
	Disordered int `json:"disordered"`
	Backwards  int `json:"backwards"`
	Differing  int `json:"differing"`
}

// Total is the number of all violations.
func (c Counts) Total() int { return c.Lost + c.Duplicated + c.Disordered + c.Backwards + c.Differing }

// Add sums up.
func (c *Counts) Add(o Counts) {
	c.Lost += o.Lost
	c.Duplicated += o.Duplicated
	c.Disordered += o.Disordered
	c.Backwards += o.Backwards
	c.Differing += o.Differing
}

// Add puts the account of other runs to this one.
func (l *Ledger) Add(o *Ledger) {
	l.Runs += o.Runs
	l.Seconds += o.Seconds
	l.Events += o.Events
	l.Kills += o.Kills
	l.Faults = sum(l.Faults, o.Faults)
	l.Failpoints = sum(l.Failpoints, o.Failpoints)
	l.Found.Add(o.Found)
}

func sum(a, b map[string]int) map[string]int {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]int{}
	}
	for name, n := range b {
		out[name] += n
	}
	return out
}

// Read reads a ledger; one that does not exist yet is empty.
func Read(path string) (*Ledger, error) {
	l := &Ledger{Faults: map[string]int{}, Failpoints: map[string]int{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	if err := json.Unmarshal(b, l); err != nil {
		return nil, fmt.Errorf("read the ledger %s: %w", path, err)
	}
	return l, nil
}

// Write replaces the file.
func (l *Ledger) Write(path string) error {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	return nil
}
