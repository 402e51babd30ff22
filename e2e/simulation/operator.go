package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// operator deploys, pauses, resumes, and acts on what agents and functions say when they cannot go on.
type operator struct {
	w         *world
	conn      *stream.Conn
	r         *registry.Registry
	functions []*wanted
	taken     []string // by failovers, which the stream held then, or may have lost before
}

// wanted is a function as the operator wants it.
type wanted struct {
	name     string
	target   holds
	at       time.Duration // when it is deployed
	deployed bool
	filtered bool      // its specification is the other one, which takes the same rows
	paused   time.Time // until then
}

// operate goes on until the schedule is over.
func (w *world) operate() {
	p := w.process("operator", "operator", 1)
	defer p.cancel()
	o := &operator{w: w}
	targets := []*wanted{{name: "es", target: w.elastic}, {name: "ch", target: w.columns}, {name: "pg", target: w.postgres}}
	first := w.c.intn("functions", "operator", len(targets))
	for i, f := range targets {
		if i != first && w.c.intn("functions", "operator", 3) == 0 {
			continue
		}
		if i != first {
			f.at = w.c.between("deploy at", f.name, 0, w.active)
		}
		o.functions = append(o.functions, f)
		w.mu.Lock()
		w.targets[f.name] = f.target
		w.mu.Unlock()
	}
	for w.ctx.Err() == nil {
		err := o.connected(p)
		if w.ctx.Err() == nil && err != nil {
			w.h.note("operator", "begins again: %v", err)
		}
		w.wait(time.Second)
	}
}

func (o *operator) connected(p *process) error {
	conn, err := o.w.connect(p)
	if err != nil {
		return err
	}
	defer conn.Close()
	o.conn = conn
	if o.r, err = registry.Open(p.ctx, conn); err != nil {
		return err
	}
	for o.w.sleep(o.w.c.between("operator looks", "operator", 200*time.Millisecond, 700*time.Millisecond), nil) {
		o.readSkipped(p.ctx)
		o.afterFailover()
		for _, f := range o.functions {
			if time.Since(o.w.h.began) < f.at {
				continue
			}
			ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
			if err := o.look(ctx, f); err != nil && p.ctx.Err() == nil {
				o.w.h.note("operator", "%s: %v", f.name, err)
			}
			cancel()
		}
	}
	return nil
}

// readSkipped does what an agent tells that left the rows of a table without a key out, because a new slot's first record was lost:
// everything is to be read again.
func (o *operator) readSkipped(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, ok, err := o.r.CaptureOf(ctx, source)
	if !ok || err != nil || o.w.sinceOrder() < 15*time.Second {
		return
	}
	e, err := o.r.Snapshots.Get(ctx, capture.ProgressKey(source, c.Load.ID, notes))
	var p capture.Progress
	if err == nil && json.Unmarshal(e.Value, &p) == nil && p.Skipped != "" {
		o.w.c.count("rows of a table without a key are left out, and an operator is told")
		o.w.resnapshot(p.Skipped)
	}
}

// afterFailover has everything read again where the source has lost changes that JetStream has lost as well: nobody else can know
// that a target shows them.
func (o *operator) afterFailover() {
	o.taken = append(o.taken, o.w.d.Taken()...)
	if o.w.m.Unheard(o.taken) {
		o.taken = nil
		o.w.c.count("source and stream have lost the same change")
		o.w.resnapshot("source and stream have lost the same changes")
	}
}

// look does what a function needs.
func (o *operator) look(ctx context.Context, f *wanted) error {
	_, n, err := o.r.FunctionOf(ctx, f.name)
	var missing *registry.NotDeployedError
	switch {
	case errors.As(err, &missing):
		return o.deploy(ctx, f)
	case err != nil:
		return err
	}
	switch n.Record.State {
	case registry.Halted:
		return o.heal(ctx, f, n.Record.Reason)
	case registry.Paused:
		if time.Now().After(f.paused) || o.w.c.isCalm() {
			o.w.h.note("operator", "resumes %s", f.name)
			return o.r.SetFunctionState(ctx, f.name, 0, registry.Running, "")
		}
	case registry.Running:
		if o.w.c.fault("an operator pauses a function", f.name) {
			f.paused = time.Now().Add(o.w.c.between("paused for", f.name, 100*time.Millisecond, 2*lease))
			o.w.h.note("operator", "pauses %s", f.name)
			return o.r.SetFunctionState(ctx, f.name, 0, registry.Paused, "by the operator")
		}
		return o.verbs(ctx, f)
	}
	return nil
}

