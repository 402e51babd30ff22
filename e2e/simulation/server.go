package simulation

import (
	"math/rand/v2"
	"time"

	"github.com/runnel-dev/runnel/e2e/simulation/fakenats"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// serve starts JetStream.
func (w *world) serve(tell bool) {
	f := wellBehaved
	f.LateMost = 2 * time.Second
	for class, set := range map[string]struct {
		chance *float64
		to     float64
	}{
		"bytes come late":          {&f.Late, 0.0005},
		"bytes are split":          {&f.Split, 0.01},
		"connections are cut":      {&f.Cut, 0.0001},
		"publishes are lost":       {&f.PublishLost, 0.0005},
		"answers are lost":         {&f.AckLost, 0.005},
		"answers are late":         {&f.AckLate, 0.005},
		"writes are in flight":     {&f.InFlight, 0.002},
		"no leader":                {&f.NoResponders, 0.0005},
		"the store refuses":        {&f.StoreRefuses, 0.0002},
		"a fence's answer is lost": {&f.AnswerUnknown, 0.1},
		"questions are lost":       {&f.RequestLost, 0.003},
		"replies are lost":         {&f.ReplyLost, 0.003},
		"API without a leader":     {&f.Unavailable, 0.003},
		"replicas lag":             {&f.DirectStale, 0.2},
		"deliveries are lost":      {&f.DeliveryLost, 0.005},
		"consumers are gone":       {&f.ConsumerGone, 0.001},
		"consumers are late":       {&f.ConsumerLate, 0.01},
	} {
		if w.c.enabled(class) && !w.c.drop[class] {
			*set.chance = set.to
			w.c.happened = append(w.c.happened, class)
		}
	}
	w.faults = f
	o := fakenats.Options{Rand: rand.New(rand.NewPCG(w.c.seed, 5)), Faults: wellBehaved, SyncInterval: syncInterval, Stored: w.stored, Lost: w.lostTail}
	if w.c.intn("cluster", "nats", 3) == 0 {
		o.Cluster = "simulated"
		w.c.count("the server is one of a cluster")
	}
	if tell {
		o.Trace = func(line string) { w.h.note("nats", "%s", line) }
	}
	w.server = fakenats.New(o)
}

// serverFaults begins what goes wrong by itself.
func (w *world) serverFaults() { w.server.SetFaults(w.faults) }

// serverCalm ends it.
func (w *world) serverCalm() { w.server.SetFaults(wellBehaved) }

var wellBehaved = fakenats.Faults{LatencyMin: 20 * time.Microsecond, LatencyMax: 600 * time.Microsecond}

// stored hears of each message that the server stores, while it does. It does not wait.
func (w *world) stored(name string, m fakenats.Message) {
	if owner, ok := ownerKey(m.Subject); ok {
		w.o.Store(owner, m.Data)
		w.m.Floor(owner, m.Data, w.target)
		return
	}
	if name == event.DeadLetterStream {
		w.letter(m)
	}
	if name != event.StreamName(source) {
		return
	}
	if msg := w.decode(m); msg != nil {
		w.m.Store(msg)
	}
}

func (w *world) lostTail(name string, to fakenats.Message) {
	switch name {
	case event.StreamName(source):
		w.m.Lose(to.Sequence)
	case bucketStream(registry.BucketOwners):
		w.o.Lose()
	}
}

// bucketStream is the stream that holds a bucket of KV.
func bucketStream(bucket string) string { return "KV_" + bucket }

// oldCopy makes copies of the store, and restores one: that takes minutes, after which the source's clock is right.
func (w *world) oldCopy() {
	if w.copies("nats") {
		w.copied = w.server.Snapshot()
	}
	if w.copied == nil || !w.c.fault("an old copy of the store is restored", "nats") {
		return
	}
	w.c.count("an old copy of all that JetStream holds is restored")
	w.h.note("operator", "an old copy of JetStream's store is RESTORED")
	w.d.SetClock()
	var messages []*event.Message
	w.m.Disaster(func() {
		w.server.Restore(w.copied, w.c.between("away for", "nats", time.Millisecond, 2*time.Second))
		for _, m := range w.server.Messages(event.StreamName(source)) {
			if msg := w.decode(m); msg != nil {
				messages = append(messages, msg)
			}
		}
		w.m.Restored(messages)
		if n := len(messages); n > 0 {
			w.h.note("stream", "holds %d to %d", messages[0].Sequence, messages[n-1].Sequence)
		}
	})
	w.o.Lose()
	if w.pending.Load() { // where that was ordered before, it is forgotten
		w.resnapshot("JetStream was restored to before that order")
	}
	if len(messages) == 0 {
		w.blank.Store(true)
		w.resnapshot("JetStream was restored to before all that it held")
	}
}

func (w *world) decode(m fakenats.Message) *event.Message {
	msg, err := stream.Decode(m.Subject, m.Sequence, m.Header, m.Time, append([]byte(nil), m.Data...))
	if err != nil {
		w.h.fail("same bytes", "%v", err)
		return nil
	}
	return msg
}

func (w *world) serverTrouble() {
	c, name := w.c, event.StreamName(source)
	if time.Since(w.h.began) > time.Second && c.fault("power is lost", "nats") { // before that whole streams would go
		w.server.PowerLoss(c.between("without power for", "nats", time.Millisecond, time.Second))
	}
	if c.fault("the server restarts", "nats") {
		w.server.Restart(c.between("away for", "nats", time.Millisecond, 2*time.Second))
	}
	if c.fault("a former leader answers", "nats") {
		w.server.StaleLeader(name, c.between("former leader for", "nats", 10*time.Millisecond, 700*time.Millisecond))
	}
	buckets := []string{registry.BucketOwners, registry.BucketFunctions, registry.BucketCaptures, registry.BucketWorkers}
	if c.fault("a former leader of a bucket answers", "nats") {
		bucket := buckets[c.intn("bucket of a former leader", "nats", len(buckets))]
		w.server.StaleLeader(bucketStream(bucket), c.between("former leader of a bucket for", "nats", 10*time.Millisecond, 700*time.Millisecond))
	}
	if c.fault("all who watch a bucket are gone", "nats") {
		w.server.KillConsumers(bucketStream(buckets[c.intn("watched bucket", "nats", len(buckets))]))
	}
	if c.fault("all consumers are gone", "nats") {
		w.server.KillConsumers(name)
	}
	// Not before the first writer's record is there: then nothing would be left of it but the source's clock.
	if c.fault("the stream is deleted", "nats") && len(w.server.Messages(bucketStream(registry.BucketCaptures))) > 0 {
		w.h.note("operator", "the stream is DELETED")
		w.d.SetClock() // new epochs come from it, where power took the newest record too
		w.m.Disaster(func() {
			w.server.DeleteStream(name)
			w.m.Lose(0)
		})
	}
	w.oldCopy()
	if c.fault("retention", "nats") {
		first, last := w.server.Ends(name)
		w.server.Retire(name, c.intn("messages retired", "nats", int(last-first)+2))
		first, _ = w.server.Ends(name)
		w.m.Retire(first)
	}
	if c.fault("the store is full for a while", "nats") {
		w.server.Fill(true)
		d := c.between("full for", "nats", 10*time.Millisecond, 2*time.Second)
		w.background.Go(func() {
			w.sleep(d, w.calm)
			w.server.Fill(false)
		})
	}
}
