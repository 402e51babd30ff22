package http

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// appendJSON appends {"function":…,"events":[…]}.
func appendJSON(dst []byte, function string, items []functions.Item) []byte {
	dst = append(dst, `{"function":`...)
	dst = event.AppendJSONString(dst, function)
	dst = append(dst, `,"events":[`...)
	for n, i := range items {
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, "\n"+`{"op":"`...)
		dst = append(dst, byte(i.Op))
		dst = append(dst, `","source":`...)
		dst = event.AppendJSONString(dst, i.Source)
		dst = append(dst, `,"schema":`...)
		dst = event.AppendJSONString(dst, i.Table.Schema)
		dst = append(dst, `,"table":`...)
		dst = event.AppendJSONString(dst, i.Table.Name)
		dst = append(dst, `,"id":`...)
		dst = event.AppendJSONString(dst, i.ID())
		dst = append(dst, `,"version":"`...)
		dst = appendVersion(dst, i.Version)
		dst = append(dst, `","ts_ms":`...)
		dst = strconv.AppendInt(dst, i.CommitMS, 10)
		dst = appendRows(append(dst, ','), i)
		dst = append(dst, '}')
	}
	return append(dst, "\n]}\n"...)
}

// types are those of CloudEvents, by kind of event.
var types = map[event.Op]string{
	event.Create: "dev.runnel.row.created", event.Update: "dev.runnel.row.updated", event.Delete: "dev.runnel.row.deleted", event.Read: "dev.runnel.row.read",
}

// appendCloudEvents appends a batch of CloudEvents 1.0 (JSON Batch Format) with the extension sequence.
func appendCloudEvents(dst []byte, items []functions.Item) []byte {
	dst = append(dst, '[')
	for n, i := range items {
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, "\n"+`{"specversion":"1.0","id":"`...)
		dst = appendVersion(dst, i.Version)
		dst = append(dst, `","source":`...)
		dst = event.AppendJSONString(dst, "runnel/"+event.EscapeToken(i.Source))
		dst = append(dst, `,"type":"`...)
		dst = append(dst, types[i.Op]...)
		dst = append(dst, `","subject":`...)
		dst = event.AppendJSONString(dst, i.Table.String()+"/"+i.ID())
		dst = append(dst, `,"time":"`...)
		dst = time.UnixMilli(i.CommitMS).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
		dst = append(dst, `","sequence":"`...)
		dst = appendVersion(dst, i.Version)
		dst = append(dst, `","datacontenttype":"application/json","data":{`...)
		dst = appendRows(dst, i)
		dst = append(dst, "}}"...)
	}
	return append(dst, "\n]\n"...)
}

// appendVersion appends 19 digits: JavaScript has no number for a version, and as texts they have the order of the versions.
func appendVersion(dst []byte, v event.Version) []byte { return fmt.Appendf(dst, "%019d", int64(v)) }

func appendRows(dst []byte, i functions.Item) []byte {
	dst = appendRow(append(dst, `"before":`...), i.Before)
	return appendRow(append(dst, `,"after":`...), i.After)
}

func appendRow(dst []byte, row event.Row) []byte {
	if row.IsNull() {
		return append(dst, "null"...)
	}
	return append(dst, row.Raw()...)
}

// Preview is the request of a batch, without what may be a secret.
func (s *Sink) Preview(ctx context.Context, b functions.Batch) ([]byte, error) {
	items := functions.Items(b)
	if len(items) == 0 {
		return nil, nil
	}
	r, body, err := s.request(ctx, b.Function, items)
	if err != nil {
		return nil, err
	}
	head := fmt.Appendf(nil, "POST %s\nContent-Type: %s\n\n", s.where(), r.Header.Get("Content-Type"))
	return append(head, body...), nil
}
