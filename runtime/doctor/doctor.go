// Package doctor is how parts report what they find when they look at what they depend on, before anything runs: a source
// at its server, permissions and tables, a sink at its target.
//
// A look changes nothing. Every finding that is not ok says what to do, as exactly as can be known: the statement to run.
package doctor

import (
	"context"
	"fmt"
)

// Level of a finding.
type Level string

// Levels.
const (
	OK   Level = "ok"
	Warn Level = "warn" // it works, and something is worth knowing
	Fail Level = "fail" // it will not work
)

// Finding is one thing that was looked at.
type Finding struct {
	Level   Level  `json:"level"`
	Subject string `json:"subject"` // what was looked at: wal_level, table public.orders
	Text    string `json:"text"`
	Fix     string `json:"fix,omitempty"` // what the operator does about it, SQL included
}

// Examiner is a part that can look at what it depends on.
type Examiner interface {
	Doctor(ctx context.Context) []Finding
}

// Report collects findings. Its zero value is empty.
type Report []Finding

// OK adds a finding that all is well.
func (r *Report) OK(subject, format string, a ...any) {
	*r = append(*r, Finding{Level: OK, Subject: subject, Text: fmt.Sprintf(format, a...)})
}

// Warn adds one that is worth knowing.
func (r *Report) Warn(subject, fix, format string, a ...any) {
	*r = append(*r, Finding{Level: Warn, Subject: subject, Text: fmt.Sprintf(format, a...), Fix: fix})
}

// Fail adds one that must be fixed.
func (r *Report) Fail(subject, fix, format string, a ...any) {
	*r = append(*r, Finding{Level: Fail, Subject: subject, Text: fmt.Sprintf(format, a...), Fix: fix})
}
