package check

import (
	"errors"
	"fmt"

	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Stream is a stream with what it is held against. Its messages are read once, and a second time where something is wrong.
type Stream struct {
	Source   string
	Messages Messages
	Journal  Entries                 // the source's own history; nil: the stream is looked at in itself
	Tables   map[string]*equal.Table // that are captured, by name
	Reread   []string                // columns whose value may be newer than the change: TOAST values that the log leaves out
	Targets  map[string]string       // functions by the name of their target in the history, for its checkpoints

	// Truncated are all TRUNCATEs that were run; nil: those of the stream are not judged.
	Truncated []Truncation
}

// Stream judges a stream: lost, duplicated and disordered changes against the journal, writers that interleave, and checkpoints of the
// history that cover more than their target showed.
func (r *Report) Stream(s Stream, seen Records) error {
	exceptions, err := seen.exceptions()
	if err != nil {
		return err
	}
	passes := []pass{newOrder(r, exceptions), &fencing{r: r, fence: event.FenceSubject(s.Source)}}
	var tx *transactions
	if s.Journal != nil {
		tx = newTransactions(r, s.Tables, s.Reread)
		passes = append(passes, tx)
	}
	emptied := newTruncations()
	passes = append(passes, emptied)
	keys := map[string][]string{}
	for name, t := range s.Tables {
		keys[name] = t.Key
	}
	ledgers := map[string]*ledger{}
	for target, function := range s.Targets {
		ledgers[target] = newLedger(function, keys)
		passes = append(passes, ledgers[target])
	}
	if err := r.walk(s.Messages, passes...); err != nil {
		return err
	}
	if s.Truncated != nil {
		emptied.judge(r, s.Truncated, exceptions)
	}
	for target, l := range ledgers {
		if err := r.durable(l, seen, exceptions, target); err != nil {
			return err
		}
	}
	if tx == nil {
		return nil
	}
	return tx.compare(s.Journal, s.Messages, exceptions)
}

// Equal counts the rows of a target that are not what the source has.
func (r *Report) Equal(t *equal.Table, target string, got equal.Rows) {
	n, texts := t.Differing(target, got, shown)
	for i := range n {
		if i < len(texts) {
			r.Found(Differing, "%s", texts[i])
		} else {
			r.Found(Differing, "%s: %s: %d rows differ", target, t.Name, n)
		}
	}
}

// Complete compares the changes of the stream with those that the source committed, by the IDs of their positions.
func Complete(all []*event.Message, committed []string) error {
	have := map[string]bool{}
	for _, m := range all {
		events, err := m.Decode(nil)
		if err != nil {
			return err
		}
		for _, e := range events {
			if !e.Snapshot {
				have[e.Position.ID()] = true
			}
		}
	}
	var r Report
	for i, id := range committed {
		if !have[id] {
			r.Found(Lost, "change %s, %d of %d, is not in the stream", id, i+1, len(committed))
		}
		delete(have, id)
	}
	for id := range have {
		r.Found(Duplicated, "change %s is in the stream, but was never committed", id)
	}
	if r.Kept() {
		return nil
	}
	return errors.New(fmt.Sprint(r.Findings[0]))
}
