package postgres

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"testing/iotest"

	"github.com/jackc/pglogrepl"
)

// TestFrames cuts the same bytes into messages however they arrive, first through Read, as the protocol library does.
func TestFrames(t *testing.T) {
	t.Parallel()
	var stream []byte
	var want [][]byte
	for _, n := range []int{0, 1, 100, bufferSize - 5, bufferSize, 3 * bufferSize, 7} {
		body := bytes.Repeat([]byte{byte(n)}, n)
		want = append(want, body)
		stream = append(binary.BigEndian.AppendUint32(append(stream, 'd'), uint32(n+4)), body...)
	}
	for name, r := range map[string]io.Reader{"Whole": bytes.NewReader(stream), "Halves": iotest.HalfReader(bytes.NewReader(stream)), "Bytes": iotest.OneByteReader(bytes.NewReader(stream))} {
		f := newFrames(r)
		first := make([]byte, 5+5+1) // the first two messages
		if _, err := io.ReadFull(f, first); err != nil || !bytes.Equal(first, stream[:len(first)]) {
			t.Fatalf("%s: %v, %v", name, first, err)
		}
		if n, _ := f.Read(make([]byte, 1<<20)); n > 105 {
			t.Errorf("%s: Read went beyond its message", name)
		} else if _, err := io.ReadFull(f, make([]byte, 105-n)); err != nil {
			t.Fatal(err)
		}
		for _, body := range want[3:] {
			for {
				kind, got, ok, err := f.next()
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					if kind != 'd' || !bytes.Equal(got, body) {
						t.Errorf("%s: message of %d bytes, want %d", name, len(got), len(body))
					}
					break
				}
				if _, err := f.fill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(f.buf) > bufferSize {
			f.fill()
			if len(f.buf) > bufferSize {
				t.Errorf("%s: the buffer stays at %d bytes", name, len(f.buf))
			}
		}
	}
}

// FuzzDecode: no message of the server, however broken, makes the decoder panic.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("B\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Add([]byte("C\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("I\x00\x00\x00\x01N\x00\x02t\x00\x00\x00\x01xn"))
	f.Add([]byte("U\x00\x00\x00\x01K\x00\x02t\x00\x00\x00\x01xnN\x00\x02uu"))
	f.Add([]byte("T\x00\x00\x00\x02\x00\x00\x00\x00\x01\x00\x00\x00\x01"))
	f.Add([]byte("M\x01\x00\x00\x00\x00\x00\x00\x00\x10runnel\x00\x00\x00\x00\x01x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 0 && pglogrepl.MessageType(b[0]) == pglogrepl.MessageTypeRelation {
			return // asks the server
		}
		d := &decoder{}
		d.init(&Log{source: &Source{}})
		d.relations[1] = &relation{}
		for range 2 {
			d.decode(t.Context(), 5, b)
			d.tx.open = true
		}
		d.reset()
	})
}

// FuzzUnescapeCopy: what COPY would print for a text gives the text.
func FuzzUnescapeCopy(f *testing.F) {
	f.Add([]byte("a\\b\tc\nd\re\bf\fg\v"))
	f.Fuzz(func(t *testing.T, b []byte) {
		unescapeCopy(bytes.Clone(b))
		escaped := bytes.Clone(b)
		for _, e := range []string{"\\\\", "\bb", "\ff", "\nn", "\rr", "\tt", "\vv"} {
			escaped = bytes.ReplaceAll(escaped, []byte(e[:1]), []byte{'\\', e[1]})
		}
		got, err := unescapeCopy(escaped)
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("got %q, want %q: %v", got, b, err)
		}
	})
}

func TestSnapshotShows(t *testing.T) {
	t.Parallel()
	for s, c := range map[string]struct{ shown, hidden []uint64 }{
		"10:10:":                           {[]uint64{1, 9}, []uint64{10, 11}},
		"10:20:10,14,15":                   {[]uint64{9, 11, 13, 19}, []uint64{10, 14, 15, 20, 1 << 40}},
		"4294967300:4294967310:4294967305": {[]uint64{5, 4294967309}, []uint64{4294967305, 4294967310}},
	} {
		visible, err := parseSnapshot(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range c.shown {
			if !visible(x) {
				t.Errorf("%s does not show %d", s, x)
			}
		}
		for _, x := range c.hidden {
			if visible(x) {
				t.Errorf("%s shows %d", s, x)
			}
		}
	}
	for _, s := range []string{"", "1:2", "1:x:", "1:2:y"} {
		if _, err := parseSnapshot(s); err == nil {
			t.Errorf("%q was read", s)
		}
	}
}

func TestWiden(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		near uint64
		xid  uint32
		want uint64
	}{
		{1000, 990, 990}, {1000, 1010, 1010},
		{1<<32 + 5, 4294967290, 4294967290}, {1<<32 - 5, 3, 1<<32 + 3},
		{3<<32 + 5, 4294967290, 2<<32 + 4294967290}, {3<<32 - 5, 7, 3<<32 + 7},
		{5, 4294967290, 4294967290},
	} {
		if got := widen(c.near, c.xid); got != c.want {
			t.Errorf("widen(%d, %d) = %d, want %d", c.near, c.xid, got, c.want)
		}
	}
}
