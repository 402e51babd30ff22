package elasticsearch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// maxID is Elasticsearch's limit for an _id in bytes.
const maxID = 512

// appendID makes the document's _id: the row's identity as functions.AppendID writes it; what is longer than 512 bytes becomes
// `sha256:` and the hash in hex.
func appendID(dst []byte, e *event.Event) ([]byte, error) {
	start := len(dst)
	dst, err := functions.AppendID(dst, e)
	if err != nil {
		return dst, fmt.Errorf("elasticsearch: %w", err)
	}
	if len(dst)-start > maxID {
		sum := sha256.Sum256(dst[start:])
		dst = hex.AppendEncode(append(dst[:start], "sha256:"...), sum[:])
	}
	return dst, nil
}
