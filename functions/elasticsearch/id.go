package elasticsearch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/runnel-dev/runnel/runtime/event"
)

// maxID is Elasticsearch's limit for an _id in bytes.
const maxID = 512

// appendID makes the document's _id: the values of the key columns in key order, as text, joined by `|`. In a value, `%` is
// written %25 and `|` %7C; an empty id is a single `%`. What is longer than 512 bytes becomes `sha256:` and the hash in hex.
// A row of a table without a key has the position of its change as identity, a snapshot's row the event's version.
func appendID(dst []byte, e *event.Event) ([]byte, error) {
	start := len(dst)
	keys := e.Schema.KeyColumns()
	row := e.Key()
	for i, k := range keys {
		name := e.Schema.Columns[k].Name
		v, ok := row.Column(name)
		if !ok || v.IsNull() {
			return dst, fmt.Errorf("elasticsearch: an event of %s without its key column %s", e.Table, name)
		}
		if i > 0 {
			dst = append(dst, '|')
		}
		from := len(dst)
		dst = escape(v.AppendText(dst), from)
	}
	switch {
	case len(keys) == 0 && e.Position.IsZero():
		dst = strconv.AppendInt(append(dst, 'v'), int64(e.Version), 10)
	case len(keys) == 0:
		dst = e.Position.AppendID(dst)
	case len(dst) == start:
		dst = append(dst, '%')
	case len(dst)-start > maxID:
		sum := sha256.Sum256(dst[start:])
		dst = hex.AppendEncode(append(dst[:start], "sha256:"...), sum[:])
	}
	return dst, nil
}

// escape replaces % and | in dst[from:].
func escape(dst []byte, from int) []byte {
	for i := from; i < len(dst); i++ {
		if c := dst[i]; c == '%' || c == '|' {
			code := "25"
			if c == '|' {
				code = "7C"
			}
			dst[i] = '%'
			dst = append(dst, 0, 0)
			copy(dst[i+3:], dst[i+1:])
			copy(dst[i+1:], code)
			i += 2
		}
	}
	return dst
}
