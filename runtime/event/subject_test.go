package event_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/runtime/event"
)

var identifiers = []struct{ name, subject, key string }{
	{"orders", "orders", "orders"},
	{"Order Items", "Order%20Items", "Order=20Items"},
	{"a.b", "a%2Eb", "a=2Eb"},
	{"*", "%2A", "=2A"},
	{">", "%3E", "=3E"},
	{"100%", "100%25", "100=25"},
	{"a\tb\n\x00\x7f", "a%09b%0A%00%7F", "a=09b=0A=00=7F"},
	{"größe", "größe", "gr=C3=B6=C3=9Fe"},
	{"注文", "注文", "=E6=B3=A8=E6=96=87"},
	{"bad\xffutf8", "bad%FFutf8", "bad=FFutf8"},
	{"a=b", "a=b", "a=3Db"},
	{"_fence", "_fence", "_fence"},
	{"$JS", "$JS", "=24JS"},
	{"", "%", "="},
}

func TestTokensAreStored(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, tt := range identifiers {
		if got := event.EscapeToken(tt.name); got != tt.subject {
			t.Errorf("EscapeToken(%q): got %s, want %s", tt.name, got, tt.subject)
		}
		if got, err := event.UnescapeToken(tt.subject); err != nil || got != tt.name {
			t.Errorf("UnescapeToken(%q): got %q, %v, want %q", tt.subject, got, err, tt.name)
		}
		if got := event.KeyToken(tt.name); got != tt.key {
			t.Errorf("KeyToken(%q): got %s, want %s", tt.name, got, tt.key)
		}
		fmt.Fprintf(&b, "| `%q` | `%s` | `%s` |\n", tt.name, tt.subject, tt.key)
	}
	golden(t, "tokens.md", []byte(b.String()))
}

func TestUnescapeTokenIsStrict(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "a.b", "a b", "%2", "%2e", "%2G", "%41", "a%", "%%", "%+2", "a\xff"} {
		if got, err := event.UnescapeToken(s); err == nil {
			t.Errorf("%q was read as %q", s, got)
		}
	}
}

func TestSubjectsAreStored(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, tt := range []struct {
		source    string
		table     event.Table
		partition int
	}{
		{"shop", event.Table{Schema: "public", Name: "orders"}, 3},
		{"shop", event.Table{Schema: "Sales 2026", Name: "v1.items*"}, 0},
		{"my-shop_1", event.Table{Schema: "public", Name: "größe"}, 255},
	} {
		subject := event.Subject(tt.source, tt.table, tt.partition)
		source, table, partition, err := event.ParseSubject(subject)
		if err != nil || source != tt.source || table != tt.table || partition != tt.partition {
			t.Errorf("ParseSubject(%s): got %s %s %d, %v", subject, source, table, partition, err)
		}
		b.WriteString(subject + "\n")
	}
	b.WriteString(event.FenceSubject("shop") + "\n" + event.MarkSubject("shop") + "\n" + event.StreamName("shop") + "\n")
	golden(t, "subjects.txt", []byte(b.String()))
	for _, s := range []string{
		"", "cdc", "cdc.shop._fence", "cdc.shop._mark", "cdc.shop.public.orders", "cdc.shop.public.orders.256", "cdc.shop.public.orders.03",
		"cdc.shop.public.orders.-1", "cdc.shop.public.orders.1.2", "cdc..public.orders.1", "xcdc.shop.public.orders.1", "cdc.shop.a%41.orders.1",
	} {
		if source, table, partition, err := event.ParseSubject(s); err == nil {
			t.Errorf("%q was read as %s %s %d", s, source, table, partition)
		}
	}
}

func FuzzParseSubject(f *testing.F) {
	f.Add("cdc.shop.public.orders.3")
	f.Add("cdc.shop.Sales%202026.v1%2Eitems%2A.0")
	f.Add("cdc.%.%.%.255")
	f.Fuzz(func(t *testing.T, s string) {
		source, table, partition, err := event.ParseSubject(s)
		if err == nil && event.Subject(source, table, partition) != s {
			t.Errorf("%q is read as what prints %q", s, event.Subject(source, table, partition))
		}
	})
}

func FuzzEscapeToken(f *testing.F) {
	for _, tt := range identifiers {
		f.Add(tt.name)
	}
	f.Fuzz(func(t *testing.T, s string) {
		token := event.EscapeToken(s)
		if token == "" || strings.ContainsAny(token, ".*> \t\r\n\x00") {
			t.Errorf("%q becomes %q", s, token)
		}
		if got, err := event.UnescapeToken(token); err != nil || got != s {
			t.Errorf("%q becomes %q becomes %q, %v", s, token, got, err)
		}
	})
}

func TestHeadersAreStored(t *testing.T) {
	t.Parallel()
	change := event.Position{Timeline: 1, Commit: 0x16B3748, Change: 0x16B36F0}
	later := event.Position{Timeline: 1, Commit: 0x16B3A10, Change: 0x16B3998, Part: 1}
	end := event.Position{Timeline: 1, Commit: 0x16B3A40}
	gtid := event.Position{Origin: "0-1", Commit: 270, Change: 4}
	table := event.Table{Schema: "public", Name: "order items"}
	writer := event.Writer{Epoch: 91000000, Base: 69000}
	var b strings.Builder
	for _, header := range [][2]string{
		{event.HeaderID, event.MessageID("shop", change)},
		{event.HeaderID, event.MessageID("shop", later)},
		{event.HeaderID, event.MessageID("erp", gtid)},
		{event.HeaderID, event.SnapshotID("shop", "91000000", writer.Epoch, table, "12", 3)},
		{event.HeaderID, event.SnapshotID("shop", "91000000", writer.Epoch, table, event.Truncate.String(), 0)},
		{event.HeaderEpoch, writer.String()},
		{event.HeaderGroup, event.Group{To: change, K: 1, N: 1}.String()},
		{event.HeaderGroup, event.Group{From: change, To: later, K: 2, N: 3}.String()},
		{event.HeaderGroup, event.Group{From: end, To: end, K: 1, N: 1}.String()},
		{event.HeaderGroup, event.Group{From: gtid, To: gtid, K: 1, N: 1}.String()},
	} {
		b.WriteString(header[0] + ": " + header[1] + "\n")
	}
	golden(t, "headers.txt", []byte(b.String()))
}
