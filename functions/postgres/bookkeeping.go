package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// tables of the schema runnel. The checkpoint is a stored format: it never changes.
var tables = []struct{ name, ddl string }{
	{"checkpoints", `CREATE TABLE runnel.checkpoints (
	function text, generation bigint, partition integer,
	version bigint NOT NULL, sequence bigint NOT NULL, closed boolean NOT NULL DEFAULT false,
	PRIMARY KEY (function, generation, partition)) WITH (fillfactor = 50)`},
	{"targets", `CREATE TABLE runnel.targets (
	target text PRIMARY KEY, function text NOT NULL, source text NOT NULL, created boolean NOT NULL)`},
	{"backfills", `CREATE TABLE runnel.backfills (
	function text, target text, partition integer, version bigint,
	PRIMARY KEY (function, target, partition, version))`},
	{"seen", `CREATE TABLE runnel.seen (
	function text, target text, key bytea, version bigint NOT NULL,
	PRIMARY KEY (function, target, key))`},
}

// bootstrap makes the schema runnel where it is missing. Workers that start together make it once: they queue at the lock.
func (s *Sink) bootstrap(ctx context.Context) error {
	s.mu.RLock()
	ready := s.ready
	s.mu.RUnlock()
	if ready {
		return nil
	}
	missing, err := s.missingTables(ctx, s.pool)
	if err == nil && len(missing) > 0 {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return s.makeTables(ctx, tx) })
	}
	if err != nil {
		return s.explain(fmt.Errorf("prepare schema runnel: %w", err), ident{})
	}
	s.mu.Lock()
	s.ready = true
	s.mu.Unlock()
	return nil
}

type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// missingTables are the DDL statements still to be run.
func (s *Sink) missingTables(ctx context.Context, q queryer) ([]string, error) {
	var missing []string
	for _, t := range tables {
		var there bool
		if err := q.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", "runnel."+t.name).Scan(&there); err != nil {
			return nil, err
		}
		if !there {
			missing = append(missing, t.ddl)
		}
	}
	return missing, nil
}

func (s *Sink) makeTables(ctx context.Context, tx pgx.Tx) error {
	if err := lockDDL(ctx, tx); err != nil {
		return err
	}
	// IF NOT EXISTS asks for the right to create also where the schema is there. And the catalog itself is read: to_regnamespace
	// answers from a cache of the session, which waiting for an advisory lock does not bring up to date.
	var there bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'runnel')").Scan(&there); err != nil {
		return err
	}
	if !there {
		if _, err := tx.Exec(ctx, "CREATE SCHEMA runnel"); err != nil {
			return err
		}
		s.log.Info("created schema runnel in the target")
	}
	missing, err := s.missingTables(ctx, tx)
	for _, ddl := range missing {
		if err == nil {
			_, err = tx.Exec(ctx, ddl)
		}
	}
	return err
}

// lockDDL lets one transaction at a time change structures for Runnel in this database.
func lockDDL(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('runnel ddl', 0))")
	return err
}

// Claim opens a partition for a generation. When it returns, no transaction of an older generation can commit any more: their
// rows are closed, and closing waits for who holds them.
func (s *Sink) Claim(ctx context.Context, c sink.Claim) (sink.Point, error) {
	if err := s.bootstrap(ctx); err != nil {
		return sink.Point{}, err
	}
	if err := s.endTransactions(ctx, s.function); err != nil {
		return sink.Point{}, s.explain(err, ident{})
	}
	var at sink.Point
	p := &partition{backfills: map[string]bool{}}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		if at, err = s.claim(ctx, tx, c); err != nil {
			return err
		}
		if c.Partition == sink.All {
			if err := s.compareOlder(ctx, tx, c, p); err != nil {
				return err
			}
		}
		return s.loadBackfills(ctx, tx, c.Partition, p)
	})
	if err != nil {
		if classOf(err) == structure && s.gone(ctx) {
			return sink.Point{}, fmt.Errorf("claim partition %d: %w", c.Partition, err)
		}
		return sink.Point{}, s.explain(fmt.Errorf("claim partition %d: %w", c.Partition, err), ident{})
	}
	p.at = at.Version
	s.mu.Lock()
	s.partitions[claimed{c.Generation, c.Partition}] = p
	s.mu.Unlock()
	return at, nil
}

func (s *Sink) claim(ctx context.Context, tx pgx.Tx, c sink.Claim) (sink.Point, error) {
	var at sink.Point
	var closed bool
	// Two generations that start at the same time decide one after the other which of them is the newer one.
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('runnel claim ' || $1, 0))", s.function); err != nil {
		return at, err
	}
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM runnel.checkpoints WHERE function = $1 AND generation > $2)",
		s.function, c.Generation).Scan(&closed); err != nil {
		return at, err
	}
	if closed {
		return at, sink.ErrClosed
	}
	if _, err := tx.Exec(ctx, "UPDATE runnel.checkpoints SET closed = true WHERE function = $1 AND generation < $2 AND NOT closed",
		s.function, c.Generation); err != nil {
		return at, err
	}
	err := tx.QueryRow(ctx, "SELECT version, sequence, closed FROM runnel.checkpoints WHERE function = $1 AND generation = $2 AND partition = $3 FOR UPDATE",
		s.function, c.Generation, c.Partition).Scan(&at.Version, &at.Sequence, &closed)
	if err == nil && closed {
		err = sink.ErrClosed
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return at, err
	}
	if c.Replay || c.Fresh {
		if err := s.forgetDropped(ctx, tx, c); err != nil {
			return at, err
		}
	}
	at = c.Start
	var old sink.Point
	var of int64
	err = tx.QueryRow(ctx, "SELECT version, sequence, generation FROM runnel.checkpoints WHERE function = $1 AND generation < $2 AND partition IN ($3, $4) ORDER BY generation DESC, version DESC LIMIT 1",
		s.function, c.Generation, c.Partition, sink.All).Scan(&old.Version, &old.Sequence, &of)
	behind := old.Version < c.Start.Version
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		return at, err
	case c.Fresh:
	case c.Replaces != 0 && of > c.Replaces && !c.Replay: // JetStream has lost that one, but what is here it has written
		at = old
	case c.Replaces != 0 && of != c.Replaces:
		// That one never came here, and its own beginning is all that counts. Where this says less, the target was restored.
		if behind && !c.Replay {
			at = old
		}
	// Taken over in place: what the older generation wrote is not written again. A replay goes back on purpose, but never
	// forward over what the older one had not reached.
	case c.Replaces != 0 && !c.Replay, c.Replay == behind:
		at = old
	}
	_, err = tx.Exec(ctx, "INSERT INTO runnel.checkpoints (function, generation, partition, version, sequence) VALUES ($1, $2, $3, $4, $5)",
		s.function, c.Generation, c.Partition, at.Version, at.Sequence)
	return at, err
}

