package clickhouse

import (
	"context"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Drop takes away the tables of these schemas, with the views beside them. What has no column of ours was there before, and stays.
func (s *Sink) Drop(ctx context.Context, schemas []*event.Schema, dry bool) (dropped, kept []string, err error) {
	for _, schema := range schemas {
		t := &table{plain: strings.NewReplacer("{schema}", schema.Table.Schema, "{table}", schema.Table.Name).Replace(s.template)}
		t.name = quote(s.database) + "." + quote(t.plain)
		have, err := s.columns(ctx, t)
		if err != nil {
			return dropped, kept, err
		}
		if len(have) == 0 {
			continue
		}
		if have[ours[1].name] == "" {
			kept = append(kept, t.plain)
			continue
		}
		dropped = append(dropped, t.plain)
		if dry {
			continue
		}
		for _, sql := range []string{"DROP VIEW IF EXISTS " + quote(s.database) + "." + quote(t.plain+live), "DROP TABLE IF EXISTS " + t.name + " SYNC"} {
			if err := s.exec(ctx, t, sql); err != nil {
				return dropped, kept, err
			}
		}
	}
	return dropped, kept, nil
}
