package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
)

// driftInterval is how often publications and patterns are compared.
const driftInterval = time.Minute

// drift watches for tables that should be captured and are not: a table that was dropped and created again is in no
// publication, and everything else looks well.
type drift struct {
	l    *Log
	next time.Time
	said map[event.Table]bool
}

func newDrift(l *Log) *drift { return &drift{l, time.Now().Add(driftInterval), map[event.Table]bool{}} }

func (d *drift) look(ctx context.Context) {
	if time.Now().Before(d.next) {
		return
	}
	d.next = time.Now().Add(driftInterval)
	missing, err := d.l.source.unpublished(ctx, d.l.pool, d.l.version)
	if err != nil {
		d.l.log.Warn("cannot compare publication and tables", "error", err)
		return
	}
	said := map[event.Table]bool{}
	for _, t := range missing {
		said[t] = true
		if !d.said[t] {
			d.l.log.Error("table is not captured although it is configured: start the agent again to publish it, then backfill it",
				"table", t.String(), "publication", d.l.source.cfg.Publication)
		}
	}
	d.said = said
}

// unpublished are the tables that the patterns match and no publication has.
func (s *Source) unpublished(ctx context.Context, q querier, version int) ([]event.Table, error) {
	if len(s.patterns) == 0 {
		return nil, nil
	}
	all, err := allTables(ctx, q)
	if err != nil {
		return nil, err
	}
	have, err := s.published(ctx, q, version)
	if err != nil {
		return nil, err
	}
	published := func(t event.Table) bool {
		return slices.ContainsFunc(have, func(p published) bool { return p.name == t })
	}
	byOID := map[uint32]*table{}
	for _, t := range all {
		byOID[t.oid] = t
	}
	var missing []event.Table
	for _, t := range all {
		viaRoot := slices.ContainsFunc(t.ancestors, func(a uint32) bool { return byOID[a] != nil && published(byOID[a].name) })
		if t.permanent && s.wants(t.name) && !viaRoot && !published(t.name) {
			missing = append(missing, t.name)
		}
	}
	return missing, nil
}
