package event

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// source decodes the members of `source` that an event holds; connector and database stand in the schema.
func (d *decoder) source(e *Event, m *members) error {
	for m.next() {
		v := m.value()
		ok := true
		switch string(m.name()) {
		case "position":
			text, quoted := v.content()
			e.Position, ok = parseID(text, d.origin)
			ok = ok && quoted
			d.place = ok
		case "txId":
			if !v.IsNull() {
				e.TxID, ok = parseUint([]byte(v), math.MaxUint64)
			}
		case "snapshot":
			e.Snapshot, ok = decodeSnapshot(v)
		case "fingerprint":
			e.Fingerprint, ok = d.decodeFingerprint(v)
		case "unavailable":
			e.Unavailable, ok = decodeNames(v)
		}
		if !ok {
			return badMember(m)
		}
	}
	if m.end == 0 {
		return errors.New("no JSON object")
	}
	return nil
}

func decodeTransaction(e *Event, m *members) error {
	for m.next() {
		var err error
		switch string(m.name()) {
		case "total_order":
			e.Order, err = m.value().Int64()
		case "last":
			e.Last, err = m.value().Bool()
		}
		if err != nil {
			return badMember(m)
		}
	}
	if m.end == 0 {
		return errors.New("no JSON object")
	}
	return nil
}

func badMember(m *members) error {
	return fmt.Errorf("%q: %.80q is not legal", m.name(), []byte(m.value()))
}

func decodeOp(e *Event, v Value) bool {
	text, ok := v.content()
	if !ok || len(text) != 1 {
		return false
	}
	switch o := Op(text[0]); o {
	case Create, Update, Delete, Read, Truncate, Mark:
		e.Op = o
		return true
	default:
		return false
	}
}

func decodeInt(v Value) (int64, bool) {
	n, err := v.Int64()
	return n, err == nil && v[0] != '"'
}

// decodeSnapshot takes Debezium's words: "false", or one that tells where in a snapshot the row stood.
func decodeSnapshot(v Value) (snapshot, ok bool) {
	text, ok := v.content()
	return string(text) != "false", ok
}

func (d *decoder) decodeFingerprint(v Value) (string, bool) {
	text, ok := v.content()
	if !ok || len(text) == 0 || bytes.IndexByte(text, '\\') >= 0 {
		return "", false
	}
	if string(text) == d.fingerprint {
		return d.fingerprint, true
	}
	return string(text), true
}

func decodeNames(v Value) ([]string, bool) {
	if len(v) == 0 || v[0] != '[' {
		return nil, v.IsNull()
	}
	var names []string
	i := skipSpace(v, 1)
	for more := i < len(v) && v[i] != ']'; more; {
		j := skipString(v, i)
		if j < 0 {
			return nil, false
		}
		names = append(names, v[i:j].Text())
		more, i = nextMember(v, j, ']')
	}
	return names, true
}

func isRow(v Value) bool { return v.IsNull() || v[0] == '{' }
