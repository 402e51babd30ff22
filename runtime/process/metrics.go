package process

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/runnel-dev/runnel/runtime/registry"
)

// Metrics are counted where they happen; the rest is read from the Reporters when Prometheus asks.
type Metrics struct {
	registry *prometheus.Registry
	batch    *prometheus.HistogramVec
	apply    *prometheus.HistogramVec
}

// NewMetrics makes those of a process of a version.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
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
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "runnel_build_info", Help: "The version that runs.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	m.registry.MustRegister(info)
	return m
}

// forget takes a deleted function's series away.
func (m *Metrics) forget(function string) {
	m.batch.DeleteLabelValues(function)
	m.apply.DeleteLabelValues(function)
}

// describe names a series.
func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("runnel_"+name, help, labels, nil)
}

var (
	functionEvents     = describe("function_events_total", "Events made durable in the target by this process.", "function")
	functionBytes      = describe("function_bytes_total", "Bytes of events made durable in the target by this process.", "function")
	functionBacklog    = describe("function_backlog_messages", "Messages that this process's partitions have before them.", "function")
	functionLag        = describe("function_lag_seconds", "Age of the oldest event that is not durable in the target yet.", "function")
	functionCheckpoint = describe("function_checkpoint_age_seconds", "Seconds since a checkpoint of the function last moved here.", "function")
	functionRetries    = describe("function_retries_total", "Writes that failed and were tried again.", "function")
	functionBuried     = describe("function_dead_letters_total", "Events that this process gave up as dead letters.", "function")
	functionState      = describe("function_state", "1 for the state that the function is in; stalled: the target does not take writes.", "function", "state")
)

// Describe sends nothing: the board's series come and go with functions.
func (b *Board) Describe(chan<- *prometheus.Desc) {}

// Collect reads the board.
func (b *Board) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, f := range b.lines() {
		counter(functionEvents, f.Events, f.Name)
		counter(functionBytes, f.Bytes, f.Name)
		counter(functionRetries, f.Retries, f.Name)
		counter(functionBuried, f.Buried, f.Name)
		gauge(functionBacklog, float64(f.Backlog), f.Name)
		gauge(functionLag, f.Lag, f.Name)
		if !f.Floor.IsZero() {
			gauge(functionCheckpoint, time.Since(f.Floor).Seconds(), f.Name)
		}
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
