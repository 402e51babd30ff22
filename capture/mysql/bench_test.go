package mysql_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// BenchmarkLog reads a log of transactions of 100 rows again and again.
func BenchmarkLog(b *testing.B) {
	for _, f := range flavors {
		b.Run(f.name, func(b *testing.B) {
			const transactions = 300
			w := f.world(b, f.running(b, &f.shared))
			w.exec("CREATE TABLE a (id bigint PRIMARY KEY, customer bigint, status varchar(20), amount decimal(12,2), currency char(3), note text, attrs json, created timestamp(6) NULL)",
				"CREATE TABLE hundred (n int PRIMARY KEY)", "INSERT INTO hundred WITH RECURSIVE s AS (SELECT 0 n UNION ALL SELECT n + 1 FROM s WHERE n < 99) SELECT n FROM s")
			start := w.executedNow()
			for n := range transactions {
				w.exec(fmt.Sprintf(`INSERT INTO a SELECT i, i %% 1000, 'new', i * 0.37, 'EUR', concat('a note about order ', i, repeat(' lorem ipsum', 8)),
					concat('{"k": ', i, ', "tags": ["a", "b"]}'), now(6) FROM (SELECT %d + n AS i FROM hundred) h`, n*100))
			}
			b.ReportAllocs()
			for b.Loop() {
				l, err := w.source("a").Acquire(b.Context(), nil)
				if err != nil {
					b.Fatal(err)
				}
				if err := l.(capture.Tracker).Resume(start, nil); err != nil {
					b.Fatal(err)
				}
				if err := l.Start(b.Context(), l.Info().Confirmed, event.Position{}); err != nil {
					b.Fatal(err)
				}
				for n := 0; n < transactions*100; {
					r, err := l.Next(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					for _, i := range r.Items {
						if i.Kind == capture.Changed {
							n++
						}
					}
				}
				_ = l.Close(context.Background())
			}
			b.ReportMetric(float64(b.N)*transactions*100/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
