package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const inOrder = `kind: source
name: shop
postgres: {url: "${SHOP_URL}", heartbeat: 1s}
tables: [public.teams, public.players]
snapshot: {chunk_rows: 200}
---
kind: function
name: league
from: shop.public.*
ordering: source
to: {postgres: {url: "${WAREHOUSE_URL}"}}
`

// league has a constraint of every kind that needs the order of the source: unique values that are exchanged directly and by way of
// a third one, references to another table and within one, with cascades.
var league = []string{
	`CREATE TABLE teams (id bigint PRIMARY KEY, name text NOT NULL UNIQUE, rank integer NOT NULL, points bigint NOT NULL, UNIQUE (rank) DEFERRABLE INITIALLY DEFERRED)`,
	`CREATE TABLE players (id bigint PRIMARY KEY, team bigint NOT NULL REFERENCES teams ON DELETE CASCADE ON UPDATE CASCADE, mentor bigint REFERENCES players,
		shirt integer NOT NULL, UNIQUE (team, shirt))`,
}

// Whole transactions arrive in PostgreSQL in their order: constraints hold, no sum is ever seen in between, and processes that are
// killed all the time leave nothing behind. A transaction of 300,000 rows is one transaction there, begun over where the process dies in
// its middle, in memory that does not grow with it.
func TestOrderOfTheSource(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, inOrder)
	p.program = plain
	p.exec(p.source.PostgresURL(), league...)
	p.exec(p.source.PostgresURL(), "INSERT INTO teams SELECT g, 'team ' || g, g, 100 FROM generate_series(1, 1000) g",
		"INSERT INTO players SELECT g, 1 + g % 1000, CASE WHEN g > 1 THEN g / 2 END, g / 1000 FROM generate_series(1, 5000) g")
	p.exec(p.target.PostgresURL(), league...)
	p.start()
	p.same(60 * time.Second)

	stop, sums := p.play(t), p.sums(t, 100_000)
	r := rand.New(rand.NewPCG(3, 4))
	for range 8 {
		<-time.After(time.Duration(200+r.IntN(1200)) * time.Millisecond)
		p.kill()
		p.start()
	}
	played := stop()
	p.same(120 * time.Second)
	if n := sums(); played < 100 || n < 20 {
		t.Errorf("%d transactions, looked %d times", played, n)
	}

	// What went wrong in the target is made right by a backfill, whose rows find others in their way.
	p.exec(p.target.PostgresURL(), "BEGIN; UPDATE teams SET name = 'x' WHERE id = 901; UPDATE teams SET name = 'team 901' WHERE id = 902; UPDATE teams SET name = 'team 902' WHERE id = 901; COMMIT",
		"DELETE FROM players WHERE id % 100 = 3 AND NOT EXISTS (SELECT FROM players p WHERE p.mentor = players.id)", "INSERT INTO teams VALUES (7777777, 'ghost', 7777777, 0)")
	p.listening()
	if out := p.runnel("backfill", "league"); !strings.Contains(out, "done: ") {
		t.Error(out)
	}
	p.same(60 * time.Second)

	const rows = 300_000
	p.exec(p.source.PostgresURL(), fmt.Sprintf(`BEGIN; INSERT INTO teams VALUES (5000, 'large', 5000, 0);
INSERT INTO players SELECT 100000000 + g, 5000, CASE WHEN g > 1 THEN 100000000 + g / 2 END, g FROM generate_series(1, %d) g; UPDATE teams SET name = 'larger' WHERE id = 5000; COMMIT`, rows))
	p.logged("a large transaction of the source goes into the target", 120*time.Second)
	<-time.After(time.Duration(100+r.IntN(300)) * time.Millisecond)
	p.kill()
	target := p.connect(p.target.PostgresURL())
	arrived := func() (n int) {
		if err := target.QueryRow(t.Context(), "SELECT count(*) FROM players WHERE team = 5000").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := arrived(); n != 0 {
		t.Errorf("killed in the middle of a transaction of %d rows: %d are there", rows, n)
	}
	p.start()
	began := time.Now()
	p.eventually("the large transaction", 240*time.Second, func() bool {
		n := arrived()
		if n != 0 && n != rows {
			t.Errorf("%d of %d rows are there", n, rows)
		}
		return n == rows
	})
	t.Logf("%d transactions; %d rows in one after %v, peak %d MB", played, rows, time.Since(began).Round(time.Millisecond), p.peak()>>20)
	if got := p.peak(); got > most {
		t.Errorf("peak %d MB, want at most %d", got>>20, most>>20)
	}
	p.same(60 * time.Second)
	p.stop()
}

