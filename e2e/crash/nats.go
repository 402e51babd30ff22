package main

import "time"

// natsSync is the sync_interval of external servers: what they acknowledged is durable soon, so that slots move within a run.
const natsSync = 100 * time.Millisecond

// natsAddress is where clients of an external JetStream connect.
func (w *World) natsAddress() string { return "" }

func (w *World) startNATS() error {
	w.Fatalf("topology %s: no nats-server", w.Topology)
	return nil
}
