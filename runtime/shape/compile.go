package shape

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/runnel-dev/runnel/runtime/event"
)

// rowType is the name of the type of `after`.
const rowType = "row"

// compiler collects what is wrong.
type compiler struct {
	spec *Spec
	in   *event.Schema
	env  *cel.Env
	errs []error
}

func (c *compiler) refuse(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// expression is a compiled CEL expression.
type expression struct {
	source  string
	program cel.Program
	reads   []bool // columns that it looks at, by index
}

// environment is CEL's standard library with strings, lists and math, and the row. It has no clock: now() does not exist.
func (c *compiler) environment() {
	p := &provider{Registry: types.NewEmptyRegistry(), schema: c.in, row: cel.ObjectType(rowType)}
	var err error
	c.env, err = cel.NewEnv(cel.CustomTypeProvider(p), cel.CustomTypeAdapter(p), cel.CrossTypeNumericComparisons(true),
		cel.Variable("after", p.row), cel.OptionalTypes(), ext.Strings(), ext.Math(), ext.Lists(), ext.Encoders(), ext.Regex())
	if err != nil {
		c.refuse("CEL: %w", err)
	}
}

func (c *compiler) compile(what, source string) (*expression, *cel.Type) {
	if c.env == nil {
		return nil, nil
	}
	ast, issues := c.env.Compile(source)
	if err := issues.Err(); err != nil {
		c.refuse("%s %q: %s", what, source, c.explain(err.Error()))
		return nil, nil
	}
	x := &expression{source: source, reads: make([]bool, len(c.in.Columns))}
	for i, col := range c.in.Columns {
		x.reads[i] = strings.Contains(source, col.Name)
	}
	var err error
	if x.program, err = c.env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(costLimit)); err != nil {
		c.refuse("%s %q: %w", what, source, err)
		return nil, nil
	}
	return x, ast.OutputType()
}

// costLimit ends an expression that would take seconds: comprehensions over long lists within each other.
const costLimit = 10_000_000

// explain adds to CEL's words what a writer of a specification needs.
func (c *compiler) explain(text string) string {
	text = strings.TrimPrefix(text, "ERROR: <input>:")
	if strings.Contains(text, "undefined field") {
		names := make([]string, len(c.in.Columns))
		for i, col := range c.in.Columns {
			names[i] = col.Name
		}
		return text + "\nthe columns of " + c.in.Table.String() + " are " + strings.Join(names, ", ")
	}
	if strings.Contains(text, "undeclared reference") {
		return text + "\nthe row is `after`, its columns after.name"
	}
	return text
}

func (c *compiler) filter() *expression {
	if c.spec.Filter == "" {
		return nil
	}
	x, t := c.compile("filter", c.spec.Filter)
	if x != nil && t.Kind() != types.BoolKind {
		c.refuse("filter %q gives %s, not true or false; compare it with something, or write bool(…)", c.spec.Filter, t)
	}
	return x
}

// columns is the target's structure with the way to each column.
func (c *compiler) columns() (*event.Schema, []column) {
	for _, list := range [][]string{c.spec.Include, c.spec.Exclude} {
		for _, name := range list {
			c.known("columns", name)
		}
	}
	if len(c.spec.Include) > 0 && len(c.spec.Exclude) > 0 {
		c.refuse("columns: include and exclude cannot be used together")
	}
	var out []event.Column
	var ways []column
	for i, col := range c.in.Columns {
		if !c.wanted(col) {
			continue
		}
		m := c.spec.Mask[col.Name]
		if m.Kind != None && col.Key > 0 {
			c.refuse("mask of %s: a key column finds the row and cannot be masked", col.Name)
		}
		if m.Kind == Hash && len(m.Salt) == 0 {
			c.refuse("mask of %s: a hash without a salt can be looked up; give it one", col.Name)
		}
		typ := "text"
		if c.in.Connector != "postgresql" {
			typ = "longtext"
		}
		col = m.typ(col, typ)
		if to, ok := c.spec.Rename[col.Name]; ok {
			col.Name = to
		}
		out, ways = append(out, col), append(ways, column{from: i, mask: m})
	}
	for name := range c.spec.Mask {
		c.known("mask", name)
	}
	for name, to := range c.spec.Rename {
		c.known("rename", name)
		if to == "" {
			c.refuse("rename of %s: the new name is empty", name)
		}
	}
	out, ways = c.computed(out, ways)
	for i, col := range out {
		if slices.ContainsFunc(out[:i], func(o event.Column) bool { return o.Name == col.Name }) {
			c.refuse("two columns would be named %s", col.Name)
		}
		ways[i].label = append(event.AppendJSONString(nil, col.Name), ':')
	}
	return event.NewSchema(c.in.Source, c.in.Connector, c.in.Database, c.in.Table, out), ways
}

func (c *compiler) known(what, name string) {
	if c.in.Index(name) < 0 && !c.spec.Several {
		c.refuse("%s: there is no column %s", what, name)
	}
}

func (c *compiler) wanted(col event.Column) bool {
	if slices.Contains(c.spec.Exclude, col.Name) {
		if col.Key > 0 {
			c.refuse("columns: %s is part of the key, which finds the row, and cannot be left out", col.Name)
		}
		return false
	}
	return col.Key > 0 || len(c.spec.Include) == 0 || slices.Contains(c.spec.Include, col.Name)
}

func (c *compiler) computed(out []event.Column, ways []column) ([]event.Column, []column) {
	for _, set := range c.spec.Set {
		x, t := c.compile("set "+set.Column, set.Expression)
		if x == nil {
			continue
		}
		typ, ok := c.resultType(t)
		if !ok {
			c.refuse("set %s: %q gives %s, which no column can hold; write string(…)", set.Column, set.Expression, t)
			continue
		}
		col, way := event.Column{Name: set.Column, Type: typ, Nullable: true}, column{from: -1, compute: x}
		i := slices.IndexFunc(out, func(o event.Column) bool { return o.Name == set.Column })
		switch {
		case i < 0:
			out, ways = append(out, col), append(ways, way)
		case out[i].Key > 0:
			c.refuse("set %s: it is part of the key, which finds the row", set.Column)
		default:
			out[i], ways[i] = col, way
		}
	}
	return out, ways
}

// provider knows the row's type.
type provider struct {
	*types.Registry
	schema *event.Schema
	row    *cel.Type
}

func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if name == rowType {
		return types.NewTypeTypeWithParam(p.row), true
	}
	return p.Registry.FindStructType(name)
}

func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	if name != rowType {
		return p.Registry.FindStructFieldNames(name)
	}
	names := make([]string, len(p.schema.Columns))
	for i, c := range p.schema.Columns {
		names[i] = c.Name
	}
	return names, true
}

func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if name != rowType {
		return p.Registry.FindStructFieldType(name, field)
	}
	i := p.schema.Index(field)
	if i < 0 {
		return nil, false
	}
	k := kindOf(p.schema.Columns[i])
	return &types.FieldType{
		Type:    celType(p.schema.Columns[i]),
		IsSet:   func(target any) bool { return !target.(*row).values[i].IsNull() },
		GetFrom: func(target any) (any, error) { return target.(*row).value(i, k) },
	}, true
}

// NewValue is not for rows: an expression cannot make one.
func (p *provider) NewValue(name string, fields map[string]ref.Val) ref.Val {
	if name == rowType {
		return types.NewErr("a row cannot be made")
	}
	return p.Registry.NewValue(name, fields)
}
