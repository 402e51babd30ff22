package registry

import (
	"slices"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// WorkerTTL is how long a worker's announcement lives without being renewed.
const WorkerTTL = 15 * time.Second

// specHistory is how many versions of a specification KV keeps, for `describe` and for a generation that is never reused.
const specHistory = 32

// State of a source or function.
type State string

// States.
const (
	Running State = "running"
	Paused  State = "paused"
	Halted  State = "halted" // by itself: Reason says why; resume tries again
)

// SourceRecord is what KV keeps of a source.
type SourceRecord struct {
	Spec    string    `json:"spec"` // YAML
	State   State     `json:"state"`
	Reason  string    `json:"reason,omitempty"`
	Updated time.Time `json:"updated"`
}

// FunctionRecord is what KV keeps of a function.
type FunctionRecord struct {
	Spec       string     `json:"spec"`
	Version    int        `json:"version"`    // of the spec: 1, 2, ...
	Generation int64      `json:"generation"` // max(old+1, clock), never used again
	Start      sink.Point `json:"start"`      // of the generation: read after this
	State      State      `json:"state"`
	Reason     string     `json:"reason,omitempty"`

	Starts    []sink.Point `json:"starts,omitempty"`    // of the generation, by partition, where they are not all Start
	Replaces  *Replaced    `json:"replaces,omitempty"`  // the generation in whose place it came
	Waits     bool         `json:"waits,omitempty"`     // until every owner of that one has stopped; then Starts says how far it had come
	Back      bool         `json:"back,omitempty"`      // it begins below where that one had come
	Replay    *Replay      `json:"replay,omitempty"`    // that it began with
	Copy      *Copy        `json:"copy,omitempty"`      // it fills a target that comes in the place of another function's
	Swap      *Swap        `json:"swap,omitempty"`      // its own copy comes, or came, in its place as the generation begins
	Backfills []Backfill   `json:"backfills,omitempty"` // that were ordered for it; the agent says which are done
	Workers   int          `json:"workers,omitempty"`   // at most so many have partitions of it; 0: no bound
	Updated   time.Time    `json:"updated"`
}

// Replaced is a generation that another one took the place of.
type Replaced struct {
	Generation int64 `json:"generation"`
	One        bool  `json:"one,omitempty"`  // one lane read all partitions: ordering: source
	Back       bool  `json:"back,omitempty"` // it began below where the one before it had come
}

// StartOf is where the generation begins in a partition.
func (r *FunctionRecord) StartOf(partition int) sink.Point {
	if partition < len(r.Starts) {
		return r.Starts[partition]
	}
	return r.Start
}

// Capture is the record of a capture agent. Positions are in the form of event.Position.String.
type Capture struct {
	Position string        `json:"position"`
	First    string        `json:"first"`  // where the slot began
	Change   string        `json:"change"` // the newest change in the stream, "0" = none: the log must have it
	Identity string        `json:"identity"`
	Slot     string        `json:"slot"`
	Epoch    uint32        `json:"epoch"`
	Base     uint64        `json:"base"`
	Sequence uint64        `json:"sequence"`
	Version  event.Version `json:"version"`
	Group    string        `json:"group"`              // of the last message
	Load     Load          `json:"load"`               // the first load, or the newest one for all
	Executed string        `json:"executed,omitempty"` // MySQL and MariaDB: the set of transactions that is complete at the position
	Settled  Settled       `json:"settled,omitzero"`   // MySQL and MariaDB: an earlier set, whose message the stream has held for the fsync horizon
}

// Settled is a set of transactions with the message up to which they are in the stream.
type Settled struct {
	Executed string        `json:"executed"`
	Sequence uint64        `json:"sequence"`
	Version  event.Version `json:"version"`
}

// Load is a reading of all tables.
type Load struct {
	ID       string `json:"id"`
	Sequence uint64 `json:"sequence"`        // it lies wholly above this sequence; a stream that begins later does not hold it
	Sweep    bool   `json:"sweep,omitempty"` // it begins with m and ends with t: targets forget what it did not show
	Done     bool   `json:"done"`
}

// Owner is the record of a partition of a function; Floor is the checkpoint.
type Owner struct {
	Instance string     `json:"instance,omitempty"` // "" = released
	Turn     int64      `json:"turn"`
	Floor    sink.Point `json:"floor"`
	Closed   bool       `json:"closed,omitempty"` // the generation is over: nobody may claim it
}

// Worker is the announcement of a worker.
type Worker struct {
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Space   string    `json:"space,omitempty"` // where PID means the same: boot and process namespace
	Started time.Time `json:"started"`

	Functions []string          `json:"functions,omitempty"` // those that it hosts; none: all
	Handlers  []string          `json:"handlers,omitempty"`  // of its own, and it hosts functions of these only; none: those whose target Runnel knows
	Labels    map[string]string `json:"labels,omitempty"`
	Leaving   bool              `json:"leaving,omitempty"` // it stops: its partitions are for others
	Owns      map[string][]int  `json:"owns,omitempty"`    // its partitions, by <function>.<generation> of all that it is ready for

	Status map[string]FunctionStatus `json:"status"` // by function
}

// Has says whether a worker can make the handler that a function names; "" is that of a target that Runnel knows.
func (w *Worker) Has(handler string) bool {
	if handler == "" {
		return len(w.Handlers) == 0
	}
	return slices.Contains(w.Handlers, handler)
}

// Fits says whether a worker may host a function: it can make its handler, was not told to host others only, and has the labels that
// the function asks for.
func (w *Worker) Fits(f *Function) bool {
	if !w.Has(f.Handler) || !Hosts(w.Functions, f.Name) {
		return false
	}
	for k, v := range f.Labels {
		if w.Labels[k] != v {
			return false
		}
	}
	return true
}

// FunctionStatus is what a worker says about a function it hosts.
type FunctionStatus struct {
	Partitions []int   `json:"partitions"`
	Stalled    bool    `json:"stalled,omitempty"` // the target does not answer; it is tried again
	LastError  string  `json:"last_error,omitempty"`
	Rate       float64 `json:"rate"`        // events a second, the last seconds
	Backlog    uint64  `json:"backlog"`     // messages
	LagSeconds float64 `json:"lag_seconds"` // age of the oldest event not yet durable
}
