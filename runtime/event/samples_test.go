package event_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/runtime/event"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares with testdata/<name>. A difference means that a stored format has changed: that is a bug, whatever the
// reason, because streams in the field hold the old form.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("stored format %s has changed, -want +got:\n%s", name, diff)
	}
}

func orders() *event.Schema {
	return event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "orders"}, []event.Column{
		{Name: "id", Type: "bigint", Key: 1},
		{Name: "status", Type: "public.mood", Base: "enum"},
		{Name: "total", Type: "numeric(12,2)", Nullable: true},
		{Name: "note", Type: "text", Nullable: true},
	})
}

func message(s *event.Schema) *event.Message {
	return &event.Message{
		Subject: event.Subject(s.Source, s.Table, 3), Sequence: 70000, Writer: event.Writer{Epoch: 91000000, Base: 69000},
	}
}

type named struct {
	name   string
	change event.Change
}

func sample(t testing.TB, name string) event.Change {
	t.Helper()
	for _, s := range samples() {
		if s.name == name {
			return s.change
		}
	}
	t.Fatalf("no sample %s", name)
	return event.Change{}
}

// samples are changes of every kind: what is stored of them is golden.
func samples() []named {
	s := orders()
	at := event.Position{Timeline: 1, Commit: 0x16B3748, Change: 0x16B36F0}
	row := []byte(`{"id":17,"status":"new","total":10.00,"note":"line\nbreak"}`)
	key := []byte(`{"id":17}`)
	base := event.Change{Schema: s, Position: at, CommitMS: 1762000000123, TxID: 745, Order: 1}
	with := func(f func(*event.Change)) event.Change {
		c := base
		f(&c)
		return c
	}
	mysql := event.NewSchema("erp", "mysql", "erp", event.Table{Schema: "erp", Name: "items"}, []event.Column{{Name: "id", Type: "int", Key: 1}})
	maria := event.NewSchema("erp", "mariadb", "erp", event.Table{Schema: "erp", Name: "items"}, []event.Column{{Name: "id", Type: "int", Key: 1}})
	return []named{
		{"Create", with(func(c *event.Change) { c.Op, c.After = event.Create, row })},
		{"Update", with(func(c *event.Change) { c.Op, c.After, c.Order, c.Last = event.Update, row, 2, true })},
		{"UpdateFull", with(func(c *event.Change) { c.Op, c.Before, c.After = event.Update, row, row })},
		{"UpdateUnavailable", with(func(c *event.Change) {
			c.Op, c.After, c.Unavailable = event.Update, []byte(`{"id":17,"status":"new"}`), []string{"total", `no"te`}
		})},
		{"Delete", with(func(c *event.Change) { c.Op, c.Before = event.Delete, key })},
		{"KeyChangeDelete", with(func(c *event.Change) { c.Op, c.Before = event.Delete, key })},
		{"KeyChangeCreate", with(func(c *event.Change) { c.Op, c.After, c.Position.Part = event.Create, row, 1 })},
		{"CopiedRow", with(func(c *event.Change) { c.Op, c.After, c.Position.N = event.Create, row, 41 })},
		{"Read", with(func(c *event.Change) {
			c.Op, c.After, c.Snapshot, c.Order, c.TxID = event.Read, row, true, 0, 0
			c.Position.Change = 0
		})},
		{"ResyncDelete", with(func(c *event.Change) {
			c.Op, c.Before, c.Snapshot, c.Order, c.TxID = event.Delete, key, true, 0, 0
			c.Position.Change = 0
		})},
		{"Truncate", with(func(c *event.Change) { c.Op, c.Position.Part = event.Truncate, 5 })},
		{"BackfillMark", with(func(c *event.Change) {
			c.Op, c.Snapshot, c.Order, c.TxID, c.Position.Change = event.Mark, true, 0, 0, 0
		})},
		{"BackfillEnd", with(func(c *event.Change) {
			c.Op, c.Snapshot, c.Order, c.TxID, c.Position.Change = event.Truncate, true, 0, 0, 0
			c.Cutoff = event.Writer{Epoch: 91000000, Base: 512}.Version(600, 1)
		})},
		{"MySQL", with(func(c *event.Change) {
			c.Op, c.Schema, c.After = event.Create, mysql, key
			c.Position = event.Position{Origin: "3e11fa47-71ca-11e1-9e33-c80aa9429562", Commit: 23, Change: 4}
		})},
		{"MySQLPlaces", with(func(c *event.Change) {
			c.Op, c.Schema, c.After = event.Create, mysql, key
			c.Position = event.Position{Origin: "binlog-3e11fa47-71ca-11e1-9e33-c80aa9429562", Commit: 17<<40 + 4711, Change: 4}
		})},
		{"MariaDB", with(func(c *event.Change) {
			c.Op, c.Schema, c.After = event.Create, maria, key
			c.Position = event.Position{Origin: "0-1", Commit: 270, Change: 4}
		})},
	}
}

func TestLinesAreStored(t *testing.T) {
	t.Parallel()
	for _, s := range samples() {
		golden(t, s.name+".ndjson", event.AppendLine(nil, &s.change))
	}
}
