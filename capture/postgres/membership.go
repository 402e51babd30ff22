package postgres

import (
	"context"
	"fmt"
)

// publishedSince names how a table is in our publications: by the numbers of the table and of the catalog's entries that put it
// there. A table that is dropped and made again, or taken out and put back, gets others; nothing else tells that its changes
// in between are in no log that we are sent.
func (s *Source) publishedSince(ctx context.Context, q querier, version int, table uint32) (string, error) {
	sql := `SELECT o FROM (SELECT $1::oid::bigint AS o
		UNION SELECT r.oid::bigint FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
			WHERE p.pubname = ANY($2) AND (r.prrelid = $1 OR r.prrelid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors($1)))
		UNION SELECT p.oid::bigint FROM pg_catalog.pg_publication p WHERE p.pubname = ANY($2) AND p.puballtables`
	if version >= 15 {
		sql += ` UNION SELECT n.oid::bigint FROM pg_catalog.pg_publication_namespace n JOIN pg_catalog.pg_publication p ON p.oid = n.pnpubid
			WHERE p.pubname = ANY($2) AND n.pnnspid = (SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = $1)`
	}
	var since string
	err := q.QueryRow(ctx, `SELECT string_agg(o::text, '.' ORDER BY o) FROM (`+sql+`) AS entries) AS numbers`,
		table, []string{s.cfg.Publication, s.cfg.Publication + insertSuffix}).Scan(&since)
	if err != nil {
		return "", fmt.Errorf("see since when a table is published: %w", err)
	}
	return since, nil
}
