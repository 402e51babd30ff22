package rehearse

import (
	"fmt"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/fixture"
	"github.com/runnel-dev/runnel/runtime/registry"
)

// writer is whose messages given events are: their versions are the same in every run.
var writer = event.Writer{Epoch: 1}

// Origin is where given rows come from.
type Origin struct {
	Source, Connector string
	Partitions        int
}

// Events are the events of a case, as an agent would have published them. What is wrong is a registry.Faults with its place.
func Events(t *registry.Test, c int, o Origin) ([]event.Event, error) {
	g := giver{test: t, origin: o, schemas: map[string]*event.Schema{}}
	for i := range t.Cases[c].Given {
		if err := g.add(&t.Cases[c].Given[i], fmt.Sprintf("cases[%d].given[%d]", c, i)); err != nil {
			return nil, err
		}
	}
	return g.events, nil
}

type giver struct {
	test     *registry.Test
	origin   Origin
	schemas  map[string]*event.Schema
	sequence uint64
	events   []event.Event
}

func (g *giver) add(given *registry.Given, at string) error {
	if given.Fixture != "" {
		events, err := fixture.ReadFile(g.test.Path(given.Fixture))
		if err != nil {
			return g.test.Fault(at+".fixture", "%v", err)
		}
		g.events = append(g.events, events...)
		return nil
	}
	schema := g.schemas[given.Table]
	if schema == nil {
		schema = g.test.Schema(given, g.origin.Source, g.origin.Connector)
		g.schemas[given.Table] = schema
	}
	g.sequence++
	change := event.Change{Schema: schema, Position: event.Position{Commit: g.sequence << 8, Change: g.sequence<<8 - 1}, TxID: g.sequence, Order: 1, Last: true}
	var err error
	switch {
	case given.Insert != nil:
		change.Op = event.Create
		change.After, err = g.row(schema, given.Insert, at+".insert", false)
	case given.Read != nil:
		change.Op, change.Snapshot = event.Read, true
		change.After, err = g.row(schema, given.Read, at+".read", false)
	case given.Delete != nil:
		change.Op = event.Delete
		if len(schema.KeyColumns()) == 0 {
			return g.test.Fault(at+".delete", "%s.delete: %s has no key, so its deletes are not captured", at, schema.Table)
		}
		change.Before, err = g.row(schema, given.Delete, at+".delete", true)
	default:
		change.Op = event.Update
		change.After, err = g.row(schema, given.Update, at+".update", false)
		if err == nil && given.Before != nil {
			change.Before, err = g.row(schema, given.Before, at+".before", false)
		}
	}
	if err != nil {
		return err
	}
	return g.publish(&change, at)
}

// publish makes an event of a change, by way of the line that the stream would hold.
func (g *giver) publish(c *event.Change, at string) error {
	row := c.After
	if row == nil {
		row = c.Before
	}
	key, err := c.Schema.AppendKey(nil, event.RowOf(row))
	if err != nil {
		return g.test.Fault(at, "%s: %v", at, err)
	}
	if c.Before != nil && c.After != nil {
		was, err := c.Schema.AppendKey(nil, event.RowOf(c.Before))
		if err != nil || string(was) != string(key) {
			return g.test.Fault(at+".before", "%s.before: a change of the key comes as a delete and an insert: write these", at)
		}
	}
	m := event.Message{
		Subject:  event.Subject(c.Schema.Source, c.Schema.Table, event.Partition(key, g.origin.Partitions)),
		Sequence: g.sequence, Writer: writer, Data: event.AppendLine(nil, c),
	}
	if g.events, err = m.Decode(g.events); err != nil {
		return g.test.Fault(at, "%s: %v", at, err)
	}
	g.events[len(g.events)-1].Schema = c.Schema
	return nil
}

// row puts the columns in the order of the table. Those that are left out are NULL, or in a key's row not there.
func (g *giver) row(schema *event.Schema, given registry.JSON, at string, keyOnly bool) ([]byte, error) {
	from := event.RowOf(given)
	for name := range from.All() {
		if schema.Index(name) < 0 {
			names := ""
			for _, c := range schema.Columns {
				names += " " + c.Name
			}
			return nil, g.test.Fault(at+"."+name, "%s: no column %q in %s; there are%s", at, name, schema.Table, names)
		}
	}
	row := []byte{'{'}
	for _, c := range schema.Columns {
		v, there := from.Column(c.Name)
		switch {
		case !there && (c.Key > 0 || !c.Nullable && !keyOnly), v.IsNull() && there && !c.Nullable:
			return nil, g.test.Fault(at, "%s: column %s of %s is not null and needs a value", at, c.Name, schema.Table)
		case !there && keyOnly:
			continue
		case !there:
			v = event.Value("null")
		}
		if len(row) > 1 {
			row = append(row, ',')
		}
		row = append(append(event.AppendJSONString(row, c.Name), ':'), v...)
	}
	return append(row, '}'), nil
}
