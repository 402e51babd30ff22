package event

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// String is `<timeline>@<commit LSN>:<change LSN>:<n>[.<part>]` with LSNs as PostgreSQL prints them, as in
// `1@0/16B3748:0/16B36F0:0`, or `<origin>@<number>:<index>:<n>[.<part>]`. Zero is "0".
func (p Position) String() string { return string(p.Append(make([]byte, 0, 64))) }

// Append appends String.
func (p Position) Append(dst []byte) []byte {
	if p.IsZero() {
		return append(dst, '0')
	}
	if p.Origin == "" {
		dst = strconv.AppendUint(dst, uint64(p.Timeline), 10)
	} else {
		dst = append(dst, p.Origin...)
	}
	dst = append(dst, '@')
	return p.appendPlace(dst)
}

// ID is the part that identifies a change: String without the timeline, `0/16B3748:0/16B36F0:0`, or with the origin in
// front and a colon, `<origin>:<number>:<index>:<n>[.<part>]`.
func (p Position) ID() string { return string(p.AppendID(make([]byte, 0, 64))) }

// AppendID appends ID without allocating.
func (p Position) AppendID(dst []byte) []byte {
	if p.Origin != "" {
		dst = append(dst, p.Origin...)
		dst = append(dst, ':')
	}
	return p.appendPlace(dst)
}

func (p Position) appendPlace(dst []byte) []byte {
	if p.Origin == "" {
		dst = appendLSN(dst, p.Commit)
		dst = append(dst, ':')
		dst = appendLSN(dst, p.Change)
	} else {
		dst = strconv.AppendUint(dst, p.Commit, 10)
		dst = append(dst, ':')
		dst = strconv.AppendUint(dst, p.Change, 10)
	}
	dst = append(dst, ':')
	dst = strconv.AppendUint(dst, uint64(p.N), 10)
	if p.Part > 0 {
		dst = append(dst, '.')
		dst = strconv.AppendUint(dst, uint64(p.Part), 10)
	}
	return dst
}

// appendLSN prints as PostgreSQL 14 to 18 do: two halves in upper-case hex, without leading zeros.
func appendLSN(dst []byte, lsn uint64) []byte {
	dst = appendHex(dst, uint32(lsn>>32))
	dst = append(dst, '/')
	return appendHex(dst, uint32(lsn))
}

func appendHex(dst []byte, n uint32) []byte {
	shift := 28
	for shift > 0 && n>>shift == 0 {
		shift -= 4
	}
	for ; shift >= 0; shift -= 4 {
		dst = append(dst, upperHex[n>>shift&15])
	}
	return dst
}

const upperHex = "0123456789ABCDEF"

// ParsePosition reads what String printed, and nothing else.
func ParsePosition(s string) (Position, error) {
	if s == "0" {
		return Position{}, nil
	}
	front, place, ok := strings.Cut(s, "@")
	var p Position
	switch lsn := strings.Contains(place, "/"); {
	case !ok:
	case lsn:
		var timeline uint64
		timeline, ok = parseUint(front, math.MaxUint32)
		p.Timeline = uint32(timeline)
		ok = ok && p.parsePlace([]byte(place))
	default:
		p.Origin = front
		ok = isOrigin(front) && p.parsePlace([]byte(place))
	}
	// A position that says nothing has one form only, "0".
	if !ok || p.IsZero() {
		return Position{}, fmt.Errorf("position %q: want 0, <timeline>@<LSN>:<LSN>:<n>[.<part>] or <origin>@<number>:<index>:<n>[.<part>]", s)
	}
	return p, nil
}

// parseID reads what ID printed. The origin is the given one where it is equal, so that it need not be allocated again.
func parseID(b []byte, origin string) (p Position, ok bool) {
	front, place, ok := bytes.Cut(b, colon)
	if !ok {
		return Position{}, false
	}
	if bytes.IndexByte(front, '/') >= 0 {
		ok = p.parsePlace(b)
		return p, ok
	}
	if !isOrigin(front) {
		return Position{}, false
	}
	if string(front) == origin {
		p.Origin = origin
	} else {
		p.Origin = string(front)
	}
	ok = p.parsePlace(place)
	return p, ok
}

// parsePlace reads commit, change, n and part in the form that belongs to p's origin.
func (p *Position) parsePlace(b []byte) bool {
	commit, rest, ok := bytes.Cut(b, colon)
	change, count, ok2 := bytes.Cut(rest, colon)
	if !ok || !ok2 {
		return false
	}
	if p.Origin == "" {
		p.Commit, ok = parseLSN(commit)
		p.Change, ok2 = parseLSN(change)
	} else {
		p.Commit, ok = parseUint(commit, math.MaxUint64)
		p.Change, ok2 = parseUint(change, math.MaxUint64)
	}
	if !ok || !ok2 {
		return false
	}
	count, part, parts := bytes.Cut(count, dot)
	n, ok := parseUint(count, math.MaxUint32)
	p.N = uint32(n)
	if !ok || !parts {
		return ok
	}
	n, ok = parseUint(part, math.MaxUint32)
	p.Part = uint32(n)
	return ok && n > 0
}

var colon, dot = []byte{':'}, []byte{'.'}

func parseLSN(b []byte) (uint64, bool) {
	high, low, ok := bytes.Cut(b, slash)
	h, ok2 := parseHex(high)
	l, ok3 := parseHex(low)
	return uint64(h)<<32 | uint64(l), ok && ok2 && ok3
}

var slash = []byte{'/'}

func parseHex(b []byte) (n uint32, ok bool) {
	if len(b) == 0 || len(b) > 8 || len(b) > 1 && b[0] == '0' {
		return 0, false
	}
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | uint32(c-'0')
		case 'A' <= c && c <= 'F':
			n = n<<4 | uint32(c-'A'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

func isOrigin[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if !isWord(s[i]) {
			return false
		}
	}
	return len(s) > 0
}

// isWord says whether a byte is an ASCII letter, a digit, - or _.
func isWord(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-' || c == '_'
}
