package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Bounds of what one Next gives.
const (
	runBytes = 1 << 20
	runItems = 4096
)

// decoder turns pgoutput's messages (protocol 1) into items. What it gives stays valid until reset.
// https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
type decoder struct {
	log       *Log
	xid       uint64 // newest transaction id known, to widen 32 bits
	relations map[uint32]*relation

	after event.Position // where Start began
	met   event.Position // a change not after that
	must  bool           // it has still to be met
	last  event.Position // newest Committed or Idle given

	ahead int64 // milliseconds that a transaction needs to get here, by both clocks, where there is no backlog
	lag   int64 // milliseconds that the one read last needed beside

	tx transaction

	items   []capture.Item
	index   []int32 // of the items' changes, -1 for none
	changes []event.Change
	held    int // index of the change that waits to know whether it is its transaction's last; -1 for none
	arena   []byte
	keep    []byte // the held change's rows, over a reset
	toast   toast
	new     []field
	old     []field
	key     []byte
}

// transaction that is being read.
type transaction struct {
	open     bool
	skip     bool // it was read before
	commit   uint64
	commitMS int64
	xid      uint64
	order    int64
	lsn      uint64 // of the newest change
	n        uint32 // changes with that LSN before it
}

func (d *decoder) init(l *Log) {
	d.log, d.held, d.relations = l, -1, map[uint32]*relation{}
	d.toast.limit = toastRows
}

// start sets where to go on. A change must be met again where the slot sends its transaction again: else the server's log is
// not the one that was read.
func (d *decoder) start(after, met event.Position) {
	d.after, d.last, d.met = after, after, met
	d.must = met.Change > 0 && met.Commit >= d.log.info.Confirmed.Commit
}

// reset forgets what was given, but for the change that is held back.
func (d *decoder) reset() {
	if d.held >= 0 {
		c := d.changes[d.held]
		before, after := len(c.Before), len(c.After)
		d.keep = append(append(d.keep[:0], c.Before...), c.After...)
		if c.Before != nil {
			c.Before = d.keep[:before:before]
		}
		if c.After != nil {
			c.After = d.keep[before : before+after]
		}
		d.changes = append(d.changes[:0], c)
		d.held = 0
	} else {
		d.changes = d.changes[:0]
	}
	d.items, d.index = d.items[:0], d.index[:0]
	if d.arena = d.arena[:0]; cap(d.arena) > 8*runBytes {
		d.arena = nil
	}
}

func (d *decoder) ready() bool { return len(d.items) > 0 }

func (d *decoder) full() bool {
	return d.ready() && (len(d.arena) >= runBytes || len(d.items) >= runItems || len(d.toast.pending) >= d.toast.limit)
}

// finish completes what is incomplete and gives the items.
func (d *decoder) finish(ctx context.Context) ([]capture.Item, error) {
	if err := d.complete(ctx); err != nil {
		return nil, err
	}
	for i, c := range d.index {
		if c >= 0 {
			d.items[i].Change = &d.changes[c]
		}
	}
	return d.items, nil
}

func (d *decoder) push(i capture.Item, change int) {
	d.items = append(d.items, i)
	d.index = append(d.index, int32(change))
}

// release gives the held change.
func (d *decoder) release() {
	if d.held < 0 {
		return
	}
	c := &d.changes[d.held]
	d.push(capture.Item{Kind: capture.Changed, XID: c.TxID, Position: c.Position, Schema: c.Schema}, d.held)
	d.held = -1
}

// decode handles one message; lsn is its place in the log, 0 for descriptions.
func (d *decoder) decode(ctx context.Context, lsn uint64, b []byte) error {
	if len(b) == 0 {
		return errTruncated
	}
	r := &reader{b: b[1:]}
	var err error
	switch pglogrepl.MessageType(b[0]) {
	case pglogrepl.MessageTypeBegin:
		err = d.begin(r)
	case pglogrepl.MessageTypeCommit:
		err = d.commit(r)
	case pglogrepl.MessageTypeRelation:
		err = d.relation(ctx, r)
	case pglogrepl.MessageTypeInsert:
		err = d.insert(ctx, lsn, r)
	case pglogrepl.MessageTypeUpdate:
		err = d.update(ctx, lsn, r)
	case pglogrepl.MessageTypeDelete:
		err = d.delete(ctx, lsn, r)
	case pglogrepl.MessageTypeTruncate:
		err = d.truncate(lsn, r)
	case pglogrepl.MessageTypeMessage:
		err = d.marker(r)
	case pglogrepl.MessageTypeOrigin, pglogrepl.MessageTypeType:
		return nil
	default:
		return fmt.Errorf("pgoutput: message of unknown type %q", b[0])
	}
	if err == nil {
		err = r.err
	}
	if err != nil {
		return fmt.Errorf("decode the log at %s: %w", pglogrepl.LSN(lsn), err)
	}
	return nil
}

