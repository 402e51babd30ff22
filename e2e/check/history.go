package check

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"
	"time"
)

// Records yields what was seen during a run, in the order in which it was seen, each time it is called: of a long run nobody needs it
// in memory. Nil yields nothing.
type Records func(yield func(Record) error) error

func (all Records) each(f func(Record) error) error {
	if all == nil {
		return nil
	}
	return all(f)
}

// History is a run in memory.
type History []Record

// All is of Records.
func (h History) All(yield func(Record) error) error {
	for _, rec := range h {
		if err := yield(rec); err != nil {
			return err
		}
	}
	return nil
}

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

// Recorder collects what is seen. With a file it keeps the rows of targets only there: their memory does not grow with the run. It is for
// several goroutines.
type Recorder struct {
	mu      sync.Mutex
	history History // with a file: less the samples of targets
	file    *os.File
	out     *json.Encoder
	err     error
}

// NewRecorder writes each record as a line of JSON into an empty file, which may be nil; who opened it closes it.
func NewRecorder(file *os.File) *Recorder {
	r := &Recorder{file: file}
	if file != nil {
		r.out = json.NewEncoder(file)
	}
	return r
}

// Add appends a record.
func (r *Recorder) Add(rec Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil || rec.Target == nil {
		r.history = append(r.history, rec)
	}
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

// All is of Records: what was recorded so far. The error is that of the file, too.
func (r *Recorder) All(yield func(Record) error) error {
	r.mu.Lock()
	all, err := slices.Clone(r.history).All, r.err
	r.mu.Unlock()
	if err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	if r.file != nil {
		all = Recorded(r.file)
	}
	return all(yield)
}

// Source gives all samples of the source so far.
func (r *Recorder) Source() (all []*SourceSample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.history {
		if rec.Source != nil {
			all = append(all, rec.Source)
		}
	}
	return all
}

// Recorded yields what a Recorder wrote; a last line that was cut off is left out. So a run can be judged again.
func Recorded(file io.ReaderAt) Records {
	return func(yield func(Record) error) error {
		d := json.NewDecoder(bufio.NewReader(io.NewSectionReader(file, 0, math.MaxInt64)))
		for n := 0; ; n++ {
			var rec Record
			err := d.Decode(&rec)
			switch {
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				return nil
			case err != nil:
				return fmt.Errorf("read the history after %d records: %w", n, err)
			}
			if err := yield(rec); err != nil {
				return err
			}
		}
	}
}
