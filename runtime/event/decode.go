package event

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// Decode appends the message's events; a malformed line is an error that names sequence and line, and then nothing is
// appended. Members may stand in any order, and unknown ones are passed over; a marker has no events.
func (m *Message) Decode(dst []Event) ([]Event, error) {
	if m.Marker() {
		return dst, nil
	}
	source, table, partition, err := ParseSubject(m.Subject)
	if err != nil {
		return dst, fmt.Errorf("message %d: %w", m.Sequence, err)
	}
	switch n := m.Lines(); {
	case n == 0 && m.Large != "":
		return dst, fmt.Errorf("message %d on %s: its payload, object %s, was not fetched", m.Sequence, m.Subject, m.Large)
	case n == 0:
		return dst, fmt.Errorf("message %d on %s is empty", m.Sequence, m.Subject)
	case n > MaxLines:
		return dst, fmt.Errorf("message %d on %s has %d lines; %d are allowed", m.Sequence, m.Subject, n, MaxLines)
	}
	before := len(dst)
	var d decoder
	if before > 0 {
		d.remember(&dst[before-1])
	}
	rest := m.Data
	for line := 1; len(rest) > 0; line++ {
		var text []byte
		text, rest, _ = bytes.Cut(rest, newline)
		dst = append(dst, Event{
			Source: source, Table: table, Partition: partition,
			Sequence: m.Sequence, Version: m.Writer.Version(m.Sequence, line), Line: text[:len(text):len(text)],
		})
		if err := d.line(&dst[len(dst)-1]); err != nil {
			clear(dst[before:])
			return dst[:before], fmt.Errorf("message %d on %s, line %d: %w", m.Sequence, m.Subject, line, err)
		}
		d.remember(&dst[len(dst)-1])
	}
	return dst, nil
}

// decoder remembers the strings that neighbours share.
type decoder struct {
	fingerprint string
	origin      string
	place       bool // the line told its position
}

func (d *decoder) remember(e *Event) {
	d.fingerprint = e.Fingerprint
	if e.Position.Origin != "" {
		d.origin = e.Position.Origin
	}
}

// line decodes e.Line into e.
func (d *decoder) line(e *Event) error {
	d.place = false
	var before, after Value
	m := membersOf(e.Line, skipSpace(e.Line, 0), 0)
	for m.nextName() {
		switch string(m.name()) {
		case "source":
			inner := m.inner()
			if err := d.source(e, &inner); err != nil {
				return fmt.Errorf("source: %w", err)
			}
			m.pass(inner.end)
			continue
		case "transaction":
			if inner := m.inner(); inner.at >= 0 {
				if err := decodeTransaction(e, &inner); err != nil {
					return fmt.Errorf("transaction: %w", err)
				}
				m.pass(inner.end)
				continue
			}
		}
		if !m.pass(skipValue(m.b, m.valueFrom, m.depth)) {
			break
		}
		ok := true
		switch v := m.value(); string(m.name()) {
		case "op":
			ok = decodeOp(e, v)
		case "ts_ms":
			e.CommitMS, ok = decodeInt(v)
		case "before":
			before = v
		case "after":
			after = v
		case "transaction":
			ok = v.IsNull()
		}
		if !ok {
			return badMember(&m)
		}
	}
	if m.end == 0 || skipSpace(e.Line, m.end) != len(e.Line) {
		return fmt.Errorf("no JSON object: %.80q", e.Line)
	}
	return d.finish(e, before, after)
}

// finish checks what must be there, once the kind is known.
func (d *decoder) finish(e *Event, before, after Value) error {
	switch {
	case e.Op == 0:
		return errors.New(`"op" is missing`)
	case e.Fingerprint == "" || !d.place:
		return errors.New(`"source" lacks "fingerprint" or "position"`)
	case e.Op == Truncate || e.Op == Mark:
		return finishCutoff(e, before, after)
	case !isRow(before) || !isRow(after):
		return errors.New(`"before" and "after" must be objects or null`)
	}
	e.Before, e.After = RowOf(before), RowOf(after)
	if e.Snapshot {
		e.Position = Position{}
	}
	if e.Op == Delete && e.Before.IsNull() || e.Op != Delete && e.After.IsNull() {
		return fmt.Errorf("op %s lacks its row", e.Op)
	}
	return nil
}

func finishCutoff(e *Event, before, after Value) error {
	if !before.IsNull() {
		n, ok := parseUint([]byte(before), math.MaxInt64)
		if !ok {
			return fmt.Errorf(`"before" of %s is no version: %.40q`, e.Op, []byte(before))
		}
		e.Cutoff = Version(n)
	}
	if !after.IsNull() {
		return fmt.Errorf(`"after" of %s is not null`, e.Op)
	}
	return nil
}
