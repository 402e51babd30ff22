package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const columns = `(id bigint primary key, customer_id bigint not null, status text not null, amount numeric(12,2) not null,
	currency char(3) not null, note text, attrs jsonb, created_at timestamptz not null default now(), updated_at timestamptz not null default now())`

// values are a row's, but for its times; %s is its number.
const values = `%[1]s, %[1]s %% 1000, 'new', %[1]s * 0.37, 'EUR', 'a note about order ' || %[1]s || repeat(' lorem ipsum', 8),
	jsonb_build_object('k', %[1]s, 'tags', jsonb_build_array('a', 'b'))`

const named = "(id, customer_id, status, amount, currency, note, attrs)"

// marker is the row that is written last.
const marker = 9_000_000_000

// inserts is W1: transactions of 100 inserts.
func inserts(ctx context.Context, c *pgx.Conn, table string, rows int) error {
	return execute(ctx, c, fmt.Sprintf(`do $$ begin
		for n in 0..%d loop
			insert into %s %s select %s from generate_series(n * 100 + 1, n * 100 + 100) i;
			commit;
		end loop;
	end $$`, rows/100-1, table, named, fmt.Sprintf(values, "i")), mark(table))
}

// mixed is W2: transactions of 1 to 10 operations, six inserts to three updates to one delete.
func mixed(ctx context.Context, c *pgx.Conn, table string, operations int) error {
	return execute(ctx, c, "select setseed(0.5)", fmt.Sprintf(`do $$ declare lo bigint := 1; hi bigint := 0; done int := 0; r float8; begin
		while done < %[1]d loop
			for n in 1..least(1 + floor(random() * 10)::int, %[1]d - done) loop
				done := done + 1;
				r := random();
				if r < 0.6 or hi - lo < 100 then
					hi := hi + 1;
					insert into %[2]s %[3]s values (%[4]s);
				elsif r < 0.9 then
					update %[2]s set status = 'paid', amount = amount + 1, updated_at = clock_timestamp() where id = lo + floor(random() * (hi - lo + 1))::bigint;
				else
					delete from %[2]s where id = lo;
					lo := lo + 1;
				end if;
			end loop;
			commit;
		end loop;
	end $$`, operations, table, named, fmt.Sprintf(values, "hi")), mark(table))
}

func mark(table string) string {
	return fmt.Sprintf("insert into %s %s values (%s)", table, named, fmt.Sprintf(values, fmt.Sprint(marker)+"::bigint"))
}

// sourceSpec is a source of one table, with slot and publication of its own.
func sourceSpec(table string) string {
	return fmt.Sprintf("kind: source\nname: bench\npostgres: {url: \"${BENCH_SOURCE}\", slot: runnel_%[1]s, publication: runnel_%[1]s}\ntables: [public.%[1]s]\n", table)
}

// functionSpec is a function that takes that table to a target.
func functionSpec(table, to string) string {
	return fmt.Sprintf("---\nkind: function\nname: target\nfrom: bench.public.%s\n%s\n", table, to)
}

// backlog makes a flow whose agent has a workload before it: it is stopped, and its slot stands where the workload begins.
func (b *bench) backlog(ctx context.Context, table, function string, write func(context.Context, *pgx.Conn, string, int) error, rows int, env ...string) (*flow, *pgx.Conn, error) {
	c, err := b.connect(ctx, b.source())
	if err != nil {
		return nil, nil, err
	}
	if err := execute(ctx, c, "create table "+table+columns); err != nil {
		return nil, nil, err
	}
	spec := sourceSpec(table)
	if function != "" {
		spec += functionSpec(table, function)
	}
	f, err := b.flow(ctx, table, spec, append(env, "BENCH_SOURCE="+b.source().PostgresURL())...)
	if err != nil {
		return nil, nil, err
	}
	if err := f.prepared(ctx); err != nil {
		return nil, nil, err
	}
	return f, c, write(ctx, c, table, rows)
}
