package mysql

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/runnel-dev/runnel/runtime/event"
)

// An XA transaction stands in the log where its first phase ends, and what becomes of it later, perhaps after a restart of everything: its rows are
// kept until then, and are changes of the transaction that commits it. That it has a single phase only its end says.

// spool begins to keep the rows of an XA transaction.
func (d *decoder) spool() *spool { return &spool{held: &d.spooled, most: d.log.source.spool} }

func (d *decoder) drop(s *spool) {
	if s != nil {
		s.close()
	}
}

// close drops all that is kept.
func (d *decoder) close() {
	d.drop(d.tx.spool)
	for _, s := range d.xas {
		d.drop(s)
	}
	if d.again != nil {
		d.drop(d.again.spool)
	}
}

// keep takes an event of an XA transaction, and passes one of a transaction that only comes again.
func (d *decoder) keep(e *replication.BinlogEvent) (kept bool, err error) {
	switch x := e.Event.(type) {
	case *replication.TableMapEvent:
		if d.tx.spool != nil {
			d.tx.spool.captured = d.tx.spool.captured || d.captures(x)
		}
	case *replication.TransactionPayloadEvent:
		for _, inner := range x.Events {
			if m, ok := inner.Event.(*replication.TableMapEvent); ok && d.tx.spool != nil {
				d.tx.spool.captured = d.tx.spool.captured || d.captures(m)
			}
		}
		if d.tx.spool == nil && d.tx.known { // its end is in there
			return true, d.commit()
		}
	case *replication.RowsEvent:
	default:
		return false, nil
	}
	if d.tx.spool == nil {
		return d.tx.known, nil
	}
	return true, d.tx.spool.add(d.format, e.RawData)
}

func (d *decoder) captures(m *replication.TableMapEvent) bool {
	return d.log.source.captured(event.Table{Schema: string(m.Schema), Name: string(m.Table)})
}

// phase handles a statement of XA.
func (d *decoder) phase(text string) error {
	w := words{rest: text}
	w.next()
	verb := strings.ToUpper(w.next())
	w.skip()
	switch xid := w.rest; verb {
	case "COMMIT", "ROLLBACK":
		s, ok := d.xas[xid]
		delete(d.xas, xid)
		d.tx.ended.decides = xid
		if verb == "COMMIT" && !d.tx.known {
			if !ok {
				return d.unreadable(fmt.Sprintf("the log commits the XA transaction %s, which was prepared before it was read", xid), "see with XA RECOVER that no other one waits")
			}
			if s != nil {
				return d.replay(s)
			}
		}
		d.drop(s)
		return d.commit()
	case "START", "BEGIN":
		d.tx.begun = true
		if d.tx.spool == nil {
			d.tx.spool = d.spool()
		}
		return nil
	default:
		d.tx.begun = true
		return nil
	}
}

// prepared is the end of XA's first phase, or of a transaction that has a single one.
func (d *decoder) prepared(raw []byte) error {
	b := raw[min(len(raw), replication.EventHeaderSize):]
	if len(b) < 13 {
		return errors.New("an XA transaction in the log is damaged")
	}
	s := d.tx.spool
	if b[0] != 0 {
		if s == nil || d.tx.known {
			return d.commit()
		}
		d.tx.spool = nil
		return d.replay(s)
	}
	format, global, branch := binary.LittleEndian.Uint32(b[1:]), binary.LittleEndian.Uint32(b[5:]), binary.LittleEndian.Uint32(b[9:])
	b = b[13:]
	if global > 64 || branch > 64 || int(global+branch) > len(b) {
		return errors.New("an XA transaction in the log is damaged")
	}
	xid := fmt.Sprintf("X'%x',X'%x',%d", b[:global], b[global:global+branch], int32(format)) // as the log's XA COMMIT names it
	d.tx.ended.prepares = xid
	d.drop(d.xas[xid])
	d.xas[xid] = nil
	if s != nil && s.captured {
		d.tx.ended.captured = true
		d.xas[xid], d.tx.spool = s, nil
	}
	return d.commit()
}

// replay are kept rows that are given as those of the present transaction, which ends with them.
type replay struct {
	spool  *spool
	from   io.Reader
	parser *replication.BinlogParser
}

func (d *decoder) replay(s *spool) error {
	from, err := s.read()
	if err != nil {
		return err
	}
	p := replication.NewBinlogParser()
	p.SetFlavor(d.log.source.cfg.Flavor)
	p.SetRowsEventDecodeFunc(rawRows)
	d.again = &replay{spool: s, from: from, parser: p}
	clear(d.tables)
	return nil
}

// replayed gives kept rows, if there are any, until the run is full or they end.
func (d *decoder) replayed(ctx context.Context) error {
	for d.again != nil && !d.full() {
		raw, err := nextSpooled(d.again.from)
		if errors.Is(err, io.EOF) {
			d.drop(d.again.spool)
			d.again = nil
			clear(d.tables)
			if err := d.commit(); err != nil {
				return err
			}
			d.at.at = max(d.at.at, d.pos)
			d.met()
			return nil
		}
		if err != nil {
			return err
		}
		e, err := d.again.parser.Parse(raw)
		if err != nil {
			return fmt.Errorf("read an XA transaction again: %w", err)
		}
		if err := d.handle(ctx, e); err != nil {
			return fmt.Errorf("read an XA transaction again, decided at %d:%d: %w", d.at.file, d.pos, err)
		}
	}
	return nil
}
