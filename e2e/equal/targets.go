package equal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Elasticsearch reads an index; auth is "user:password" or empty.
func (t *Table) Elasticsearch(ctx context.Context, base, auth, index string) (Rows, error) {
	out := Rows{}
	err := Documents(ctx, base, auth, index, nil, func(doc []byte) error { return t.add(out, doc) })
	return out, err
}

// Documents calls f for each document of an index, as it is at one moment; of the fields that are named, or all.
func Documents(ctx context.Context, base, auth, index string, fields []string, f func(doc []byte) error) error {
	call := func(method, path string, body any, into any) error {
		var b []byte
		if body != nil {
			b, _ = json.Marshal(body)
		}
		data, err := request(ctx, method, base+path, auth, "application/json", b)
		if err != nil || into == nil {
			return err
		}
		return json.Unmarshal(data, into)
	}
	if err := call("POST", "/"+url.PathEscape(index)+"/_refresh", nil, nil); err != nil {
		return err
	}
	var pit struct{ ID string }
	if err := call("POST", "/"+url.PathEscape(index)+"/_pit?keep_alive=1m", nil, &pit); err != nil {
		return err
	}
	var after json.RawMessage
	for {
		query := map[string]any{"size": 5000, "pit": map[string]any{"id": pit.ID, "keep_alive": "1m"}, "sort": []any{"_shard_doc"}, "track_total_hits": false}
		if fields != nil {
			query["_source"] = fields
		}
		if after != nil {
			query["search_after"] = after
		}
		var page struct {
			Hits struct {
				Hits []struct {
					Source json.RawMessage `json:"_source"`
					Sort   json.RawMessage `json:"sort"`
				}
			}
		}
		if err := call("POST", "/_search?allow_partial_search_results=false", query, &page); err != nil {
			return err
		}
		for _, h := range page.Hits.Hits {
			if err := f(h.Source); err != nil {
				return fmt.Errorf("compare: index %s: %w", index, err)
			}
			after = h.Sort
		}
		if len(page.Hits.Hits) == 0 {
			return call("DELETE", "/_pit", map[string]string{"id": pit.ID}, nil)
		}
	}
}

// ClickHouse reads a table of the default database over HTTP, without the rows that are deleted.
func (t *Table) ClickHouse(ctx context.Context, base, table string) (Rows, error) {
	out := Rows{}
	err := Lines(ctx, base, table, "*", func(doc []byte) error { return t.add(out, doc) })
	return out, err
}

// Lines calls f for each row of a table of ClickHouse's default database that is not deleted.
func Lines(ctx context.Context, base, table, columns string, f func(doc []byte) error) error {
	settings := "date_time_output_format=iso&output_format_json_quote_64bit_integers=0&output_format_json_quote_decimals=0&output_format_json_quote_denormals=1"
	sql := "SELECT " + columns + " FROM `" + strings.ReplaceAll(table, "`", "``") + "` FINAL WHERE _deleted = 0 FORMAT JSONEachRow"
	data, err := request(ctx, "POST", base+"/?"+settings, "", "text/plain", []byte(sql))
	if err != nil {
		return err
	}
	for line := range bytes.Lines(data) {
		if err := f(line); err != nil {
			return fmt.Errorf("compare: ClickHouse table %s: %w", table, err)
		}
	}
	return nil
}

func request(ctx context.Context, method, target, auth, kind string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", kind)
	if user, password, ok := strings.Cut(auth, ":"); ok {
		req.SetBasicAuth(user, password)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	if res.StatusCode >= 300 {
		return nil, errors.New("compare: " + req.URL.Path + ": " + res.Status + ": " + short(string(data)))
	}
	return data, nil
}
