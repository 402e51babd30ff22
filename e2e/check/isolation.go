package check

import "time"

// isolated: while one target is away, each other one shows changes that the source had at most a.Bound ago, and the source
// releases its log just as well.
//
// The newest change of the source may become older where a row is deleted, so the oldest of its newest ones within the bound is
// what must be shown.
func (r *Report) isolated(h History, a *Away) {
	var source []*SourceSample
	for _, rec := range h {
		if rec.Source != nil {
			source = append(source, rec.Source)
		}
	}
	told := map[string]bool{}
	say := func(who string, format string, args ...any) {
		if !told[who] { // once for each target and absence, however many samples show it
			told[who] = true
			r.Found(Delayed, format, args...)
		}
	}
	for _, rec := range h {
		switch s := rec.Target; {
		case s != nil && s.Target != a.Target && a.within(s.Ended):
			if floor, ok := oldest(source, s.Ended.Add(-a.Bound), s.Ended); ok && s.Newest < floor {
				say(s.Target, "%s at %s shows changes up to %d, and the source had %d %v before, while %s was away",
					s.Target, clock(s.Ended), s.Newest, floor, a.Bound, a.Target)
			}
		case rec.Source != nil && a.within(rec.Source.At):
			s := rec.Source
			if before := latest(source, s.At.Add(-a.Bound)); before != nil && s.Confirmed > 0 && s.Confirmed < before.Log {
				say("source", "the slot at %s is confirmed up to %X, and the log was at %X %v before, while %s was away",
					clock(s.At), s.Confirmed, before.Log, a.Bound, a.Target)
			}
		}
	}
}

// within is the part of the absence in which its effect would be seen.
func (a *Away) within(t time.Time) bool { return t.After(a.From.Add(a.Bound)) && !t.After(a.Until) }

// oldest is the smallest newest change that the source showed in a time.
func oldest(source []*SourceSample, from, until time.Time) (change int64, ok bool) {
	for _, s := range source {
		if !s.At.Before(from) && !s.At.After(until) && (!ok || s.Newest < change) {
			change, ok = s.Newest, true
		}
	}
	return change, ok
}

// latest is the last sample up to a time.
func latest(source []*SourceSample, until time.Time) *SourceSample {
	var last *SourceSample
	for _, s := range source {
		if !s.At.After(until) {
			last = s
		}
	}
	return last
}
