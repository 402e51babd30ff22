package event

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Group is a run of the log, from a position (exclusive) to a position, that was published as exactly one message per
// subject. Only with K = N does the log continue after To.
type Group struct {
	From, To Position
	K, N     int
}

// Complete says whether the message was the last one of its group.
func (g Group) Complete() bool { return g.K == g.N }

// String is the header's form, `<from>;<to>;<k>/<n>`.
func (g Group) String() string { return string(g.Append(make([]byte, 0, 128))) }

// Append appends the header's form.
func (g Group) Append(dst []byte) []byte {
	dst = g.From.Append(dst)
	dst = append(dst, ';')
	dst = g.To.Append(dst)
	dst = append(dst, ';')
	dst = strconv.AppendInt(dst, int64(g.K), 10)
	dst = append(dst, '/')
	return strconv.AppendInt(dst, int64(g.N), 10)
}

// ParseGroup reads the header's form.
func ParseGroup(s string) (Group, error) {
	bad := func(err error) (Group, error) {
		if err != nil {
			return Group{}, fmt.Errorf("group %q: %w", s, err)
		}
		return Group{}, fmt.Errorf("group %q: want <from>;<to>;<k>/<n> with k at most n", s)
	}
	from, rest, ok := strings.Cut(s, ";")
	to, count, ok2 := strings.Cut(rest, ";")
	if !ok || !ok2 {
		return bad(nil)
	}
	var g Group
	var err error
	if g.From, err = ParsePosition(from); err != nil {
		return bad(err)
	}
	if g.To, err = ParsePosition(to); err != nil {
		return bad(err)
	}
	first, second, _ := strings.Cut(count, "/")
	k, ok := parseUint(first, math.MaxInt32)
	n, ok2 := parseUint(second, math.MaxInt32)
	if !ok || !ok2 || k > n {
		return bad(nil)
	}
	g.K, g.N = int(k), int(n)
	return g, nil
}