// endTransactions ends what a worker that lost the function still holds open: its rows are not committed, and whatever it sends from
// now on fails. Other functions, and other roles, are left alone.
func (s *Sink) endTransactions(ctx context.Context, function string) error {
	_, err := s.pool.Exec(ctx, `SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
	JOIN pg_stat_activity a ON a.pid = l.pid AND a.usename = current_user
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_backend_pid() AND (l.classid::bigint << 32 | l.objid::bigint) = `+streaming, function)
	if err != nil {
		return fmt.Errorf("end the transaction of a worker that is gone: %w", err)
	}
	return nil
}

// compareOlder finds out how far older generations had come. Where the newest one was written by partitions, a function that takes whole
// transactions from now on passes over what each of them had reached; where it goes back on purpose, all of it comes again.
func (s *Sink) compareOlder(ctx context.Context, tx pgx.Tx, c sink.Claim, p *partition) error {
	if err := tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM runnel.checkpoints WHERE function = $1 AND generation < $2", s.function, c.Generation).Scan(&p.ahead); err != nil {
		return err
	}
	if c.Replay {
		return nil
	}
	rows, err := tx.Query(ctx, `SELECT partition, max(version) FROM runnel.checkpoints WHERE function = $1 AND generation < $2 AND partition <> $3
	AND generation > coalesce((SELECT max(generation) FROM runnel.checkpoints WHERE function = $1 AND generation < $2 AND partition = $3), -1) GROUP BY 1`,
		s.function, c.Generation, sink.All)
	if err != nil {
		return err
	}
	p.covered = map[int]event.Version{}
	var part int
	var v event.Version
	_, err = pgx.ForEachRow(rows, []any{&part, &v}, func() error {
		p.covered[part] = v
		return nil
	})
	return err
}

// forgetDropped lets a generation that begins over make the tables again that were dropped before its first claim; those that
// are dropped later make it halt.
func (s *Sink) forgetDropped(ctx context.Context, tx pgx.Tx, c sink.Claim) error {
	_, err := tx.Exec(ctx, `DELETE FROM runnel.targets WHERE function = $1 AND to_regclass(target) IS NULL
	AND NOT EXISTS (SELECT FROM runnel.checkpoints WHERE function = $1 AND generation = $2)`, s.function, c.Generation)
	return err
}

// gone says whether our tables are missing: the target was restored to a time before they were made. The next Claim makes
// them again.
func (s *Sink) gone(ctx context.Context) bool {
	missing, err := s.missingTables(ctx, s.pool)
	if err != nil || len(missing) == 0 {
		return false
	}
	s.mu.Lock()
	s.ready = false
	s.mu.Unlock()
	return true
}

// checkpoint locks the row. A missing one means that the target was restored to a time before it was made.
func checkpoint(ctx context.Context, tx pgx.Tx, c claimed, function string, after event.Version) (sink.Point, error) {
	var at sink.Point
	var closed bool
	err := tx.QueryRow(ctx, "SELECT version, sequence, closed FROM runnel.checkpoints WHERE function = $1 AND generation = $2 AND partition = $3 FOR UPDATE",
		function, c.generation, c.partition).Scan(&at.Version, &at.Sequence, &closed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return at, fmt.Errorf("partition %d: %w: there is none", c.partition, sink.ErrBehind)
	case err != nil:
		return at, err
	case closed:
		return at, fmt.Errorf("partition %d: %w", c.partition, sink.ErrClosed)
	case at.Version < after:
		return at, fmt.Errorf("partition %d: %w: it is at version %d, the batch continues from %d", c.partition, sink.ErrBehind, at.Version, after)
	}
	return at, nil
}

const move = "UPDATE runnel.checkpoints SET version = $4, sequence = $5 WHERE function = $1 AND generation = $2 AND partition = $3"

func moveCheckpoint(ctx context.Context, tx pgx.Tx, c claimed, function string, to sink.Point) error {
	_, err := tx.Exec(ctx, move,
		function, c.generation, c.partition, to.Version, to.Sequence)
	return err
}

func (s *Sink) remembered(c claimed) *partition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.partitions[c]
}

// committed notes what a transaction has made durable.
func (s *Sink) committed(t *transaction, to sink.Point) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.p.at = to.Version
	s.partitions[t.id] = t.p
	maps.Copy(s.plans, t.plans)
}

// uncheckNext lets the next transaction be one that does not look at foreign keys.
func (s *Sink) uncheckNext(c claimed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.partitions[c]; p != nil {
		p.unchecked = true
	}
}

// reached notes what is durable.
func (s *Sink) reached(c claimed, v event.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.partitions[c]; p != nil {
		p.at = max(p.at, v)
	}
}
