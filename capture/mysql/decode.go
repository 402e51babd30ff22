package mysql

import (
	"bytes"
	"context"
	"fmt"
	"math/bits"
	"strings"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/google/uuid"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// decoder makes items of the log's events.
type decoder struct {
	log   *Log
	after event.Position // was read before, within its transaction
	at    place          // up to here all was read
	pos   uint64         // in the file, behind the event that is being read
	tx    transaction

	read, since set                // complete before Start: it may come again
	until       map[uint32][2]gtid // MariaDB: of a domain, the last one of read and of since that comes again
	left        int                // MySQL: how many may come again
	expected    map[gtid]int64     // of those, when they were committed

	tables     map[uint64]*relation // by the log's number of a table
	structures map[event.Table]*structure
	now        map[event.Table]*structure // as information_schema says, since the last change of structure

	xas     map[string]*spool // XA transactions that are prepared; nil for those without changes of captured tables
	format  []byte            // how the events of the log are to be read
	spooled int64             // bytes of them in memory
	again   *replay           // rows that are given now, in place of the log's

	items   []capture.Item
	changes []event.Change
	index   []int // of an item: which change, or -1
	held    int   // change that is kept back until it is known whether it is its transaction's last; -1 for none
	size    int
	solid   bool // there is more in items than structures
	given   bool // by run
}

// transaction that is being read.
type transaction struct {
	open     bool
	begun    bool   // it ends with a commit of its own; else with its statement
	known    bool   // it is complete already, and only comes again
	again    bool   // it is in the set of those that are complete, too
	spool    *spool // of XA: what becomes of it is known at its end
	ended    ended
	gtid     gtid
	xid      uint64
	commitMS int64
	rows     uint64 // changed by it, captured or not
	order    int64
	changed  bool // captured
}

// relation is a table as the log numbers it.
type relation struct {
	*structure
	captured bool
	wires    []byte
	metas    []uint16
}

// init begins behind a set that the server may leave out.
func (d *decoder) init(l *Log, after event.Position, from set) {
	*d = decoder{log: l, after: after, held: -1, tables: map[uint64]*relation{}, structures: map[event.Table]*structure{}, now: map[event.Table]*structure{},
		xas: map[string]*spool{}}
	d.meet(&l.progress, from, l.gone)
}

// reset forgets what was given, if anything was, but for the change that is held back.
func (d *decoder) reset() {
	if !d.given {
		return
	}
	d.given = false
	if d.held >= 0 {
		d.changes = append(d.changes[:0:0], d.changes[d.held])
		d.held = 0
	} else {
		d.changes = d.changes[:0:0]
	}
	d.items, d.index, d.size, d.solid = d.items[:0], d.index[:0], 0, false
}

func (d *decoder) ready() bool { return d.solid }
func (d *decoder) full() bool  { return d.ready() && (d.size >= runBytes || len(d.items) >= runItems) }

func (d *decoder) run(more bool) capture.Run {
	d.given = true
	for i, c := range d.index {
		if c >= 0 {
			d.items[i].Change = &d.changes[c]
		}
	}
	return capture.Run{Items: d.items, More: more}
}

func (d *decoder) push(i capture.Item, change int) {
	d.solid = d.solid || i.Kind != capture.Structure
	d.items = append(d.items, i)
	d.index = append(d.index, change)
}

// release gives the held change.
func (d *decoder) release() {
	if d.held >= 0 {
		c := &d.changes[d.held]
		d.push(capture.Item{Kind: capture.Changed, XID: d.tx.xid, Position: c.Position, Schema: c.Schema}, d.held)
		d.held = -1
	}
}

// rawRows leaves the rows as bytes: they are decoded where the table is known.
func rawRows(e *replication.RowsEvent, b []byte) error {
	n, err := e.DecodeHeader(b)
	e.Rows = [][]any{{b[n:]}}
	return err
}

// event handles one event.
func (d *decoder) event(ctx context.Context, e *replication.BinlogEvent) error {
	if e.Header.LogPos > 0 {
		d.pos = uint64(e.Header.LogPos)
	}
	if err := d.handle(ctx, e); err != nil {
		return fmt.Errorf("decode the log at %d:%d: %w", d.at.file, e.Header.LogPos, err)
	}
	// Within a transaction nothing is complete. Events that the server makes up have no place.
	if !d.tx.open && e.Header.LogPos > 0 && e.Header.EventType != replication.ROTATE_EVENT {
		d.at.at = max(d.at.at, uint64(e.Header.LogPos))
	}
	if !d.tx.open {
		d.met()
	}
	return nil
}

func (d *decoder) handle(ctx context.Context, e *replication.BinlogEvent) error {
	if kept, err := d.keep(e); kept || err != nil {
		return err
	}
	switch x := e.Event.(type) {
	case *replication.RotateEvent:
		p, err := placeOf(string(x.NextLogName), x.Position)
		if err != nil {
			return err
		}
		turned := d.at.file != 0 && p.file > d.at.file
		if d.at.before(p) || p.file != d.at.file {
			d.at = p
		}
		clear(d.tables)
		if turned && d.log.server.kind == placeSets {
			return d.turn(p)
		}
		return nil
	case *replication.GTIDEvent:
		return d.beginMySQL(x, e.Header)
	case *replication.GtidTaggedLogEvent:
		return d.unreadable("the log has GTIDs with tags, which are not supported",
			"let sessions use SET gtid_next = 'AUTOMATIC', without a tag")
	case *replication.MariadbGTIDEvent:
		g := gtid{fmt.Sprintf("%d-%d", x.GTID.DomainID, x.GTID.ServerID), x.GTID.SequenceNumber}
		err := d.begin(g, e.Header, int64(e.Header.Timestamp)*1000, int64(e.Header.Timestamp)*1e6)
		d.tx.begun = !x.IsStandalone()
		if x.Flags&flagPrepared != 0 {
			d.tx.spool = d.spool()
		}
		return err
	case *replication.FormatDescriptionEvent:
		d.format = bytes.Clone(e.RawData)
		return nil
	case *replication.XIDEvent:
		return d.commit()
	case *replication.QueryEvent:
		return d.query(x)
	case *replication.TableMapEvent:
		return d.table(ctx, x)
	case *replication.RowsEvent:
		return d.rows(x, e)
	case *replication.TransactionPayloadEvent:
		for _, inner := range x.Events {
			if r, ok := inner.Event.(*replication.RowsEvent); ok { // decoded already, by a parser of its own: back to the bytes
				if err := rawRows(r, inner.RawData[replication.EventHeaderSize:]); err != nil {
					return err
				}
			}
			if err := d.handle(ctx, inner); err != nil {
				return err
			}
		}
		return nil
	}
	if e.Header.EventType == replication.XA_PREPARE_LOG_EVENT {
		return d.prepared(e.RawData)
	}
	return nil
}

// flagPrepared is of XA, in MariaDB's GTID event.
const flagPrepared = 64

func (d *decoder) beginMySQL(x *replication.GTIDEvent, h *replication.EventHeader) error {
	ms, at := int64(h.Timestamp)*1000, int64(h.Timestamp)*1e6
	if x.ImmediateCommitTimestamp > 0 {
		ms, at = int64(x.ImmediateCommitTimestamp/1000), int64(x.ImmediateCommitTimestamp)
	}
	if x.OriginalCommitTimestamp > 0 { // a replica has it too
		at = int64(x.OriginalCommitTimestamp)
	}
	if d.log.server.kind == placeSets {
		g := gtid{d.log.server.origin, place{d.at.file, uint64(h.LogPos - h.EventSize)}.number()}
		d.log.begun(g.number)
		return d.begin(g, h, ms, at)
	}
	if h.EventType == replication.ANONYMOUS_GTID_EVENT {
		return d.unreadable("the log has transactions without a GTID", "SET GLOBAL gtid_mode = ON")
	}
	id, err := uuid.FromBytes(x.SID)
	if err != nil {
		return fmt.Errorf("GTID event: %w", err)
	}
	return d.begin(gtid{id.String(), uint64(x.GNO)}, h, ms, at)
}

func (d *decoder) begin(g gtid, h *replication.EventHeader, commitMS, at int64) error {
	if h.LogPos > h.EventSize {
		d.pos = uint64(h.LogPos - h.EventSize)
	}
	if err := d.commit(); err != nil { // of one whose end was not known as such
		return err
	}
	d.at.at = max(d.at.at, d.pos)
	d.tx = transaction{open: true, gtid: g, commitMS: commitMS, ended: ended{gtid: g, at: at}}
	if err := d.meets(g, at); err != nil {
		return err
	}
	var err error
	d.tx.xid, err = d.log.xid(g, d.at)
	return err
}

func (d *decoder) commit() error {
	if !d.tx.open {
		return nil
	}
	if d.held >= 0 {
		d.changes[d.held].Last = true
		d.release()
	}
	d.tx.open = false
	d.drop(d.tx.spool)
	d.tx.spool = nil
	if d.tx.again {
		return nil
	}
	if d.log.server.kind == placeSets {
		d.tx.ended.next = place{d.at.file, d.pos}.number()
	}
	d.log.complete(d.tx.ended)
	if !d.tx.known {
		d.push(capture.Item{Kind: capture.Committed, XID: d.tx.xid, Position: d.tx.gtid.end()}, -1)
	}
	return nil
}

// turn is the beginning of another file, of a log without GTIDs. It counts as a transaction, so that the file before is not asked for again.
func (d *decoder) turn(p place) error {
	if err := d.commit(); err != nil {
		return err
	}
	g := gtid{d.log.server.origin, p.number() - 1}
	if d.read.has(g) || d.since.has(g) {
		return nil
	}
	d.log.complete(ended{gtid: g, next: p.number()})
	d.push(capture.Item{Kind: capture.Committed, XID: g.number, Position: g.end()}, -1)
	return nil
}

// query is a statement: around rows, or one of structure, which is a transaction of its own.
func (d *decoder) query(x *replication.QueryEvent) error {
	text := string(x.Query)
	kind, t := parse(string(x.Schema), text)
	if d.tx.known && (kind == rollsBack || kind == changes || kind == truncates) {
		return d.commit()
	}
	switch kind {
	case begins:
		d.tx.begun = true
		return nil
	case commits:
		return d.commit()
	case xa:
		return d.phase(text)
	case saves:
		return nil
	case rollsBack:
		if d.tx.changed {
			return d.unreadable("a transaction with changes was logged and rolled back: it wrote to tables without transactions too, "+text, "use InnoDB for all tables")
		}
		return d.commit()
	case changes:
		return d.unreadable("the log has a statement that changes rows, not the rows: "+clip(text), "SET GLOBAL binlog_format = 'ROW' and let all sessions connect again")
	case truncates:
		if d.log.source.captured(t) {
			if err := d.truncate(t); err != nil {
				return err
			}
		}
	case other:
	}
	clear(d.now)
	clear(d.tables)
	if strings.Contains(strings.ToUpper(text), "START TRANSACTION") { // of MySQL's CREATE TABLE … SELECT, which goes on with its rows
		d.tx.begun = true
	}
	if d.tx.begun {
		return nil
	}
	return d.commit()
}

func clip(s string) string { return s[:min(len(s), 80)] }

func (d *decoder) truncate(t event.Table) error {
	d.tx.rows++
	s := d.structures[t]
	if s == nil {
		now, err := d.look(context.Background(), t)
		if err != nil || now == nil { // dropped since: it is loaded anew when it is back
			return err
		}
		s = now
	}
	return d.add(s, event.Truncate, 0, nil, nil)
}

// look is what a table is now.
func (d *decoder) look(ctx context.Context, t event.Table) (*structure, error) {
	if s, ok := d.now[t]; ok {
		return s, nil
	}
	c, cancel := context.WithTimeout(ctx, d.log.source.silence)
	defer cancel()
	all, err := d.log.source.look(c, d.log.control, &t)
	if c.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("see what table %s is: no answer within %s", t, d.log.source.silence)
	}
	if err != nil {
		return nil, err
	}
	d.now[t] = nil
	if len(all) > 0 {
		d.now[t] = all[0]
	}
	return d.now[t], nil
}

