package simulation

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// owners follows who owns each partition, and checks that a worker which has lost one hands nothing more to its target once the
// lease is over. Until then it may: whoever takes a partition over has waited for as long. A worker that is stopped between its
// last look at the clock and the write itself is not blamed: nobody can help that, and the targets' guards are for it.
type owners struct {
	c *chance
	h *history

	mu     sync.Mutex
	holder map[string]string    // by the record's key; no entry: KV lost what it said
	until  map[string]time.Time // by key and worker: when the record still named it
	anyone map[string]time.Time // by key: when it may have named any worker
	last   map[string]string    // by key: who had it last
}

func newOwners(c *chance, h *history) *owners {
	return &owners{c: c, h: h, holder: map[string]string{}, until: map[string]time.Time{}, anyone: map[string]time.Time{}, last: map[string]string{}}
}

// Store takes a record of an owner.
func (o *owners) Store(key string, value []byte) {
	var r registry.Owner
	if len(value) > 0 && json.Unmarshal(value, &r) != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	before, known := o.holder[key]
	if known {
		o.until[key+" "+before] = time.Now()
	} else {
		o.anyone[key] = time.Now()
	}
	if known && before != r.Instance && r.Instance != "" {
		o.c.count("a partition changes hands")
		if before == "" && o.last[key] != r.Instance {
			o.c.count("a partition is released, and another worker takes it")
		}
	}
	if r.Closed {
		o.c.count("a partition is closed for a newer generation")
	}
	if r.Instance != "" {
		o.last[key] = r.Instance
	}
	o.holder[key] = r.Instance
}

// Lose forgets who holds what: KV lost its youngest records, and names earlier owners again.
func (o *owners) Lose() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, who := range o.holder {
		o.until[key+" "+who] = time.Now()
	}
	clear(o.holder)
}

// Write is when a worker hands a batch to its target.
func (o *owners) Write(p *process, b sink.Batch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range b.Spans {
		key := fmt.Sprintf("%s.%d.%d", b.Function, b.Generation, b.Spans[i].Partition)
		who, known := o.holder[key]
		if !known || who == p.instance {
			continue
		}
		held := o.until[key+" "+p.instance]
		if a := o.anyone[key]; a.After(held) {
			held = a
		}
		if since := time.Since(held); since > lease {
			o.h.fail("one owner", "%s (%s) writes to %s, %s after its record named another owner; it names %q", p.name, p.instance, key, since, who)
			return
		}
		o.c.count("a worker writes within its lease to a partition that another one holds")
	}
}

// ownerKey is the key of an owner's record by its subject.
func ownerKey(subject string) (string, bool) {
	return strings.CutPrefix(subject, "$KV."+registry.BucketOwners+".")
}
