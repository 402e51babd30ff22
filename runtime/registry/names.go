package registry

import (
	"slices"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Name is a naming template ({schema} and {table} are replaced) for a table: what a target's table or index is called.
func Name(template string, t event.Table) string {
	return strings.NewReplacer("{schema}", t.Schema, "{table}", t.Name).Replace(template)
}

// TargetName is what the function's target calls a table.
func (f *Function) TargetName(t event.Table) string {
	_, _, template := f.To.place()
	return Name(template, t)
}

// pattern is one value of from.
type pattern struct{ source, schema, table string }

func parsePattern(from string) (pattern, bool) {
	tokens := strings.Split(from, ".")
	if len(tokens) != 3 {
		return pattern{}, false
	}
	schema, table := name(tokens[1]), name(tokens[2])
	return pattern{tokens[0], schema, table}, schema != "" && table != ""
}

// name is the identifier that a token stands for, or * for any; "" where the token is malformed.
func name(token string) string {
	if token == "*" {
		return token
	}
	n, err := event.UnescapeToken(token)
	if err != nil {
		return ""
	}
	return n
}

// Matches says whether a function reads a table of its source.
func (f *Function) Matches(t event.Table) bool {
	return slices.ContainsFunc(f.From, func(from string) bool {
		p, ok := parsePattern(from)
		return ok && (p.schema == "*" || p.schema == t.Schema) && (p.table == "*" || p.table == t.Name)
	})
}

// checkNames refuses a template that would put several tables into one: each of schema and table must be part of the name
// unless it is one and the same for all of the function's tables.
func (d *document) checkNames(f *Function) {
	kind, _, template := f.To.place()
	if template == "" {
		return
	}
	field := map[string]string{"elasticsearch": "index", "clickhouse": "table", "postgres": "table"}[kind]
	at := "to." + kind + "." + field
	if rest := strings.NewReplacer("{schema}", "", "{table}", "").Replace(template); strings.ContainsAny(rest, "{}") {
		d.at(at, "%s: %q: only {schema} and {table} are replaced", at, template)
		return
	}
	var first pattern
	ok := true
	for i, from := range f.From {
		p, valid := parsePattern(from)
		if !valid {
			return
		}
		if i == 0 {
			first = p
		}
		ok = ok && (strings.Contains(template, "{schema}") || p.schema == first.schema && p.schema != "*") &&
			(strings.Contains(template, "{table}") || p.table == first.table && p.table != "*")
	}
	if !ok {
		d.at(at, "%s: several tables would be written into one %s %q; use a name such as %q", at, field, template, separate(kind))
	}
}

func separate(kind string) string {
	if kind == "postgres" {
		return "{schema}.{table}"
	}
	return "{schema}_{table}"
}

// destination is a place in a target that a function writes; * in its name stands for what is not known before the source
// is looked at.
type destination struct{ kind, url, name string }

func (f *Function) destinations() []destination {
	kind, url, template := f.To.place()
	if template == "" { // no place of a row
		return nil
	}
	var all []destination
	for _, from := range f.From {
		p, ok := parsePattern(from)
		if !ok {
			continue
		}
		name := Name(template, event.Table{Schema: p.schema, Name: p.table})
		if kind == "postgres" && !strings.Contains(name, ".") {
			name = "public." + name
		}
		all = append(all, destination{kind, strings.TrimRight(url, "/"), name})
	}
	return all
}

// clash gives a name that both functions would write, or "".
func clash(a, b *Function) string {
	for _, x := range a.destinations() {
		for _, y := range b.destinations() {
			if x.kind == y.kind && x.url == y.url && overlap(x.name, y.name) {
				if strings.Contains(x.name, "*") {
					return y.name
				}
				return x.name
			}
		}
	}
	return ""
}

// overlap says whether one text can match both patterns; * stands for any characters, ? for one.
func overlap(a, b string) bool {
	switch {
	case a == "" && b == "":
		return true
	case a != "" && a[0] == '*':
		return overlap(a[1:], b) || b != "" && overlap(a, b[1:])
	case b != "" && b[0] == '*':
		return overlap(b, a)
	case a == "" || b == "":
		return false
	}
	return (a[0] == b[0] || a[0] == '?' || b[0] == '?') && overlap(a[1:], b[1:])
}

// captures says whether a source's list of tables can hold what a pattern asks for.
func captures(s *Source, p pattern) bool {
	return slices.ContainsFunc(s.Tables, func(table string) bool { return overlap(table, p.schema+"."+p.table) })
}

// checkTogether checks functions against sources and against each other. deployed are those that KV holds and the files do
// not; nil where that is not known yet.
func (f *Files) checkTogether(deployed *Files) {
	sources, functions := f.Sources, f.Functions
	if deployed != nil {
		sources, functions = slices.Concat(sources, deployed.Sources), slices.Concat(functions, deployed.Functions)
	}
	for i := range f.Functions {
		fn := &f.Functions[i]
		d := f.documents[kindFunction+"/"+fn.Name]
		if d.broken {
			continue
		}
		f.checkSourceOf(d, fn, sources, deployed != nil)
		for j := range functions {
			if functions[j].Name == fn.Name || j < len(f.Functions) && (j > i || f.documents[kindFunction+"/"+functions[j].Name].broken) {
				continue // itself, or reported at the later one
			}
			if deployed != nil && deployed.copies[functions[j].Name] == fn.Name {
				continue // patterns of the two overlap where no two tables do
			}
			if name := clash(fn, &functions[j]); name != "" {
				d.at("to", "%s and function %q would both write %s %q at the same URL; give one of them another name", d, functions[j].Name, fn.To.Kind(), name)
			}
		}
	}
}

func (f *Files) checkSourceOf(d *document, fn *Function, sources []Source, all bool) {
	i := slices.IndexFunc(sources, func(s Source) bool { return s.Name == fn.Source() })
	if i < 0 {
		if all {
			names := make([]string, len(sources))
			for i := range sources {
				names[i] = sources[i].Name
			}
			d.at("from", "no source %q, neither in the files nor deployed%s", fn.Source(), known(fn.Source(), names))
		}
		return
	}
	for k, from := range fn.From {
		p, ok := parsePattern(from)
		if ok && p.source == fn.Source() && !captures(&sources[i], p) {
			d.at(index("from", k), "source %q does not capture %s.%s; its tables are %s", fn.Source(), p.schema, p.table, strings.Join(sources[i].Tables, ", "))
		}
	}
}

func known(name string, names []string) string {
	if len(names) == 0 {
		return "; deploy its `kind: source` first"
	}
	return suggest(name, names)
}
