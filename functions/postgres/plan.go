package postgres

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/runnel-dev/runnel/runtime/event"
)

// plan is how rows of one version of a source's table are written.
type plan struct {
	target  ident
	keys    []string // names of the key's columns, in key order
	prefix  [][]byte // `{"a":`, `,"b":` of each
	columns []string // what is written, in the source's order
	table   *table

	upsert, insert, remove, keep string
	rekey                        string   // where rows of other tables may refer to the key; else empty
	displace                     []string // take away the rows of other keys that hold a unique value of these

	mu      sync.Mutex
	updates map[string]string // by the columns that are left out
}

// newPlan makes the statements. Every name is quoted, and every operator on a key is named with its schema: the session's
// search_path is empty.
func newPlan(s *event.Schema, target ident, t *table) *plan {
	p := &plan{target: target, table: t, updates: map[string]string{}}
	for n, i := range s.KeyColumns() {
		name := s.Columns[i].Name
		p.keys = append(p.keys, name)
		b := []byte{','}
		if n == 0 {
			b[0] = '{'
		}
		p.prefix = append(p.prefix, append(event.AppendJSONString(b, name), ':'))
	}
	for _, c := range s.Columns {
		if tc := t.column(c.Name); tc != nil && !tc.generated {
			p.columns = append(p.columns, c.Name)
		}
	}
	names := quoted(p.columns, "")
	p.insert = fmt.Sprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM json_populate_recordset(NULL::%s, $1::json) AS new",
		target, names, quoted(p.columns, "new."), target)
	if len(p.keys) == 0 {
		return p
	}
	var set []string
	for _, c := range p.columns {
		if p.assigned(c) {
			set = append(set, quote(c)+" = excluded."+quote(c))
		}
	}
	action := "NOTHING"
	if len(set) > 0 {
		action = "UPDATE SET " + strings.Join(set, ", ")
	}
	p.upsert = fmt.Sprintf("%s ON CONFLICT (%s) DO %s", p.insert, quoted(p.keys, ""), action)
	p.remove = fmt.Sprintf("DELETE FROM %s AS old USING json_populate_recordset(NULL::%s, $1::json) AS new WHERE %s", target, target, p.match())
	if t.referenced {
		p.rekey = p.rekeying(names, action)
	}
	p.displace = p.displacing()
	p.keep = fmt.Sprintf(`INSERT INTO runnel.seen AS s (function, target, key, version)
SELECT $2, $3, %s, max(x.version) FROM json_to_recordset($1::json) AS x(version bigint, key json),
	LATERAL json_populate_record(NULL::%s, x.key) AS new JOIN %s AS old ON %s GROUP BY 3
ON CONFLICT (function, target, key) DO UPDATE SET version = greatest(s.version, excluded.version)`, p.digest(), target, target, p.match())
	return p
}

// rekeying changes a row's key in place, or adds the row where it is not there.
func (p *plan) rekeying(names, action string) string {
	var set []string
	for _, c := range p.columns {
		if p.table.column(c).identity == 'a' { // no UPDATE may set it
			return ""
		}
		set = append(set, quote(c)+" = new."+quote(c))
	}
	pairs := fmt.Sprintf("json_to_recordset($1::json) AS x(was json, now json), LATERAL json_populate_record(NULL::%s, x.now) AS new", p.target)
	return fmt.Sprintf(`WITH moved AS (UPDATE %[1]s AS old SET %[2]s FROM %[3]s, LATERAL json_populate_record(NULL::%[1]s, x.was) AS was WHERE %[4]s RETURNING 1)
INSERT INTO %[1]s (%[5]s) OVERRIDING SYSTEM VALUE SELECT %[6]s FROM %[3]s WHERE NOT EXISTS (SELECT FROM moved) ON CONFLICT (%[7]s) DO %[8]s`,
		p.target, strings.Join(set, ", "), pairs, p.matches("was"), names, quoted(p.columns, "new."), quoted(p.keys, ""), action)
}

// displacing makes room for rows in each unique index beside the key's.
func (p *plan) displacing() []string {
	var all []string
	for i := range p.table.unique {
		x := &p.table.unique[i]
		if !x.plain || x.covers(p.keys) {
			continue
		}
		var same []string
		for n, c := range x.columns {
			same = append(same, fmt.Sprintf("old.%s %s new.%s", quote(c), x.equal[n], quote(c)))
		}
		all = append(all, fmt.Sprintf("DELETE FROM %s AS old USING json_populate_recordset(NULL::%s, $1::json) AS new WHERE %s AND NOT (%s)",
			p.target, p.target, strings.Join(same, " AND "), p.match()))
	}
	return all
}

// assigned says whether an update sets a column. A key's column is set only where equal values can look different (1.0 and
// 1.00), and a GENERATED ALWAYS AS IDENTITY column, which no UPDATE may set, is always of the key.
func (p *plan) assigned(name string) bool {
	c := p.table.column(name)
	return c.identity != 'a' && (!slices.Contains(p.keys, name) || !c.exact)
}

// match compares the keys of old and new with the operators of the key's own index.
func (p *plan) match() string { return p.matches("new") }

func (p *plan) matches(alias string) string {
	var b []string
	for _, k := range p.keys {
		b = append(b, fmt.Sprintf("old.%s %s %s.%s", quote(k), p.table.equal[k], alias, quote(k)))
	}
	return strings.Join(b, " AND ")
}

// digest of the key of a stored row: short whatever the key is, and the same whenever it is computed.
func (p *plan) digest() string {
	return fmt.Sprintf("sha256(convert_to(ROW(%s)::text, 'UTF8'))", quoted(p.keys, "old."))
}

// update is the statement for rows that lack columns. An upsert would not do: it fails where a column that is NOT NULL is
// missing, although the row is there.
func (p *plan) update(lacks []string) string {
	id := strings.Join(lacks, "\x00")
	p.mu.Lock()
	defer p.mu.Unlock()
	if sql, ok := p.updates[id]; ok {
		return sql
	}
	var set []string
	for _, c := range p.columns {
		if p.assigned(c) && !slices.Contains(lacks, c) {
			set = append(set, quote(c)+" = new."+quote(c))
		}
	}
	if len(set) == 0 { // nothing else is there to be set: a statement that finds the row and changes nothing
		set = []string{quote(lacks[0]) + " = old." + quote(lacks[0])}
	}
	sql := fmt.Sprintf("UPDATE %s AS old SET %s FROM json_populate_recordset(NULL::%s, $1::json) AS new WHERE %s",
		p.target, strings.Join(set, ", "), p.target, p.match())
	p.updates[id] = sql
	return sql
}

// appendKeys appends a row's key as a JSON object. The event's key was found complete before.
func (p *plan) appendKeys(dst []byte, r event.Row) []byte {
	for i, k := range p.keys {
		v, _ := r.Column(k)
		dst = append(dst, p.prefix[i]...)
		dst = append(dst, v...)
	}
	return append(dst, '}')
}
