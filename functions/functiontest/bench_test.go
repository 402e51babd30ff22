package functiontest_test

import (
	"testing"

	"github.com/runnel-dev/runnel/functions/functiontest"
)

// BenchmarkPipeline is a test of a user's: start, a change, its arrival, the end.
func BenchmarkPipeline(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		target := newTable()
		b.StartTimer()
		flow := functiontest.Pipeline(b, maker(right["strict"], target), "")
		flow.Insert("orders", order{ID: 1})
		flow.Wait()
	}
}
