package clickhouse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/e2e/shop"
	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/functions/clickhouse"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var w = event.Writer{Epoch: 3, Base: 512}

func version(n uint64) event.Version { return w.Version(512+n, 1) }

func schemaOf(name string, columns ...event.Column) *event.Schema {
	return event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: name}, columns)
}

func items(name string) *event.Schema {
	return schemaOf(name, event.Column{Name: "order_id", Type: "bigint", Key: 1}, event.Column{Name: "line", Type: "text", Key: 2},
		event.Column{Name: "price", Type: "numeric(10,2)", Nullable: true}, event.Column{Name: "born", Type: "date", Nullable: true})
}

func put(s *event.Schema, n uint64, row string) event.Event {
	return event.Event{Op: event.Update, Table: s.Table, Schema: s, After: event.RowOf([]byte(row)), Version: version(n)}
}

func del(s *event.Schema, n uint64, row string) event.Event {
	return event.Event{Op: event.Delete, Table: s.Table, Schema: s, Before: event.RowOf([]byte(row)), Version: version(n)}
}

func batch(events ...event.Event) functions.Batch {
	b := functions.Batch{Function: "analytics", Generation: 1, Partitions: 8, Spans: []functions.Span{{Partition: 3, Events: events}}}
	if n := len(events); n > 0 {
		b.Spans[0].After.Version, b.Spans[0].To.Version = events[0].Version-1, events[n-1].Version
	}
	return b
}

type target struct {
	t      *testing.T
	url    string
	native string // host:port
}

