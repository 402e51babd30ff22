package simulation

import (
	"encoding/json"

	"github.com/runnel-dev/runnel/e2e/simulation/fakenats"
	"github.com/runnel-dev/runnel/runtime/event"
)

// letter is a dead letter: which function gave up which revision of a row.
type letter struct {
	function string
	revision int
}

// letter takes what is stored in RUNNEL_DLQ, and checks that nothing lies there but what can never be written.
func (w *world) letter(m fakenats.Message) {
	d, err := event.ParseDeadLetter(m.Subject, m.Header.Get, m.Data)
	if err != nil {
		w.h.fail("dead letters are whole", "%v", err)
		return
	}
	var line struct{ After struct{ V int } }
	if err := json.Unmarshal(d.Line, &line); err != nil {
		w.h.fail("dead letters are whole", "%v", err)
		return
	}
	l := letter{d.Function, line.After.V}
	if !w.c.refuses(l.function, l.revision) {
		w.h.fail("only what can never be written is given up", "%s gave up revision %d: %s", l.function, l.revision, d.Reason)
	}
	w.c.count("a dead letter")
	w.m.Bury(l)
}

// Bury notes a dead letter.
func (m *mirror) Bury(l letter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.letters[l] = true
}

// Letter says whether a dead letter was ever stored.
func (m *mirror) Letter(l letter) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.letters[l]
}
