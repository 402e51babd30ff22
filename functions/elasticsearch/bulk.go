package elasticsearch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/elastic/go-elasticsearch/v8/esapi"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// bulk is the body of a bulk request with the places of its items.
type bulk struct {
	body  []byte
	items []item
	id    []byte
}

type item struct {
	span, event int
	end         int // of the item in body
	index       string
}

// add appends an event. The row's bytes pass through as they stand.
func (w *bulk) add(ix *index, e *event.Event, span, at int) error {
	if len(e.Unavailable) > 0 {
		return nil // the row is gone and its delete follows; a document without the column must never be seen
	}
	id, err := appendID(w.id[:0], e)
	if err != nil {
		return err
	}
	w.id = id
	action := `{"index":{"_index":`
	if e.Op == event.Delete {
		action = `{"delete":{"_index":`
	}
	w.body = append(w.body, action...)
	w.body = event.AppendJSONString(w.body, ix.name)
	w.body = append(w.body, `,"_id":`...)
	w.body = event.AppendJSONString(w.body, id)
	w.body = append(w.body, `,"version":`...)
	w.body = strconv.AppendInt(w.body, int64(e.Version), 10)
	w.body = append(w.body, `,"version_type":"external_gte"}}`+"\n"...)
	if e.Op != event.Delete {
		w.body = append(append(w.body, e.After.Raw()...), '\n')
	}
	w.items = append(w.items, item{span, at, len(w.body), ix.name})
	return nil
}

// request is that of items from to to.
func (w *bulk) request(from, to int) esapi.BulkRequest {
	return esapi.BulkRequest{Body: bytes.NewReader(w.part(from, to)), FilterPath: []string{"errors", "items.*.status", "items.*.error"}}
}

func (w *bulk) part(from, to int) []byte {
	start := 0
	if from > 0 {
		start = w.items[from-1].end
	}
	return w.body[start:w.items[to-1].end]
}

// result of one item.
type result struct {
	Status int `json:"status"`
	Error  struct {
		Type   string `json:"type"`
		Reason string `json:"reason"`
		Cause  struct {
			Reason string `json:"reason"`
		} `json:"caused_by"`
	} `json:"error"`
}

// send sends all items and reads every item's result. A request that is too large for the server is cut in halves.
func (s *Sink) send(ctx context.Context, w *bulk) ([]functions.Failure, error) {
	return s.sendPart(ctx, w, 0, len(w.items))
}

func (s *Sink) sendPart(ctx context.Context, w *bulk, from, to int) ([]functions.Failure, error) {
	if from == to {
		return nil, nil
	}
	res, err := w.request(from, to).Do(ctx, s.client)
	if err != nil {
		return nil, fmt.Errorf("elasticsearch: bulk request: %w", err)
	}
	defer drain(res)
	if res.StatusCode == http.StatusRequestEntityTooLarge && to-from > 1 {
		mid := (from + to) / 2
		a, err := s.sendPart(ctx, w, from, mid)
		if err != nil {
			return nil, err
		}
		b, err := s.sendPart(ctx, w, mid, to)
		return append(a, b...), err
	}
	if res.StatusCode == http.StatusRequestEntityTooLarge {
		return []functions.Failure{{Span: w.items[from].span, Event: w.items[from].event, Err: functions.Permanent(fmt.Errorf(
			"elasticsearch: the document has %d bytes and the server refuses that: raise http.max_content_length", len(w.part(from, to))))}}, nil
	}
	if err := refused(res, "bulk request"); err != nil {
		return nil, err
	}
	var answer struct {
		Errors bool                `json:"errors"`
		Items  []map[string]result `json:"items"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("elasticsearch: read the bulk answer: %w", err)
	}
	if len(answer.Items) != to-from {
		return nil, fmt.Errorf("elasticsearch: the bulk answer has %d results for %d items", len(answer.Items), to-from)
	}
	if !answer.Errors { // a delete of nothing is no error to Elasticsearch either
		return nil, nil
	}
	var failed []functions.Failure
	for i, it := range answer.Items {
		for _, r := range it {
			if err := judge(r); err != nil {
				if errors.Is(err, errNoIndex) {
					return nil, s.dropped(w.items[from+i].index)
				}
				failed = append(failed, functions.Failure{Span: w.items[from+i].span, Event: w.items[from+i].event, Err: err})
			}
		}
	}
	return failed, nil
}

// errNoIndex: the index is gone, and the cluster makes none by itself.
var errNoIndex = errors.New("the index is gone")

// judge classifies one item's result: older than what is there (409) and a delete of nothing (404) are successes.
func judge(r result) error {
	err := fmt.Errorf("elasticsearch: %s: %s", r.Error.Type, r.Error.Reason)
	if r.Error.Cause.Reason != "" {
		err = fmt.Errorf("%w: %s", err, r.Error.Cause.Reason)
	}
	switch {
	case r.Status < 300, r.Status == http.StatusConflict, r.Status == http.StatusNotFound && r.Error.Type == "":
		return nil
	case r.Error.Type == "index_not_found_exception":
		return errNoIndex
	case r.Status == http.StatusForbidden && r.Error.Type == blocked:
		return readOnly(err)
	case r.Status == http.StatusForbidden, r.Status == http.StatusUnauthorized:
		return functions.Halt(fmt.Errorf("%w; grant the privileges %s on the index", err, privileges))
	case r.Status == http.StatusTooManyRequests, r.Status >= 500:
		return err
	default:
		return functions.Permanent(err)
	}
}
