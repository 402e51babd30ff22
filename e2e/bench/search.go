package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// post sends a request and wants success.
func post(ctx context.Context, method, url, kind string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", kind)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s: %.300s", url, resp.Status, answer)
	}
	return answer, err
}

// clickhouse is W1 into ClickHouse, beside the same rows straight into the server.
func (b *bench) clickhouse(ctx context.Context) ([]Row, error) {
	server, _ := servers.ClickHouse(b)
	url := "http://" + server.Addr
	f, _, err := b.backlog(ctx, "c1", fmt.Sprintf("to: {clickhouse: {url: %q}}", url+"/default"), inserts, b.rows)
	if err != nil {
		return nil, err
	}
	query := func(sql string, body []byte) ([]byte, error) {
		return post(ctx, http.MethodPost, url+"/?async_insert=0&date_time_input_format=best_effort&query="+strings.ReplaceAll(sql, " ", "%20"), "text/plain", body)
	}
	k, err := f.sink(ctx, "c1", b.rows, server.PID(), func(context.Context, *stream.Stream) (bool, error) {
		n, err := query("select count() from c1", nil)
		return strings.TrimSpace(string(n)) == fmt.Sprint(b.rows+1), err
	})
	if err != nil {
		return nil, err
	}
	all, err := b.documents(ctx, "c1")
	if err != nil {
		return nil, err
	}
	if _, err := query("create table limits as c1", nil); err != nil {
		return nil, err
	}
	batches := parts(all, 20_000)
	began := time.Now()
	for _, p := range batches {
		if _, err := query("insert into limits format JSONEachRow", p); err != nil {
			return nil, err
		}
	}
	limit := float64(b.rows) / time.Since(began).Seconds()
	return []Row{row("clickhouse-w1", k.rate, "rows/s", limit, k.what("the same rows as JSONEachRow straight into the server"))}, nil
}

// elasticsearch is W1 into Elasticsearch, beside a plain bulk loader.
func (b *bench) elasticsearch(ctx context.Context) ([]Row, error) {
	server := servers.Elasticsearch(b, "")
	url := "http://" + server.Addr
	f, _, err := b.backlog(ctx, "e1", fmt.Sprintf("to: {elasticsearch: {url: %q}}", url), inserts, b.rows)
	if err != nil {
		return nil, err
	}
	k, err := f.sink(ctx, "e1", b.rows, server.PID(), func(context.Context, *stream.Stream) (bool, error) {
		body, err := post(ctx, http.MethodGet, url+"/e1/_stats/indexing", "application/json", nil)
		if err != nil {
			return false, err
		}
		var stats struct {
			All struct {
				Primaries struct {
					Indexing struct {
						Total int `json:"index_total"`
					} `json:"indexing"`
				} `json:"primaries"`
			} `json:"_all"`
		}
		err = json.Unmarshal(body, &stats)
		return stats.All.Primaries.Indexing.Total > b.rows, err
	})
	if err != nil {
		return nil, err
	}
	limit, err := b.bulk(ctx, url)
	return []Row{row("elasticsearch-w1", k.rate, "rows/s", limit, k.what("the same documents by a plain bulk loader, the best of three batch sizes"))}, err
}

// bulk is the rate of a plain loader on an index like ours, with two connections.
func (b *bench) bulk(ctx context.Context, url string) (best float64, err error) {
	body, err := post(ctx, http.MethodGet, url+"/e1/_mapping", "application/json", nil)
	if err != nil {
		return 0, err
	}
	var found map[string]map[string]json.RawMessage
	if err := json.Unmarshal(body, &found); err != nil {
		return 0, err
	}
	docs, err := b.documents(ctx, "e1")
	if err != nil {
		return 0, err
	}
	third := parts(docs, b.rows/3+1)
	for i, size := range []int{1000, 2500, 5000} {
		index := fmt.Sprintf("limits%d", size)
		if _, err := post(ctx, http.MethodPut, url+"/"+index, "application/json", fmt.Appendf(nil, `{"mappings": %s}`, found["e1"]["mappings"])); err != nil {
			return 0, err
		}
		work := make(chan []byte, b.rows)
		for _, p := range parts(third[i], size) {
			var out bytes.Buffer
			for line := range bytes.Lines(p) {
				id := line[len(`{"id":`):bytes.IndexByte(line, ',')]
				fmt.Fprintf(&out, "{\"index\":{\"_id\":\"%s\"}}\n", id)
				out.Write(line)
			}
			work <- out.Bytes()
		}
		close(work)
		errs := make(chan error, 2)
		var wg sync.WaitGroup
		began := time.Now()
		for range 2 {
			wg.Go(func() {
				for p := range work {
					if _, err := post(ctx, http.MethodPost, url+"/"+index+"/_bulk?filter_path=errors", "application/x-ndjson", p); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		wg.Wait()
		select {
		case err := <-errs:
			return 0, err
		default:
		}
		best = max(best, float64(bytes.Count(third[i], []byte("\n")))/time.Since(began).Seconds())
	}
	return best, nil
}
