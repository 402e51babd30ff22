package check

import (
	"fmt"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Fold is the state that a target reaches: each table's rows by canonical key, and those of tables without a key by their
// place. Where a load sweeps, rows that it did not show are gone.
func Fold(all []*event.Message, schema func(t event.Table, fingerprint string) (*event.Schema, error)) (map[event.Table]map[string]string, error) {
	type row struct {
		version event.Version
		text    string
	}
	tables := map[event.Table]map[string]row{}
	for _, m := range all {
		events, err := m.Decode(nil)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			s, err := schema(e.Table, e.Fingerprint)
			if err != nil {
				return nil, err
			}
			rows := tables[e.Table]
			if rows == nil {
				rows = map[string]row{}
				tables[e.Table] = rows
			}
			if e.Op == event.Truncate {
				for k, r := range rows {
					if cutoff := max(e.Cutoff, 0); (cutoff == 0 && r.version < e.Version || r.version < cutoff) && partition(k, s, m) {
						delete(rows, k)
					}
				}
				continue
			}
			if e.Op == event.Mark {
				continue
			}
			key := []byte(fmt.Sprintf("%d", e.Version))
			if len(s.KeyColumns()) > 0 {
				if key, err = s.AppendKey(nil, e.Key()); err != nil {
					return nil, err
				}
			}
			if e.Op == event.Delete {
				delete(rows, string(key))
			} else {
				rows[string(key)] = row{e.Version, string(e.After.Raw())}
			}
		}
	}
	out := map[event.Table]map[string]string{}
	for t, rows := range tables {
		out[t] = map[string]string{}
		for k, r := range rows {
			out[t][k] = r.text
		}
	}
	return out, nil
}

// partition says whether a key lies in the message's partition; of a table without a key every row lies in partition 0.
func partition(key string, s *event.Schema, m *event.Message) bool {
	_, _, p, err := event.ParseSubject(m.Subject)
	if err != nil {
		return false
	}
	if len(s.KeyColumns()) == 0 {
		return p == 0
	}
	return event.Partition([]byte(key), m.Group.N) == p
}
