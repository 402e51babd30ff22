package simulation

import "time"

// traffic is what applications do to the source until it becomes calm.
func (w *world) traffic() {
	quickest := w.c.between("pace", "traffic", 5*time.Millisecond, 100*time.Millisecond)
	for !w.c.isCalm() && w.wait(w.c.between("next transaction", "traffic", quickest/2, 4*quickest)) {
		if !w.c.operation("transaction", "traffic") {
			continue
		}
		statements := make([]statement, w.c.intn("statements", "traffic", 5))
		for i := range statements {
			statements[i] = w.statement()
		}
		w.d.Commit(statements...)
	}
}

func (w *world) statement() statement {
	s := statement{
		kind:  "uuuuuuuuucccdddkky"[w.c.intn("kind", "traffic", 18)],
		table: w.d.tables[w.c.intn("table", "traffic", 5)/2%len(w.d.tables)],
		id:    w.c.intn("row", "traffic", 12),
	}
	switch {
	case w.c.fault("a TRUNCATE", "traffic"):
		s.kind, s.more = 't', w.c.intn("more tables", "traffic", len(w.d.tables))
	case w.c.fault("a new column", "traffic"):
		s.kind = 'w'
	case s.kind == 'y':
		s.more = 2 + w.c.intn("rows of a COPY", "traffic", 6)
		w.c.count("a COPY with one LSN")
	case s.kind == 'k':
		w.c.count("a key changes")
	}
	return s
}
