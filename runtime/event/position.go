package event

import (
	"cmp"
	"strings"
)

// Position is the place of a change in its source's log. Its zero value is the place before everything.
//
// PostgreSQL: Commit is the LSN of the commit record, Change the LSN of the change, N counts changes with that LSN from 0
// (COPY writes many rows in one record), Part the pieces of a fan-out (0 the delete and 1 the create of a key change; table
// and partition of a TRUNCATE). Change 0 means: all transactions whose commit record lies below Commit are complete, none
// other has begun; such positions come from commits (Commit is then the end of the commit record) and from keepalives.
//
// MySQL and MariaDB: Origin is the server UUID or `domain-server`, Commit the GTID's number, Change counts all rows that the
// transaction changes from 1, captured or not. Change 0 means: the transaction is complete. Transactions of several origins have
// no order but that of the log. Of a MySQL without GTIDs the origin is PlaceOrigin and the server UUID, and Commit where the transaction begins in
// the binlog: 2^40 × the number of the file + the byte in it.
type Position struct {
	Timeline uint32 // PostgreSQL's timeline on which it was read; no part of the identity and not compared
	Origin   string // letters, digits, - and _
	Commit   uint64
	Change   uint64
	N        uint32
	Part     uint32
}

// PlaceOrigin begins the origin of positions by file and byte.
const PlaceOrigin = "binlog-"

func (p Position) placed() bool { return strings.HasPrefix(p.Origin, PlaceOrigin) }

// IsZero says whether it is the place before everything.
func (p Position) IsZero() bool { return p == Position{} }

// After says whether a log that has come to p has passed q. Of several origins the order is the log's own; there only a position
// in the same transaction says so.
func (p Position) After(q Position) bool {
	if p.Origin == "" {
		return p.Compare(q) > 0
	}
	return p.Origin == q.Origin && p.Commit == q.Commit && p.Compare(q) > 0
}

// Compare orders positions of one origin. An index of 0 is the end of its transaction.
func (p Position) Compare(q Position) int {
	return cmp.Or(strings.Compare(p.Origin, q.Origin), cmp.Compare(p.Commit, q.Commit), cmp.Compare(p.change(), q.change()),
		cmp.Compare(p.N, q.N), cmp.Compare(p.Part, q.Part))
}

func (p Position) change() uint64 {
	if p.Origin != "" {
		return p.Change - 1 // the end lies above all changes
	}
	return p.Change
}
