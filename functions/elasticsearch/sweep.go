package elasticsearch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/elastic/go-elasticsearch/v8/esapi"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

const page = 5000

type hits struct {
	ID   string `json:"pit_id"`
	Hits struct {
		Hits []struct {
			ID      string          `json:"_id"`
			Version int64           `json:"_version"`
			Source  json.RawMessage `json:"_source"`
			Sort    json.RawMessage `json:"sort"`
		} `json:"hits"`
	} `json:"hits"`
}

// Sweep deletes the documents of a table and partition that are older than a version. A version cannot be searched for, so
// it walks over a point in time and compares version and partition here; the tombstones carry the version of the sweep, so
// that what comes late stays dead. Partitions come one after the other: side by side they would only take the server from
// each other, and from who searches there.
func (s *Sink) Sweep(ctx context.Context, w functions.Sweep) error {
	select {
	case s.sweeping <- struct{}{}:
		defer func() { <-s.sweeping }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ix, err := s.ensure(ctx, w.Schema)
	if err != nil {
		return err
	}
	refresh, err := esapi.IndicesRefreshRequest{Index: []string{ix.name}}.Do(ctx, s.client)
	if err != nil {
		return fmt.Errorf("elasticsearch: refresh %s: %w", ix.name, err)
	}
	defer drain(refresh)
	if err := refused(refresh, "refresh "+ix.name); err != nil {
		return err
	}
	pit, err := s.open(ctx, ix.name)
	if err != nil {
		return err
	}
	defer s.closePIT(context.WithoutCancel(ctx), pit)
	var columns any = false // no key: all rows are in one partition
	if keys := w.Schema.KeyColumns(); len(keys) > 0 {
		names := make([]string, len(keys))
		for i, k := range keys {
			names[i] = w.Schema.Columns[k].Name
		}
		columns = names
	}
	var after json.RawMessage
	for {
		h, err := s.page(ctx, pit, columns, after)
		if err != nil {
			return err
		}
		if len(h.Hits.Hits) == 0 {
			return nil
		}
		pit = h.ID
		var del bulk
		for _, doc := range h.Hits.Hits {
			after = doc.Sort
			if doc.Version >= int64(w.Older) {
				continue
			}
			key, err := w.Schema.AppendKey(nil, event.RowOf(doc.Source))
			if err != nil {
				return functions.Halt(fmt.Errorf("elasticsearch: index %s holds document %s, which is no row of %s: %w", ix.name, doc.ID, w.Schema.Table, err))
			}
			if event.Partition(key, w.Partitions) == w.Partition {
				del.tombstone(ix, doc.ID, w.Older)
			}
		}
		failed, err := s.send(ctx, &del)
		if err != nil {
			return err
		}
		if len(failed) > 0 {
			return failed[0].Err // tombstones that were written stay: the next try has less to do
		}
	}
}

func (w *bulk) tombstone(ix *index, id string, v event.Version) {
	w.body = append(w.body, `{"delete":{"_index":`...)
	w.body = event.AppendJSONString(w.body, ix.name)
	w.body = append(w.body, `,"_id":`...)
	w.body = event.AppendJSONString(w.body, id)
	w.body = append(w.body, `,"version":`...)
	w.body = strconv.AppendInt(w.body, int64(v), 10)
	w.body = append(w.body, `,"version_type":"external_gte"}}`+"\n"...)
	w.items = append(w.items, item{end: len(w.body), index: ix.name})
}

func (s *Sink) open(ctx context.Context, name string) (string, error) {
	res, err := esapi.OpenPointInTimeRequest{Index: []string{name}, KeepAlive: "5m"}.Do(ctx, s.client)
	if err != nil {
		return "", fmt.Errorf("elasticsearch: open a point in time on %s: %w", name, err)
	}
	defer drain(res)
	if err := refused(res, "open a point in time on "+name); err != nil {
		return "", err
	}
	var pit struct {
		ID string `json:"id"`
	}
	if err := json.NewDecoder(res.Body).Decode(&pit); err != nil {
		return "", fmt.Errorf("elasticsearch: open a point in time on %s: %w", name, err)
	}
	return pit.ID, nil
}

func (s *Sink) closePIT(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second) // whoever stops does not wait for it
	defer cancel()
	body, _ := json.Marshal(map[string]string{"id": id})
	if res, err := (esapi.ClosePointInTimeRequest{Body: bytes.NewReader(body)}).Do(ctx, s.client); err == nil { // it expires by itself
		drain(res)
	}
}

func (s *Sink) page(ctx context.Context, pit string, columns any, after json.RawMessage) (h hits, err error) {
	query := map[string]any{"size": page, "version": true, "_source": columns, "track_total_hits": false, "sort": []string{"_shard_doc"},
		"pit": map[string]string{"id": pit, "keep_alive": "5m"}}
	if after != nil {
		query["search_after"] = after
	}
	body, err := json.Marshal(query)
	if err != nil {
		return h, fmt.Errorf("elasticsearch: search: %w", err)
	}
	res, err := esapi.SearchRequest{Body: bytes.NewReader(body)}.Do(ctx, s.client)
	if err != nil {
		return h, fmt.Errorf("elasticsearch: search: %w", err)
	}
	defer drain(res)
	if err := refused(res, "search"); err != nil {
		return h, err
	}
	if err := json.NewDecoder(res.Body).Decode(&h); err != nil {
		return h, fmt.Errorf("elasticsearch: search: %w", err)
	}
	return h, nil
}
