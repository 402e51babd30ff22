package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/registry"
)

// metrics are counted where they happen; the rest is read from the board when Prometheus asks.
type metrics struct {
	registry *prometheus.Registry
	batch    *prometheus.HistogramVec
	apply    *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		batch: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "runnel_function_batch_events", Help: "Events of a batch that became durable in the target.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 9),
		}, []string{"function"}),
		apply: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "runnel_function_apply_seconds", Help: "Time to write a batch into the target.",
			Buckets: prometheus.ExponentialBuckets(0.001, 3, 10),
		}, []string{"function"}),
	}
	m.registry.MustRegister(m.batch, m.apply, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "runnel_build_info", Help: "The version that runs.", ConstLabels: prometheus.Labels{"version": versionText()}})
	info.Set(1)
	m.registry.MustRegister(info)
	return m
}

// forget takes a deleted function's series away.
func (m *metrics) forget(function string) {
	m.batch.DeleteLabelValues(function)
	m.apply.DeleteLabelValues(function)
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("runnel_"+name, help, labels, nil)
}

var (
	sourceEvents     = describe("capture_events_total", "Events published into the stream by this process.", "source")
	sourceBytes      = describe("capture_bytes_total", "Bytes published into the stream by this process.", "source")
	sourceLag        = describe("capture_lag_seconds", "Seconds from the commit of the newest published event to its publication; while one is not stored yet, to now.", "source")
	sourceSequence   = describe("capture_stored_sequence", "Sequence up to which the stream holds what was published.", "source")
	sourceCheckpoint = describe("capture_checkpoint_age_seconds", "Seconds since the source was last allowed to release its log.", "source")
	sourceRetained   = describe("capture_slot_retained_bytes", "Bytes of log that the source keeps for the slot.", "source")
	sourceRetries    = describe("capture_retries_total", "Starts of the agent after an error.", "source")
	sourceState      = describe("capture_state", "1 for the state that the agent is in.", "source", "state")
	loadRows         = describe("capture_load_rows", "Rows of a table read by the load.", "source", "table")
	loadEstimate     = describe("capture_load_estimated_rows", "Rows of a table, as the source's statistics say.", "source", "table")

	functionEvents     = describe("function_events_total", "Events made durable in the target by this process.", "function")
	functionBytes      = describe("function_bytes_total", "Bytes of events made durable in the target by this process.", "function")
	functionBacklog    = describe("function_backlog_messages", "Messages that this process's partitions have before them.", "function")
	functionLag        = describe("function_lag_seconds", "Age of the oldest event that is not durable in the target yet.", "function")
	functionCheckpoint = describe("function_checkpoint_age_seconds", "Seconds since a checkpoint of the function last moved here.", "function")
	functionRetries    = describe("function_retries_total", "Writes that failed and were tried again.", "function")
	functionBuried     = describe("function_dead_letters_total", "Events that this process gave up as dead letters.", "function")
	functionState      = describe("function_state", "1 for the state that the function is in; stalled: the target does not take writes.", "function", "state")
)

// Describe sends nothing: the board's series come and go with sources and functions.
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
	sources, functions := b.lines()
	for _, s := range sources {
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
	for _, f := range functions {
		counter(functionEvents, f.Events, f.Name)
		counter(functionBytes, f.Bytes, f.Name)
		counter(functionRetries, f.Retries, f.Name)
		counter(functionBuried, f.Buried, f.Name)
		gauge(functionBacklog, float64(f.Backlog), f.Name)
		gauge(functionLag, f.Lag, f.Name)
		age(functionCheckpoint, f.Floor, f.Name)
		for _, state := range []registry.State{registry.Running, registry.Paused, registry.Halted} {
			gauge(functionState, one(f.State == state), f.Name, string(state))
		}
		gauge(functionState, one(f.Stalled), f.Name, "stalled")
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
