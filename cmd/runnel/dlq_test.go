package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// A row that the target refuses becomes a dead letter: the function goes on, and the letter can be looked at and taken away.
func TestDeadLetter(t *testing.T) {
	s := newShop(t)
	s.sql(s.copy, `CREATE TABLE orders (id int PRIMARY KEY, status text CONSTRAINT decent CHECK (status <> 'indecent'))`)
	r := startRun(t, s.file, "--data", s.data)
	until(t, "1,000 rows copied", func() bool { return s.copied("new") == 1000 })
	contains(t, "list without letters", s.run("dlq", "list"), "no dead letters\n")
	contains(t, "show without letters", s.run("dlq", "show", "1"), "there is no dead letter 1", "[exit 3]")

	s.sql(s.source, `UPDATE orders SET status = 'indecent' WHERE id = 7`)
	s.sql(s.source, `UPDATE orders SET status = 'paid' WHERE id <> 7`)
	until(t, "all others copied", func() bool { return s.copied("paid") == 999 })
	contains(t, "the old row stays", s.run("dlq", "list", "copy", "--table", "public.orders", "--reason", "DECENT", "--since", "1h"), "copy      shop.public.orders", `"decent"`)
	contains(t, "of nobody", s.run("dlq", "list", "other"), "no dead letters\n")
	contains(t, "show", s.run("dlq", "show", "1"), "function     copy, generation ", "table        shop.public.orders", `violates check constraint "decent"`, `"after":{"id":7,"status":"indecent"}`)
	var letters []shownLetter
	if err := json.Unmarshal([]byte(s.run("dlq", "list", "--json")), &letters); err != nil || len(letters) != 1 || letters[0].ID != 1 || letters[0].Table.Name != "orders" {
		t.Errorf("%v, %+v", err, letters)
	}
	contains(t, "list", s.run("list", "--json"), `"dead_letters": 1`, `"state": "running"`)
	contains(t, "describe", s.run("describe", "copy"), "1: runnel dlq list copy")
	_, metrics := get(r.url("/metrics"))
	contains(t, "metrics", metrics, `runnel_function_dead_letters_total{function="copy"} 1`)
	s.sql(s.source, `UPDATE orders SET status = 'decent' WHERE id = 7`)
	until(t, "a later change of its row is copied", func() bool { return s.copied("decent") == 1 })

	contains(t, "dry run", s.run("dlq", "purge", "copy", "--dry-run"), "would delete 1 dead letter\n")
	contains(t, "nobody answers", s.run("dlq", "purge", "--all"), "--yes", "[exit 2]")
	var out, errs bytes.Buffer
	if code := execute(t.Context(), []string{"dlq", "purge", "copy", "--data", s.data}, strings.NewReader("n\n"), &out, &errs); code != exitRuntime {
		t.Errorf("an answer of no ends with %d: %s", code, errs.String())
	}
	contains(t, "a no", out.String()+errs.String(), "delete 1 dead letter for ever? [y/N]", "nothing was deleted")
	contains(t, "purge of another time", s.run("dlq", "purge", "--since", "2999-01-01", "--yes"), "no dead letters\n")
	contains(t, "purge", s.run("dlq", "purge", "copy", "--yes"), "deleted 1 dead letter\n")
	contains(t, "list after", s.run("dlq", "list"), "no dead letters\n")

	s.sql(s.source, `UPDATE orders SET status = 'indecent' WHERE id IN (8, 9)`)
	until(t, "two letters", func() bool { return strings.Count(s.run("dlq", "list", "copy"), "shop.public.orders") == 2 })
	s.sql(s.copy, `ALTER TABLE orders DROP CONSTRAINT decent`)
	s.sql(s.source, `DELETE FROM orders WHERE id = 9`)
	contains(t, "dry run of a redrive", s.run("dlq", "redrive", "copy", "--dry-run"), "function copy would read 2 rows of public.orders again, for 2 letters in all\n", "dry run")
	contains(t, "redrive of what", s.run("dlq", "redrive"), "or --all, alone", "[exit 2]")
	contains(t, "redrive", s.run("dlq", "redrive", "copy"), "reads 2 rows", "done: 2 rows", "deleted 2 letters of function copy\n")
	contains(t, "list after a redrive", s.run("dlq", "list"), "no dead letters\n")
	if n := s.copied("indecent"); n != 1 {
		t.Errorf("%d of the rows that were redriven are there, want the one that the source still has", n)
	}
	r.stop(t)
}
