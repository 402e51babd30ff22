package check

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// History is what was seen during a run, in the order in which it was seen. It can be judged again.
type History []Record

// Record is one thing that was seen, or declared: one of its pointers is set.
type Record struct {
	Target *TargetSample `json:"target,omitempty"`
	Source *SourceSample `json:"source,omitempty"`
	Allow  *Allowance    `json:"allow,omitempty"`
	Gap    *Gap          `json:"gap,omitempty"`
	Away   *Away         `json:"away,omitempty"`
}

// TargetSample is a look at all rows of a target. It holds what is different from the sample before.
type TargetSample struct {
	Target string           `json:"target"`
	Began  time.Time        `json:"began"`  // before the first row was read
	Ended  time.Time        `json:"ended"`  // after the last one
	Newest int64            `json:"newest"` // change of all rows
	Tables map[string]Delta `json:"tables,omitempty"`
	Floors []Floor          `json:"floors,omitempty"` // as they were read before Began
}

// Delta is how a table's rows differ from the sample before.
type Delta struct {
	Seen map[string]int64 `json:"seen,omitempty"` // change by key
	Gone []string         `json:"gone,omitempty"`
}

// Floor is the checkpoint of one partition of a function: everything up to it is durable in the target.
type Floor struct {
	Partition int    `json:"partition"`
	Sequence  uint64 `json:"sequence"`
	Version   int64  `json:"version"`
}

// SourceSample is a look at the source, and then at the stream's end.
type SourceSample struct {
	At        time.Time `json:"at"`
	Newest    int64     `json:"newest"`             // change of all rows
	Log       uint64    `json:"log"`                // where the server's log ends
	Confirmed uint64    `json:"confirmed"`          // up to where it is released; 0: no slot
	Reached   uint64    `json:"reached,omitempty"`  // the position of the stream, read after Confirmed; 0: could not be read
	Sequence  uint64    `json:"sequence,omitempty"` // of the stream's end
}

// Away is a time in which one target could not be reached, and all else was well.
type Away struct {
	Target string        `json:"target"`
	From   time.Time     `json:"from"`
	Until  time.Time     `json:"until"`
	Bound  time.Duration `json:"bound"` // how far the others, and the release of the log, may be behind the source
}

// Recorder collects a history. It is for several goroutines.
type Recorder struct {
	mu      sync.Mutex
	history History
	out     *json.Encoder
	err     error
}

// NewRecorder writes each record as a line of JSON too, if out is not nil.
func NewRecorder(out io.Writer) *Recorder {
	r := &Recorder{}
	if out != nil {
		r.out = json.NewEncoder(out)
	}
	return r
}

// Add appends a record.
func (r *Recorder) Add(rec Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history = append(r.history, rec)
	if r.out != nil && r.err == nil {
		r.err = r.out.Encode(rec)
	}
}

// Allow declares an exception.
func (r *Recorder) Allow(a Allowance) { r.Add(Record{Allow: &a}) }

// Gap declares a gap.
func (r *Recorder) Gap(g Gap) { r.Add(Record{Gap: &g}) }

// Away declares that a target was away.
func (r *Recorder) Away(a Away) { r.Add(Record{Away: &a}) }

// History is what was recorded so far; the error is that of writing it.
func (r *Recorder) History() (History, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.history), r.err
}

// ReadHistory reads what a Recorder wrote; a last line that was cut off is left out.
func ReadHistory(in io.Reader) (History, error) {
	var h History
	d := json.NewDecoder(bufio.NewReader(in))
	for {
		var rec Record
		err := d.Decode(&rec)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return h, nil
		case err != nil:
			return h, fmt.Errorf("read the history after %d records: %w", len(h), err)
		}
		h = append(h, rec)
	}
}