func (d *decoder) begin(r *reader) error {
	commit, micros, xid := r.uint64(), int64(r.uint64()), r.uint32()
	if r.err != nil {
		return nil
	}
	if commit > d.met.Commit {
		if err := d.unmet(); err != nil {
			return err
		}
	}
	if d.lag = time.Now().UnixMilli() - d.ahead - unixMS(micros); d.lag < 0 {
		d.ahead, d.lag = d.ahead+d.lag, 0
	}
	d.tx = transaction{open: true, skip: commit < d.after.Commit, commit: commit, commitMS: unixMS(micros), xid: d.widen(xid)}
	return nil
}

// late says whether what was read last had been committed long before.
func (d *decoder) late() bool { return d.lag > backlogAge.Milliseconds() }

// caughtUp takes what was read last for what comes without a backlog: the clocks may differ, or commits may wait for a standby.
func (d *decoder) caughtUp() { d.ahead, d.lag = d.ahead+d.lag, 0 }

func (d *decoder) commit(r *reader) error {
	r.byte() // flags
	r.uint64()
	end := r.uint64()
	if r.err != nil {
		return nil
	}
	d.tx.open = false
	if d.tx.commit == d.met.Commit {
		if err := d.unmet(); err != nil {
			return err
		}
	}
	if d.tx.skip {
		return nil
	}
	if d.held >= 0 {
		d.changes[d.held].Last = true
		d.release()
	}
	d.last = d.log.at(pglogrepl.LSN(end))
	d.push(capture.Item{Kind: capture.Committed, XID: d.tx.xid, Position: d.last}, -1)
	return nil
}

// keepalive says that everything below end was sent.
func (d *decoder) keepalive(end uint64) error {
	if d.tx.open {
		return nil
	}
	if end > d.met.Commit {
		if err := d.unmet(); err != nil {
			return err
		}
	}
	d.idle(end)
	return nil
}

func (d *decoder) idle(end uint64) {
	p := d.log.at(pglogrepl.LSN(end))
	if p.Compare(d.last) <= 0 {
		return
	}
	d.last = p
	if n := len(d.items) - 1; n >= 0 && d.items[n].Kind == capture.Idle {
		d.items[n].Position = p
		return
	}
	d.push(capture.Item{Kind: capture.Idle, Position: p}, -1)
}

// unmet is the error where the change that must be met should have come, and did not.
func (d *decoder) unmet() error {
	if !d.must {
		return nil
	}
	return d.log.source.gap("the server's log does not have the change that was published last, %s: it is another history", d.met.ID())
}

// marker is a message that was written into the log: with a transaction one of Mark, without one a heartbeat.
func (d *decoder) marker(r *reader) error {
	transactional := r.byte()&1 != 0
	lsn := r.uint64()
	prefix := r.string()
	content := r.take(int(int32(r.uint32())))
	switch {
	case r.err != nil:
	case !transactional:
		if !d.tx.open {
			return d.keepalive(lsn)
		}
	case prefix == markPrefix && d.tx.open && !d.tx.skip:
		p := d.position(lsn)
		if d.passed(p) {
			return nil
		}
		d.push(capture.Item{Kind: capture.Marked, XID: d.tx.xid, Position: p, Mark: string(content)}, -1)
	}
	return nil
}

// position of the next change, which has that LSN.
func (d *decoder) position(lsn uint64) event.Position {
	if lsn == d.tx.lsn {
		d.tx.n++
	} else {
		d.tx.lsn, d.tx.n = lsn, 0
	}
	if d.must && d.tx.commit == d.met.Commit && lsn == d.met.Change && d.tx.n == d.met.N { // of whatever table, captured or not
		d.must = false
	}
	return event.Position{Timeline: d.log.info.Timeline, Commit: d.tx.commit, Change: lsn, N: d.tx.n}
}

// passed says whether a position was read before.
func (d *decoder) passed(p event.Position) bool {
	return d.tx.commit == d.after.Commit && p.Compare(d.after) <= 0
}

// add holds the change back and releases the one before.
func (d *decoder) add(rel *relation, op event.Op, p event.Position, before, after []byte) {
	d.tx.order++
	if d.passed(p) {
		d.toast.drop(len(d.changes))
		return
	}
	d.release()
	if !rel.announced {
		rel.announced = true
		d.push(capture.Item{Kind: capture.Structure, XID: d.tx.xid, Position: p, Schema: rel.schema}, -1)
	}
	d.changes = append(d.changes, event.Change{Op: op, Schema: rel.schema, Before: before, After: after, Position: p,
		CommitMS: d.tx.commitMS, TxID: d.tx.xid, Order: d.tx.order})
	d.held = len(d.changes) - 1
}

// widen makes 64 bits of a transaction id, and remembers the newest one.
func (d *decoder) widen(xid uint32) uint64 {
	w := widen(d.xid, xid)
	d.xid = max(d.xid, w)
	return w
}

// widen makes 64 bits of 32: those nearest to a transaction id of the same time.
func widen(near uint64, xid uint32) uint64 {
	w := near&^0xffffffff | uint64(xid)
	switch {
	case w > near+1<<31 && w >= 1<<32:
		w -= 1 << 32
	case w+1<<31 < near:
		w += 1 << 32
	}
	return w
}

// unixMS converts microseconds since 2000-01-01.
func unixMS(micros int64) int64 { return (micros + 946684800*1000000) / 1000 }
