package sourcetest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// standby acquires the source beside a reader, and waits until it is told that it waits.
func (w *world) standby(d Database) (taken <-chan *reader) {
	w.Helper()
	got, waits := make(chan *reader, 1), make(chan string, 10)
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	w.Cleanup(cancel)
	go func() {
		l, err := d.Source().Acquire(ctx, func(holder string) { waits <- holder })
		if err != nil {
			w.Error(err)
			close(got)
			return
		}
		if len(waits) > 0 {
			w.Error("waiting was called twice")
		}
		got <- w.reader(l)
	}()
	select {
	case holder := <-waits:
		if holder == "" {
			w.Error("nobody is named as the holder")
		}
	case <-got:
		w.Fatal("two readers have the source")
	}
	return got
}

// oneReader: a second reader waits, also while nobody reads what the first one holds, and has the source once that is closed.
func oneReader(w *world) {
	d := w.open(`CREATE TABLE a (id int PRIMARY KEY)`)
	first := w.acquire(d.Source())
	taken := w.standby(d)
	if err := first.Holds(w.Context()); err != nil {
		w.Error(err)
	}
	first.close()
	second := <-taken
	if second == nil {
		return
	}
	if err := second.Holds(w.Context()); err != nil {
		w.Error(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	if _, err := d.Source().Acquire(ctx, func(string) { cancel() }); !errors.Is(err, context.Canceled) {
		w.Errorf("a standby that is stopped: got %v", err)
	}
	cancel()
}

// disconnected: who lost the source to another one knows it, and the other one goes on where the first was.
func disconnected(w *world) {
	d := w.open(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := d.Source()
	first, p := w.started(s)
	d.Exec(`INSERT INTO a VALUES (1)`)
	read := only(first.read(), capture.Changed)
	taken := w.standby(d)
	d.Disconnect()
	second := <-taken
	if second == nil {
		return
	}
	d.Exec(`INSERT INTO a VALUES (2)`)
	if err := first.Holds(w.Context()); err == nil {
		w.Error("the first reader believes that it holds the source")
	}
	if err := first.fails(); err == nil {
		w.Error("the first reader goes on")
	}
	second.startAt(p.after(read[0].Position))
	w.expect(lines(only(second.read(), capture.Changed)), `c a  {"id":2}`)
}

// confirm: what is confirmed need not come again, what is not does, and it never goes back.
func confirm(w *world) {
	d := w.open(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := d.Source()
	r, p := w.started(s)
	d.Exec(`INSERT INTO a VALUES (1)`, `INSERT INTO a VALUES (2)`, `INSERT INTO a VALUES (3)`)
	all := r.read()
	var ends []event.Position
	for _, c := range only(all, capture.Changed) {
		for _, i := range only(all, capture.Committed) {
			if i.XID == c.XID {
				ends = append(ends, i.Position)
			}
		}
	}
	for _, end := range []event.Position{ends[0], ends[1], ends[0]} { // the last one is no step back
		if err := r.Confirm(w.Context(), end); err != nil {
			w.Fatal(err)
		}
	}
	r.close()
	for _, i := range all {
		if i.Kind == capture.Changed || i.Kind == capture.Committed {
			p = p.after(i.Position)
		}
		if i.Position == ends[1] {
			break
		}
	}
	r = w.acquire(s)
	r.startAt(p)
	w.expect(lines(only(r.read(), capture.Changed)), `c a  {"id":3}`)
}

// endOfContext: whoever waits for the log stops when it is told to, and may go on.
func endOfContext(w *world) {
	d := w.open(`CREATE TABLE a (id int PRIMARY KEY)`)
	r, _ := w.started(d.Source())
	for range 3 {
		ctx, cancel := context.WithTimeout(w.Context(), 20*time.Millisecond)
		for err := error(nil); ; {
			if _, err = r.Next(ctx); err != nil {
				if ctx.Err() == nil {
					w.Fatal(err)
				}
				break
			}
		}
		cancel()
	}
	d.Exec(`INSERT INTO a VALUES (1)`)
	w.expect(lines(only(r.read(), capture.Changed)), `c a  {"id":1}`)
	done, cancel := context.WithCancel(w.Context())
	cancel()
	if _, err := d.Source().Acquire(done, nil); err == nil {
		w.Error("acquired with a context that has ended")
	}
}

// ahead: a position that the server has not come to is a gap: it was restored to the past, or is another one.
func ahead(w *world) {
	d := w.open(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := d.Source()
	r, p := w.started(s)
	d.Exec(`INSERT INTO a VALUES (1)`)
	q := only(r.read(), capture.Changed)[0].Position
	r.close()
	q.Commit += 1 << 30
	r = w.acquire(s)
	_, err := r.check(p.after(q))
	w.wantGap(err)
}

// forgotten: where the server has thrown away what was not read, the operator is told.
func forgotten(w *world) {
	d, forget := w.suite.Forget(w.T)
	d.Exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := d.Source()
	r, p := w.started(s)
	d.Exec(`INSERT INTO a VALUES (1)`)
	p = p.after(only(r.read(), capture.Changed)[0].Position)
	r.close()
	d.Exec(`INSERT INTO a VALUES (2)`)
	forget()
	r = w.acquire(s)
	after, err := r.check(p)
	if err == nil {
		if err = r.Start(w.Context(), after, p.since[0]); err == nil {
			err = r.fails()
		}
	}
	w.wantGap(err)
}

func (w *world) wantGap(err error) {
	w.Helper()
	if gap := (*capture.GapError)(nil); !errors.As(err, &gap) || !strings.Contains(err.Error(), "--resnapshot") {
		w.Errorf("got %v, want a gap that names --resnapshot", err)
	}
}

// wrong: what only an operator can change is a SetupError that says how.
func wrong(w *world) {
	d := w.open(`CREATE TABLE a (id int PRIMARY KEY)`)
	for name, c := range w.suite.Wrong(d) {
		l, err := c.Source.Acquire(w.Context(), nil)
		if err == nil {
			_, err = l.(capture.Snapshotter).Tables(w.Context())
			_ = l.Close(context.Background())
		}
		if setup := (*capture.SetupError)(nil); !errors.As(err, &setup) {
			w.Errorf("%s: got %v, want a SetupError", name, err)
			continue
		}
		for _, word := range c.Words {
			if !strings.Contains(err.Error(), word) {
				w.Errorf("%s: %q does not say %q", name, err, word)
			}
		}
		if c.Secret != "" && strings.Contains(err.Error(), c.Secret) {
			w.Errorf("%s: %q says the password", name, err)
		}
	}
}

// unknownTable: a table that is not there is named.
func unknownTable(w *world) {
	d := w.open(`CREATE TABLE a (id int PRIMARY KEY)`)
	l, err := d.Source("nowhere").Acquire(w.Context(), nil)
	if err == nil {
		_, err = l.(capture.Snapshotter).Tables(w.Context())
		_ = l.Close(context.Background())
	}
	if setup := (*capture.SetupError)(nil); !errors.As(err, &setup) || !strings.Contains(err.Error(), "nowhere") {
		w.Errorf("got %v, want a SetupError that names the table", err)
	}
}