// table is the description of a table that rows follow of.
func (d *decoder) table(ctx context.Context, m *replication.TableMapEvent) error {
	t := event.Table{Schema: string(m.Schema), Name: string(m.Table)}
	if r := d.tables[m.TableID]; r != nil && r.table == t && bytes.Equal(r.wires, m.ColumnType) {
		return nil
	}
	r := &relation{structure: &structure{table: t}, captured: d.log.source.captured(t), wires: bytes.Clone(m.ColumnType), metas: m.ColumnMeta}
	d.tables[m.TableID] = r
	if !r.captured {
		return nil
	}
	now, err := d.look(ctx, t)
	if err != nil {
		return err
	}
	s, err := d.log.source.mapped(m, now, d.log.collations)
	if err != nil {
		return err
	}
	if old := d.structures[t]; old != nil && old.schema.Fingerprint() == s.schema.Fingerprint() {
		s.schema = old.schema
	} else {
		d.push(capture.Item{Kind: capture.Structure, XID: d.tx.xid, Position: d.log.info.Confirmed, Schema: s.schema}, -1)
	}
	d.structures[t], r.structure = s, s
	return nil
}

// add holds the change back and releases the one before.
func (d *decoder) add(s *structure, op event.Op, part uint32, before, after []byte) error {
	d.tx.order++
	d.tx.changed = true
	p := event.Position{Origin: d.tx.gtid.origin, Commit: d.tx.gtid.number, Change: d.tx.rows, Part: part}
	if d.after.Change > 0 && p.Origin == d.after.Origin && p.Commit == d.after.Commit && p.Compare(d.after) <= 0 {
		return nil
	}
	d.release()
	d.changes = append(d.changes, event.Change{Op: op, Schema: s.schema, Before: before, After: after, Position: p,
		CommitMS: d.tx.commitMS, Order: d.tx.order})
	d.held = len(d.changes) - 1
	d.size += len(before) + len(after) + 64
	return nil
}

