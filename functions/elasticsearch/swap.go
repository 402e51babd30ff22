package elasticsearch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/elastic/go-elasticsearch/v8/esapi"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

var _ sink.Swapper = (*Sink)(nil)

// nameOf is the index of a table by a template.
func nameOf(template string, t event.Table) string {
	return strings.NewReplacer("{schema}", t.Schema, "{table}", t.Name).Replace(template)
}

// Taken names the indexes that are there.
func (s *Sink) Taken(ctx context.Context, schemas []*event.Schema) (taken []string, err error) {
	for _, schema := range schemas {
		name := nameOf(s.index, schema.Table)
		there, err := s.concrete(ctx, name)
		if err != nil {
			return nil, err
		}
		if len(there) > 0 {
			taken = append(taken, name)
		}
	}
	return taken, nil
}

// End has nothing to end: what is late changes nothing.
func (s *Sink) End(context.Context, int64, int) ([]functions.Point, error) { return nil, nil }

// Marks looks whether the indexes can be exchanged. The copy's are known by their names, which they keep.
func (s *Sink) Marks(ctx context.Context, w sink.Swap) ([]string, error) {
	marks := make([]string, len(w.Schemas))
	for i, schema := range w.Schemas {
		into := nameOf(w.Into, schema.Table)
		there, err := s.concrete(ctx, into)
		switch {
		case err != nil:
			return nil, err
		case len(there) == 0:
			continue
		case there[0] != into:
			return nil, functions.Halt(fmt.Errorf("elasticsearch: %s is an alias, of %s, and the copy of function %s needs an index: `runnel replay %s --cancel`, and make another one", into, strings.Join(there, ", "), s.function, s.function))
		}
		marks[i] = into
		name := nameOf(s.index, schema.Table)
		if there, err = s.concrete(ctx, name); err != nil {
			return nil, err
		}
		if len(there) > 1 {
			return nil, functions.Halt(fmt.Errorf("elasticsearch: %s is an alias of several indexes (%s): take it away from those that the function %s does not write", name, strings.Join(there, ", "), s.function))
		}
	}
	return marks, nil
}

// Swap lets the names of the function's indexes become aliases of the copy's, all in one change of the cluster's state, with which the
// indexes that had the names, or stood behind them, are deleted: an index cannot have the name of an alias. Who is late finds
// them gone, and nothing is changed.
func (s *Sink) Swap(ctx context.Context, w sink.Swap) error {
	type action map[string]map[string]any
	var actions []action
	for i, schema := range w.Schemas {
		name, into := nameOf(s.index, schema.Table), ""
		if i < len(w.Marks) {
			into = w.Marks[i]
		}
		if into == "" {
			continue
		}
		there, err := s.concrete(ctx, name)
		if err != nil {
			return err
		}
		if slices.Equal(there, []string{into}) || slices.ContainsFunc(actions, func(a action) bool { return a["add"]["alias"] == name }) {
			continue
		}
		actions = append(actions, action{"add": {"index": into, "alias": name}})
		for _, old := range there {
			actions = append(actions, action{"remove_index": {"index": old}})
		}
	}
	if len(actions) == 0 {
		return nil
	}
	body, err := json.Marshal(map[string]any{"actions": actions})
	if err != nil {
		return fmt.Errorf("elasticsearch: swap: %w", err)
	}
	res, err := esapi.IndicesUpdateAliasesRequest{Body: bytes.NewReader(body)}.Do(ctx, s.client)
	if err != nil {
		return fmt.Errorf("elasticsearch: swap: %w", err)
	}
	defer drain(res)
	if err := refused(res, "swap the aliases of "+s.index); err != nil {
		if res.StatusCode == http.StatusBadRequest || res.StatusCode == http.StatusNotFound { // perhaps another worker was faster: the next look shows it
			return errors.New(err.Error())
		}
		return err
	}
	s.log.Info("swapped", "index", s.index, "into", w.Into)
	return nil
}
