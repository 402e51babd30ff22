package postgres

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// parseSnapshot reads pg_current_snapshot(), xmin:xmax:xip,…, and gives what it shows: transactions below xmax that were not
// in progress.
func parseSnapshot(s string) (visible func(xid uint64) bool, err error) {
	fields := strings.Split(s, ":")
	if len(fields) != 3 {
		return nil, fmt.Errorf("snapshot %q: want xmin:xmax:xip", s)
	}
	xmax, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("snapshot %q: %w", s, err)
	}
	var running []uint64
	for f := range strings.SplitSeq(fields[2], ",") {
		if f == "" {
			continue
		}
		x, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("snapshot %q: %w", s, err)
		}
		running = append(running, x)
	}
	slices.Sort(running)
	return func(xid uint64) bool {
		if xid >= xmax {
			return false
		}
		_, found := slices.BinarySearch(running, xid)
		return !found
	}, nil
}