func start(t *testing.T) target {
	s, native := servers.ClickHouse(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return target{t, "http://" + s.Addr, native}
}

func (g target) sink() *clickhouse.Sink { return g.over(g.url + "/default") }

func (g target) over(url string) *clickhouse.Sink {
	g.t.Helper()
	s, err := clickhouse.New(clickhouse.Config{Function: "analytics", URL: url})
	must(g.t, err)
	g.t.Cleanup(s.Close)
	return s
}

func (g target) query(sql string) string {
	g.t.Helper()
	req, _ := http.NewRequestWithContext(context.Background(), "POST", g.url+"/", strings.NewReader(sql))
	res, err := http.DefaultClient.Do(req)
	must(g.t, err)
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	if res.StatusCode != 200 {
		g.t.Fatalf("%s: %s", sql, b)
	}
	return strings.TrimSpace(string(b))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSink(t *testing.T) {
	g := start(t)
	ctx := t.Context()
	s := g.sink()

	t.Run("Conformance", func(t *testing.T) { testConformance(t, g) })
	t.Run("Preview", func(t *testing.T) { testPreview(t, g) })

	t.Run("RepeatedInsertIsOne", func(t *testing.T) {
		x := items("once")
		b := batch(put(x, 1, `{"order_id":1,"line":"a"}`), put(x, 2, `{"order_id":2,"line":"b"}`))
		must(t, s.Handle(ctx, b))
		must(t, s.Handle(ctx, b))
		if got := g.query("select count() from once"); got != "2" {
			t.Errorf("got %s rows without FINAL, want 2", got)
		}
	})

	t.Run("TwoStructuresInOneBatch", func(t *testing.T) {
		x, y := items("twice"), items("twice")
		must(t, s.Handle(ctx, batch(put(x, 1, `{"order_id":1,"line":"a"}`), put(y, 2, `{"order_id":2,"line":"b"}`))))
		if got := g.query("select count() from twice_live"); got != "2" {
			t.Errorf("got %s rows, want both", got)
		}
	})

	t.Run("OneBadRow", func(t *testing.T) {
		x := items("bad")
		var events []event.Event
		for i := range 100 {
			price := "1.5"
			if i == 37 {
				price = `"NaN"`
			}
			events = append(events, put(x, uint64(i+1), fmt.Sprintf(`{"order_id":%d,"line":"a","price":%s}`, i, price)))
		}
		err := s.Handle(ctx, batch(events...))
		var be *functions.BatchError
		if !errors.As(err, &be) || len(be.Failed) != 1 || be.Failed[0].Event != 37 || !sink.IsPermanent(be.Failed[0].Err) {
			t.Fatalf("got %v, want event 37 as a permanent failure", err)
		}
		if got := g.query("select count() from bad_live"); got != "99" {
			t.Errorf("got %s rows, want its 99 neighbours", got)
		}
	})

	t.Run("NothingIsClamped", func(t *testing.T) {
		x := items("clamp")
		err := s.Handle(ctx, batch(put(x, 1, `{"order_id":1,"line":"a","born":"1815-12-10"}`), put(x, 2, `{"order_id":2,"line":"a","born":"1900-01-01"}`),
			put(x, 3, `{"order_id":3,"line":"a","born":"infinity"}`), put(x, 4, `{"order_id":4,"line":"a","born":"0044-03-15 BC"}`), put(x, 5, `{"order_id":5,"line":"a","born":"2299-12-31"}`)))
		var be *functions.BatchError
		if !errors.As(err, &be) || len(be.Failed) != 3 || !strings.Contains(be.Failed[0].Err.Error(), "MODIFY COLUMN") {
			t.Fatalf("got %v, want three failures with the way out", err)
		}
		if got, want := g.query("select born from clamp_live order by order_id"), "1900-01-01\n2299-12-31"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		g.query("alter table clamp modify column born Nullable(String)")
		again := g.sink()
		must(t, again.Handle(ctx, batch(put(x, 6, `{"order_id":1,"line":"a","born":"1815-12-10"}`))))
		if got, want := g.query("select born from clamp final where order_id = 1"), "1815-12-10"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})

	t.Run("Sweep", func(t *testing.T) {
		x := items("swept")
		var events []event.Event
		for i := range 100 {
			events = append(events, put(x, uint64(i+1), fmt.Sprintf(`{"order_id":%d,"line":"a"}`, i)))
		}
		must(t, s.Handle(ctx, batch(events...)))
		for range 2 {
			must(t, s.Sweep(ctx, functions.Sweep{Schema: x, Partition: 3, Partitions: 8, Older: version(51)}))
			must(t, s.Sweep(ctx, functions.Sweep{Schema: x, Partition: 4, Partitions: 8, Older: version(99)}))
		}
		late := batch(events[:10]...)
		late.Generation = 2 // not deduplicated by its token
		must(t, s.Handle(ctx, late))
		if got := g.query("select count() from swept_live"); got != "50" {
			t.Errorf("got %s rows, want the 50 newer ones", got)
		}
	})

	// A table that is emptied and filled again with the same keys, where batches come again, late and in another order.
	t.Run("DeletedAndInsertedAgain", func(t *testing.T) {
		x := items("emptied")
		var old, gone, again []event.Event
		for i := range 50 {
			key := fmt.Sprintf(`{"order_id":%d,"line":"a"`, i)
			old = append(old, put(x, uint64(i+1), key+`,"price":1}`))
			gone = append(gone, del(x, uint64(i+101), key+`}`))
			again = append(again, put(x, uint64(i+201), key+`,"price":2}`))
		}
		for i, events := range [][]event.Event{old, gone, again, gone, old, again, old, gone} {
			b := batch(events...)
			b.Generation = int64(i + 1) // not deduplicated by its token
			must(t, s.Handle(ctx, b))
		}
		g.query("optimize table emptied final")
		if got, want := g.query("select count(), sum(price) from emptied_live"), "50\t100"; got != want {
			t.Errorf("got %q, want %q: all rows, and the newer ones", got, want)
		}
	})

	// A delete carries the key it sorts by, is hidden by the view, and OPTIMIZE … CLEANUP takes it off the disk.
	t.Run("DeletesAreCleanedUp", func(t *testing.T) {
		x := items("cleaned")
		must(t, s.Handle(ctx, batch(put(x, 1, `{"order_id":7,"line":"a","price":1}`), put(x, 2, `{"order_id":8,"line":"b","price":1}`))))
		must(t, s.Handle(ctx, batch(del(x, 3, `{"order_id":7,"line":"a"}`))))
		if got, want := g.query("select order_id, line from cleaned where _deleted = 1"), "7\ta"; got != want {
			t.Errorf("the delete has the key %q, want %q", got, want)
		}
		if got := g.query("select order_id from cleaned_live"); got != "8" {
			t.Errorf("the view shows %q, want the row that lives", got)
		}
		g.query("alter table cleaned modify setting allow_experimental_replacing_merge_with_cleanup = 1")
		g.query("optimize table cleaned final cleanup")
		if got := g.query("select order_id from cleaned"); got != "8" {
			t.Errorf("%q is on the disk, want the row that lives", got)
		}
	})

	t.Run("Keyless", func(t *testing.T) {
		x := schemaOf("keyless", event.Column{Name: "note", Type: "text"})
		a, b := put(x, 1, `{"note":"same"}`), put(x, 2, `{"note":"same"}`)
		a.Position, b.Position = event.Position{Commit: 1, Change: 2}, event.Position{Commit: 1, Change: 3}
		must(t, s.Handle(ctx, batch(a, b)))
		if got := g.query("select count() from keyless_live"); got != "2" {
			t.Errorf("got %s rows, want 2", got)
		}
	})

	t.Run("Structure", func(t *testing.T) {
		x := schemaOf("grow", event.Column{Name: "id", Type: "integer", Key: 1}, event.Column{Name: "n", Type: "integer", Nullable: true})
		must(t, s.Handle(ctx, batch(put(x, 1, `{"id":1,"n":2}`))))
		x = schemaOf("grow", event.Column{Name: "id", Type: "integer", Key: 1}, event.Column{Name: "n", Type: "bigint", Nullable: true}, event.Column{Name: `od"d` + "`", Type: "text", Nullable: true})
		must(t, s.Handle(ctx, batch(put(x, 2, `{"id":1,"n":5000000000,"od\"d`+"`"+`":"x"}`))))
		if got, want := g.query("select * from grow_live"), "1\t5000000000\tx"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		x = schemaOf("grow", event.Column{Name: "id", Type: "integer", Key: 1}, event.Column{Name: "n", Type: "text", Nullable: true})
		if err := s.Handle(ctx, batch(put(x, 3, `{"id":1,"n":"x"}`))); !sink.IsHalt(err) || !strings.Contains(err.Error(), "ALTER TABLE") {
			t.Errorf("got %v, want a halt with the statement", err)
		}
		g.query("create table mine (id Int32, n Nullable(Int64)) engine = MergeTree order by id")
		x = schemaOf("mine", event.Column{Name: "id", Type: "integer", Key: 1})
		if err := s.Check(ctx, []*event.Schema{x}); !sink.IsHalt(err) || !strings.Contains(err.Error(), "CREATE TABLE") {
			t.Errorf("got %v, want a halt with the statement", err)
		}
	})

	t.Run("Dropped", func(t *testing.T) {
		x := items("dropped")
		b := batch(put(x, 1, `{"order_id":1,"line":"a"}`))
		must(t, s.Handle(ctx, b))
		g.query("drop table dropped")
		for _, s := range []*clickhouse.Sink{s, g.sink()} { // a restart does not hide it
			err := s.Handle(ctx, batch(put(x, 2, `{"order_id":2,"line":"b"}`)))
			for _, want := range []string{"`default`.`dropped` was dropped", "DROP VIEW IF EXISTS `default`.`dropped_live`", "runnel delete analytics", "runnel deploy"} {
				if !sink.IsHalt(err) || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want a halt with %s", err, want)
				}
			}
		}
		g.query("drop view dropped_live")
		must(t, g.sink().Handle(ctx, b))
		if got := g.query("select count() from dropped_live"); got != "1" {
			t.Errorf("got %s rows, want those that come again", got)
		}
	})

	t.Run("Drop", func(t *testing.T) {
		ours, theirs := items("ours"), items("theirs")
		must(t, s.Handle(ctx, batch(put(ours, 1, `{"order_id":1,"line":"a"}`))))
		g.query("create table theirs (a Int8) engine = Memory")
		for i, want := range []string{"ours", "ours", ""} { // a look, then the deed, which may be repeated
			dropped, kept, err := s.Drop(ctx, []*event.Schema{ours, theirs, items("absent")}, i == 0)
			if err != nil || strings.Join(dropped, " ") != want || strings.Join(kept, " ") != "theirs" {
				t.Errorf("dropped %v, kept %v, %v; want %q", dropped, kept, err, want)
			}
		}
		if got := g.query("select count() from system.tables where name in ('ours', 'ours_live', 'theirs')"); got != "1" {
			t.Errorf("%s are left", got)
		}
	})

	// The value of a large column that did not change, and is not known, never becomes NULL.
	t.Run("Unavailable", func(t *testing.T) {
		x := items("gone")
		e := put(x, 1, `{"order_id":1,"line":"a"}`)
		e.Unavailable = []string{"price"}
		must(t, s.Handle(ctx, batch(put(x, 0, `{"order_id":1,"line":"a","price":5}`), e)))
		if got := g.query("select price from gone_live"); got != "5" {
			t.Errorf("got price %s, want the one that is known", got)
		}
		must(t, s.Handle(ctx, batch(del(x, 2, `{"order_id":1,"line":"a"}`))))
		if got := g.query("select count() from gone_live"); got != "0" {
			t.Errorf("got %s rows, want none", got)
		}
	})
}

func TestEveryTypeIsExact(t *testing.T) {
	t.Parallel()
	g := start(t)
	ctx := t.Context()
	pg := servers.Postgres(t, 17)
	c, err := pgx.Connect(ctx, pg.PostgresURL())
	must(t, err)
	defer c.Close(ctx)
	_, err = c.Exec(ctx, shop.Types)
	must(t, err)
	table, err := equal.Source(ctx, pg.PostgresURL(), "types", []string{"id"})
	must(t, err)
	columns := typesColumns(table)
	x := schemaOf("types", columns...)
	_, err = c.Exec(ctx, "set timezone to 'UTC'")
	must(t, err)
	rows, err := c.Query(ctx, "select row_to_json(_row)::text from types _row order by id")
	must(t, err)
	docs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	var events []event.Event
	for i, d := range docs {
		events = append(events, put(x, uint64(i+1), d))
	}
	must(t, g.sink().Handle(ctx, batch(events...)))
	native, err := clickhouse.New(clickhouse.Config{Function: "native", URL: "clickhouse://" + g.native + "/default", Table: "types_native"})
	must(t, err)
	t.Cleanup(native.Close)
	must(t, native.Handle(ctx, batch(events...)))
	if got := g.query("select count() from (select * from types except select * from types_native)"); got != "0" {
		t.Errorf("%s rows differ between HTTP and the native protocol", got)
	}
	got, err := table.ClickHouse(ctx, g.url, "types")
	must(t, err)
	if diffs := table.Diff("clickhouse", got, 50); len(diffs) > 0 {
		t.Errorf("differences:\n%s", strings.Join(diffs, "\n"))
	}
	if len(table.Columns) < 50 || len(table.Rows) < 4 {
		t.Errorf("only %d columns and %d rows were compared", len(table.Columns), len(table.Rows))
	}
}

func TestUnreachableAndRefused(t *testing.T) {
	t.Parallel()
	s, err := clickhouse.New(clickhouse.Config{URL: "http://127.0.0.1:1/default"})
	must(t, err)
	t.Cleanup(s.Close)
	x := items("t")
	if err := s.Handle(t.Context(), batch(put(x, 1, `{"order_id":1,"line":"a"}`))); err == nil || sink.IsHalt(err) || sink.IsPermanent(err) {
		t.Errorf("got %v, want an error that is retried", err)
	}
	if _, err := clickhouse.New(clickhouse.Config{URL: "ftp://user:hidden-word@h:9000/db%zz"}); err == nil || strings.Contains(err.Error(), "hidden-word") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

func typesColumns(table *equal.Table) []event.Column {
	var columns []event.Column
	for _, name := range table.Columns {
		c := event.Column{Name: name, Type: table.Types[name], Base: shop.TypesBase[table.Types[name]], Nullable: name != "id"}
		if name == "id" {
			c.Key = 1
		}
		columns = append(columns, c)
	}
	return columns
}
