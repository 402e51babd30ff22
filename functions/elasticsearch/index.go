package elasticsearch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/elastic/go-elasticsearch/v8/esapi"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// index is where a schema's rows go.
type index struct {
	name   string
	uuid   string // which index has the name; empty where the name is an alias, which may move on
	looked time.Time
}

// lookAgain is how often an index is looked at while it is written: a bulk request would make one that was deleted anew, as
// Elasticsearch sees fit and without what it held.
const lookAgain = 5 * time.Second

// mark is put into the _meta of mappings that this package made: only those are held to the source's types.
const mark = "runnel"

type mapping struct {
	Dynamic    any                        `json:"dynamic,omitempty"`
	Meta       map[string]any             `json:"_meta,omitempty"`
	Properties map[string]json.RawMessage `json:"properties"`
}

// Check asks whether the target can be reached and whether indexes and mappings fit the schemas; missing ones are made.
func (s *Sink) Check(ctx context.Context, schemas []*event.Schema) error {
	res, err := esapi.ClusterHealthRequest{}.Do(ctx, s.client)
	if err != nil {
		return fmt.Errorf("elasticsearch: not reachable: %w", err)
	}
	defer drain(res)
	if res.StatusCode != http.StatusForbidden { // a user of a few indexes may not look at the cluster
		if err := refused(res, "look at the cluster"); err != nil {
			return err
		}
	}
	for _, schema := range schemas {
		if _, err := s.ensure(ctx, schema); err != nil {
			return err
		}
	}
	return nil
}

// dropped says that an index is gone that this sink has written.
func (s *Sink) dropped(name string) error {
	return functions.Halt(fmt.Errorf("elasticsearch: index %s was deleted or replaced while the function %s wrote it: run DELETE /%s in Elasticsearch if it is there again, then `runnel delete %s` and `runnel deploy`, and it is filled again from the stream's beginning; or only `runnel resume %s`, to go on without the documents that it had",
		name, s.function, name, s.function, s.function))
}

// same asks now and then whether the index is still the one that was written before.
func (s *Sink) same(ctx context.Context, ix *index) error {
	if time.Since(ix.looked) < lookAgain {
		return nil
	}
	uuid, err := s.uuid(ctx, ix.name)
	if err != nil {
		return err
	}
	if uuid != ix.uuid {
		return s.dropped(ix.name)
	}
	ix.looked = time.Now()
	return nil
}

// uuid identifies the index; it is empty for an alias.
func (s *Sink) uuid(ctx context.Context, name string) (string, error) {
	res, err := esapi.IndicesGetSettingsRequest{Index: []string{name}, Name: []string{"index.uuid"}}.Do(ctx, s.client)
	if err != nil {
		return "", fmt.Errorf("elasticsearch: look at index %s: %w", name, err)
	}
	defer drain(res)
	if res.StatusCode == http.StatusNotFound {
		return "", s.dropped(name)
	}
	if err := refused(res, "look at index "+name); err != nil {
		return "", err
	}
	var all map[string]struct {
		Settings struct {
			Index struct {
				UUID string `json:"uuid"`
			} `json:"index"`
		} `json:"settings"`
	}
	if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
		return "", fmt.Errorf("elasticsearch: look at index %s: %w", name, err)
	}
	return all[name].Settings.Index.UUID, nil
}

// ensure finds the schema's index, makes it, or adds the columns that are new.
func (s *Sink) ensure(ctx context.Context, schema *event.Schema) (*index, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ix := s.known[schema]; ix != nil {
		return ix, s.same(ctx, ix)
	}
	name, err := s.nameOf(schema)
	if err != nil {
		return nil, err
	}
	ix := s.indexes[name]
	if ix != nil {
		if err := s.same(ctx, ix); err != nil {
			return nil, err
		}
	}
	want := mapping{Dynamic: false, Meta: map[string]any{mark: schema.Table.String()}, Properties: map[string]json.RawMessage{}}
	for _, c := range schema.Columns {
		want.Properties[c.Name] = json.RawMessage(fieldOf(c))
	}
	have, found, err := s.mapping(ctx, name)
	switch {
	case err != nil:
	case found:
		err = s.extend(ctx, name, have, want)
	case ix != nil:
		err = s.dropped(name)
	default:
		err = s.create(ctx, name, want)
	}
	if err != nil {
		return nil, err
	}
	if ix == nil {
		ix = &index{name: name, looked: time.Now()}
		if ix.uuid, err = s.uuid(ctx, name); err != nil {
			return nil, err
		}
		s.indexes[name] = ix
	}
	s.known[schema] = ix
	return ix, nil
}

