package registry

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// document is one YAML document on its way into a specification. It collects faults and goes on, so that all are reported
// at once (the library's own decoder ends at the first one), and remembers where each field stands for the checks that
// follow.
type document struct {
	file    string
	line    int // of the document's first line, less 1
	kind    string
	name    string
	text    string
	anchors map[string]ast.Node
	places  map[string]ast.Node // by path: to.postgres.url, from[1]
	meant   map[string]bool     // paths that an unknown field was most likely meant to be
	faults  Faults
	files   []string // that a test names
	broken  bool     // has faults of its own: what others say about it would mislead
}

func (d *document) String() string {
	if d.name == "" {
		return d.kind
	}
	return fmt.Sprintf("%s %q", d.kind, d.name)
}

func (d *document) fault(n ast.Node, format string, a ...any) {
	line, column := d.place(n)
	d.faults = append(d.faults, Fault{d.file, line, column, fmt.Sprintf(format, a...)})
}

func (d *document) place(n ast.Node) (line, column int) {
	if n == nil {
		return d.line + 1, 1
	}
	p := start(n).GetToken().Position
	return d.line + p.Line, max(1, p.Column)
}

// at reports a fault at a field, or where the nearest field around it stands; only the first one of a place, since the others
// follow from it.
func (d *document) at(path, format string, a ...any) {
	n := d.places[d.known(path)]
	line, column := d.place(n)
	if !slices.ContainsFunc(d.faults, func(f Fault) bool { return f.Line == line && f.Column == column }) {
		d.fault(n, format, a...)
	}
}

// missing reports a field that is not there, at the document's beginning, unless an unknown field was meant to be it.
func (d *document) missing(path, format string, a ...any) {
	if !d.meant[path] {
		d.fault(d.places[""], format, a...)
	}
}

func (d *document) known(path string) string {
	for path != "" && d.places[path] == nil {
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return path
}

// start is the node at whose place a value begins: the token of a block mapping is its first colon.
func start(n ast.Node) ast.Node {
	switch m := n.(type) {
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			return m.Values[0].Key
		}
	case *ast.MappingValueNode:
		return m.Key
	}
	return n
}

// plain takes anchors and aliases away.
func (d *document) plain(n ast.Node) ast.Node {
	for range 100 { // an alias that contains itself ends here
		switch m := n.(type) {
		case *ast.AnchorNode:
			d.anchors[m.Name.GetToken().Value] = m.Value
			n = m.Value
		case *ast.AliasNode:
			target, ok := d.anchors[m.Value.GetToken().Value]
			if !ok {
				d.fault(n, "unknown alias *%s: no &%s stands before it in this document", m.Value.GetToken().Value, m.Value.GetToken().Value)
				return nil
			}
			n = target
		case *ast.TagNode:
			d.fault(n, "a tag (%s) has no meaning here; write the plain value", m.GetToken().Value)
			return nil
		default:
			return n
		}
	}
	d.fault(n, "an alias that contains itself")
	return nil
}

// decode sets v from the node; path names it. Expected shapes follow from v's type.
func (d *document) decode(n ast.Node, v reflect.Value, path string) {
	d.places[path] = n
	if n = d.plain(n); n == nil {
		return
	}
	if v.Type() == reflect.TypeFor[JSON]() {
		d.decodeRow(n, v, path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(n, v.Elem(), path)
	case reflect.Struct:
		d.decodeStruct(n, v, path)
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[[]Computation]() {
			d.decodePairs(n, path, func(column, text string) { v.Set(reflect.Append(v, reflect.ValueOf(Computation{column, text}))) })
			return
		}
		if v.Type() == reflect.TypeFor[[]TypedColumn]() {
			d.decodePairs(n, path, func(column, text string) { v.Set(reflect.Append(v, reflect.ValueOf(TypedColumn{column, text}))) })
			return
		}
		d.decodeList(n, v, path)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		d.decodePairs(n, path, func(key, text string) { v.SetMapIndex(reflect.ValueOf(key), reflect.ValueOf(text)) })
	default:
		d.decodeScalar(n, v, path)
	}
}

func (d *document) decodeStruct(n ast.Node, v reflect.Value, path string) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		d.fault(n, "expected a mapping with %s, found %s", strings.Join(fields(v.Type()), ", "), describe(n))
		return
	}
	within := d.String()
	if path != "" {
		within = path + " of " + within
	}
	for _, entry := range m.Values {
		name := entry.Key.GetToken().Value
		if path == "" && name == "kind" {
			continue
		}
		i := fieldIndex(v.Type(), name)
		if i < 0 {
			d.fault(entry.Key, "unknown field %q in %s%s", name, within, suggest(name, fields(v.Type())))
			d.meant[strings.TrimPrefix(path+"."+nearest(name, fields(v.Type())), ".")] = true
			continue
		}
		d.decode(entry.Value, v.Field(i), strings.TrimPrefix(path+"."+name, "."))
	}
}