func (o *operator) deploy(ctx context.Context, f *wanted) error {
	if f.deployed {
		o.w.c.count("an operator deploys again what KV has lost")
		o.w.wait(1100 * time.Millisecond) // generations are told apart by seconds
	}
	if err := o.apply(ctx, f); err != nil {
		return err
	}
	if f.at > 0 {
		o.w.c.count("a function is deployed later")
	}
	f.deployed = true
	o.w.h.note("operator", "deployed %s", f.name)
	return nil
}

// apply deploys the function's present specification.
func (o *operator) apply(ctx context.Context, f *wanted) error {
	file := f.name
	if f.filtered {
		file += "-filtered"
	}
	files, err := registry.ReadFiles("testdata/shop.yaml", "testdata/"+file+".yaml")
	if err != nil {
		o.w.h.fail("simulation", "%v", err)
		return err
	}
	_, err = o.r.Deploy(ctx, files)
	return err
}

// heal does what the reason of a halt says.
func (o *operator) heal(ctx context.Context, f *wanted, reason string) error {
	o.w.h.note("operator", "%s halted: %s", f.name, reason)
	switch {
	case strings.Contains(reason, "fell out of retention"):
		o.w.c.count("a function falls out of retention")
		if !o.w.lost("retention", "the stream is deleted", "an old copy of the store is restored") {
			o.w.h.fail("a halt has a cause", "%s: %s", f.name, reason)
		}
		if since := o.w.sinceOrder(); since > 15*time.Second {
			o.w.resnapshot("a function fell out of retention")
			return nil
		} else if since < 5*time.Second { // it takes a while
			return nil
		}
	case strings.Contains(reason, "is not in RUNNEL_schemas"):
		o.w.c.count("a schema is lost")
		o.w.restart("agent")
	case strings.Contains(reason, "`runnel delete"):
		o.w.c.count("a function is deleted and deployed again")
		return o.r.DeleteFunction(ctx, f.name)
	default:
		o.w.h.fail("a halt has a cause", "%s: %s", f.name, reason)
	}
	return o.r.SetFunctionState(ctx, f.name, 0, registry.Running, "")
}

// lost says whether one of these has happened.
func (w *world) lost(classes ...string) bool {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	for _, c := range classes {
		if w.c.counts[c] > 0 {
			return true
		}
	}
	return false
}

// resnapshot makes the next start of each agent one that may go on past a gap and reads everything again. All of them: the
// order of one whose slot another one takes before its new slot is made would leave out tables without a key.
func (w *world) resnapshot(why string) {
	w.h.note("operator", "orders everything to be read again: %s", why)
	w.pending.Store(true)
	w.mu.Lock()
	w.orderedAt = time.Now()
	for name, p := range w.processes {
		if p.kind == "agent" {
			w.reread[name] = true
		}
	}
	w.mu.Unlock()
	w.restart("agent")
}

func (w *world) sinceOrder() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.orderedAt)
}

// rereading says whether everything is being read again: until that is done another order may be under way.
func (w *world) rereading() bool {
	all := w.server.Messages(bucketStream(registry.BucketCaptures))
	var c registry.Capture
	return len(all) > 0 && json.Unmarshal(all[len(all)-1].Data, &c) == nil && c.Load.Sweep && !c.Load.Done
}

// ordered says whether the next life of an agent is such a one.
func (w *world) ordered(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer delete(w.reread, name)
	return w.reread[name] || w.blank.Load()
}

// restart ends processes, as an operator does who starts them again.
func (w *world) restart(kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.processes {
		if p.kind == kind {
			p.cancel() // in order
		}
	}
}

// ended looks at how an agent ended. Who sees that an order was not even noted gives it again.
func (w *world) ended(p *process, err error) {
	var gap *capture.GapError
	if !errors.As(err, &gap) {
		if p.ordered && !p.noted.Load() && w.pending.Load() {
			w.mu.Lock()
			w.reread[p.name] = true
			w.mu.Unlock()
		}
		return
	}
	if !w.lost("a slot is dropped", "a slot is invalidated", "a standby is promoted", "the stream is deleted", "the source is restored to a copy",
		"an old copy of the store is restored") {
		w.h.fail("a gap has a cause", "%s: %v", p.name, err)
	}
	w.c.count("a gap is declared")
	w.resnapshot(err.Error())
}
