// Package capture is the agent between a source database and its stream: it publishes every committed change exactly once,
// in commit order, and releases the source's log only after JetStream holds the change durably.
//
// It promises, and its tests check by letting it die at each of its calls to the outside:
//   - No gap and no duplicate: the stream says where to go on, each start proves by a fence that it read that from the stream's
//     present end, and where changes are missing Run ends with *GapError.
//   - One writer: whoever starts later fences the earlier one, which ends with stream.ErrFenced.
//   - The source is told to release what stream and record have held for the fsync horizon, never more, and never the last
//     transaction that was published: seeing that one again shows at the next start that the log is still the same.
//   - A load beside the running log ends in the table's state: a row that the log touched while its chunk was read is left to
//     the log, and a chunk counts once the stream has held it for the horizon.
//
// Start in agent.go; start.go takes the stream over, publish.go and group.go write to it, confirm.go releases the source, and
// load.go, job.go, chunk.go and keyless.go read tables.
package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Source is a database whose log of committed changes can be read by one process at a time.
type Source interface {
	// Acquire connects, makes publication and slot where they are missing and allowed, and takes the slot, so that no
	// other process can. While another one holds it, Acquire waits as a standby and calls waiting once.
	Acquire(ctx context.Context, waiting func(holder string)) (Log, error)
}

// Renewer is a Source that can throw its slot away: Renew is Acquire with a new slot, made once nobody holds the old one, so
// that Info.NewSlot is true and Snapshotter.Whole works. The agent calls it only while nothing of the old slot's log is in
// the stream, or where the operator has ordered everything to be read again.
//
// Right before the old slot goes, with others kept out, still is asked whether what the agent knew is still true: another agent may
// have held the slot meanwhile. Its error is returned, and the slot stays. It may be nil.
type Renewer interface {
	Renew(ctx context.Context, waiting func(holder string), still func(context.Context) error) (Log, error)
}

// Log is the change log of a source, held by this process. Only Next is called by one goroutine at a time with Start; Confirm,
// Holds and the Snapshotter's methods may run beside it.
type Log interface {
	// Info describes server and slot at the time of Acquire.
	Info() Info

	// Check refuses a position from which the log cannot be continued without a gap: *GapError. identity is the server's
	// that the record remembers, first the position at which the slot was created.
	Check(ctx context.Context, from, first event.Position, identity string) error

	// Start begins to read after a position: what lies at or before it is skipped here, whatever the server sends again. met
	// is a change that Next gave before, not after that position, or zero: it must be met if its transaction lies in what the
	// server sends again, or else Next says that this is another log than the one that was read, *GapError.
	Start(ctx context.Context, after, met event.Position) error

	// Next blocks until there is something and gives what is there, in commit order; the items are valid until the next
	// call. It answers the server's keepalives whenever that is due, also while nobody calls it.
	Next(ctx context.Context) (Run, error)

	// Confirm lets the server release its log up to a position with Change = 0. That is either the end of a transaction, or
	// the place of the commit record of the newest transaction that was published: the server then keeps that one and sends
	// it again, which shows at the next Start that its log is still ours. Positions never go back.
	Confirm(ctx context.Context, p event.Position) error

	// Holds says whether this process still holds the slot: nil, or why not.
	Holds(ctx context.Context) error

	Close(ctx context.Context) error
}

// Run is what Next gives.
type Run struct {
	Items []Item
	More  bool // more was waiting already: there is a backlog
}

// Kind of an item.
type Kind uint8

// Kinds of items.
const (
	Changed   Kind = iota // a change of a captured table; one is held back until the next one or its commit, for Change.Last
	Committed             // a transaction is complete, also one without captured changes; Position has Change = 0
	Idle                  // the server has sent everything up to Position (a keepalive); Change = 0
	Marked                // a message of Snapshotter.Mark came back; Position is its place
	Structure             // Schema is used by the changes that follow, for the first time since Start; or a table's structure changed
)

