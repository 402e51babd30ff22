package fakenats

import (
	"fmt"
	"time"
)

// Limits of atomic batches (ADR-50).
const (
	batchMost     = 1000 // messages
	batchesMost   = 50   // of a stream at once
	batchPatience = 10 * time.Second
)

// batch is one that is not committed yet. Its messages have no sequence yet.
type batch struct {
	staged []staged
	till   int64
}

type staged struct {
	m *message
	headers
}

// stage takes a message of a batch, and commits with the last one.
func (st *stream) stage(c *conn, p *publication) {
	id := string(p.batch)
	b := st.batches[id]
	switch {
	case !st.config.AllowAtomicPublish:
		st.refuse(c, p, errNoBatches)
		return
	case len(id) > 64:
		st.refuse(c, p, errBatchID)
		return
	case !p.inBatch:
		st.refuse(c, p, errBatchNoNumber)
		return
	case b == nil && p.number > batchMost:
		st.refuse(c, p, errBatchTooLarge)
		return
	case b == nil && p.number != 1:
		st.refuse(c, p, errBatchIncomplete)
		return
	case b == nil && len(st.batches) >= batchesMost:
		st.refuse(c, p, errBatchesInFlight)
		return
	case b == nil:
		b = &batch{}
		st.batches[id] = b
		st.s.after(batchPatience, func() { st.abandon(id, b) })
	}
	b.till = now() + int64(batchPatience)
	refusal := (*failure)(nil)
	switch {
	case len(p.commit) > 0 && string(p.commit) != "1":
		refusal = errBatchCommit
	case p.number != uint64(len(b.staged))+1:
		st.s.hit("batch with a hole")
		refusal = errBatchIncomplete
	case p.number > batchMost:
		refusal = errBatchTooLarge
	}
	if refusal != nil {
		delete(st.batches, id)
		st.refuse(c, p, refusal)
		return
	}
	m := st.message(p)
	b.staged = append(b.staged, staged{m, parseHeaders(m.headers())})
	if len(p.commit) > 0 {
		delete(st.batches, id)
		st.commit(c, p, b)
		return
	}
	if p.reply != "" {
		st.respond(c, p, nil)
	}
}

// abandon forgets a batch that does not go on.
func (st *stream) abandon(id string, b *batch) {
	switch {
	case st.batches[id] != b:
	case now() < b.till:
		st.s.at(b.till, func() { st.abandon(id, b) })
	default:
		st.s.hit("batch abandoned")
		delete(st.batches, id)
	}
}

// commit stores a whole batch, or nothing of it.
func (st *stream) commit(c *conn, p *publication, b *batch) {
	seen := map[string]bool{}
	for i := range b.staged {
		if refusal := st.checkStaged(&b.staged[i], uint64(i), seen); refusal != nil {
			st.refuse(c, p, refusal)
			return
		}
	}
	for i := range b.staged {
		if !st.store(b.staged[i].m) {
			for _, left := range b.staged[i:] {
				st.rest = append(st.rest, left.m)
			}
			st.s.hit("batch stored in part")
			return
		}
	}
	st.s.tracef("%s: %s stores a batch of %d up to %d", st.config.Name, c, len(b.staged), st.last)
	if st.s.happens("cut when a batch is stored", st.s.faults.AnswerUnknown) {
		c.cut()
	}
	st.acknowledge(c, p, st.last, fmt.Sprintf(`,"batch":%q,"count":%d}`, p.batch, len(b.staged)))
	st.signal()
}

// checkStaged checks a message that would follow `before` others of its batch.
func (st *stream) checkStaged(g *staged, before uint64, seen map[string]bool) *failure {
	if len(g.id) > 0 {
		if seen[g.m.id] || st.duplicate(g.id) != 0 {
			return errBatchDuplicate
		}
		seen[g.m.id] = true
	}
	switch {
	case g.hasLast && g.last != st.last+before:
		st.s.hit("wrong last sequence of a batch")
		return wrongLast(st.last + before)
	case g.hasLast && before > 0:
		return errWrongLastFlying
	case len(g.lastID) > 0:
		return &failure{400, 10177, "atomic publish unsupported header used: Nats-Expected-Last-Msg-Id"}
	case g.hasLastOn:
		return &failure{400, 10177, "atomic publish unsupported header used: batches with checks of subjects are not simulated"}
	}
	return st.room(&publication{subject: g.m.subject, header: g.m.headers(), data: g.m.data()})
}
