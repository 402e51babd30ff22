package check

import (
	"slices"
	"time"
)

// Allowance is a declared exception: what else would be a breach is none for what happened in a time. For the stream that is when
// the source committed a change, or when JetStream stored a message; for a target when it was looked at.
type Allowance struct {
	Promise Promise   `json:"promise"`
	Target  string    `json:"target,omitempty"` // "" for all, and for the stream
	From    time.Time `json:"from"`             // zero: from the beginning
	Until   time.Time `json:"until"`            // zero: to the end
	Why     string    `json:"why"`
}

// Gap is a declared loss between log and stream, past which an operator went: transactions with an entry of the journal in the
// range may be missing from the stream, be there twice or have other values, and in its time the log may go on from an earlier
// place. What lies outside is judged as ever, and so is every target at the end.
type Gap struct {
	First int64     `json:"first"` // entry of the journal
	Last  int64     `json:"last"`
	From  time.Time `json:"from"`  // zero: from the beginning
	Until time.Time `json:"until"` // zero: to the end
	Why   string    `json:"why"`
}

// span is when something happened, and which entries of the journal it is.
type span struct {
	began, ended time.Time
	first, last  int64 // 0: not in the journal
}

func moment(t time.Time) span { return span{began: t, ended: t} }

// within says whether it touches a time.
func (s span) within(from, until time.Time) bool {
	return !s.ended.Before(from) && (until.IsZero() || !s.began.After(until))
}

func (a *Allowance) covers(p Promise, target string, s span) bool {
	return a.Promise == p && (a.Target == "" || a.Target == target) && s.within(a.From, a.Until)
}

func (g *Gap) covers(p Promise, target string, s span) bool {
	switch {
	case target != "", p != Lost && p != Duplicated && p != Disordered && p != Differing:
		return false
	case s.first > 0:
		return s.first <= g.Last && s.last >= g.First
	}
	return s.within(g.From, g.Until)
}

// exceptions are the declarations alone, to ask them often.
func (all Records) exceptions() (h History, err error) {
	err = all.each(func(rec Record) error {
		if rec.Allow != nil || rec.Gap != nil {
			h = append(h, rec)
		}
		return nil
	})
	return h, err
}

// allows says whether an exception was declared for it.
func (h History) allows(p Promise, target string, s span) bool {
	return slices.ContainsFunc(h, func(rec Record) bool {
		return rec.Allow != nil && rec.Allow.covers(p, target, s) || rec.Gap != nil && rec.Gap.covers(p, target, s)
	})
}

// breach counts a finding, or an allowed one.
func (r *Report) breach(h History, p Promise, target string, s span, format string, args ...any) {
	if h.allows(p, target, s) {
		r.allow(p)
		return
	}
	r.Found(p, format, args...)
}
