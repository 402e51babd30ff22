package postgres

import (
	"encoding/binary"
	"testing"
	"time"
)

// A backlog is what was committed long ago, by the server's clock; and where nothing came for a while, there is none, whatever that says.
func TestLate(t *testing.T) {
	t.Parallel()
	const clocks = 90 * time.Second // ours is ahead
	d := &decoder{ahead: clocks.Milliseconds()}
	begin := func(age time.Duration) bool {
		b := binary.BigEndian.AppendUint64(nil, 100)
		b = binary.BigEndian.AppendUint64(b, uint64(time.Now().Add(-clocks-age).UnixMicro()-946684800*1000000))
		b = binary.BigEndian.AppendUint32(b, 7)
		if err := d.begin(&reader{b: b}); err != nil {
			t.Fatal(err)
		}
		return d.late()
	}
	for _, c := range []struct {
		name  string
		age   time.Duration
		calm  bool // nothing came before it
		wants bool
	}{
		{"Fresh", 0, false, false},
		{"Backlog", time.Hour, false, true},
		{"GoesOn", 59 * time.Minute, false, true},
		{"WorkedOff", 0, false, false},
		{"Ahead", -time.Minute, false, false}, // the server's clock was set
		{"SinceThen", -time.Minute, false, false},
		{"SetBack", 0, false, true},
		{"CalmSince", 0, true, false},
	} {
		if c.calm {
			d.caughtUp()
		}
		if got := begin(c.age); got != c.wants {
			t.Errorf("%s: late is %t", c.name, got)
		}
	}
}
