package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
)

// What loses transactions that the stream has, or would have to have. The agent says so and halts.

func (d *mysql) purgeUnread(ctx context.Context, w *World, r *rand.Rand) error {
	from, err := w.flowing(ctx)
	if err != nil {
		return err
	}
	release := w.Hold(w.Agents...)
	err = pause(ctx, between(r, 200*time.Millisecond, 2*time.Second))
	if err == nil {
		err = d.exec(ctx, w.Source, "INSERT INTO orders (customer_id, status, amount) VALUES (1, 'unseen', 1)")
	}
	if err == nil {
		err = d.purge(ctx, w)
	}
	release()
	if err != nil {
		return err
	}
	if err := w.mend(ctx); err != nil {
		return err
	}
	w.allow("", from, "binlogs were purged that were not read", check.Lost, check.Undurable)
	return nil
}

func (d *mysql) failBehind(ctx context.Context, w *World, r *rand.Rand) error {
	old := w.Source
	replica := old.MySQLReplica(w)
	if _, err := w.recovered(ctx); err != nil {
		return err
	}
	replica.MySQLPromote(w, nil)
	from, err := w.flowing(ctx) // what is published now the replica lacks
	if err != nil {
		return err
	}
	from = from.Add(-time.Minute) // it may lack more than that
	if err := pause(ctx, between(r, 0, 2*time.Second)); err != nil {
		return err
	}
	if err := w.Traffic.Pause(ctx); err != nil {
		return err
	}
	resumed := false
	defer func() {
		if !resumed {
			w.Traffic.Resume()
		}
	}()
	n, err := d.number(ctx, old, "SELECT MAX(n) FROM changes")
	if err != nil {
		return err
	}
	old.Kill()
	w.moveSource(replica)
	// Checkers know changes by numbers, which must not come a second time.
	if err := d.exec(ctx, replica, fmt.Sprintf("ALTER TABLE changes AUTO_INCREMENT = %d", n+1000)); err != nil {
		return err
	}
	resumed = true
	w.Traffic.Resume() // MariaDB's replica gives the numbers of what it lacks to others
	if err := w.mend(ctx); err != nil {
		return err
	}
	const why = "a replica without all transactions took over"
	w.wentBack(from, why)
	w.allow("", from, why, check.Lost) // past the gap the log goes on from then on
	return nil
}

func (d *mysql) restore(ctx context.Context, w *World, r *rand.Rand) error {
	from := time.Now().Add(-time.Second) // MariaDB's log has times in whole seconds
	copied := w.Source.MySQLBackup(w)
	if err := pause(ctx, between(r, time.Second, 3*time.Second)); err != nil {
		return err
	}
	if _, err := w.recovered(ctx); err != nil {
		return err
	}
	if err := w.Traffic.Pause(ctx); err != nil {
		return err
	}
	resumed := false
	defer func() {
		if !resumed {
			w.Traffic.Resume()
		}
	}()
	n, err := d.number(ctx, w.Source, "SELECT MAX(n) FROM changes")
	if err != nil {
		return err
	}
	number, err := d.newest(ctx, w)
	if err != nil {
		return err
	}
	w.Source.MySQLRestore(w, copied)
	if err := d.exec(ctx, w.Source, fmt.Sprintf("ALTER TABLE changes AUTO_INCREMENT = %d", n+1000)); err != nil {
		return err
	}
	// It gives the names of the transactions that it lacks to others, so the agent must see the gap before anybody writes on.
	if err := w.passGap(ctx); err != nil {
		return err
	}
	for now := uint64(0); now <= number; { // and none of those names may come a second time
		if err := d.Beside(ctx, w.Source); err != nil {
			return err
		}
		if now, err = d.newest(ctx, w); err != nil {
			return err
		}
	}
	resumed = true
	w.Traffic.Resume()
	if err := w.settled(ctx, w.Targets...); err != nil {
		return err
	}
	w.wentBack(from, "the source was restored to the past")
	return nil
}

// wentBack declares what comes of a source that lacks what was published.
func (w *World) wentBack(from time.Time, why string) {
	w.allow("", from, why, check.Duplicated, check.Disordered, check.Backwards, check.Undurable)
}