// nameOf is the index that a schema's rows go to.
func (s *Sink) nameOf(schema *event.Schema) (string, error) {
	name := strings.NewReplacer("{schema}", schema.Table.Schema, "{table}", schema.Table.Name).Replace(s.index)
	if err := legal(name, schema.Table); err != nil {
		return "", functions.Halt(err)
	}
	return name, nil
}

func (s *Sink) mapping(ctx context.Context, name string) (m mapping, found bool, err error) {
	res, err := esapi.IndicesGetMappingRequest{Index: []string{name}}.Do(ctx, s.client)
	if err != nil {
		return m, false, fmt.Errorf("elasticsearch: read the mapping of %s: %w", name, err)
	}
	defer drain(res)
	if res.StatusCode == http.StatusNotFound {
		return m, false, nil
	}
	if err := refused(res, "read the mapping of "+name); err != nil {
		return m, false, err
	}
	var all map[string]struct {
		Mappings mapping `json:"mappings"`
	}
	if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
		return m, false, fmt.Errorf("elasticsearch: read the mapping of %s: %w", name, err)
	}
	for _, one := range all { // an alias shows its index under the index's name
		m = one.Mappings
	}
	return m, true, nil
}

func (s *Sink) create(ctx context.Context, name string, m mapping) error {
	body, err := json.Marshal(map[string]any{
		"settings": map[string]any{"index.gc_deletes": "1h", "index.mapping.total_fields.limit": max(1000, 3*len(m.Properties)), "index.mapping.ignore_malformed": true},
		"mappings": m,
	})
	if err != nil {
		return fmt.Errorf("elasticsearch: create index %s: %w", name, err)
	}
	res, err := esapi.IndicesCreateRequest{Index: name, Body: bytes.NewReader(body), Timeout: 30 * time.Second}.Do(ctx, s.client)
	if err != nil {
		return fmt.Errorf("elasticsearch: create index %s: %w", name, err)
	}
	defer drain(res)
	if res.StatusCode == http.StatusBadRequest { // another worker was faster: the next try finds it
		if _, found, err := s.mapping(ctx, name); err == nil && found {
			return nil
		}
	}
	if err := refused(res, "create index "+name); err != nil {
		return err
	}
	s.log.Info("index_created", "index", name, "columns", len(m.Properties))
	return nil
}

// extend adds new columns. A column of another kind than before is refused, since Elasticsearch cannot change a field.
func (s *Sink) extend(ctx context.Context, name string, have, want mapping) error {
	missing := mapping{Properties: map[string]json.RawMessage{}}
	for column, field := range want.Properties {
		old, ok := have.Properties[column]
		if !ok {
			missing.Properties[column] = field
			continue
		}
		if _, ours := have.Meta[mark]; ours && kind(old) != kind(field) {
			return functions.Halt(fmt.Errorf("elasticsearch: column %s of index %s is now %s and was %s, and a field cannot be changed: "+
				"delete the function, deploy it with another `index` (or DELETE /%s first), and it is filled again", column, name, kind(field), kind(old), name))
		}
	}
	if len(missing.Properties) == 0 {
		return nil
	}
	body, err := json.Marshal(missing)
	if err != nil {
		return fmt.Errorf("elasticsearch: extend the mapping of %s: %w", name, err)
	}
	res, err := esapi.IndicesPutMappingRequest{Index: []string{name}, Body: bytes.NewReader(body)}.Do(ctx, s.client)
	if err != nil {
		return fmt.Errorf("elasticsearch: extend the mapping of %s: %w", name, err)
	}
	defer drain(res)
	if err := refused(res, "extend the mapping of "+name); err != nil {
		return err
	}
	s.log.Info("mapping_extended", "index", name, "columns", len(missing.Properties))
	return nil
}

func kind(field json.RawMessage) string {
	var f struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(field, &f) != nil || f.Type == "" {
		return "object"
	}
	return f.Type
}

// legal checks Elasticsearch's rules for names (Create index API).
func legal(name string, t event.Table) error {
	if name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, `\/*?"<>| ,#:`) || strings.HasPrefix(name, "-") ||
		strings.HasPrefix(name, "_") || strings.HasPrefix(name, "+") || len(name) > 255 {
		return fmt.Errorf("elasticsearch: table %s would go to index %q, which is no legal name: set `index` of the target (lower case, without \\ / * ? \" < > | , # : or blanks)", t, name)
	}
	return nil
}
