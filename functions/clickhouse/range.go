package clickhouse

import (
	"fmt"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
)

// fits looks at the columns whose ClickHouse type would silently clamp a value: Date32 and DateTime64 hold 1900 to 2299.
func (t *table) fits(r event.Row) error {
	if len(t.ranges) == 0 {
		return nil
	}
	next := 0
	for name, v := range r.All() {
		if name != t.ranges[next].column {
			continue
		}
		if !v.IsNull() && !inRange(v) {
			return fmt.Errorf("clickhouse: column %s: %s does not fit %s (1900 to 2299); to keep such values: ALTER TABLE %s MODIFY COLUMN %s Nullable(String)",
				quote(name), v, t.ranges[next].typ, t.name, quote(name))
		}
		if next++; next == len(t.ranges) {
			return nil
		}
	}
	return nil
}

// inRange expects "YYYY-…" with four digits and no BC.
func inRange(v event.Value) bool {
	if len(v) < 12 || v[0] != '"' || v[5] != '-' || strings.HasSuffix(string(v), `BC"`) {
		return false
	}
	year := 0
	for _, c := range v[1:5] {
		if c < '0' || c > '9' {
			return false
		}
		year = year*10 + int(c-'0')
	}
	return year >= 1900 && year <= 2299
}
