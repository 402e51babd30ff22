package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// longOpen is how long a transaction may be open before doctor names it.
const longOpen = 5 * time.Minute

// openTransactions are those of the server, the oldest first. One that has written keeps the log from its beginning on: nothing
// of a slot is released before it ends. Any keeps rows that VACUUM could remove.
// https://www.postgresql.org/docs/current/logicaldecoding-explanation.html#LOGICALDECODING-REPLICATION-SLOTS
const openTransactions = `SELECT what, age, ending FROM (
	SELECT format('process %s of role %s%s, %s for %s: %s', pid, coalesce(usename, '?'), CASE WHEN application_name <> '' THEN format(' (%s)', application_name) END,
			state, date_trunc('second', now() - state_change), regexp_replace(left(query, 100), '\s+', ' ', 'g')) AS what,
		extract(epoch FROM now() - xact_start)::float8 AS age, backend_xid IS NOT NULL AS writes, format('SELECT pg_terminate_backend(%s);', pid) AS ending
	FROM pg_catalog.pg_stat_activity
	WHERE xact_start IS NOT NULL AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL OR state LIKE 'idle in transaction%')
	UNION ALL
	SELECT format('prepared transaction %L of role %s in database %s', gid, owner, database), extract(epoch FROM now() - prepared)::float8, true,
		format('COMMIT PREPARED %1$L; or ROLLBACK PREPARED %1$L;', gid)
	FROM pg_catalog.pg_prepared_xacts) t WHERE writes = $1 ORDER BY age DESC LIMIT 1`

// openTransaction is one of them.
type openTransaction struct {
	what, ending string
	age          time.Duration
}

// oldestOpen is the oldest one that has written, or that has not; false where there is none.
func oldestOpen(ctx context.Context, q querier, writes bool) (x openTransaction, ok bool, err error) {
	var seconds float64
	err = q.QueryRow(ctx, openTransactions, writes).Scan(&x.what, &seconds, &x.ending)
	if errors.Is(err, pgx.ErrNoRows) {
		return x, false, nil
	}
	if err != nil {
		return x, false, fmt.Errorf("look at open transactions: %w", err)
	}
	x.age = time.Duration(seconds * float64(time.Second)).Round(time.Second)
	return x, true, nil
}

// open names the oldest open transaction of each kind, where it is old.
func (e *examination) open(ctx context.Context) {
	const subject = "open transactions"
	named := false
	for _, kind := range []struct {
		writes bool
		holds  string
	}{
		{true, "all log since it began is kept for the slot"},
		{false, "VACUUM cannot remove rows that it might see"},
	} {
		x, ok, err := oldestOpen(ctx, e.pool, kind.writes)
		if err != nil {
			e.fault(subject, err)
			return
		}
		if ok && x.age >= longOpen {
			named = true
			e.Warn(subject, "end it: "+x.ending, "one is open for %s, and %s: %s", x.age, kind.holds, x.what)
		}
	}
	if !named {
		e.OK(subject, "none is older than %s", longOpen)
	}
}
