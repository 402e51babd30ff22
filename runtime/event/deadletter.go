package event

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Where events lie that their function could never write.
const (
	DeadLetterStream = "RUNNEL_DLQ"
	DeadLetterPrefix = "dlq." // of its subjects
)

// Headers of a dead letter. None is copied from the event's message: what JetStream acts on (Nats-Expected-…, Nats-Batch-…)
// meant another stream.
const (
	HeaderFunction   = "Runnel-Function"
	HeaderGeneration = "Runnel-Generation"
	HeaderTable      = "Runnel-Table"
	HeaderSequence   = "Runnel-Sequence"
	HeaderVersion    = "Runnel-Version"
	HeaderAttempts   = "Runnel-Attempts"
	HeaderTime       = "Runnel-Time"
	HeaderReason     = "Runnel-Reason"
)

const mostReason = 2048 // bytes; a target may answer at any length

// DeadLetter is an event that its function could never write.
type DeadLetter struct {
	Function   string
	Generation int64
	Original   string    // subject of the event's message
	Sequence   uint64    // of that message in its source's stream
	Version    Version   // of the event
	Attempts   int       // how often it was given to the target; 0: it failed before, in the function's own expressions
	Time       time.Time // when it was given up
	Reason     string
	Line       []byte // the event as it stands in its source's stream: neither filtered nor masked
}

// Header is one header.
type Header struct{ Name, Value string }

// DeadLetterSubject is dlq.<function>.<original subject>; with ">" as the original one, all of a function.
func DeadLetterSubject(function, original string) string {
	return DeadLetterPrefix + EscapeToken(function) + "." + original
}

// Subject is the letter's own.
func (d *DeadLetter) Subject() string { return DeadLetterSubject(d.Function, d.Original) }

// Table of the event, with its source.
func (d *DeadLetter) Table() (source string, t Table, err error) {
	source, t, _, err = ParseSubject(d.Original)
	return source, t, err
}

// ID is the same each time that a generation gives up the same event: `<function>:<generation>:<source>:<version>`.
func (d *DeadLetter) ID() (string, error) {
	source, _, err := d.Table()
	return fmt.Sprintf("%s:%d:%s:%d", d.Function, d.Generation, source, d.Version), err
}

// Headers in their order.
func (d *DeadLetter) Headers() ([]Header, error) {
	id, err := d.ID()
	if err != nil {
		return nil, err
	}
	_, table, _ := d.Table() // as in ID
	return []Header{
		{HeaderID, id},
		{HeaderFunction, d.Function},
		{HeaderGeneration, strconv.FormatInt(d.Generation, 10)},
		{HeaderTable, EscapeToken(table.Schema) + "." + EscapeToken(table.Name)},
		{HeaderSequence, strconv.FormatUint(d.Sequence, 10)},
		{HeaderVersion, strconv.FormatInt(int64(d.Version), 10)},
		{HeaderAttempts, strconv.Itoa(d.Attempts)},
		{HeaderTime, d.Time.UTC().Format(time.RFC3339Nano)},
		{HeaderReason, oneLine(d.Reason)},
	}, nil
}

// oneLine makes a header's value of any text.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }), " ")
	if len(s) <= mostReason {
		return s
	}
	cut := mostReason - len("…")
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// ParseDeadLetter reads a stored letter. Its payload may be left out.
func ParseDeadLetter(subject string, header func(name string) string, line []byte) (*DeadLetter, error) {
	rest, ok := strings.CutPrefix(subject, DeadLetterPrefix)
	token, original, ok2 := strings.Cut(rest, ".")
	function, err := UnescapeToken(token)
	if !ok || !ok2 || err != nil {
		return nil, fmt.Errorf("subject %q: want dlq.<function>.<original subject>", subject)
	}
	if _, _, _, err := ParseSubject(original); err != nil {
		return nil, fmt.Errorf("dead letter on %s: %w", subject, err)
	}
	d := &DeadLetter{Function: function, Original: original, Reason: header(HeaderReason), Line: bytes.TrimSuffix(line, newline)}
	bad := func(name string) (*DeadLetter, error) {
		return nil, fmt.Errorf("dead letter on %s: header %s is %.40q", subject, name, header(name))
	}
	if d.Generation, err = strconv.ParseInt(header(HeaderGeneration), 10, 64); err != nil {
		return bad(HeaderGeneration)
	}
	if d.Sequence, err = strconv.ParseUint(header(HeaderSequence), 10, 64); err != nil {
		return bad(HeaderSequence)
	}
	version, err := strconv.ParseInt(header(HeaderVersion), 10, 64)
	if err != nil || version < 0 {
		return bad(HeaderVersion)
	}
	d.Version = Version(version)
	if d.Attempts, err = strconv.Atoi(header(HeaderAttempts)); err != nil {
		return bad(HeaderAttempts)
	}
	if d.Time, err = time.Parse(time.RFC3339Nano, header(HeaderTime)); err != nil {
		return bad(HeaderTime)
	}
	return d, nil
}
