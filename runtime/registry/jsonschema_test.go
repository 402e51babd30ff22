package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/runnel-dev/runnel/runtime/registry"
)

type object = map[string]any

// TestJSONSchema makes the schema from the types that YAML is read into, and their comments.
func TestJSONSchema(t *testing.T) {
	t.Parallel()
	m := maker{comments: readComments(t), defs: object{}}
	kinds := []struct {
		name string
		typ  reflect.Type
	}{
		{"source", reflect.TypeFor[registry.Source]()}, {"function", reflect.TypeFor[registry.Function]()}, {"test", reflect.TypeFor[registry.Test]()},
	}
	var names []string
	var choices []object
	for _, k := range kinds {
		names = append(names, k.name)
		ref := m.of(k.typ)
		m.defs[k.typ.Name()].(object)["properties"].(object)["kind"] = object{"const": k.name}
		choices = append(choices, object{"if": object{"properties": object{"kind": object{"const": k.name}}, "required": []string{"kind"}}, "then": ref})
	}
	for def, more := range rules {
		maps.Copy(m.defs[def].(object), more)
	}
	for path, more := range values {
		def, field, _ := strings.Cut(path, ".")
		maps.Copy(m.defs[def].(object)["properties"].(object)[field].(object), more)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(object{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Runnel", "type": "object", "required": []string{"kind"},
		"properties": object{"kind": object{"enum": names, "description": "what the document specifies"}}, "allOf": choices, "$defs": m.defs,
	}); err != nil {
		t.Fatal(err)
	}
	golden(t, "schema.json", b.String())
}

// rules are what ReadFiles asks for beyond the types.
var rules = map[string]object{
	"Source": {"required": []string{"kind", "name", "tables"}, "oneOf": []object{
		{"required": []string{"postgres"}}, {"required": []string{"mysql"}}, {"required": []string{"mariadb"}},
	}},
	"Function": {"required": []string{"kind", "name", "from"}, "dependentRequired": object{"config": []string{"handler"}}, "oneOf": []object{
		{"required": []string{"to"}}, {"required": []string{"handler"}},
	}},
	"Target":              {"minProperties": 1, "maxProperties": 1},
	"PostgresSource":      {"required": []string{"url"}},
	"MySQLSource":         {"required": []string{"url"}},
	"ElasticsearchTarget": {"required": []string{"url"}},
	"ClickHouseTarget":    {"required": []string{"url"}},
	"PostgresTarget":      {"required": []string{"url"}},
	"HTTPTarget":          {"required": []string{"url"}},
	"NATSTarget":          {"required": []string{"url"}},
	"ColumnChoice":        {"not": object{"required": []string{"include", "exclude"}}},
	"Test":                {"required": []string{"kind", "function", "cases"}},
	"TestCase":            {"required": []string{"name"}},
	"TestTable":           {"required": []string{"name", "columns"}},
	"Given": {"oneOf": []object{
		{"required": []string{"insert"}}, {"required": []string{"update"}}, {"required": []string{"delete"}}, {"required": []string{"read"}}, {"required": []string{"fixture"}},
	}},
}

var name = object{"pattern": "^[a-z0-9][a-z0-9_-]{0,39}$"}

// values are bounds and choices of single fields; 0 stands for the default everywhere.
var values = map[string]object{
	"Source.name":                 name,
	"Function.name":               name,
	"Function.handler":            name,
	"Function.ordering":           {"enum": []string{registry.OrderKey, registry.OrderSource}},
	"Function.truncate":           {"enum": []string{registry.TruncateApply, registry.TruncateIgnore, registry.TruncateHalt}},
	"HTTPTarget.format":           {"enum": []string{"json", "cloudevents"}},
	"StreamSettings.partitions":   {"minimum": 1, "maximum": 256},
	"StreamSettings.replicas":     {"minimum": 0, "maximum": 5},
	"SnapshotSettings.parallel":   {"minimum": 1, "maximum": 32},
	"SnapshotSettings.chunk_rows": {"minimum": 0, "maximum": 1_000_000},
	"Batching.rows":               {"minimum": 0, "maximum": 1_000_000},
}

// maker makes definitions of types.
type maker struct {
	comments map[string]string // by Type and Type.Field
	defs     object
}

// of is the schema of a type's values; it mirrors what decode accepts.
func (m *maker) of(t reflect.Type) object {
	scalars := object{"type": []string{"string", "number", "boolean"}}
	switch t {
	case reflect.TypeFor[time.Duration]():
		return object{"anyOf": []object{{"type": "string", "pattern": `^([0-9]+d|0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`}, {"const": 0}}}
	case reflect.TypeFor[registry.Rate]():
		return object{"anyOf": []object{{"type": "string", "pattern": `^ *[0-9]+(\.[0-9]+)? */ *[smh] *$`}, {"type": "number", "exclusiveMinimum": 0}}}
	case reflect.TypeFor[int64]():
		return object{"anyOf": []object{{"type": "string", "pattern": `^[0-9]+(\.[0-9]+)? *([kKMGT]?B|[KMGT]iB)$`}, {"type": "number", "minimum": 0}}}
	case reflect.TypeFor[registry.JSON]():
		return object{"type": "object"}
	case reflect.TypeFor[[]registry.Computation](), reflect.TypeFor[[]registry.TypedColumn](), reflect.TypeFor[map[string]string]():
		return object{"type": "object", "additionalProperties": scalars}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return m.of(t.Elem())
	case reflect.Slice:
		one := m.of(t.Elem())
		return object{"anyOf": []object{one, {"type": "array", "items": one}}} // one value stands for a list of one
	case reflect.Struct:
		return m.define(t)
	case reflect.Int:
		return object{"type": "integer"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	default:
		panic(fmt.Sprintf("%s: what does YAML for it look like?", t))
	}
}

func (m *maker) define(t reflect.Type) object {
	ref := object{"$ref": "#/$defs/" + t.Name()}
	if m.defs[t.Name()] != nil {
		return ref
	}
	properties := object{}
	m.defs[t.Name()] = object{"type": "object", "description": m.comments[t.Name()], "properties": properties, "additionalProperties": false}
	for i := range t.NumField() {
		f := t.Field(i)
		if name := f.Tag.Get("yaml"); name != "" {
			p := m.of(f.Type)
			if text := m.comments[t.Name()+"."+f.Name]; text != "" {
				p["description"] = text
			}
			properties[name] = p
		}
	}
	return ref
}

// readComments reads what stands beside the fields and above the types.
func readComments(t *testing.T) map[string]string {
	t.Helper()
	comments := map[string]string{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE || g.Doc == nil {
				continue
			}
			s := g.Specs[0].(*ast.TypeSpec)
			comments[s.Name.Name] = strings.Join(strings.Fields(g.Doc.Text()), " ")
			if st, ok := s.Type.(*ast.StructType); ok {
				for _, f := range st.Fields.List {
					for _, n := range f.Names {
						comments[s.Name.Name+"."+n.Name] = strings.TrimSpace(f.Comment.Text())
					}
				}
			}
		}
	}
	return comments
}

// compiled is the schema as a validator has it.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(registry.JSONSchema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("runnel.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("runnel.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bySchema is what the schema says of each document of a text.
func bySchema(s *jsonschema.Schema, text string) error {
	for doc := range strings.SplitSeq("\n"+text, "\n---") {
		var v any
		if err := yaml.Unmarshal([]byte(doc), &v); err != nil {
			return err
		}
		if v == nil {
			continue
		}
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if v, err = jsonschema.UnmarshalJSON(bytes.NewReader(b)); err != nil {
			return err
		}
		if err := s.Validate(v); err != nil {
			return err
		}
	}
	return nil
}

// TestJSONSchemaAgrees: what the reader accepts the schema accepts, and what is wrong in shape both refuse.
func TestJSONSchemaAgrees(t *testing.T) {
	t.Parallel()
	s := compiled(t)
	const source, function = "kind: source\nname: shop\npostgres: {url: \"${U}\"}\ntables: [a.b]\n", "kind: function\nname: f\nfrom: shop.a.b\nto: {postgres: {url: \"${U}\"}}\n"
	const test = "kind: test\nfunction: f\ntables: {name: a.b, columns: {id: bigint key}}\n"
	for text, want := range map[string]bool{
		source: true, function: true,
		source + "stream: {partitions: 256, max_age: 7d, max_bytes: 1.5 GiB, replicas: 5}\n": true,
		source + "stream: {partitions: 257}\n":                                               false,
		source + "stream: {partitions: -1}\n":                                                false,
		source + "stream: {replicas: 6}\n":                                                   false,
		source + "stream: {max_age: 7 days}\n":                                               false,
		source + "stream: {max_bytes: 10 apples}\n":                                          false,
		source + "snapshot: {parallel: 33}\n":                                                false,
		source + "snapshot: {parallel: 32, chunk_rows: 1000000}\n":                           true,
		source + "snapshot: {chunk_rows: 1000001}\n":                                         false,
		source + "mysql: {url: \"${U}\"}\n":                                                  false,
		source + "tabels: [a.b]\n":                                                           false,
		"kind: source\nname: Shop\npostgres: {url: \"${U}\"}\ntables: [a.b]\n":               false,
		"kind: source\nname: shop\npostgres: {url: \"${U}\"}\n":                              false,
		"kind: source\nname: shop\ntables: [a.b]\n":                                          false,
		"kind: function\nname: f\nfrom: shop.a.b\nhandler: cache\nconfig: {size: 3}\n":       true,
		function + "handler: cache\n":                                                        false,
		function + "config: {size: 3}\n":                                                     false,
		"kind: function\nname: f\nfrom: shop.a.b\nhandler: My Cache\n":                       false,
		"name: shop\n":  false,
		"kind: sauce\n": false,
		function + "batch: {rows: 1000000, bytes: 8MiB, age: 0}\n":      true,
		function + "batch: {age: 1m30s, bytes: 100}\n":                  true,
		function + "batch: {rows: 0}\n":                                 true,
		function + "batch: {rows: many}\n":                              false,
		function + "rate: 30/m\n":                                       true,
		function + "rate: 500\n":                                        true,
		function + "rate: 0\n":                                          false,
		function + "rate: 5/d\n":                                        false,
		function + "ordering: source\ntruncate: halt\n":                 true,
		function + "ordering: time\n":                                   false,
		function + "truncate: never\n":                                  false,
		function + "ops: c\nset: {a: true, b: 1}\nlabels: {zone: 1}\n":  true,
		function + "columns: {include: [a], exclude: [b]}\n":            false,
		function + "set: [a]\n":                                         false,
		"kind: function\nname: f\nfrom: shop.a.b\n":                     false,
		"kind: function\nname: f\nfrom: shop.a.b\nto: {postgres: {}}\n": false,
		"kind: function\nname: f\nfrom: shop.a.b\nto: {postgres: {url: \"${U}\"}, clickhouse: {url: \"${U}\"}}\n":              false,
		"kind: function\nname: f\nfrom: shop.a.b\nto: {http: {url: \"${U}\", format: cloudevents, headers: {a: b}}}\n":         true,
		"kind: function\nname: f\nfrom: shop.a.b\nto: {http: {url: \"${U}\", format: xml}}\n":                                  false,
		"kind: function\nname: f\nfrom: shop.a.b\nto: {http: {format: json}}\n":                                                false,
		"kind: function\nname: f\nfrom: shop.a.b\nto: {nats: {subject: x}}\n":                                                  false,
		test + "cases: {name: x, given: {insert: {id: 1}}, expect: {rows: {id: 1}}}\n":                                         true,
		test + "cases:\n  - name: x\n    given: [{update: {id: 1}, before: {id: 1}}, {delete: {id: 1}}, {fixture: a.jsonl}]\n": true,
		test + "cases: {given: {insert: {id: 1}}}\n":                                                                           false,
		test + "cases: {name: x, given: {insert: {id: 1}, delete: {id: 1}}}\n":                                                 false,
		test + "cases: {name: x, given: {insert: 7}}\n":                                                                        false,
		test: false,
	} {
		path := filepath.Join(t.TempDir(), "file.yaml")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := registry.ReadTests(path)
		if got := err == nil; got != want {
			t.Errorf("the reader says %v of\n%s", err, text)
		}
		if err := bySchema(s, text); (err == nil) != want {
			t.Errorf("the schema says %v of\n%s", err, text)
		}
	}
}

// TestEveryYAML reads every YAML of the pages, of deploy/ and of new projects strictly.
func TestEveryYAML(t *testing.T) {
	t.Parallel()
	s := compiled(t)
	found := map[string]int{}
	dir := t.TempDir() // a new project, whose files tests of the pages name
	check := func(path, text string) {
		found[filepath.Ext(path)]++
		file := filepath.Join(dir, "file.yaml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := registry.ReadTests(file); err != nil {
			t.Errorf("%s: %v", path, strings.ReplaceAll(err.Error(), file, path))
		}
		if err := bySchema(s, text); err != nil {
			t.Errorf("%s: the schema says %v of\n%s", path, err, text)
		}
	}
	templates, err := filepath.Glob("../../cmd/runnel/project/*.yaml.tmpl")
	if err != nil || len(templates) < 3 {
		t.Fatalf("got %d templates, %v", len(templates), err)
	}
	project := map[string]string{}
	for _, path := range templates {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		project[path] = strings.ReplaceAll(string(b), "{{.Name}}", "orders-cache")
		if err := os.WriteFile(filepath.Join(dir, strings.TrimSuffix(filepath.Base(path), ".tmpl")), []byte(project[path]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range project {
		check(path, text)
	}
	for _, root := range []string{"../../README.md", "../../docs", "../../deploy"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			switch filepath.Ext(path) {
			case ".yaml", ".yml":
				check(path, string(b))
			case ".md":
				for _, text := range shown(string(b)) {
					check(path, text)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if found[".md"] < 3 {
		t.Errorf("found %v: the pages show more", found)
	}
}

// shown are the YAML documents of a page: in fences, and indented after a blank line. One that is a part of a document is completed.
func shown(page string) []string {
	var all []string
	var block []string
	language, fenced, indented := "", false, false
	end := func() {
		text := strings.Join(block, "\n") + "\n"
		block = nil
		if strings.Contains("\n"+text, "\nkind: ") {
			all = append(all, text)
		} else if language == "yaml" {
			all = append(all, "kind: function\nname: part\nfrom: shop.public.orders\nto: {postgres: {url: \"${URL}\"}}\n"+text)
		}
	}
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		mark, isMark := strings.CutPrefix(line, "```")
		rest, isIndented := strings.CutPrefix(line, "    ")
		switch {
		case isMark && !fenced:
			language, fenced = mark, true
		case isMark:
			if language != "yaml" {
				block = nil // what a command prints
			}
			end()
			language, fenced = "", false
		case fenced:
			block = append(block, line)
		case isIndented:
			indented = true
			block = append(block, rest)
		case indented:
			end()
			indented = false
		}
	}
	if len(block) > 0 {
		end()
	}
	return slices.DeleteFunc(all, func(text string) bool { return !strings.Contains(text, "kind: ") })
}
