package postgres_test

import (
	"context"
	"testing"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/postgres"
	"github.com/runnel-dev/runnel/e2e/servers"
)

// BenchmarkNext reads rows of about 300 bytes that are in the server's log already.
func BenchmarkNext(b *testing.B) {
	const rows = 200_000
	srv := servers.Postgres(b, 17)
	s, err := postgres.New(postgres.Config{Name: "bench", URL: srv.PostgresURL(), Tables: []string{"public.*"}})
	if err != nil {
		b.Fatal(err)
	}
	d := connect(b, srv.PostgresURL())
	d.exec(`CREATE TABLE a (id int PRIMARY KEY, customer int, amount numeric, note text, data jsonb, at timestamptz, state text, tags text[])`)
	l, err := s.Acquire(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	from := l.Info().Confirmed
	l.Close(context.Background())
	for i := range 20 {
		d.exec(`INSERT INTO a SELECT g, g % 1000, g / 7.0, repeat('note ', 20), '{"a": 1, "b": [1, 2, 3]}', now(), 'new', '{x,y}' FROM generate_series($1::int, $2::int) g`, i*rows/20, (i+1)*rows/20-1)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		l, err := s.Acquire(b.Context(), nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Start(b.Context(), from, from); err != nil {
			b.Fatal(err)
		}
		for n := 0; n < rows; {
			run, err := l.Next(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for _, i := range run.Items {
				if i.Kind == capture.Changed {
					n++
				}
			}
		}
		l.Close(context.Background())
	}
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
