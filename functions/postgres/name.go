package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/event"
)

// ident names a table of the target.
type ident struct{ schema, name string }

// String is the quoted form.
func (i ident) String() string { return pgx.Identifier{i.schema, i.name}.Sanitize() }

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// quoted is a list of names, each with something before it.
func quoted(names []string, before string) string {
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(before)
		b.WriteString(quote(n))
	}
	return b.String()
}

// template makes the target's name from the source's.
type template struct{ schema, name string }

func parseTemplate(s string) (template, error) {
	if s == "" {
		s = "{schema}.{table}"
	}
	schema, name, dotted := strings.Cut(s, ".")
	if !dotted {
		schema, name = "public", s
	}
	bare := strings.NewReplacer("{schema}", "x", "{table}", "x").Replace(schema + "." + name)
	switch {
	case schema == "" || name == "" || strings.Contains(name, "."):
		return template{}, fmt.Errorf("postgres target: table %q: want schema.table or table", s)
	case strings.ContainsAny(bare, "{}"):
		return template{}, fmt.Errorf("postgres target: table %q: only {schema} and {table} are replaced", s)
	case schema == "runnel":
		return template{}, errors.New("postgres target: the schema runnel is Runnel's own: choose another one")
	}
	return template{schema, name}, nil
}

// maxName is NAMEDATALEN less the zero byte; PostgreSQL would cut longer names silently.
const maxName = 63

func (t template) target(of event.Table) (ident, error) {
	r := strings.NewReplacer("{schema}", of.Schema, "{table}", of.Name)
	i := ident{r.Replace(t.schema), r.Replace(t.name)}
	if len(i.schema) > maxName || len(i.name) > maxName {
		return i, fmt.Errorf("table %s: the target's name %s is longer than %d bytes: choose a shorter `table` in the function", of, i, maxName)
	}
	return i, nil
}
