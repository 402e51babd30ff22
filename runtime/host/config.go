package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Config of a host. Conn, Registry and NewHandler are needed, the rest has defaults.
type Config struct {
	Conn     *stream.Conn
	Registry *registry.Registry
	World    World // instead of Conn and Registry

	// Functions are the names of the functions to host; none means all.
	Functions []string

	// Handlers are the names of the handlers that NewHandler can make: functions that name one of them are hosted here, and no
	// others. None means the functions whose targets Runnel knows.
	Handlers []string

	// Labels are what functions may ask of a worker in their specification.
	Labels map[string]string

	// NewHandler makes the handler of a function, with its references resolved. An error is tried again with backoff, one
	// marked by sink.Halt halts the function.
	NewHandler func(ctx context.Context, f *registry.Function) (sink.Handler, error)

	Lease         time.Duration // a worker that says nothing for longer counts as gone; default 10 s, at most registry.WorkerTTL
	WriteDeadline time.Duration // of one write to a target, below the lease; default 6 s; a batch that takes longer is split
	FloorEvery    time.Duration // how often a floor moves at most; default 1 s
	IdleEvery     time.Duration // how often a partition without events notes where it stands; default 1 min
	SchemaWait    time.Duration // how long an unknown schema is waited for; default 10 s
	PayloadWait   time.Duration // how long a payload must be missing in the object store until it counts as lost; default 2 min
	Heartbeat     time.Duration // of a consumer that has nothing to deliver; default 2 s
	RetryMin      time.Duration // first pause before a failed write is tried again; default 100 ms
	RetryMax      time.Duration // longest pause; default 30 s
	Memory        int64         // bytes that all partitions together hold, about; default 24 MiB

	Log      *slog.Logger // default: none
	Observer Observer
}

// Observer is told what happens; nil functions are skipped. They must not block.
type Observer struct {
	Written func(function string, events int, bytes int64, took time.Duration) // a batch is durable in the target
	Retried func(function string, err error)                                   // a write failed and is tried again
	State   func(function string, state registry.State, reason string)         // running, paused, halted as this worker sees it; "" when deleted
	Stalled func(function string, stalled bool)                                // the target does not take writes, or does again
	Floor   func(function string, partition int, floor sink.Point)             // a checkpoint moved
	Lag     func(function string, backlog uint64, seconds float64)             // once a second
	Buried  func(function string)                                              // an event became a dead letter
}

func (c *Config) fill() error {
	var errs []error
	if c.World == nil {
		if c.Conn == nil || c.Registry == nil {
			errs = append(errs, errors.New("a connection and a registry are needed"))
		} else {
			c.World = JetStream(c.Conn, c.Registry)
		}
	}
	if c.NewHandler == nil {
		errs = append(errs, errors.New("a maker of handlers is needed"))
	}
	orDefault(&c.Lease, 10*time.Second)
	orDefault(&c.WriteDeadline, c.Lease*6/10)
	orDefault(&c.FloorEvery, time.Second)
	orDefault(&c.IdleEvery, time.Minute)
	orDefault(&c.SchemaWait, 10*time.Second)
	orDefault(&c.PayloadWait, 2*time.Minute)
	orDefault(&c.Heartbeat, 2*time.Second)
	orDefault(&c.RetryMin, 100*time.Millisecond)
	orDefault(&c.RetryMax, 30*time.Second)
	orDefault(&c.Memory, 24<<20)
	if c.WriteDeadline >= c.Lease {
		errs = append(errs, errors.New("the write deadline must be below the lease"))
	}
	if c.Lease > registry.WorkerTTL {
		errs = append(errs, errors.New("the lease must not exceed the time that a worker's announcement lives"))
	}
	if c.Heartbeat > requestExpires/2 { // JetStream refuses such requests, each time
		errs = append(errs, fmt.Errorf("the heartbeat must not exceed %v, half of what a request for messages lives", requestExpires/2))
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}

func orDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
