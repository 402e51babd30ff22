package process

import "time"

// Rate counts events per second over the last seconds.
type Rate struct {
	second int64
	counts [8]int64 // by second, modulo
}

func (r *Rate) advance(now time.Time) {
	second := now.Unix()
	for s := max(r.second+1, second-int64(len(r.counts))+1); s <= second; s++ {
		r.counts[s%int64(len(r.counts))] = 0
	}
	r.second = max(r.second, second)
}

// Add counts events.
func (r *Rate) Add(now time.Time, n int) {
	r.advance(now)
	r.counts[now.Unix()%int64(len(r.counts))] += int64(n)
}

// PerSecond is over the complete seconds that are remembered, at most 5.
func (r *Rate) PerSecond(now time.Time) float64 {
	r.advance(now)
	const window = 5
	var sum int64
	for s := now.Unix() - window; s < now.Unix(); s++ {
		sum += r.counts[s%int64(len(r.counts))]
	}
	return float64(sum) / window
}
