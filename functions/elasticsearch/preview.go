package elasticsearch

import (
	"bytes"
	"context"
	"net/http"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Preview is the bulk request of a batch. Whether the index takes its documents is not known before it is sent.
func (s *Sink) Preview(ctx context.Context, b functions.Batch) ([]byte, error) {
	w, failed, err := collect(&b, func(schema *event.Schema) (*index, error) {
		name, err := s.nameOf(schema)
		return &index{name: name}, err
	})
	if err != nil {
		return nil, err
	}
	var p transcript
	if len(w.items) > 0 {
		if _, err := w.request(0, len(w.items)).Do(ctx, &p); err != nil {
			return nil, err
		}
	}
	if len(failed) > 0 {
		return p.Bytes(), &functions.BatchError{Failed: failed}
	}
	return p.Bytes(), nil
}

// transcript takes a request down where the client would send it.
type transcript struct{ bytes.Buffer }

func (p *transcript) Perform(r *http.Request) (*http.Response, error) {
	p.WriteString(r.Method + " " + r.URL.RequestURI() + "\n")
	if _, err := p.ReadFrom(r.Body); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}
