package fakenats

import (
	"bytes"
	"strconv"
)

// headers are those of a publish that JetStream looks at. The slices belong to the message.
type headers struct {
	id, lastID, stream, rollup  []byte
	lastOnSubject               []byte
	batch, commit, ttl          []byte
	last, lastOn, number        uint64
	hasLast, hasLastOn, inBatch bool // inBatch: the number is there
}

var (
	lineEnd = []byte("\r\n")
	native  = []byte("Nats-")
)

func parseHeaders(raw []byte) (h headers) {
	_, raw, _ = bytes.Cut(raw, lineEnd) // the version
	for len(raw) > 0 {
		var line []byte
		line, raw, _ = bytes.Cut(raw, lineEnd)
		if !bytes.HasPrefix(line, native) {
			continue
		}
		key, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch string(key) {
		case "Nats-Msg-Id":
			h.id = value
		case "Nats-Expected-Last-Sequence":
			h.last, h.hasLast = parseUint(value)
		case "Nats-Expected-Last-Subject-Sequence":
			h.lastOn, h.hasLastOn = parseUint(value)
		case "Nats-Expected-Last-Subject-Sequence-Subject":
			h.lastOnSubject = value
		case "Nats-Expected-Last-Msg-Id":
			h.lastID = value
		case "Nats-Expected-Stream":
			h.stream = value
		case "Nats-Rollup":
			h.rollup = value
		case "Nats-TTL":
			h.ttl = value
		case "Nats-Batch-Id":
			h.batch = value
		case "Nats-Batch-Sequence":
			h.number, h.inBatch = parseUint(value)
		case "Nats-Batch-Commit":
			h.commit = value
		}
	}
	return h
}

func parseUint(b []byte) (uint64, bool) {
	n := uint64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, len(b) > 0
}

// statusHeader is that of a message without payload that tells something.
func statusHeader(status int, text string, fields ...field) []byte {
	b := append([]byte("NATS/1.0 "), strconv.Itoa(status)...)
	if text != "" {
		b = append(append(b, ' '), text...)
	}
	return appendFields(append(b, lineEnd...), fields)
}

type field struct{ key, value string }

func number(key string, n uint64) field { return field{key, strconv.FormatUint(n, 10)} }

func appendFields(b []byte, fields []field) []byte {
	for _, f := range fields {
		b = append(append(append(append(b, f.key...), ": "...), f.value...), lineEnd...)
	}
	return append(b, lineEnd...)
}