// same waits until the tables of the league are equal.
func (p *pipeline) same(limit time.Duration) {
	p.t.Helper()
	const sums = `SELECT (SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM teams t), (SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM players t)`
	source, target := p.connect(p.source.PostgresURL()), p.connect(p.target.PostgresURL())
	read := func(c *pgx.Conn) (s [2]string) {
		if err := c.QueryRow(p.t.Context(), sums).Scan(&s[0], &s[1]); err != nil {
			p.t.Fatal(err)
		}
		return s
	}
	p.eventually("target and source are the same", limit, func() bool { return read(source) == read(target) })
}

// sums looks at the target all the time: points go from one team to another, so no state between two transactions has another sum.
func (p *pipeline) sums(t *testing.T, want int) (end func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	c, looks, done := p.connect(p.target.PostgresURL()), 0, make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			got := 0
			if err := c.QueryRow(ctx, "SELECT sum(points) FROM teams").Scan(&got); err == nil && got != want {
				t.Errorf("%d points in the target, want %d: a transaction was seen in part", got, want)
				return
			}
			looks++
			pause()
		}
	}()
	return func() int { cancel(); <-done; return looks }
}

// play writes to the league until it is stopped, and tells how many transactions that were.
func (p *pipeline) play(t *testing.T) (stop func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	var played atomic.Int64
	done := make(chan struct{})
	c := p.connect(p.source.PostgresURL())
	r := rand.New(rand.NewPCG(5, 6))
	go func() {
		defer close(done)
		for n := 0; ctx.Err() == nil; n++ {
			a, b := 1+r.IntN(400), 401+r.IntN(400)
			var sql []string
			switch r.IntN(7) {
			case 0: // names, by way of a third one
				sql = []string{fmt.Sprintf(`DO $$ DECLARE one text; two text; BEGIN
	SELECT name INTO one FROM teams WHERE id = %[1]d; SELECT name INTO two FROM teams WHERE id = %[2]d;
	UPDATE teams SET name = 'free' WHERE id = %[1]d; UPDATE teams SET name = one WHERE id = %[2]d; UPDATE teams SET name = two WHERE id = %[1]d;
END $$`, a, b)}
			case 1: // ranks, directly
				sql = []string{fmt.Sprintf("WITH x AS (SELECT id, rank FROM teams WHERE id IN (%d, %d)) UPDATE teams t SET rank = (SELECT rank FROM x WHERE x.id <> t.id) WHERE id IN (%d, %d)", a, b, a, b)}
			case 2: // a new team with players that refer to each other
				id := 10_000 + n
				sql = []string{fmt.Sprintf("INSERT INTO teams VALUES (%d, 'new %d', %d, 0)", id, id, id), fmt.Sprintf("INSERT INTO players SELECT %d * 100 + g, %d, CASE WHEN g > 0 THEN %d * 100 + g - 1 END, g FROM generate_series(0, 9) g", id, id, id)}
			case 3: // it goes, with its players
				sql = []string{"DELETE FROM players WHERE mentor IN (SELECT id FROM players WHERE team = (SELECT min(id) FROM teams WHERE id >= 10000)) AND team <> (SELECT min(id) FROM teams WHERE id >= 10000)",
					"DELETE FROM teams WHERE id = (SELECT min(id) FROM teams WHERE id >= 10000)"}
			case 4: // a team's key, which its players follow
				sql = []string{fmt.Sprintf("UPDATE teams SET id = %d WHERE id = (SELECT max(id) FROM teams WHERE id >= 10000)", 500_000+n)}
			default: // points
				sql = []string{fmt.Sprintf("UPDATE teams SET points = points - 7 WHERE id = %d", a), fmt.Sprintf("UPDATE teams SET points = points + 7 WHERE id = %d", b)}
			}
			if _, err := c.Exec(ctx, "BEGIN; "+strings.Join(sql, "; ")+"; COMMIT"); err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", sql, err)
				return
			}
			played.Add(1)
			<-time.After(2 * time.Millisecond)
		}
	}()
	return func() int { cancel(); <-done; return int(played.Load()) }
}