// met gives the marks that the log has come to.
func (d *decoder) met() {
	if d.tx.open {
		return
	}
	l := d.log
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.marks[:0]
	for _, m := range l.marks {
		if d.at.before(m.at) {
			left = append(left, m)
			continue
		}
		d.push(capture.Item{Kind: capture.Marked, Mark: m.id}, -1)
	}
	l.marks = left
}

// Numbers of transactions within a run of the log: MySQL's hold the origin's place in a list and the GTID's number, MariaDB's where the
// transaction begins in the binlog; so each says by itself whether a snapshot shows it.
const (
	numberBits = 48
)

func (l *Log) xid(g gtid, at place) (uint64, error) {
	switch l.server.kind {
	case placeSets:
		return g.number, nil
	case domainSets:
		if bits.Len64(at.at) > 64-fileBits {
			return 0, fmt.Errorf("the binlog is too long: %d bytes", at.at)
		}
		return at.number(), nil
	case uuidSets:
	}
	if bits.Len64(g.number) > numberBits {
		return 0, fmt.Errorf("GTID %s: numbers above 2^%d are not supported", g, numberBits)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, o := range l.origins {
		if o == g.origin {
			return uint64(i)<<numberBits | g.number, nil
		}
	}
	l.origins = append(l.origins, g.origin)
	return uint64(len(l.origins)-1)<<numberBits | g.number, nil
}
