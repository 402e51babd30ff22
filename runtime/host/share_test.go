package host

import (
	"fmt"
	"slices"
	"testing"
)

func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("worker%d", i)
	}
	return all
}

// All workers get as many partitions, or one more, and each partition has one.
func TestSharesAreEven(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 7, 8, 64} {
		for workers := 1; workers <= 9; workers++ {
			has := map[string]int{}
			for _, w := range spread("orders", partitions, names(workers)) {
				has[w]++
			}
			delete(has, "")
			total := 0
			for w, n := range has {
				total += n
				if n < partitions/workers || n > (partitions+workers-1)/workers {
					t.Errorf("%d partitions, %d workers: %s has %d", partitions, workers, w, n)
				}
			}
			if total != partitions {
				t.Errorf("%d partitions, %d workers: %d are given", partitions, workers, total)
			}
		}
	}
}

// A worker that comes takes its share and leaves others little changed; functions are spread differently.
func TestSharesMoveLittle(t *testing.T) {
	t.Parallel()
	const functions, partitions = 50, 8
	for workers := 1; workers < 8; workers++ {
		moved, needed := 0, 0
		for f := range functions {
			name := fmt.Sprintf("f%d", f)
			before, after := spread(name, partitions, names(workers)), spread(name, partitions, names(workers+1))
			for p := range partitions {
				if before[p] != after[p] {
					moved++
				}
				if after[p] == names(workers + 1)[workers] {
					needed++
				}
			}
		}
		if moved > 3*needed {
			t.Errorf("the %dth worker has %d partitions, and %d move", workers+1, needed, moved)
		}
	}
	first := map[string]bool{}
	for f := range functions {
		first[spread(fmt.Sprintf("f%d", f), 1, names(4))[0]] = true
	}
	if len(first) != 4 {
		t.Errorf("functions of one partition are on %d workers of 4", len(first))
	}
}

// A bound chooses the same workers however they are listed, and keeps those that it chose when others go.
func TestBounded(t *testing.T) {
	t.Parallel()
	all := names(6)
	chosen := bounded("orders", 2, all)
	if len(chosen) != 2 || !slices.IsSorted(chosen) {
		t.Fatal(chosen)
	}
	slices.Reverse(all)
	if got := bounded("orders", 2, all); !slices.Equal(got, chosen) {
		t.Errorf("got %v, want %v", got, chosen)
	}
	for _, gone := range names(6) {
		rest := slices.DeleteFunc(names(6), func(w string) bool { return w == gone })
		if !slices.Contains(chosen, gone) && !slices.Equal(bounded("orders", 2, rest), chosen) {
			t.Errorf("without %s others are chosen", gone)
		}
	}
	if got := bounded("orders", 0, names(3)); len(got) != 3 {
		t.Error(got)
	}
}
