package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/runnel-dev/runnel/capture"
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("runnel_capture_"+name, help, labels, nil)
}

var (
	sourceEvents     = describe("events_total", "Events published into the stream by this process.", "source")
	sourceBytes      = describe("bytes_total", "Bytes published into the stream by this process.", "source")
	sourceLag        = describe("lag_seconds", "Seconds from the commit of the newest published event to its publication; while one is not stored yet, to now.", "source")
	sourceSequence   = describe("stored_sequence", "Sequence up to which the stream holds what was published.", "source")
	sourceCheckpoint = describe("checkpoint_age_seconds", "Seconds since the source was last allowed to release its log.", "source")
	sourceRetained   = describe("slot_retained_bytes", "Bytes of log that the source keeps for the slot.", "source")
	sourceRetries    = describe("retries_total", "Starts of the agent after an error.", "source")
	sourceState      = describe("state", "1 for the state that the agent is in.", "source", "state")
	loadRows         = describe("load_rows", "Rows of a table read by the load.", "source", "table")
	loadEstimate     = describe("load_estimated_rows", "Rows of a table, as the source's statistics say.", "source", "table")
)

// Describe sends nothing: the board's series come and go with sources.
func (b *board) Describe(chan<- *prometheus.Desc) {}

// Collect reads the board.
func (b *board) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	age := func(d *prometheus.Desc, t time.Time, label string) {
		if !t.IsZero() {
			gauge(d, time.Since(t).Seconds(), label)
		}
	}
	for _, s := range b.lines() {
		counter(sourceEvents, s.Events, s.Name)
		counter(sourceBytes, s.Bytes, s.Name)
		counter(sourceRetries, s.Retries, s.Name)
		gauge(sourceSequence, float64(s.Sequence), s.Name)
		gauge(sourceLag, s.lag().Seconds(), s.Name)
		age(sourceCheckpoint, s.Confirmed, s.Name)
		if s.Retained >= 0 {
			gauge(sourceRetained, float64(s.Retained), s.Name)
		}
		for _, state := range []capture.State{capture.Connecting, capture.Standby, capture.Starting, capture.Streaming, capture.Stopped} {
			gauge(sourceState, one(s.State == state), s.Name, string(state))
		}
		for table, l := range s.Loads {
			gauge(loadRows, float64(l.Rows), s.Name, table.String())
			gauge(loadEstimate, float64(l.Estimate), s.Name, table.String())
		}
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// lag is how late the newest event was published, or how old it is while it is not stored.
func (s *sourceLine) lag() time.Duration {
	switch {
	case s.Commit.IsZero():
		return 0
	case s.Pending:
		return max(0, time.Since(s.Commit))
	}
	return max(0, s.Published.Sub(s.Commit))
}
