package event_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/runtime/event"
)

func deadLetter(t testing.TB) *event.DeadLetter {
	m := message(orders())
	change := sample(t, "Update")
	return &event.DeadLetter{
		Function: "orders-search", Generation: 1769860800, Original: m.Subject, Sequence: m.Sequence, Version: m.Writer.Version(m.Sequence, 1),
		Attempts: 13, Time: time.Date(2026, 1, 31, 12, 0, 0, 250e6, time.UTC),
		Reason: "mapper_parsing_exception: failed to parse field [total]\n\tof type [long]", Line: event.AppendLine(nil, &change),
	}
}

func headersOf(t testing.TB, d *event.DeadLetter) map[string]string {
	t.Helper()
	list, err := d.Headers()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, h := range list {
		m[h.Name] = h.Value
	}
	return m
}

func TestDeadLettersAreStored(t *testing.T) {
	t.Parallel()
	d := deadLetter(t)
	list, err := d.Headers()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", d.Subject())
	for _, h := range list {
		fmt.Fprintf(&b, "%s: %s\n", h.Name, h.Value)
		if strings.HasPrefix(h.Name, "Nats-Expected") || strings.HasPrefix(h.Name, "Nats-Batch") {
			t.Errorf("header %s means another stream", h.Name)
		}
	}
	golden(t, "deadletter.txt", []byte(b.String()))

	headers := headersOf(t, d)
	got, err := event.ParseDeadLetter(d.Subject(), func(name string) string { return headers[name] }, d.Line)
	if err != nil {
		t.Fatal(err)
	}
	want := *d
	want.Reason, want.Line = headers[event.HeaderReason], []byte(strings.TrimSuffix(string(d.Line), "\n"))
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The same event given up again is known by its ID, whatever else is told of it.
func TestDeadLetterID(t *testing.T) {
	t.Parallel()
	a, b := deadLetter(t), deadLetter(t)
	b.Attempts, b.Time, b.Reason = 99, b.Time.Add(time.Hour), "else"
	other := deadLetter(t)
	other.Version++
	if a, b := headersOf(t, a)[event.HeaderID], headersOf(t, b)[event.HeaderID]; a != b {
		t.Errorf("%s and %s", a, b)
	}
	if a, b := headersOf(t, a)[event.HeaderID], headersOf(t, other)[event.HeaderID]; a == b {
		t.Errorf("%s of two events", a)
	}
}

func TestDeadLetterReasons(t *testing.T) {
	t.Parallel()
	for name, reason := range map[string]string{
		"Lines": "a\r\nNats-Expected-Last-Sequence: 7\r\n\r\nb", "Long": strings.Repeat("ü", 5000), "Invalid": "a\xffb\x00c", "Empty": "",
	} {
		d := deadLetter(t)
		d.Reason = reason
		got := headersOf(t, d)[event.HeaderReason]
		if strings.ContainsAny(got, "\r\n\x00") || len(got) > 2048 || !utf8.ValidString(got) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func FuzzDeadLetter(f *testing.F) {
	f.Add("dlq.orders-search.cdc.shop.public.orders.3", "17", "2026-01-31T12:00:00Z", "{}\n")
	f.Add("dlq.a%2Eb.cdc.shop.%.%.0", "-1", "", "")
	f.Fuzz(func(t *testing.T, subject, number, at, line string) {
		d, err := event.ParseDeadLetter(subject, func(name string) string {
			if name == event.HeaderTime {
				return at
			}
			return number
		}, []byte(line))
		if err != nil {
			return
		}
		if d.Subject() != subject {
			t.Errorf("subject %q became %q", subject, d.Subject())
		}
	})
}
