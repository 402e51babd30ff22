package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// probe writes an order into the source; it is tried until the source takes it.
func (w *World) probe(ctx context.Context) (id int64, err error) {
	for {
		if id, err = w.DB.Probe(ctx, w.Source); err == nil {
			return id, nil
		}
		if p := pause(ctx, probeEvery); p != nil {
			return 0, fmt.Errorf("the source takes no changes: %w", err)
		}
	}
}

// has says whether the target holds the order. It was not deleted: the traffic leaves new orders alone, except by giving them
// another key, which it does to the oldest ones.
func (t *Target) has(ctx context.Context, id int64) (bool, error) {
	switch t.Kind {
	case "elasticsearch":
		body, err := get(ctx, fmt.Sprintf("http://%s/shop-orders/_doc/%d", t.Server.Addr, id))
		var doc struct{ Found bool }
		if err == nil {
			err = json.Unmarshal(body, &doc)
		}
		return doc.Found, err
	case "clickhouse":
		body, err := get(ctx, "http://"+t.Server.Addr+"/?query="+url.QueryEscape(fmt.Sprintf("SELECT count() > 0 FROM orders WHERE id = %d", id)))
		return strings.TrimSpace(string(body)) == "1", err
	}
	c, err := pgx.Connect(ctx, t.Server.PostgresURL())
	if err != nil {
		return false, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	var found bool
	err = c.QueryRow(ctx, "select exists (select from public.orders where id = $1)", id).Scan(&found)
	return found, err
}

func get(ctx context.Context, target string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNotFound {
		err = fmt.Errorf("%s: %s", res.Status, body[:min(len(body), 200)])
	}
	return body, err
}

const probeEvery = 100 * time.Millisecond