// Item is one thing that the log says.
//
// A TRUNCATE is one Changed for each table, with Position.Part = 256 × the table's place in the statement: the agent publishes it
// in every partition and adds the partition to the part.
type Item struct {
	Kind     Kind
	Change   *event.Change // of Changed
	XID      uint64        // of Changed and Committed: the transaction, widened to 64 bits
	Position event.Position
	Mark     string        // of Marked
	Schema   *event.Schema // of Structure and Changed
}

// Info describes a source.
type Info struct {
	Identity      string // PostgreSQL: system identifier; MySQL: server UUID
	Connector     string // postgresql, mysql, mariadb
	Database      string
	Server        string // version, for people
	Timeline      uint32
	Flushed       event.Position // end of the server's log
	Confirmed     event.Position // where the slot stands (Change = 0)
	Clock         int64          // the server's clock, Unix seconds
	NewSlot       bool           // this Acquire created the slot
	Slot          string
	RetainedBytes int64 // log that the slot holds back
}

// ErrNoSnapshot says that the slot's exported snapshot is over.
var ErrNoSnapshot = errors.New("the slot's exported snapshot is over")

// GapError says that changes are missing between stream and log. It is never passed over silently.
type GapError struct {
	Reason string // "the slot is gone", ...
	Fix    string // what the operator does now
}

func (e *GapError) Error() string { return fmt.Sprintf("gap: %s; %s", e.Reason, e.Fix) }

// Snapshotter reads tables beside the running log. A Log implements it.
type Snapshotter interface {
	// Tables lists the captured tables.
	Tables(ctx context.Context) ([]TableInfo, error)

	// Waiting are the transactions that count as published right after a start although no snapshot may show them yet:
	// commits waiting for synchronous replication, and all prepared ones.
	Waiting(ctx context.Context) ([]uint64, error)

	// Visible takes a snapshot and says which transactions it shows. May be called by several goroutines, as may Chunk.
	Visible(ctx context.Context) (func(xid uint64) bool, error)

	// Chunk reads one chunk in key order in a transaction of its own.
	Chunk(ctx context.Context, r ChunkRequest) (*Chunk, error)

	// Mark writes a transactional message that comes back as a Marked item.
	Mark(ctx context.Context, id string) error

	// Whole reads a table without a key on the slot's exported snapshot, which exists only between the Acquire that created
	// the slot and Start; f is called with rows in bounded portions. ErrNoSnapshot where that is over.
	Whole(ctx context.Context, t event.Table, f func(*Chunk) error) error
}

// TableInfo of a captured table.
type TableInfo struct {
	Schema        *event.Schema
	EstimatedRows int64
	Keyless       bool
	Published     string // since when its changes are in the log without a break, opaque; another one than before: not all were
}

// KeyReader is a Snapshotter that reads rows by their keys: ChunkRequest.Keys.
type KeyReader interface{ ReadsKeys() }

// ChunkRequest asks for rows of a table after a key (a JSON array of key values; "" = from the start). Or for those with the Keys alone,
// each an object with the columns of the key.
type ChunkRequest struct {
	Table    event.Table
	After    string
	MaxRows  int
	MaxBytes int
	Where    string // of a backfill
	Keys     []json.RawMessage
}

// Chunk is what one snapshot transaction saw.
type Chunk struct {
	Schema  *event.Schema
	Rows    []ChunkRow
	Next    string // continue after this key; "" = the table's end
	Visible func(xid uint64) bool
	ReadMS  int64 // the server's clock at the snapshot
}

// ChunkRow is one row.
type ChunkRow struct {
	Key  []byte // canonical, as event.Schema.AppendKey makes it
	JSON []byte
}

// SetupError says that the server, its rights or the configuration are not as the agent needs them: to try again changes
// nothing before somebody acts.
type SetupError struct {
	Reason string // "create publication runnel_shop"
	Fix    string // what the operator does now, SQL included
	Err    error  // what the server said, if anything
}

func (e *SetupError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s: %s", e.Reason, e.Fix)
	}
	return fmt.Sprintf("%s: %v: %s", e.Reason, e.Err, e.Fix)
}

func (e *SetupError) Unwrap() error { return e.Err }
