package mysql

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/replication"
)

// An XA transaction of two phases stands in the log where it is prepared, and its end later, perhaps after a restart of everything. What has changes
// of captured tables is refused: whether they hold is not known where they stand. What has none may pass. That there is a single phase only its end
// says, so until then nothing is given.

const xaBytes = 64 << 20 // of an XA transaction, in memory

func errXA() error {
	return setup("the log has an XA transaction of two phases with changes of captured tables, which is not supported",
		"commit with ONE PHASE, or leave XA; then go on with --resnapshot")
}

// phase handles a statement of XA. What follows XA START and XA END says whether the transaction has two phases.
func (d *decoder) phase(text string) error {
	w := words{rest: text}
	w.next()
	verb := strings.ToUpper(w.next())
	w.skip()
	switch verb {
	case "COMMIT":
		if !d.foreign[w.rest] { // prepared before this log was begun
			return errXA()
		}
		delete(d.foreign, w.rest)
		return d.commit()
	case "ROLLBACK":
		delete(d.foreign, w.rest)
		return d.commit()
	default:
		d.tx.begun, d.tx.xa = true, true
		return nil
	}
}

// prepared is the end of XA's first phase, or of a transaction that has a single one.
func (d *decoder) prepared(raw []byte) error {
	b := raw[min(len(raw), replication.EventHeaderSize):]
	if len(b) < 13 {
		return errors.New("an XA transaction in the log is damaged")
	}
	if b[0] != 0 {
		return d.commit()
	}
	if d.tx.changed {
		return errXA()
	}
	format, global, branch := binary.LittleEndian.Uint32(b[1:]), binary.LittleEndian.Uint32(b[5:]), binary.LittleEndian.Uint32(b[9:])
	b = b[13:]
	if global > 64 || branch > 64 || int(global+branch) > len(b) {
		return errors.New("an XA transaction in the log is damaged")
	}
	d.foreign[fmt.Sprintf("X'%x',X'%x',%d", b[:global], b[global:global+branch], int32(format))] = true // as the log's XA COMMIT names it
	return d.commit()
}
