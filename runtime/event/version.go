package event

import (
	"fmt"
	"strconv"
	"strings"
)

// Writer identifies one run of a capture agent: every message carries it.
type Writer struct {
	Epoch uint32 // 1 to 2³⁰−1
	Base  uint64 // sequence of the last marker of its fence
}

// String is the header's form, `epoch:base`.
func (w Writer) String() string { return string(w.Append(make([]byte, 0, 32))) }

// Append appends the header's form.
func (w Writer) Append(dst []byte) []byte {
	dst = strconv.AppendUint(dst, uint64(w.Epoch), 10)
	dst = append(dst, ':')
	return strconv.AppendUint(dst, w.Base, 10)
}

// ParseWriter reads the header's form.
func ParseWriter(s string) (Writer, error) {
	epoch, base, _ := strings.Cut(s, ":")
	e, ok := parseUint(epoch, MaxEpoch)
	b, ok2 := parseUint(base, 1<<63-1)
	if !ok || !ok2 || e == 0 {
		return Writer{}, fmt.Errorf("writer %q: want epoch:base, the epoch from 1 to %d", s, MaxEpoch)
	}
	return Writer{Epoch: uint32(e), Base: b}, nil
}

// Version orders events along a stream, for ever: epoch·2³³ + (sequence − base)·2¹⁰ + line. It needs nothing but the
// message. Lines count from 1; line 0 is the place before the first line, and the fence's own markers lie below base.
//
// Line 1024 of a message has the same number as line 0 of the next one: the place after the one is the place before the
// other, and no event stands on line 0.
type Version int64

// Limits of the arithmetic.
const (
	MaxEpoch         = 1<<30 - 1
	MessagesPerEpoch = 1 << 22 // then the running writer makes a new fence and takes a new epoch
	FenceMarkers     = 512     // W: markers of a fence, and messages in flight
)

// Version of a line of the message with that sequence.
func (w Writer) Version(sequence uint64, line int) Version {
	return Version(int64(w.Epoch)<<33 + (int64(sequence)-int64(w.Base))<<10 + int64(line))
}

// Epoch is the writer's epoch; markers of a fence belong to the epoch that they open.
func (v Version) Epoch() uint32 { return uint32((int64(v) + FenceMarkers<<10) >> 33) }

// parseUint reads a decimal number without sign and leading zeros, up to a maximum.
func parseUint[T string | []byte](s T, most uint64) (uint64, bool) {
	if len(s) == 0 || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	var n uint64
	for i := 0; i < len(s); i++ {
		d := uint64(s[i] - '0')
		if d > 9 || n > (most-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}
