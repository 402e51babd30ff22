package registry

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
)

var (
	validName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,39}$`)
	validSlot = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)
)

func (d *document) checkName(name string) {
	switch {
	case name == "":
		d.missing("name", "no name: every %s has one", d.kind)
	case !validName.MatchString(name):
		d.at("name", "name %q: expected 1 to 40 of a-z, 0-9, _ and -, beginning with a letter or digit", name)
	}
}

// checkConnector wants exactly one.
func (d *document) checkConnector(s *Source) {
	var named []string
	for _, name := range []string{"postgres", "mysql", "mariadb"} {
		if d.places[name] != nil {
			named = append(named, name)
		}
	}
	switch name, url := s.Connector(); {
	case len(named) == 0:
		d.missing("postgres", "no connector in %s: expected postgres: {url: \"${...}\"}, or mysql: or mariadb: instead", d)
	case len(named) > 1:
		d.at(named[1], "%s and %s: expected one connector; make a source for each server", named[0], named[1])
	case name == "mysql" || name == "mariadb":
		d.checkURL(name+".url", url, "mysql", "mariadb")
	}
}

func (d *document) checkSource(s *Source) {
	d.checkName(s.Name)
	d.checkConnector(s)
	if s.Postgres != nil {
		d.checkURL("postgres.url", s.Postgres.URL, "postgres", "postgresql")
		if d.places["postgres.slot"] != nil && !validSlot.MatchString(s.Postgres.Slot) {
			d.at("postgres.slot", "slot %q: PostgreSQL allows 1 to 63 of a-z, 0-9 and _", s.Postgres.Slot)
		}
		if len(s.Postgres.Publication) > 56 { // room for the suffix _insert
			d.at("postgres.publication", "publication %q: at most 56 characters", s.Postgres.Publication)
		}
	}
	if len(s.Tables) == 0 && d.places["tables"] == nil {
		d.missing("tables", "no tables in %s: expected tables: [schema.table, ...], with * and ? as wildcards", d)
	}
	for i, pattern := range s.Tables {
		if schema, table, ok := strings.Cut(pattern, "."); !ok || schema == "" || table == "" {
			d.at(index("tables", i), "table %q: expected schema.table, with * and ? as wildcards", pattern)
		}
	}
	d.checkRange("stream.partitions", s.Stream.Partitions, 1, 256)
	d.checkRange("stream.replicas", s.Stream.Replicas, 0, 5)
	d.checkRange("snapshot.parallel", s.Snapshot.Parallel, 1, 32)
	d.checkRange("snapshot.chunk_rows", s.Snapshot.ChunkRows, 1, 1_000_000)
}

func (d *document) checkFunction(f *Function) {
	d.checkName(f.Name)
	if len(f.From) == 0 {
		if d.places["from"] == nil {
			d.missing("from", "no from in %s: expected from: source.schema.table, or a list, with * for a whole token", d)
		} else {
			d.at("from", "from: expected at least one source.schema.table")
		}
	}
	source := ""
	for i, pattern := range f.From {
		source = d.checkFrom(index("from", i), pattern, source)
	}
	d.checkTarget(f)
	d.checkHandler(f)
	d.checkRange("batch.rows", f.Batch.Rows, 1, 1_000_000)
	switch f.Truncate {
	case "", TruncateApply, TruncateIgnore, TruncateHalt:
	default:
		d.at("truncate", "truncate: expected apply, ignore or halt, found %q", f.Truncate)
	}
	switch {
	case f.Ordering != "" && f.Ordering != OrderKey && f.Ordering != OrderSource:
		d.at("ordering", "ordering: expected key or source, found %q", f.Ordering)
	case f.Ordering == OrderSource && f.To.Postgres == nil && d.places["to"] != nil:
		d.at("ordering", "ordering: source needs a target with transactions, which is postgres; leave it out for this one")
	}
	d.checkShape(f)
	d.checkNames(f)
}

// checkFrom checks one pattern. source is what the patterns before it read from, "" for the first one; it gives that of all.
func (d *document) checkFrom(path, pattern, source string) string {
	tokens := strings.Split(pattern, ".")
	if len(tokens) != 3 || tokens[0] == "" || tokens[1] == "" || tokens[2] == "" {
		d.at(path, "from %q: expected source.schema.table, with * for a whole token (a dot within a name is %%2E)", pattern)
		return source
	}
	if !validName.MatchString(tokens[0]) {
		d.at(path, "from %q: expected the name of one source first, found %q", pattern, tokens[0])
		return source
	}
	if source != "" && tokens[0] != source {
		d.at(path, "from %q: a function reads from one source, and the first pattern says %q; make a second function", pattern, source)
	}
	for _, token := range tokens[1:] {
		if token == "*" {
			continue
		}
		if strings.ContainsAny(token, "*>") {
			d.at(path, "from %q: * stands for a whole token only", pattern)
		} else if n := name(token); n == "" || event.EscapeToken(n) != token {
			d.at(path, "from %q: write %q as %q", pattern, token, event.EscapeToken(token))
		}
	}
	if source == "" {
		return tokens[0]
	}
	return source
}

func (d *document) checkTarget(f *Function) {
	known := strings.Join(targetKinds, ", ")
	if d.places["to"] == nil {
		if d.places["handler"] == nil && !d.meant["handler"] {
			d.missing("to", "no target in %s: expected to: with one of %s, or handler: with the name of one of your own", d, known)
		}
		return
	}
	t, targets := &f.To, 0
	for _, kind := range targetKinds {
		if d.places["to."+kind] != nil {
			targets++
		}
	}
	if targets > 1 {
		d.at("to", "to: expected exactly one of %s; make a function for each target", known)
	}
	if targets == 0 && !slices.ContainsFunc(slices.Collect(maps.Keys(d.meant)), func(path string) bool { return strings.HasPrefix(path, "to.") }) {
		d.at("to", "to: expected one of %s", known)
	}
	if e := t.Elasticsearch; e != nil {
		d.checkURL("to.elasticsearch.url", e.URL, "http", "https")
		d.checkSecret("to.elasticsearch.password", e.Password)
		d.checkSecret("to.elasticsearch.api_key", e.APIKey)
		d.checkReferences("to.elasticsearch.user", e.User)
		d.checkReferences("to.elasticsearch.ca_file", e.CAFile)
		if e.APIKey != "" && (e.User != "" || e.Password != "") {
			d.at("to.elasticsearch.api_key", "expected either api_key or user and password, found both")
		}
	}
	if c := t.ClickHouse; c != nil {
		d.checkURL("to.clickhouse.url", c.URL, "clickhouse", "tcp", "http", "https")
	}
	if p := t.Postgres; p != nil {
		d.checkURL("to.postgres.url", p.URL, "postgres", "postgresql")
	}
	if h := t.HTTP; h != nil {
		d.checkHTTP(h)
	}
	if n := t.NATS; n != nil {
		d.checkNATS(n)
	}
}

func (d *document) checkRange(path string, v, low, high int) {
	if v < low || v > high {
		d.at(path, "%s: expected %d to %d, found %d", path, low, high, v)
	}
}
