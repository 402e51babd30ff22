package host

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strconv"
	"sync"
	"time"
)

// share says which worker should own each partition of a function. Every worker computes it by itself, from who lives: two that see
// the same workers come to the same answer, and two that do not are told apart by the partition's record.
type share struct {
	mu      sync.Mutex
	members []string
	owners  []string  // by partition; nobody: ""
	since   time.Time // when the members changed last
}

// set tells of the members, sorted, and says whether that changed anything.
func (s *share) set(function string, partitions int, members []string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(members, s.members) && len(s.owners) == partitions {
		return false
	}
	s.members, s.owners, s.since = slices.Clone(members), spread(function, partitions, members), now
	return true
}

// of is who should own a partition.
func (s *share) of(partition int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if partition >= len(s.owners) {
		return ""
	}
	return s.owners[partition]
}

// settled says whether the members have been the same for a while.
func (s *share) settled(now time.Time, d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.since) >= d
}

// spread gives each partition to the worker whose hash with it is highest among those that have room. All get as many, or one more;
// so a worker that comes or goes moves its own share, and where there are few partitions for each some others.
func spread(function string, partitions int, workers []string) []string {
	owners := make([]string, partitions)
	if len(workers) == 0 {
		return owners
	}
	type bid struct {
		partition, worker int
		weight            uint64
	}
	bids := make([]bid, 0, partitions*len(workers))
	for w, name := range workers {
		for p := range partitions {
			bids = append(bids, bid{p, w, weight(function, strconv.Itoa(p), name)})
		}
	}
	slices.SortFunc(bids, func(a, b bid) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.partition, b.partition), cmp.Compare(a.worker, b.worker))
	})
	each, more := partitions/len(workers), partitions%len(workers)
	has := make([]int, len(workers))
	for _, b := range bids {
		if owners[b.partition] != "" || has[b.worker] > each || has[b.worker] == each && more == 0 {
			continue
		}
		if has[b.worker] == each {
			more--
		}
		has[b.worker]++
		owners[b.partition] = workers[b.worker]
	}
	return owners
}

// bounded are the n workers that a function which may have no more runs on, sorted; 0 is no bound.
func bounded(function string, n int, workers []string) []string {
	chosen := slices.Clone(workers)
	if n > 0 && n < len(chosen) {
		slices.SortFunc(chosen, func(a, b string) int {
			return cmp.Or(cmp.Compare(weight(function, "", b), weight(function, "", a)), cmp.Compare(a, b))
		})
		chosen = chosen[:n]
	}
	slices.Sort(chosen)
	return chosen
}

// weight is the same on every machine.
func weight(function, partition, worker string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(function + "\x00" + partition + "\x00" + worker)) // never fails
	x := h.Sum64()
	// FNV carries nothing from high bits into low ones: MurmurHash3's finalizer does.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
