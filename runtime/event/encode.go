package event

import (
	"bytes"
	"strconv"
)

// Change is one event on its way into the stream, as a source yields it. Before and After are JSON objects in canonical form
// (columns in table order); nil is null.
type Change struct {
	Op          Op
	Schema      *Schema // made by NewSchema
	Before      []byte
	After       []byte
	Cutoff      Version  // of t and m: what `before` says; 0: null
	Position    Position // of a snapshot's row: where the log stood
	CommitMS    int64
	TxID        uint64 // 0: none
	Order       int64  // 0: none, as always in a snapshot
	Last        bool
	Unavailable []string
	Snapshot    bool
}

// AppendLine appends the change's canonical line, line break included. Equal changes give equal bytes. Line breaks within the
// rows, which may stand between the tokens of a json column, become blanks.
func AppendLine(dst []byte, c *Change) []byte {
	dst = append(dst, `{"op":"`...)
	dst = append(dst, byte(c.Op))
	dst = append(dst, `","ts_ms":`...)
	dst = strconv.AppendInt(dst, c.CommitMS, 10)
	dst = append(dst, `,"before":`...)
	if c.Op == Truncate || c.Op == Mark {
		dst = appendCutoff(dst, c.Cutoff)
		dst = append(dst, `,"after":null`...)
	} else {
		dst = appendRow(dst, c.Before)
		dst = append(dst, `,"after":`...)
		dst = appendRow(dst, c.After)
	}
	dst = appendSource(dst, c)
	if !c.Snapshot && c.Order != 0 {
		dst = appendTransaction(dst, c)
	}
	return append(dst, "}\n"...)
}

func appendCutoff(dst []byte, v Version) []byte {
	if v == 0 {
		return append(dst, "null"...)
	}
	return strconv.AppendInt(dst, int64(v), 10)
}

func appendRow(dst, row []byte) []byte {
	if len(row) == 0 {
		return append(dst, "null"...)
	}
	from := len(dst)
	dst = append(dst, row...)
	blank(dst[from:], '\n')
	blank(dst[from:], '\r')
	return dst
}

// blank replaces a byte by blanks. In JSON a raw line break is white space: strings hold it escaped.
func blank(b []byte, c byte) {
	for {
		i := bytes.IndexByte(b, c)
		if i < 0 {
			return
		}
		b[i] = ' '
		b = b[i+1:]
	}
}

// sourceParts are the parts of `source` that are the same for all changes of a table's version.
func (s *Schema) sourceParts() (head, tail []byte) {
	head = append(head, `,"source":{"connector":`...)
	head = AppendJSONString(head, s.Connector)
	head = append(head, `,"name":`...)
	head = AppendJSONString(head, s.Source)
	head = append(head, `,"db":`...)
	head = AppendJSONString(head, s.Database)
	head = append(head, `,"schema":`...)
	head = AppendJSONString(head, s.Table.Schema)
	head = append(head, `,"table":`...)
	head = AppendJSONString(head, s.Table.Name)
	head = append(head, `,"ts_ms":`...)
	tail = append(tail, `,"fingerprint":`...)
	tail = AppendJSONString(tail, s.fingerprint)
	return head, tail
}

func appendSource(dst []byte, c *Change) []byte {
	dst = append(dst, c.Schema.sourceHead...)
	dst = strconv.AppendInt(dst, c.CommitMS, 10)
	if p := &c.Position; p.Origin == "" {
		dst = append(dst, `,"lsn":`...)
		lsn := p.Change
		if lsn == 0 {
			lsn = p.Commit
		}
		dst = strconv.AppendUint(dst, lsn, 10)
	} else if p.placed() {
		dst = append(dst, `,"file":`...)
		dst = strconv.AppendUint(dst, p.Commit>>40, 10)
		dst = append(dst, `,"pos":`...)
		dst = strconv.AppendUint(dst, p.Commit&(1<<40-1), 10)
	} else {
		dst = append(dst, `,"gtid":"`...)
		dst = appendGTID(dst, c)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"position":"`...)
	dst = c.Position.AppendID(dst)
	dst = append(dst, `","txId":`...)
	if c.TxID == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendUint(dst, c.TxID, 10)
	}
	dst = append(dst, `,"snapshot":"`...)
	dst = strconv.AppendBool(dst, c.Snapshot)
	dst = append(dst, '"')
	dst = append(dst, c.Schema.sourceTail...)
	if len(c.Unavailable) > 0 {
		dst = append(dst, `,"unavailable":[`...)
		for i, name := range c.Unavailable {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendJSONString(dst, name)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// appendTransaction names the transaction as Debezium does: `<xid>:<LSN>` with the commit's LSN, because an xid comes again,
// or the GTID.
func appendTransaction(dst []byte, c *Change) []byte {
	dst = append(dst, `,"transaction":{"id":"`...)
	if c.Position.Origin == "" {
		dst = strconv.AppendUint(dst, c.TxID, 10)
		dst = append(dst, ':')
		dst = strconv.AppendUint(dst, c.Position.Commit, 10)
	} else {
		dst = appendGTID(dst, c)
	}
	dst = append(dst, `","total_order":`...)
	dst = strconv.AppendInt(dst, c.Order, 10)
	if c.Last {
		dst = append(dst, `,"last":true`...)
	}
	return append(dst, '}')
}

// appendGTID prints as the server does: MySQL's is `uuid:number`, MariaDB's `domain-server-number`. Without GTIDs it is `binlog-uuid:place`.
func appendGTID(dst []byte, c *Change) []byte {
	dst = append(dst, c.Position.Origin...)
	if c.Schema.Connector == "mariadb" {
		dst = append(dst, '-')
	} else {
		dst = append(dst, ':')
	}
	return strconv.AppendUint(dst, c.Position.Commit, 10)
}
