package postgres_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/functions/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// BenchmarkHandle writes batches of 5,000 rows of about 330 bytes, all new, or all of them there already; and single rows.
func BenchmarkHandle(b *testing.B) {
	srv := servers.Postgres(b, 15, "shared_buffers=256MB", "max_wal_size=4GB")
	sc := schema("orders", event.Column{Name: "id", Type: "bigint", Key: 1}, nullable("customer", "bigint"), nullable("status", "text"), nullable("amount", "numeric(12,2)"),
		nullable("note", "text"), nullable("doc", "jsonb"), nullable("tags", "text[]"), nullable("created", "timestamp with time zone"), nullable("updated", "timestamp with time zone"))
	for _, c := range []struct {
		name  string
		rows  int
		fresh bool
	}{{"New", 5000, true}, {"There", 5000, false}, {"One", 1, false}} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b, srv)
			s, f := w.sink(postgres.Config{}), &flow{generation: 1}
			w.claim(s, f)
			var events []event.Event
			var raw [][]byte
			id := 0
			make := func() sink.Batch {
				at := f.at
				for i := range c.rows {
					if len(events) < c.rows || c.fresh {
						row := fmt.Appendf(nil, `{"id":%d,"customer":%d,"status":"shipped","amount":%d.%02d,"note":"a note of an ordinary length about this order, and some more","doc":{"sku":"A-%d","qty":3,"gift":false,"address":{"city":"Zürich","zip":"8001"}},"tags":["new","vip"],"created":"2024-05-06T07:08:09.123456+00:00","updated":"2024-05-06T07:08:09.123456+00:00"}`, id, id*7, id%1000, id%100, id)
						id++
						if len(events) < c.rows {
							events, raw = append(events, event.Event{}), append(raw, row)
						}
						raw[i] = row
					}
					n := at.Sequence + uint64(i) + 1
					events[i] = event.Event{Op: event.Create, Table: sc.Table, Fingerprint: sc.Fingerprint(), Schema: sc, After: event.RowOf(raw[i]), Sequence: n, Version: writer.Version(n, 1)}
				}
				f.at = sink.Point{Sequence: events[c.rows-1].Sequence, Version: events[c.rows-1].Version}
				return sink.Batch{Function: "f", Generation: 1, Partitions: 1, Spans: []sink.Span{{After: at, To: f.at, Events: events}}}
			}
			w.handle(s, make())
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				batch := make()
				b.StartTimer()
				w.handle(s, batch)
			}
			b.ReportMetric(float64(b.N*c.rows)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(w.serverCPU()/float64((b.N+1)*c.rows)*1e6, "server-s/Mrow")
		})
	}
}

// serverCPU is the time that the sinks' sessions have used, in seconds: it says more than rows/s on a busy machine.
func (w *world) serverCPU() float64 {
	sum := 0.0
	for _, pid := range w.rows("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'runnel%'") {
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			w.t.Fatal(err)
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')'):]))
		user, _ := strconv.Atoi(f[12])
		sys, _ := strconv.Atoi(f[13])
		sum += float64(user+sys) / 100
	}
	return sum
}
