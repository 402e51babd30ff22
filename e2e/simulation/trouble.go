package simulation

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// rates of faults, in 100,000, at each place where it is asked for them.
var rates = map[string]int{
	"agent dies before a call":                       250,
	"agent dies after a call":                        250,
	"agent freezes before a call":                    80,
	"agent freezes after a call":                     80,
	"worker dies before a call":                      120,
	"worker dies after a call":                       120,
	"worker freezes before a call":                   60,
	"worker freezes after a call":                    60,
	"commit is visible late":                         30_000,
	"a TRUNCATE":                                     1_500,
	"a new column":                                   700,
	"the answer to a Confirm is lost":                20_000,
	"a chunk is on its way for long":                 10_000,
	"a target refuses":                               4000,
	"a target is slow":                               6000,
	"a write acts after its deadline":                50_000,
	"a target's answer is lost":                      4000,
	"a target refuses a row for good":                0, // not by calls, but by rows
	"one document fails":                             2000,
	"an operator pauses a function":                  2_000,
	"an operator bounds the workers of a function":   2_000,
	"an operator replays a function":                 2_000,
	"an operator has a function's tables read again": 4_000,
	"an operator changes a function":                 3_000,
	"an operator rolls a function back":              3_000,
	"an operator has rows read again by their keys":  4_000,
	"a worker stops in order":                        500,
	"a silent agent loses the slot":                  30_000,
	"an agent loses its connection":                  3_000,
	"a slot is dropped":                              400,
	"a slot is invalidated":                          400,
	"a standby is promoted":                          700,
	"the source is restored to a copy":               1_500,
	"the source's clock jumps":                       1_500,
	"a target is restored":                           3000,
	"a target's node starts again":                   2_000,
	"a process loses its connections":                6_000,
	"a process cannot connect for a while":           2_000,
	"a process freezes":                              2_000,
	"retention":                                      700,
	"power is lost":                                  4000,
	"the server restarts":                            1_500,
	"a former leader answers":                        2_000,
	"a former leader of a bucket answers":            2_000,
	"all consumers are gone":                         1_500,
	"all who watch a bucket are gone":                1_500,
	"the store is full for a while":                  700,
	"the stream is deleted":                          200,
	"an old copy of the store is restored":           1_500,
}

// trouble is what happens to servers and machines by itself.
func (w *world) trouble() {
	for !w.c.isCalm() && w.wait(w.c.between("next trouble", "trouble", 50*time.Millisecond, 150*time.Millisecond)) {
		w.sourceTrouble()
		w.processTrouble()
		w.serverTrouble()
		w.targetTrouble()
	}
}

// copies says whether somebody copies what a server holds.
func (w *world) copies(of string) bool { return w.c.intn("copies", of, 15) == 0 }

func (w *world) targetTrouble() {
	if w.copies("pg") {
		w.postgres.Backup()
	}
	if w.c.fault("a target is restored", "pg") {
		w.postgres.Restore()
	}
	for _, t := range []*versioned{w.elastic, w.columns} {
		if w.copies(t.name) {
			t.Backup()
		}
		if w.c.fault("a target is restored", t.name) && t.Restore() {
			w.resnapshot(t.name + " was restored to the past")
		}
	}
	if w.c.fault("a target's node starts again", "es") {
		w.elastic.Restart()
	}
}

func (w *world) sourceTrouble() {
	c := w.c
	if c.fault("an agent loses its connection", "source") {
		w.d.Kick("a connection breaks")
	}
	if c.fault("a slot is dropped", "source") {
		w.d.DropSlot(false)
	}
	if c.fault("a slot is invalidated", "source") {
		w.d.DropSlot(true)
	}
	if c.fault("a standby is promoted", "source") {
		w.d.Restore(c.intn("transactions lost", "source", 4))
	}
	if w.copies("source") {
		w.d.Copy()
	}
	if c.fault("the source is restored to a copy", "source") {
		newest := w.m.Newest()
		if to, done := w.d.RestoreCopy(newest); done {
			w.m.SourceRestored(to.confirmed, to.lsn)
			c.count("the source is restored from a cold copy")
			if newest <= to.lsn {
				w.resnapshot("the source was restored to a copy that has all changes in the stream")
			}
		}
	}
	if c.fault("the source's clock jumps", "source") {
		w.d.Jump(c.between("clock jumps by", "source", -10*time.Minute, 10*time.Minute))
	}
}

func (w *world) processTrouble() {
	w.mu.Lock()
	var all []*process
	for _, name := range names(w.processes) {
		all = append(all, w.processes[name])
	}
	w.mu.Unlock()
	for _, p := range all {
		if p.kind == "agent" {
			if _, frozen := p.state(); frozen != nil && w.c.fault("a silent agent loses the slot", p.name) {
				w.d.KickOf(p.name)
			}
		}
		if p.kind == "worker" && w.c.fault("a worker stops in order", p.name) {
			w.h.note(p.name, "is stopped in order")
			p.cancel()
		}
		if w.c.fault("a process loses its connections", p.name) {
			w.h.note(p.name, "loses its connections")
			p.client.Cut()
		}
		if w.c.fault("a process cannot connect for a while", p.name) {
			w.h.note(p.name, "loses its connections and cannot connect")
			p.client.Refuse(true)
			p.client.Cut()
			d := w.c.between("cannot connect for", p.name, 10*time.Millisecond, 2*lease)
			w.background.Go(func() {
				w.sleep(d, w.calm)
				p.client.Refuse(false)
			})
		}
		if p.kind != "operator" && w.c.fault("a process freezes", p.name) {
			p.freeze("at any moment")
		}
	}
}

// IsFault says whether a count is one of faults.
func IsFault(name string) bool {
	_, fault := rates[name]
	return fault || strings.HasPrefix(name, "nats: ")
}

// RarePaths are what some hundred schedules show, nearly always, and a thousand must have shown.
func RarePaths() []string {
	paths := append(slices.Collect(maps.Keys(rates)),
		"a COPY with one LSN",
		"a barrier is executed",
		"a barrier waits",
		"a checkpoint covers a batch that comes again",
		"a chunk is read while a commit does not show",
		"a backfill of one function comes to its end in a partition",
		"a function falls out of retention",
		"a function is deployed later",
		"a gap is declared",
		"a group of several messages is published",
		"a key changes",
		"a partition changes hands",
		"a partition is closed for a newer generation",
		"a partition is released, and another worker takes it",
		"a change is stored again past a declared gap",
		"a row goes back by an exception",
		"a running writer takes another epoch",
		"a slot is not renewed, since somebody else wrote meanwhile",
		"a sweep removes a row",
		"a target is behind",
		"a dead letter",
		"a row is missing whose event is a dead letter",
		"a row that was looked for is gone",
		"a target without checkpoints is restored to the past",
		"an event comes again whose row's version is forgotten",
		"an old copy of all that JetStream holds is restored",
		"the source is restored from a cold copy",
		"a version guard refuses an older write",
		"a write is repeated",
		"an agent waits as standby",
		"spans of several partitions are written together",
		"the server is one of a cluster",
		"the end of a backfill removes what it did not show",
		"the stream loses its tail",
		"nats: lost tail",
		"nats: crash with bytes under way",
		"nats: stale leader",
	)
	slices.Sort(paths)
	return paths
}
