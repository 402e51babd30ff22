package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const upsertRows = 5000 // of a statement: the best of 1,000, 5,000 and 10,000

// upserts is the rate at which the target alone takes W2: prepared upserts by arrays, guarded by a version, and deletes by arrays.
func upserts(ctx context.Context, to *pgx.Conn, like string, operations int) (float64, error) {
	if err := execute(ctx, to, "create table limits (like "+like+" including all)", "alter table limits add v bigint"); err != nil {
		return 0, err
	}
	if _, err := to.Prepare(ctx, "upsert", `insert into limits select * from unnest($1::int8[], $2::int8[], $3::text[], $4::float8[], $5::text[], $6::text[], $7::jsonb[],
		$8::timestamptz[], $8::timestamptz[], $9::int8[]) on conflict (id) do update set customer_id = excluded.customer_id, status = excluded.status, amount = excluded.amount,
		currency = excluded.currency, note = excluded.note, attrs = excluded.attrs, created_at = excluded.created_at, updated_at = excluded.updated_at, v = excluded.v
		where limits.v < excluded.v`); err != nil {
		return 0, err
	}
	type batch struct {
		ids, customers, versions, gone []int64
		status, currency, note, attrs  []string
		amount                         []float64
		at                             []time.Time
	}
	var batches []batch
	random, lo, hi := rand.New(rand.NewPCG(1, 2)), int64(1), int64(0)
	for done := 0; done < operations; {
		var b batch
		in := map[int64]bool{} // a statement cannot touch a row twice
		for n := 0; n < upsertRows && done < operations; n++ {
			done++
			id, r := hi+1, random.Float64()
			switch {
			case r < 0.6 || hi-lo < 100:
				hi++
			case r < 0.9:
				id = lo + random.Int64N(hi-lo+1)
			default:
				b.gone = append(b.gone, lo)
				lo++
				continue
			}
			if in[id] {
				continue
			}
			in[id] = true
			b.ids, b.customers, b.versions = append(b.ids, id), append(b.customers, id%1000), append(b.versions, int64(done))
			b.status, b.currency = append(b.status, "new"), append(b.currency, "EUR")
			b.note = append(b.note, fmt.Sprintf("a note about order %d lorem ipsum lorem ipsum lorem ipsum lorem ipsum lorem ipsum lorem ipsum lorem ipsum lorem ipsum", id))
			b.attrs, b.amount, b.at = append(b.attrs, fmt.Sprintf(`{"k": %d, "tags": ["a", "b"]}`, id)), append(b.amount, float64(id)*0.37), append(b.at, time.Now())
		}
		batches = append(batches, b)
	}
	began := time.Now()
	for i := range batches {
		b := &batches[i]
		p := &pgx.Batch{}
		p.Queue("upsert", b.ids, b.customers, b.status, b.amount, b.currency, b.note, b.attrs, b.at, b.versions)
		p.Queue("delete from limits where id = any($1)", b.gone)
		if err := to.SendBatch(ctx, p).Close(); err != nil {
			return 0, err
		}
	}
	return float64(operations) / time.Since(began).Seconds(), execute(ctx, to, "drop table limits")
}

const copyRows = 5000 // of a COPY: what a batch would have

// copied is the rate at which the target alone takes the source's rows by COPY.
func (b *bench) copied(ctx context.Context, to *pgx.Conn, table string, rows int) (float64, error) {
	from, err := b.connect(ctx, b.source())
	if err != nil {
		return 0, err
	}
	var all bytes.Buffer
	if _, err := from.PgConn().CopyTo(ctx, &all, "copy "+table+" to stdout"); err != nil {
		return 0, err
	}
	if err := execute(ctx, to, "create table limits (like "+table+" including all)"); err != nil {
		return 0, err
	}
	began := time.Now()
	for _, part := range parts(all.Bytes(), copyRows) {
		if _, err := to.PgConn().CopyFrom(ctx, bytes.NewReader(part), "copy limits from stdin"); err != nil {
			return 0, err
		}
	}
	return float64(rows) / time.Since(began).Seconds(), execute(ctx, to, "drop table limits")
}

// parts cuts text into pieces of so many lines.
func parts(text []byte, lines int) (all [][]byte) {
	from, n, at := 0, 0, 0
	for line := range bytes.Lines(text) {
		at += len(line)
		if n++; n == lines {
			all, from, n = append(all, text[from:at]), at, 0
		}
	}
	if from < at {
		all = append(all, text[from:at])
	}
	return all
}

// documents are a table's rows as JSON, a line each.
func (b *bench) documents(ctx context.Context, table string) ([]byte, error) {
	c, err := b.connect(ctx, b.source())
	if err != nil {
		return nil, err
	}
	rows, err := c.Query(ctx, "set time zone 'UTC'")
	if err != nil {
		return nil, err
	}
	rows.Close()
	rows, err = c.Query(ctx, "select row_to_json(t)::text from "+table+" t order by id")
	if err != nil {
		return nil, err
	}
	var all bytes.Buffer
	var line string
	_, err = pgx.ForEachRow(rows, []any{&line}, func() error {
		all.WriteString(line)
		all.WriteByte('\n')
		return nil
	})
	return all.Bytes(), err
}