// decodePairs reads a mapping of names that the operator chooses to texts, in its order.
func (d *document) decodePairs(n ast.Node, path string, add func(key, text string)) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		d.fault(n, "%s: expected a mapping of column: text, found %s", path, describe(n))
		return
	}
	for _, entry := range m.Values {
		name := entry.Key.GetToken().Value
		at := path + "." + name
		d.places[at] = entry.Value
		text, ok := scalar(d.plain(entry.Value))
		if !ok {
			d.fault(entry.Value, "%s: expected a text, found %s", at, describe(entry.Value))
			continue
		}
		add(name, text)
	}
}

func (d *document) decodeList(n ast.Node, v reflect.Value, path string) {
	s, ok := n.(*ast.SequenceNode)
	if !ok { // one value stands for a list of one
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		d.decode(n, v.Index(0), path)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values)))
	for i, value := range s.Values {
		d.decode(value, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (d *document) decodeScalar(n ast.Node, v reflect.Value, path string) {
	text, ok := scalar(n)
	expect := func(what string) { d.fault(n, "%s: expected %s, found %s", path, what, describe(n)) }
	switch v.Interface().(type) {
	case time.Duration:
		if value, err := parseDuration(text); ok && err == nil {
			v.SetInt(int64(value))
		} else {
			expect("a duration such as 500ms, 10s, 15m, 12h or 7d")
		}
	case Rate:
		if value, err := parseRate(text); ok && err == nil {
			v.SetFloat(float64(value))
		} else {
			expect("events in a time such as 500/s, 30/m or 1000/h")
		}
	case int64:
		if value, err := parseSize(text); ok && err == nil {
			v.SetInt(value)
		} else {
			expect("a size such as 500MB or 10GiB")
		}
	case int:
		if value, err := strconv.Atoi(text); ok && err == nil {
			v.SetInt(int64(value))
		} else {
			expect("a whole number")
		}
	case bool:
		if b, isBool := n.(*ast.BoolNode); isBool {
			v.SetBool(b.Value)
		} else {
			expect("true or false")
		}
	case string:
		if ok {
			v.SetString(text)
		} else {
			expect("a text")
		}
	}
}

// scalar is the text of a single value as it was written.
func scalar(n ast.Node) (string, bool) {
	switch m := n.(type) {
	case *ast.StringNode:
		return m.Value, true
	case *ast.LiteralNode:
		return m.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	}
	text, _ := scalar(n)
	return strconv.Quote(text)
}

func fields(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func fieldIndex(t reflect.Type, name string) int {
	for i := range t.NumField() {
		if name != "" && t.Field(i).Tag.Get("yaml") == name {
			return i
		}
	}
	return -1
}

// parseDuration reads what time.ParseDuration reads, and days.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16) // 65,535 days fit a Duration
		return time.Duration(n) * 24 * time.Hour, err
	}
	v, err := time.ParseDuration(s)
	if err == nil && v < 0 {
		err = strconv.ErrRange
	}
	return v, err
}

// parseRate reads a number of events in a second, minute or hour; a number alone is in a second.
func parseRate(s string) (Rate, error) {
	number, unit, _ := strings.Cut(s, "/")
	per, ok := map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600}[strings.TrimSpace(unit)]
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || !(n > 0) || math.IsInf(n, 0) {
		return 0, strconv.ErrSyntax
	}
	return Rate(n / per), nil
}

var sizes = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
}

// parseSize reads a number of bytes with a unit: 500MB, 10GiB, 1.5 GiB; without a unit it is bytes.
func parseSize(s string) (int64, error) {
	for _, unit := range sizes {
		number, ok := strings.CutSuffix(s, unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || n < 0 || math.IsNaN(n) || n*float64(unit.bytes) >= math.MaxInt64 {
			return 0, strconv.ErrSyntax
		}
		return int64(n * float64(unit.bytes)), nil
	}
	return 0, strconv.ErrSyntax
}
