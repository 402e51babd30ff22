package check

import (
	"maps"
	"slices"
	"time"
)

// row is what a target was seen to show of a key.
type row struct {
	change int64 // the newest one ever
	gone   bool
}

// state is a target's rows as the samples tell them, by table and key.
type state map[string]map[string]row

// Samples judges what was seen of the targets and the source: that no row became older than it was, that a target which is away
// delays no other one nor the release of the log, and that the slot is never ahead of the stream.
func (r *Report) Samples(all Records) error {
	exceptions, err := all.exceptions()
	if err != nil {
		return err
	}
	targets := map[string]state{}
	last := map[string]time.Time{}
	var looks History // what isolation is judged by
	err = all.each(func(rec Record) error {
		switch {
		case rec.Target != nil:
			r.Looks++
			s := rec.Target
			if targets[s.Target] == nil {
				targets[s.Target] = state{}
				last[s.Target] = s.Began
			}
			r.grows(targets[s.Target], s, last[s.Target], exceptions)
			last[s.Target] = s.Ended
			looks = append(looks, Record{Target: &TargetSample{Target: s.Target, Ended: s.Ended, Newest: s.Newest}})
		case rec.Source != nil:
			r.Looks++
			r.released(rec.Source, exceptions)
			looks = append(looks, rec)
		case rec.Away != nil:
			looks = append(looks, rec)
		}
		return nil
	})
	for _, rec := range looks {
		if rec.Away != nil {
			r.isolated(looks, rec.Away)
		}
	}
	return err
}

// grows holds a sample against what was seen before. What an exception covers may have happened since the last sample.
func (r *Report) grows(st state, s *TargetSample, since time.Time, exceptions History) {
	for _, table := range slices.Sorted(maps.Keys(s.Tables)) {
		d := s.Tables[table]
		rows := st[table]
		if rows == nil {
			rows = map[string]row{}
			st[table] = rows
		}
		for _, key := range slices.Sorted(maps.Keys(d.Seen)) {
			change := d.Seen[key]
			old, known := rows[key]
			rows[key] = row{change: change}
			switch {
			case !known || change > old.change:
			case change < old.change:
				r.breach(exceptions, Backwards, s.Target, span{began: since, ended: s.Ended}, "%s: %s %s shows change %d at %s, and showed %d before",
					s.Target, table, key, change, clock(s.Ended), old.change)
			case old.gone:
				r.breach(exceptions, Backwards, s.Target, span{began: since, ended: s.Ended}, "%s: %s %s with change %d was gone, and is back at %s",
					s.Target, table, key, change, clock(s.Ended))
			}
		}
		for _, key := range d.Gone {
			old := rows[key]
			old.gone = true
			rows[key] = old
		}
	}
}

// released: the source has released nothing that the stream does not hold.
func (r *Report) released(s *SourceSample, exceptions History) {
	if s.Confirmed > 0 && s.Reached > 0 && s.Confirmed > s.Reached {
		r.breach(exceptions, Undurable, "", moment(s.At), "source: the slot is confirmed up to %X at %s, and the stream has reached %X at message %d",
			s.Confirmed, clock(s.At), s.Reached, s.Sequence)
	}
}

// clock is a time in the form of the history's lines, without the date.
func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }
