package event_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/runnel-dev/runnel/runtime/event"
)

func TestLinesAreJSON(t *testing.T) {
	t.Parallel()
	for _, s := range samples() {
		line := event.AppendLine(nil, &s.change)
		if !json.Valid(line) || bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Errorf("%s is no line of JSON: %s", s.name, line)
		}
	}
}

func TestLineBreaksInRowsBecomeBlanks(t *testing.T) {
	t.Parallel()
	c := sample(t, "Create")
	c.After = []byte("{\"id\":1,\"doc\":{\n\t\"a\": 1,\r\n\"b\": \"x\\n\"}}")
	line := event.AppendLine(nil, &c)
	if want := `{"id":1,"doc":{ ` + "\t" + `"a": 1,  "b": "x\n"}}`; !strings.Contains(string(line), want) {
		t.Errorf("got %s, want it to hold %s", line, want)
	}
	if string(c.After[15]) != "\n" {
		t.Error("the caller's row was changed")
	}
}

// TestTwoProcessesGiveIdenticalBytes runs this test binary again and compares what both make of all samples.
func TestTwoProcessesGiveIdenticalBytes(t *testing.T) {
	t.Parallel()
	var want []byte
	for _, s := range samples() {
		want = event.AppendLine(want, &s.change)
		want = append(want, s.change.Schema.Marshal()...)
		want = append(want, s.change.Schema.KVKey()...)
	}
	if os.Getenv("RUNNEL_EVENT_PRINT") != "" {
		_, _ = os.Stdout.Write(want)
		os.Exit(0)
	}
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTwoProcessesGiveIdenticalBytes$")
	command.Env = append(os.Environ(), "RUNNEL_EVENT_PRINT=1", "TZ=Pacific/Auckland", "LC_ALL=tr_TR.UTF-8", "GODEBUG=", "GOMAXPROCS=1")
	got, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestStringsAreStored(t *testing.T) {
	t.Parallel()
	var b []byte
	for c := range 0x80 {
		b = append(event.AppendJSONString(b, string(rune(c))), '\n')
	}
	for _, s := range []string{"", "größe", "🙂", "\u2028<&>", "\x80\xff", "tab\there", "\"\\\""} {
		b = append(event.AppendJSONString(b, s), '\n')
	}
	golden(t, "strings.txt", b)
}

func FuzzAppendJSONString(f *testing.F) {
	for _, s := range []string{"", "plain", "a\"\\\b\f\n\r\t\x00\x1f\x7f", "größe 🙂"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := event.AppendJSONString(nil, s)
		if got := event.Value(b).Text(); got != s {
			t.Errorf("%q is read as %q", s, got)
		}
		if string(event.AppendJSONString(nil, []byte(s))) != string(b) {
			t.Errorf("%q differs as bytes", s)
		}
		var got string
		if err := json.Unmarshal(b, &got); err != nil || utf8.ValidString(s) && got != s {
			t.Errorf("encoding/json reads %q of %q, %v", got, s, err)
		}
	})
}
