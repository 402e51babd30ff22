package host

import (
	"fmt"
	"sync"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/shape"
)

// shapes are a generation's filters and computed columns, compiled once for each version of a table: all lanes share them, and
// with them the structure that the target gets, one pointer for one structure.
type shapes struct {
	name string
	spec shape.Spec

	mu    sync.Mutex
	known map[*event.Schema]*shape.Shape
}

func newShapes(f *registry.Function) (*shapes, error) {
	spec, err := f.Shape()
	if err != nil {
		return nil, err
	}
	return &shapes{name: f.Name, spec: spec, known: map[*event.Schema]*shape.Shape{}}, nil
}

// of is the shape for a table's version; nil where events stay as they are.
func (s *shapes) of(schema *event.Schema) (*shape.Shape, error) {
	if s.spec.Zero() {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.known[schema]; known != nil {
		return known, nil
	}
	made, err := shape.New(s.spec, schema)
	if err != nil {
		return nil, fmt.Errorf("the specification of function %s does not fit its source: %w; correct it and deploy it", s.name, err)
	}
	s.known[schema] = made
	return made, nil
}

// schemas are the structures that the target gets of these.
func (s *shapes) schemas(list []*event.Schema) ([]*event.Schema, error) {
	out := make([]*event.Schema, 0, len(list))
	for _, schema := range list {
		made, err := s.of(schema)
		if err != nil {
			return nil, err
		}
		if made != nil {
			schema = made.Schema()
		}
		out = append(out, schema)
	}
	return out, nil
}
