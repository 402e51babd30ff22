// Package event defines what travels through Runnel: one committed row change as one line of JSON, its identity, its
// version and the subject it is published on.
//
// What is stored or sent is specified in docs/formats.md and never changes: golden files guard it. The package knows
// nothing of NATS, of a database or of a target.
package event

import "fmt"

// Op is the kind of an event, with Debezium's letters.
type Op byte

// Kinds of events.
const (
	Create   Op = 'c'
	Update   Op = 'u'
	Delete   Op = 'd'
	Read     Op = 'r' // a row read by a snapshot
	Truncate Op = 't' // rows of the table older than Cutoff (or than the event itself) are gone
	Mark     Op = 'm' // a backfill begins
)

func (o Op) String() string { return string(rune(o)) }

// Table names a table of a source; MySQL's database is its schema.
type Table struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
}

func (t Table) String() string { return t.Schema + "." + t.Name }

// Event is one decoded line of a message. Rows and Line are slices of the message: whoever keeps them longer than the
// message copies them.
type Event struct {
	Op          Op
	Source      string
	Table       Table
	Partition   int
	Before      Row      // key columns, or the whole row under REPLICA IDENTITY FULL; of d always, of u where known
	After       Row      // of c, u and r
	Cutoff      Version  // of t and m: `before`; 0 means the event's own version
	Fingerprint string   // of the schema
	Schema      *Schema  // found by the host from Fingerprint; nil before that
	Position    Position // zero for a snapshot's rows
	CommitMS    int64    // when the source committed, Unix milliseconds
	Unavailable []string // columns left out: unchanged TOAST values of a row that was gone when they were re-read
	Snapshot    bool
	TxID        uint64
	Order       int64 // place in its transaction, from 1
	Last        bool  // last captured event of its transaction
	Sequence    uint64
	Version     Version
	Line        []byte
}

// Key is the row that holds the key columns: After, or Before of a delete.
func (e *Event) Key() Row {
	if e.After.IsNull() {
		return e.Before
	}
	return e.After
}

// Message is one stored message.
type Message struct {
	Subject  string
	Sequence uint64
	ID       string // Nats-Msg-Id
	Writer   Writer // Runnel-Epoch
	Group    Group  // Runnel-Group
	For      string // Runnel-For: the only function that takes it; empty for all
	TimeMS   int64  // when JetStream stored it
	Data     []byte
}

// Headers of a message.
const (
	HeaderID       = "Nats-Msg-Id"
	HeaderEpoch    = "Runnel-Epoch"
	HeaderGroup    = "Runnel-Group"
	HeaderFor      = "Runnel-For"
	HeaderInstance = "Runnel-Instance" // of fence markers: who wrote it
	HeaderLarge    = "Runnel-Large"    // name of the payload's object in RUNNEL_large; the message's own data is empty
)

// MaxLines is the most lines a message may hold.
const MaxLines = 1024

// Lines counts the events of the message.
func (m *Message) Lines() int {
	n := 0
	for _, b := range m.Data {
		if b == '\n' {
			n++
		}
	}
	if len(m.Data) > 0 && m.Data[len(m.Data)-1] != '\n' {
		n++
	}
	return n
}

// Last is the version of the message's last line, or of the marker itself.
func (m *Message) Last() Version { return m.Writer.Version(m.Sequence, m.Lines()) }

// Writer identifies one run of a capture agent: every message carries it.
type Writer struct {
	Epoch uint32 // 1 to 2³⁰−1
	Base  uint64 // sequence of the last marker of its fence
}

// String is the header's form, `epoch:base`.
func (w Writer) String() string { return fmt.Sprintf("%d:%d", w.Epoch, w.Base) }

// ParseWriter reads the header's form.
func ParseWriter(s string) (Writer, error) {
	var w Writer
	if n, err := fmt.Sscanf(s, "%d:%d", &w.Epoch, &w.Base); n != 2 || err != nil || w.String() != s {
		return Writer{}, fmt.Errorf("writer %q: want epoch:base", s)
	}
	return w, nil
}

// Version orders events along a stream, for ever: epoch·2³³ + (sequence − base)·2¹⁰ + line. It needs nothing but the
// message. Lines count from 1; line 0 is the place before the first line, and the fence's own markers lie below base.
type Version int64

// Limits of the arithmetic.
const (
	MaxEpoch         = 1<<30 - 1
	MessagesPerEpoch = 1 << 22 // then the running writer makes a new fence and takes a new epoch
	FenceMarkers     = 512     // W: markers of a fence, and messages in flight
)

// Version of a line of the message with that sequence.
func (w Writer) Version(sequence uint64, line int) Version {
	return Version(int64(w.Epoch)<<33 + (int64(sequence)-int64(w.Base))<<10 + int64(line))
}

// Epoch is the writer's epoch; markers of a fence belong to the epoch that they open.
func (v Version) Epoch() uint32 { return uint32((int64(v) + FenceMarkers<<10) >> 33) }
