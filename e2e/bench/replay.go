package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/functions"
)

// discarded is what a worker counts that throws events away.
type discarded struct {
	want  int64
	rows  atomic.Int64
	began atomic.Int64 // Unix nanoseconds
}

func (d *discarded) Handle(_ context.Context, b functions.Batch) error {
	now := time.Now()
	d.began.CompareAndSwap(0, now.UnixNano())
	if n := int64(b.Len()); d.rows.Add(n) >= d.want && n > 0 {
		fmt.Printf("discarded in %d ns\n", now.UnixNano()-d.began.Load())
	}
	return nil
}

// discard is a worker whose handler throws away what it gets, and says how long that took.
func discard() {
	os.Args = append(os.Args[:1], os.Args[2:]...)
	functions.Main(functions.Handlers{"discard": func(_ context.Context, f functions.Function) (functions.Handler, error) {
		n, err := strconv.ParseInt(f.Config["rows"], 10, 64)
		return &discarded{want: n}, err
	}})
}

// replay reads a whole stream through a function that discards it, beside a consumer that acknowledges nothing.
func (b *bench) replay(ctx context.Context) ([]Row, error) {
	f, c, err := b.backlog(ctx, "r1", "", inserts, b.rows)
	if err != nil {
		return nil, err
	}
	if err := f.drain(ctx, c, "r1", b.rows, &drain{}); err != nil {
		return nil, err
	}
	nc, err := nats.Connect(f.nats.URL())
	if err != nil {
		return nil, err
	}
	b.Cleanup(nc.Close)
	limit, err := pulled(ctx, nc, b.rows)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := f.deploy(ctx, sourceSpec("r1")+functionSpec("r1", fmt.Sprintf("handler: discard\nconfig: {rows: \"%d\"}", b.rows+1))); err != nil {
		return nil, err
	}
	p, err := f.start(self, "discard")
	if err != nil {
		return nil, err
	}
	if err := p.says(ctx, "discarded in "); err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(p.log(), "discarded in ")
	var ns int64
	if _, err := fmt.Sscan(rest, &ns); err != nil {
		return nil, err
	}
	cpu := family(p.cmd.Process.Pid)
	what := fmt.Sprintf("a function that discards; %.2f CPU seconds per million rows; limit: a consumer of the same stream that acknowledges nothing", cpu.Seconds()/float64(b.rows)*1e6)
	return []Row{row("replay", float64(b.rows)/max(float64(ns), 1)*1e9, "rows/s", limit, what)}, p.stop()
}

// pulled is the rate at which a bare consumer gets the stream's rows.
func pulled(ctx context.Context, nc *nats.Conn, rows int) (float64, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, err
	}
	c, err := js.CreateConsumer(ctx, "CDC_bench", jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, FilterSubject: "cdc.bench.public.>", MemoryStorage: true})
	if err != nil {
		return 0, err
	}
	messages, err := c.Messages(jetstream.PullMaxMessages(500))
	if err != nil {
		return 0, err
	}
	defer messages.Stop()
	began := time.Now()
	for n := 0; n < rows; {
		m, err := messages.Next()
		if err != nil {
			return 0, err
		}
		n += bytes.Count(m.Data(), []byte("\n"))
	}
	return float64(rows) / time.Since(began).Seconds(), nil
}
