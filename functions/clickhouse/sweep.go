package clickhouse

import (
	"context"
	"fmt"
	"strings"

	"github.com/runnel-dev/runnel/functions"
)

// Sweep writes a tombstone at the sweep's version for every row of the partition that is older, within the server. What comes
// late stays dead.
func (s *Sink) Sweep(ctx context.Context, w functions.Sweep) error {
	t, err := s.ensure(ctx, w.Schema)
	if err != nil {
		return err
	}
	keys := make([]string, 0, len(t.key)+1)
	for _, k := range t.key {
		keys = append(keys, quote(k))
	}
	if t.keyless {
		keys = append(keys, "_row")
	}
	list := strings.Join(keys, ", ")
	return s.exec(ctx, t, fmt.Sprintf("INSERT INTO %s (%s, _partition, _version, _deleted) SELECT %s, _partition, %d, 1 FROM %s FINAL WHERE _partition = %d AND _version < %d AND _deleted = 0",
		t.name, list, list, w.Older, t.name, w.Partition, w.Older))
}
