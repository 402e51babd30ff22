// Package shop is the workload of demo and end-to-end tests: a small shop in PostgreSQL with the types and habits that hurt
// change data capture (composite keys, jsonb, arrays, numeric, TOASTed text, updates of primary keys), and traffic that
// mixes inserts, updates, deletes and multi-row transactions.
package shop

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Change is the column that every table has: a number from one sequence, given by a trigger to each new version of a row. Of
// one key it only grows, also where the row was deleted in between: PostgreSQL fires the trigger with the row locked.
const Change = "change"

// Tables of the shop in schema public, with the columns of their keys.
var Tables = []Table{
	{"customers", []string{"id"}},
	{"orders", []string{"id"}},
	{"order_items", []string{"order_id", "line"}},
}

// Table is a captured table.
type Table struct {
	Name string
	Key  []string
}

const schema = `
create table customers (
	id bigint primary key, email text not null, name varchar(80), vip boolean not null default false,
	profile jsonb, settings json, tags text[] not null default '{}', scores int[] not null default '{}',
	balance numeric(14,4) not null default 0, rating double precision, born date, ref uuid not null default gen_random_uuid(),
	avatar bytea, notes text, created_at timestamptz not null default now(), updated_at timestamp, change bigint);
create table orders (
	id bigint primary key, customer_id bigint not null, status text not null, amount numeric(12,2) not null,
	placed_at timestamptz not null default now(), comment text, change bigint);
create table order_items (
	order_id bigint not null, line int not null, sku text not null, quantity int not null, price numeric(10,2) not null,
	change bigint, primary key (order_id, line));
alter table customers alter column notes set storage external;
create sequence order_ids start 1000000;
create sequence customer_ids start 1000000;
create sequence changes;
create function stamp() returns trigger language plpgsql as $$ begin
	new.change := nextval('public.changes');
	return new;
end $$;
create trigger stamp before insert or update on customers for each row execute function stamp();
create trigger stamp before insert or update on orders for each row execute function stamp();
create trigger stamp before insert or update on order_items for each row execute function stamp();`

// journal notes every change of a captured table in the same transaction, by triggers: the source's own history, against which
// a stream is checked. It is not captured itself.
const journal = `
create table journal (id bigserial primary key, xid bigint not null default txid_current(), at timestamptz not null default clock_timestamp(),
	op text not null, tbl text not null, old jsonb, new jsonb);
create function note() returns trigger language plpgsql as $$ begin
	insert into public.journal (op, tbl, old, new) values (lower(left(tg_op, 1)), tg_table_name,
		case when tg_op <> 'INSERT' then to_jsonb(old) end, case when tg_op <> 'DELETE' then to_jsonb(new) end);
	return null;
end $$;
create trigger note after insert or update or delete on customers for each row execute function note();
create trigger note after insert or update or delete on orders for each row execute function note();
create trigger note after insert or update or delete on order_items for each row execute function note();`

// Create makes the tables and fills them with about `rows` existing rows.
func Create(ctx context.Context, c *pgx.Conn, rows int) error {
	n := rows / 5
	for _, sql := range []string{
		schema,
		fmt.Sprintf(`insert into customers (id, email, name, vip, profile, settings, tags, scores, balance, rating, born, avatar, notes, updated_at)
			select i, 'c' || i || '@example.org', 'Customer ' || i, i %% 10 = 0,
				jsonb_build_object('lang', (array['en','de','fr'])[1 + i %% 3], 'n', i, 'nested', jsonb_build_object('a', jsonb_build_array(1, 2.50, null, 'x'))),
				json_build_object('theme', 'dark', 'size', i %% 7), array['t' || i %% 5, 'has "quotes"', 'a,b'], array[i, null, -i],
				i * 1.2345, i / 7.0, date '1970-01-01' + (i %% 15000), decode(md5(i::text), 'hex'),
				case when i %% 4 = 0 then (select string_agg(md5((i * 100 + k)::text), '') from generate_series(1, 120) k) end, timestamp '2026-01-01' + i * interval '1 second'
			from generate_series(1, %d) i`, n),
		fmt.Sprintf(`insert into orders (id, customer_id, status, amount, comment)
			select i, 1 + i %% %d, (array['new','paid','shipped'])[1 + i %% 3], i * 0.37, case when i %% 3 = 0 then E'line\n\ttab "q" \\ ' || chr(233) end
			from generate_series(1, %d) i`, max(n, 1), 2*n),
		fmt.Sprintf(`insert into order_items select 1 + (i - 1) / 2, 1 + i %% 2, 'sku-' || i %% 100, 1 + i %% 9, i * 0.11 from generate_series(1, %d) i`, 2*n),
		journal,
		`analyze`,
	} {
		if _, err := c.Exec(ctx, sql); err != nil {
			return fmt.Errorf("create the shop: %w", err)
		}
	}
	return nil
}
