package main

import (
	"maps"
	"regexp"
	"strings"

	"github.com/runnel-dev/runnel/runtime/registry"
)

var references = regexp.MustCompile(`\$\{([^}]*)\}`)

// withoutReferences is a function whose references are replaced by what lookup says; one that it does not know stands for itself, as its
// name. No file of certificates is named: with such a function nothing can be sent.
func withoutReferences(f *registry.Function, lookup func(name string) (string, bool)) *registry.Function {
	replace := func(s string) string {
		return references.ReplaceAllStringFunc(s, func(ref string) string {
			name := references.FindStringSubmatch(ref)[1]
			if value, ok := lookup(name); ok {
				return value
			}
			return name
		})
	}
	url := func(s, standIn string) string {
		if s = replace(s); !strings.Contains(s, "://") {
			return standIn
		}
		return s
	}
	g := *f
	g.Mask.Salt, g.Config = replace(f.Mask.Salt), maps.Clone(f.Config)
	for name, value := range g.Config {
		g.Config[name] = replace(value)
	}
	if t := f.To.Elasticsearch; t != nil {
		g.To.Elasticsearch = &registry.ElasticsearchTarget{URL: url(t.URL, "http://elasticsearch.invalid"), Index: t.Index}
	}
	if t := f.To.ClickHouse; t != nil {
		g.To.ClickHouse = &registry.ClickHouseTarget{URL: url(t.URL, "http://clickhouse.invalid/default"), Table: t.Table}
	}
	if t := f.To.Postgres; t != nil {
		g.To.Postgres = &registry.PostgresTarget{URL: url(t.URL, "postgres://postgres.invalid/postgres"), Table: t.Table}
	}
	if t := f.To.HTTP; t != nil {
		g.To.HTTP = &registry.HTTPTarget{URL: url(t.URL, "http://http.invalid"), Format: t.Format}
	}
	if t := f.To.NATS; t != nil {
		g.To.NATS = &registry.NATSTarget{URL: url(t.URL, "nats://nats.invalid"), Subject: t.Subject, Stream: t.Stream, Domain: t.Domain}
	}
	return &g
}
