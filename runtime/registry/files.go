package registry

import (
	"errors"
	"os"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Files is what a set of YAML files says.
type Files struct {
	Sources   []Source
	Functions []Function
	Tests     []Test            // of ReadTests only
	Text      map[string]string // "source/<name>" or "function/<name>" to the document's own text, references unresolved

	copies    map[string]string    // of what is deployed: whose copy a function is
	documents map[string]*document // by the same keys, so that a fault found later still names its place
}

// Kinds of documents.
const (
	kindSource   = "source"
	kindFunction = "function"
	kindTest     = "test"
)

// ReadFiles reads files (several documents each). All faults are reported at once, each with file:line:column, what was
// expected and the nearest valid name. References are checked to be references but not resolved.
func ReadFiles(paths ...string) (*Files, error) { return readFiles(paths, false) }

func readFiles(paths []string, tests bool) (*Files, error) {
	f := &Files{Text: map[string]string{}, documents: map[string]*document{}}
	var faults Faults
	for n := 0; n < len(paths); n++ { // a test names more of them
		path := paths[n]
		content, err := os.ReadFile(path)
		if err != nil {
			faults = append(faults, Fault{File: path, Text: reason(err)})
			continue
		}
		documents := split(path, string(content))
		if len(documents) == 0 {
			faults = append(faults, Fault{File: path, Text: "no documents: expected `kind: source` or `kind: function`"})
		}
		for _, d := range documents {
			f.add(d)
			if d.kind == kindTest && !tests {
				d.fault(d.places["kind"], "kind: tests are for `runnel test`; keep them in files of their own")
			}
			paths = append(paths, d.beside(paths)...)
			faults = append(faults, d.faults...)
			d.broken, d.faults = len(d.faults) > 0, nil
		}
	}
	f.checkTogether(nil)
	faults = append(faults, f.takeFaults()...)
	if len(faults) > 0 {
		faults.sortWithin(paths)
		return nil, faults
	}
	return f, nil
}

// reason is an error of the file system without the path, which stands before it already.
func reason(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// takeFaults collects what checks across documents found.
func (f *Files) takeFaults() Faults {
	var faults Faults
	for i := range f.Sources {
		d := f.documents[kindSource+"/"+f.Sources[i].Name]
		faults, d.faults = append(faults, d.faults...), nil
	}
	for i := range f.Functions {
		d := f.documents[kindFunction+"/"+f.Functions[i].Name]
		faults, d.faults = append(faults, d.faults...), nil
	}
	return faults
}

// add decodes a document and keeps it, if it has no faults that make it unusable.
func (f *Files) add(d *document) {
	root := d.parse()
	if root == nil {
		return
	}
	switch d.kind {
	case kindSource:
		s := d.source(root)
		if f.unique(d) {
			f.Sources = append(f.Sources, *s)
		}
	case kindFunction:
		fn := d.function(root)
		if f.unique(d) {
			f.Functions = append(f.Functions, *fn)
		}
	case kindTest:
		f.Tests = append(f.Tests, *d.test(root))
	case "":
		d.fault(root, "no kind: expected `kind: source` or `kind: function`")
	default:
		d.fault(d.places["kind"], "unknown kind %q%s", d.kind, suggest(d.kind, []string{kindSource, kindFunction}))
	}
}

// unique keeps the document under its name, or reports the name as taken.
func (f *Files) unique(d *document) bool {
	if d.name == "" {
		return false
	}
	key := d.kind + "/" + d.name
	if other := f.documents[key]; other != nil {
		d.at("name", "duplicate name: %s stands in %s:%d already", d, other.file, other.line+start(other.places["name"]).GetToken().Position.Line)
		return false
	}
	f.documents[key], f.Text[key] = d, d.text
	return true
}

// ParseSource reads one document as it is kept in KV.
func ParseSource(name, text string) (*Source, error) {
	d := &document{file: kindSource + "/" + name, text: text}
	root := d.parse()
	if root != nil && d.expect(kindSource, name, root) {
		s := d.source(root)
		if len(d.faults) == 0 {
			return s, nil
		}
	}
	return nil, d.faults
}

// ParseFunction reads one document as it is kept in KV.
func ParseFunction(name, text string) (*Function, error) {
	d := &document{file: kindFunction + "/" + name, text: text}
	root := d.parse()
	if root != nil && d.expect(kindFunction, name, root) {
		f := d.function(root)
		if len(d.faults) == 0 {
			return f, nil
		}
	}
	return nil, d.faults
}

func (d *document) expect(kind, name string, root ast.Node) bool {
	if d.kind != kind || d.name != name {
		d.fault(root, "expected %s %q, found %s", kind, name, d)
		return false
	}
	return true
}

// split cuts a file into its documents at the lines that begin with ---. (The parser forgets documents after an empty one.)
func split(file, content string) []*document {
	var documents []*document
	lines := strings.SplitAfter(content, "\n")
	from := 0
	cut := func(to int) {
		text := strings.TrimRight(strings.Join(lines[from:to], ""), " \t\r\n")
		if !blank(text) {
			documents = append(documents, &document{file: file, line: from, text: text})
		}
	}
	for i, line := range lines {
		rest, marker := strings.CutPrefix(line, "---")
		switch {
		case marker && strings.TrimRight(rest, " \t\r\n") == "":
			cut(i)
			from = i + 1
		case marker && (rest[0] == ' ' || rest[0] == '\t'): // the document begins on this line
			cut(i)
			from, lines[i] = i, "   "+rest
		case strings.TrimRight(line, " \t\r\n") == "...":
			lines[i] = "\n"
		}
	}
	cut(len(lines))
	return documents
}

// blank says whether a text holds nothing but comments.
func blank(text string) bool {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			return false
		}
	}
	return true
}

// parse gives the document's root mapping, and takes kind and name out of it, so that faults can say where they are.
func (d *document) parse() ast.Node {
	d.anchors, d.places, d.meant = map[string]ast.Node{}, map[string]ast.Node{}, map[string]bool{}
	file, err := parser.ParseBytes([]byte(d.text), 0)
	if err != nil {
		var located yaml.Error
		if errors.As(err, &located) && located.GetToken() != nil {
			p := located.GetToken().Position
			d.faults = append(d.faults, Fault{d.file, d.line + p.Line, max(1, p.Column), "not YAML: " + located.GetMessage()})
		} else {
			d.fault(nil, "not YAML: %v", err)
		}
		return nil
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		d.fault(nil, "expected one document with `kind: source` or `kind: function`")
		return nil
	}
	root, ok := file.Docs[0].Body.(*ast.MappingNode)
	if !ok {
		d.fault(file.Docs[0].Body, "expected a mapping with `kind: source` or `kind: function`, found %s", describe(file.Docs[0].Body))
		return nil
	}
	for _, entry := range root.Values {
		switch entry.Key.GetToken().Value {
		case "kind":
			d.places["kind"] = entry.Value
			d.kind, _ = scalar(entry.Value)
		case "name":
			d.name, _ = scalar(entry.Value)
		}
	}
	d.places[""] = root
	return root
}

func (d *document) source(root ast.Node) *Source {
	s := new(Source)
	d.decode(root, reflect.ValueOf(s).Elem(), "")
	s.fill()
	d.checkSource(s)
	return s
}

func (d *document) function(root ast.Node) *Function {
	f := new(Function)
	d.decode(root, reflect.ValueOf(f).Elem(), "")
	f.fill()
	d.checkFunction(f)
	return f
}
