package event_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/runtime/event"
)

func TestWriterText(t *testing.T) {
	t.Parallel()
	for text, w := range map[string]event.Writer{
		"1:512":                 {Epoch: 1, Base: 512},
		"1073741823:4294967296": {Epoch: event.MaxEpoch, Base: 1 << 32},
		"91000000:69000":        {Epoch: 91000000, Base: 69000},
		"5:0":                   {Epoch: 5},
		"5:9223372036854775807": {Epoch: 5, Base: math.MaxInt64},
	} {
		if got := w.String(); got != text {
			t.Errorf("String: got %s, want %s", got, text)
		}
		if got, err := event.ParseWriter(text); err != nil || got != w {
			t.Errorf("ParseWriter(%s): got %+v, %v", text, got, err)
		}
	}
	for _, s := range []string{"", ":", "1", "1:", ":1", "0:1", "1073741824:1", "01:1", "1:01", "1:1 ", "1:1:1", "+1:1", "1:9223372036854775808"} {
		if got, err := event.ParseWriter(s); err == nil {
			t.Errorf("%q was read as %+v", s, got)
		}
	}
}

func FuzzParseWriter(f *testing.F) {
	f.Add("1:512")
	f.Add("1073741823:0")
	f.Fuzz(func(t *testing.T, s string) {
		if w, err := event.ParseWriter(s); err == nil && w.String() != s {
			t.Errorf("%q is read as what prints %q", s, w)
		}
	})
}

func TestVersionGrowsAlongTheStream(t *testing.T) {
	t.Parallel()
	first := event.Writer{Epoch: 91000000, Base: 512}
	next := event.Writer{Epoch: 91000001, Base: 100} // after a loss: sequences are used again
	last := event.Writer{Epoch: event.MaxEpoch, Base: 9000}
	end := first.Base + event.MessagesPerEpoch
	order := []event.Version{
		0,
		first.Version(1, 1), // the fence's own markers
		first.Version(512, 0),
		first.Version(513, 1), first.Version(513, 2), first.Version(513, event.MaxLines),
		first.Version(514, 1),
		first.Version(end, event.MaxLines),
		next.Version(101, 1),
		last.Version(9001, 1),
		last.Version(9000+event.MessagesPerEpoch, event.MaxLines),
	}
	for i := 1; i < len(order); i++ {
		if order[i-1] >= order[i] {
			t.Errorf("version %d is %d, version %d is %d", i-1, order[i-1], i, order[i])
		}
	}
	for _, tt := range []struct {
		name    string
		version event.Version
		want    uint32
	}{
		{"FirstMarker", first.Version(1, 0), first.Epoch},
		{"LastMarker", first.Version(512, 0), first.Epoch},
		{"FirstEvent", first.Version(513, 1), first.Epoch},
		{"LastEvent", first.Version(end, event.MaxLines), first.Epoch},
		{"FirstMarkerOfNext", next.Version(next.Base-event.FenceMarkers+1+1000, 0), next.Epoch},
		{"MaxEpoch", last.Version(9001, 1), event.MaxEpoch},
	} {
		if got := tt.version.Epoch(); got != tt.want {
			t.Errorf("%s: epoch of %d is %d, want %d", tt.name, tt.version, got, tt.want)
		}
	}
}

func TestVersionsAreStored(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, tt := range []struct {
		writer   event.Writer
		sequence uint64
		line     int
	}{
		{event.Writer{Epoch: 1, Base: 512}, 513, 1},
		{event.Writer{Epoch: 1, Base: 512}, 513, 1024},
		{event.Writer{Epoch: 91000000, Base: 69000}, 69000, 0},
		{event.Writer{Epoch: 91000000, Base: 69000}, 68489, 0},
		{event.Writer{Epoch: 91000000, Base: 69000}, 70000, 1},
		{event.Writer{Epoch: 91000000, Base: 69000}, 70000, 2},
		{event.Writer{Epoch: 91000000, Base: 69000}, 69000 + event.MessagesPerEpoch, 1024},
		{event.Writer{Epoch: 91000500, Base: 41512}, 41513, 1},
		{event.Writer{Epoch: event.MaxEpoch, Base: 512}, 512 + event.MessagesPerEpoch, 1024},
	} {
		v := tt.writer.Version(tt.sequence, tt.line)
		fmt.Fprintf(&b, "| `%s` | %d | %d | %d | %d |\n", tt.writer, tt.sequence, tt.line, v, v.Epoch())
	}
	golden(t, "versions.md", []byte(b.String()))
}
