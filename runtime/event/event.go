// Package event defines what travels through Runnel: one committed row change as one line of JSON, its identity, its
// version and the subject it is published on.
//
// What is stored or sent is specified in docs/formats.md and never changes: golden files guard it. Equal changes give equal
// bytes, on every machine, every time: nothing here looks at a clock, a random number or the order of a map. Decoding
// never panics and never guesses: what is not in canonical form is an error.
//
// The package knows nothing of NATS, of a database or of a target.
package event

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
	Position    Position // without its timeline; zero for a snapshot's rows
	CommitMS    int64    // when the source committed, Unix milliseconds
	Unavailable []string // columns left out: unchanged TOAST values of a row that was gone when they were re-read
	Snapshot    bool
	TxID        uint64
	Order       int64 // place in its transaction, from 1
	Last        bool  // last captured event of its transaction
	Sequence    uint64
	Version     Version
	Line        []byte // without its line break
}

// Key is the row that holds the key columns: After, or Before of a delete.
func (e *Event) Key() Row {
	if e.After.IsNull() {
		return e.Before
	}
	return e.After
}
