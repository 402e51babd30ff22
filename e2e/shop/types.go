package shop

// TypesBase is what the types that Types creates are made of.
var TypesBase = map[string]string{"mood": "enum", "pair": "composite", "positive": "integer"}

// Types makes a table of 58 types with edge values; row 6 holds JSON with a repeated name.
const Types = `
create type mood as enum ('sad', 'ok');
create type pair as (a int, b text);
create domain positive as int check (value > 0);
create table types (id bigint primary key, b boolean, i2 smallint, i4 integer, i8 bigint, f4 real, f8 double precision, n numeric, nd numeric(20,6), nbig numeric(76,10),
	nhuge numeric(100,2), t text, vc varchar(10), c char(5), nm name, ch "char", d date, ts timestamp, ts0 timestamp(0), tz timestamptz, tm time, tmz timetz, iv interval, u uuid, j json, jb jsonb,
	ia int[], ta text[], na numeric[], tza timestamptz[], ja jsonb[], by bytea, ip inet, cd cidr, mac macaddr, mac8 macaddr8, bt bit(3), vb varbit, mo money, o oid, x xml,
	p point, l line, ls lseg, bx box, pa path, pg polygon, ci circle, tv tsvector, tq tsquery, lsn pg_lsn, r4 int4range, r8 int8range, rn numrange, rts tsrange, rtz tstzrange, rd daterange,
	mr int4multirange, e mood, pr pair, dom positive);
insert into types (id) values (1);
insert into types select 2, true, 32767, 2147483647, 9223372036854775807, 3.4028235e38, 1.7976931348623157e308, 12345678901234567890123456789012345678.90, 12345678901234.123456,
	123456789012345678901234567890123456789012345678901234567890123456.0123456789, 1e97, E'tab\there "q" \\ \u00e9 \U0001F642 line\nbreak', 'ten chars!', 'abc', 'name', 'x',
	'2024-02-29', '2024-02-29 23:59:59.999999', '2024-02-29 23:59:59', '2024-02-29 23:59:59.123456+05:30', '23:59:59.999999', '23:59:59+05:30', '1 year 2 mons 3 days 04:05:06.789',
	'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": [1, 2.50, {"b": null}]}', '{"z": 1, "a": "x"}', '{1,null,-3}', '{"a,b",null,"q\"uote",NULL,""}', '{1.10,2.200}', '{2024-01-01 00:00:00+00}',
	array['{"k":1}'::jsonb, '"s"', null], '\x00ff80', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', '101', '10101', 12.34, 4294967295, '<a>b</a>',
	'(1,2)', '{1,2,3}', '[(1,2),(3,4)]', '((1,2),(3,4))', '[(1,2),(3,4)]', '((1,2),(3,4))', '<(1,2),3>', 'a fat cat', 'fat & cat', '16/B374D848', '[1,5)', '[1,5)', '[1.5,2.5]',
	'[2024-01-01,2024-01-02)', '[2024-01-01,2024-01-02)', '[2024-01-01,2024-01-02)', '{[1,3),[5,8)}', 'sad', '(1,"x ""y""")', 5;
insert into types (id, b, i2, i4, i8, f4, f8, n, nd, nbig, d, ts, tz, j, jb, ia, ta) values
	(3, false, -32768, -2147483648, -9223372036854775808, 1e-45, 5e-324, 'NaN', -0.000001, -1, '1900-01-01', '1900-01-01', '2299-12-31 23:59:59.999999+00', '[1, 2]', '"text"', '{}', '{}'),
	(4, null, 0, 0, 0, 'NaN', 'NaN', 'Infinity', 0, 0, '2299-12-31', '1969-12-31 23:59:59.999999', '1900-01-01 00:00:00+00', '"s"', '1.50', '{{1,2},{3,4}}', '{{a,b},{c,NULL}}'),
	(5, null, 1, 1, 1, '-Infinity', 'Infinity', '-Infinity', 1, 1, null, null, null, 'true', 'false', null, null),
	(6, null, 1, 1, 1, '-0', 0.1, 0.1000, 1, 1, null, null, null, '{"dup": 1, "dup": 2}', '[]', '[2:3]={1,2}', null);`
