package capture

import (
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
)

// State of an agent.
type State string

// States of an agent, in the order in which it goes through them.
const (
	Connecting State = "connecting" // NATS and the source are being reached
	Standby    State = "standby"    // another agent holds the slot
	Starting   State = "starting"   // position read, fence and record written, source checked
	Streaming  State = "streaming"
	Stopped    State = "stopped"
)

// Observer hears what the agent does. Its functions may be nil; they must not block and may be called by several goroutines.
type Observer struct {
	State     func(s State, detail string)
	Published func(events, bytes int, commit time.Time) // a message was sent; commit is the newest event's
	Stored    func(sequence uint64)                     // JetStream acknowledged everything up to here
	Stalled   func(err error)                           // JetStream has stored nothing for seconds, and why; nil once it goes on
	Recorded  func(p event.Position)                    // the record in KV names this position
	Confirmed func(p event.Position)                    // the source may release its log up to here
	Retained  func(bytes int64)                         // log that the slot holds back, at the start
	Loading   func(l Loading)                           // a table's load went on
	Waiting   func(function string)                     // loads wait until this function has read more; "" once they go on
	Retry     func(err error, wait time.Duration)       // the agent starts again after an error that may pass
}

// Loading is how far the load of a table is.
type Loading struct {
	Table    event.Table
	Rows     int64 // read so far, those of earlier runs included
	Estimate int64 // of all rows, as the source's statistics say
	Began    time.Time
	Before   int64 // rows that earlier runs had read: Rows − Before since Began is the speed
	Done     bool  // all is stored, durably
}

func (o *Observer) state(s State, detail string) {
	if o.State != nil {
		o.State(s, detail)
	}
}

func (o *Observer) loading(l Loading) {
	if o.Loading != nil {
		o.Loading(l)
	}
}
