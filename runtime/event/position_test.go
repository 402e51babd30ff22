package event_test

import (
	"testing"

	"github.com/runnel-dev/runnel/runtime/event"
)

func TestPositionText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		p        event.Position
		text, id string
	}{
		{"Zero", event.Position{}, "0", "0/0:0/0:0"},
		{"Change", event.Position{Timeline: 1, Commit: 0x16B3748, Change: 0x16B36F0}, "1@0/16B3748:0/16B36F0:0", "0/16B3748:0/16B36F0:0"},
		{"Part", event.Position{Timeline: 1, Commit: 0x16B3748, Change: 0x16B36F0, N: 7, Part: 1}, "1@0/16B3748:0/16B36F0:7.1", "0/16B3748:0/16B36F0:7.1"},
		{"EndOfTransaction", event.Position{Timeline: 2, Commit: 0xA000000000}, "2@A0/0:0/0:0", "A0/0:0/0:0"},
		{"Largest", event.Position{Timeline: 1<<32 - 1, Commit: 1<<64 - 1, Change: 1<<64 - 1, N: 1<<32 - 1, Part: 1<<32 - 1},
			"4294967295@FFFFFFFF/FFFFFFFF:FFFFFFFF/FFFFFFFF:4294967295.4294967295", "FFFFFFFF/FFFFFFFF:FFFFFFFF/FFFFFFFF:4294967295.4294967295"},
		{"NoTimeline", event.Position{Commit: 1}, "0@0/1:0/0:0", "0/1:0/0:0"},
		{"MySQL", event.Position{Origin: "3e11fa47-71ca-11e1-9e33-c80aa9429562", Commit: 23, Change: 4},
			"3e11fa47-71ca-11e1-9e33-c80aa9429562@23:4:0", "3e11fa47-71ca-11e1-9e33-c80aa9429562:23:4:0"},
		{"MariaDB", event.Position{Origin: "0-1", Commit: 270, Change: 4, Part: 1}, "0-1@270:4:0.1", "0-1:270:4:0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.p.String(); got != tt.text {
				t.Errorf("String: got %s, want %s", got, tt.text)
			}
			if got := tt.p.ID(); got != tt.id {
				t.Errorf("ID: got %s, want %s", got, tt.id)
			}
			if got, err := event.ParsePosition(tt.text); err != nil || got != tt.p {
				t.Errorf("ParsePosition: got %+v, %v, want %+v", got, err, tt.p)
			}
		})
	}
}

func TestParsePositionIsStrict(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "@", "1", "00", "0/0:0/0:0", "0@0/0:0/0:0", "01@0/1:0/0:0", "1@0/01:0/0:0", "1@0/a:0/0:0", "1@0/1:0/0", "1@0/1:0/0:0.0",
		"1@0/1:0/0:00", "1@0/1:0/0:0:0", "1@0/100000000:0/0:0", "-1@0/1:0/0:0", "4294967296@0/1:0/0:0", "1@0/1:0/0:4294967296",
		" 1@0/1:0/0:0", "1@0/1:0/0:0 ", "a:b@1:2:3", "@1:2:3", "a@1:2:3.", "a@1:2:x", "a@18446744073709551616:2:0",
	} {
		if got, err := event.ParsePosition(s); err == nil {
			t.Errorf("%q was read as %+v", s, got)
		}
	}
}

func FuzzParsePosition(f *testing.F) {
	for _, s := range []string{"0", "1@0/16B3748:0/16B36F0:0", "1@0/1:0/0:0.1", "0-1@270:4:0", "0@0/0:0/0:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := event.ParsePosition(s); err == nil && p.String() != s {
			t.Errorf("%q is read as what prints %q", s, p)
		}
	})
}

func TestGroupText(t *testing.T) {
	t.Parallel()
	from := event.Position{Timeline: 1, Commit: 0x16B3748, Change: 0x16B36F0}
	to := event.Position{Timeline: 1, Commit: 0x16B3800, Change: 0x16B3790, N: 2, Part: 1}
	for text, g := range map[string]event.Group{
		"0;0;0/0":                       {},
		"0;1@0/16B3748:0/16B36F0:0;1/1": {To: from, K: 1, N: 1},
		"1@0/16B3748:0/16B36F0:0;1@0/16B3800:0/16B3790:2.1;2/3": {From: from, To: to, K: 2, N: 3},
	} {
		if got := g.String(); got != text {
			t.Errorf("String: got %s, want %s", got, text)
		}
		if got, err := event.ParseGroup(text); err != nil || got != g {
			t.Errorf("ParseGroup(%s): got %+v, %v", text, got, err)
		}
	}
	for _, s := range []string{"", "0;0", "0;0;", "0;0;1", "0;0;1/", "0;0;2/1", "0;0;01/1", "0;0;-1/1", "0;0;1/1;", "x;0;1/1", "0;x;1/1", "0;0;1/99999999999"} {
		if got, err := event.ParseGroup(s); err == nil {
			t.Errorf("%q was read as %+v", s, got)
		}
	}
}

func FuzzParseGroup(f *testing.F) {
	for _, s := range []string{"0;0;0/0", "0;1@0/16B3748:0/16B36F0:0;1/1", "0-1@270:4:0;0-1@271:0:0;2/3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if g, err := event.ParseGroup(s); err == nil && g.String() != s {
			t.Errorf("%q is read as what prints %q", s, g)
		}
	})
}
