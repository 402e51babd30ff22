package elasticsearch

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/elastic/go-elasticsearch/v8/esapi"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Drop takes away the indexes of these schemas; behind an alias, those that it stands for.
func (s *Sink) Drop(ctx context.Context, schemas []*event.Schema, dry bool) (dropped, kept []string, err error) {
	for _, schema := range schemas {
		name := strings.NewReplacer("{schema}", schema.Table.Schema, "{table}", schema.Table.Name).Replace(s.index)
		behind, err := s.concrete(ctx, name)
		if err != nil {
			return dropped, nil, err
		}
		for _, index := range behind {
			if slices.Contains(dropped, index) {
				continue
			}
			if !dry {
				if err := s.drop(ctx, index); err != nil {
					return dropped, nil, err
				}
			}
			dropped = append(dropped, index)
		}
	}
	return dropped, nil, nil
}

// concrete are the indexes of a name, which may be an alias. None where there is none.
func (s *Sink) concrete(ctx context.Context, name string) ([]string, error) {
	res, err := esapi.IndicesGetSettingsRequest{Index: []string{name}, Name: []string{"index.uuid"}}.Do(ctx, s.client)
	if err != nil {
		return nil, fmt.Errorf("elasticsearch: look at index %s: %w", name, err)
	}
	defer drain(res)
	if res.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	if err := refused(res, "look at index "+name); err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
		return nil, fmt.Errorf("elasticsearch: look at index %s: %w", name, err)
	}
	return slices.Sorted(maps.Keys(all)), nil
}

func (s *Sink) drop(ctx context.Context, index string) error {
	res, err := esapi.IndicesDeleteRequest{Index: []string{index}}.Do(ctx, s.client)
	if err != nil {
		return fmt.Errorf("elasticsearch: delete index %s: %w", index, err)
	}
	defer drain(res)
	if res.StatusCode == http.StatusNotFound {
		return nil
	}
	return refused(res, "delete index "+index)
}
