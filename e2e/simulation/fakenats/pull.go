package fakenats

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// pull is a request for messages.
type pull struct {
	reply     string
	left      int // messages
	bytes     int // 0: no limit
	limited   bool
	noWait    bool
	sent      int
	heartbeat time.Duration
	beatAt    int64
	till      int64 // 0: for ever
}

// waitingMost is how many requests may wait at a consumer.
const waitingMost = 512

// request takes a client's request for messages.
func (o *consumer) request(reply string, body []byte) {
	s := o.st.s
	if reply == "" {
		return
	}
	tell := func(status int, text string) { s.send(reply, reply, "", statusHeader(status, text), nil) }
	if o.push.subject != "" {
		tell(409, "Consumer is push based")
		return
	}
	w := &pull{reply: reply, left: 1}
	switch body = bytes.TrimSpace(body); {
	case len(body) == 0:
	case body[0] == '{':
		var r struct {
			Expires   time.Duration `json:"expires"`
			Batch     int           `json:"batch"`
			MaxBytes  int           `json:"max_bytes"`
			NoWait    bool          `json:"no_wait"`
			Heartbeat time.Duration `json:"idle_heartbeat"`
		}
		if err := json.Unmarshal(body, &r); err != nil {
			tell(400, "Bad Request - "+err.Error())
			return
		}
		if r.Heartbeat > 0 && 2*r.Heartbeat > r.Expires {
			tell(400, "Bad Request - heartbeat value too large")
			return
		}
		w.left, w.bytes, w.limited, w.noWait, w.heartbeat = r.Batch, r.MaxBytes, r.MaxBytes > 0, r.NoWait, r.Heartbeat
		if r.Expires > 0 {
			w.till = now() + int64(r.Expires)
		}
		if r.Heartbeat > 0 {
			w.beatAt = now() + int64(r.Heartbeat)
		}
	default:
		if n, err := strconv.Atoi(string(body)); err == nil {
			w.left = n
		}
	}
	o.active = now()
	if w.noWait && o.pending == 0 && w.till == 0 {
		tell(404, "No Messages")
		return
	}
	if len(o.waiting) >= waitingMost {
		if w.heartbeat == 0 {
			tell(409, "Exceeded MaxWaiting")
		}
		return
	}
	o.waiting = append(o.waiting, w)
	o.work()
}

// workPull gives messages to those who wait, in turn.
func (o *consumer) workPull() {
	for len(o.waiting) > 0 && !o.gone {
		if most := o.config.MaxAckPending; most > 0 && len(o.unacked) >= most {
			o.st.s.hit("too many unacknowledged")
			break
		}
		m, next, skipped := o.peek()
		if m == nil || !o.give(m, next, skipped) {
			break
		}
	}
	o.tend()
}

// give delivers a message to the next who takes it; false if nobody does.
func (o *consumer) give(m *message, next uint64, skipped bool) bool {
	s := o.st.s
	// What counts is what the reply subject will be.
	size := len(m.subject) + len(m.raw) + o.replySize(m)
	for len(o.waiting) > 0 {
		w := o.waiting[0]
		switch {
		case w.till != 0 && w.till <= now():
			o.close(w, 408, "Request Timeout")
			continue
		case w.limited && size > w.bytes:
			s.hit("message exceeds max_bytes")
			o.close(w, 409, "Message Size Exceeds MaxBytes")
			continue
		case !s.subs.has(w.reply):
			s.hit("nobody waits any more")
			o.drop(w)
			continue
		}
		if w.limited {
			if w.bytes -= size; w.bytes == 0 {
				w.left = 1
			}
		}
		w.left--
		w.sent++
		if w.heartbeat > 0 {
			w.beatAt = now() + int64(w.heartbeat)
		}
		o.waiting = append(o.waiting[1:], w)
		if w.left <= 0 {
			o.waiting = o.waiting[:len(o.waiting)-1]
		}
		reply := o.sent(m, next, skipped)
		if !o.lost() {
			s.send(w.reply, m.subject, reply, m.headers(), m.data())
		}
		if w.left <= 0 && w.bytes > 0 {
			s.send(w.reply, w.reply, "", w.status(409, "Batch Completed"), nil)
		}
		return true
	}
	return false
}

func (o *consumer) replySize(m *message) int {
	n := len("$JS.ACK...1....") + len(o.st.config.Name) + len(o.name)
	for _, v := range [4]uint64{m.seq, o.deliver, uint64(m.at), max(o.pending, 1) - 1} {
		n += digits(v)
	}
	return n
}

func digits(v uint64) int {
	n := 1
	for ; v > 9; v /= 10 {
		n++
	}
	return n
}

func (w *pull) status(status int, text string) []byte {
	return statusHeader(status, text, number("Nats-Pending-Messages", uint64(max(w.left, 0))), number("Nats-Pending-Bytes", uint64(w.bytes)))
}

// close ends a request and tells so.
func (o *consumer) close(w *pull, status int, text string) {
	o.st.s.send(w.reply, w.reply, "", w.status(status, text), nil)
	o.drop(w)
}

func (o *consumer) drop(w *pull) {
	o.waiting = without(o.waiting, w)
	o.active = now()
}

// tend looks after requests that wait: their ends and their heartbeats.
func (o *consumer) tend() {
	s, t := o.st.s, now()
	soonest := int64(0)
	for _, w := range o.waiting {
		switch {
		case w.till != 0 && w.till <= t:
			o.close(w, 408, "Request Timeout")
			continue
		case w.noWait && (w.till == 0 || w.sent > 0):
			s.send(w.reply, w.reply, "", statusHeader(404, "No Messages"), nil)
			o.drop(w)
			continue
		case !s.subs.has(w.reply):
			s.hit("nobody waits any more")
			o.drop(w)
			continue
		}
		if w.heartbeat > 0 && w.beatAt <= t {
			s.send(w.reply, w.reply, "", o.heartbeat(), nil)
			w.beatAt = t + int64(w.heartbeat)
		}
		for _, at := range [2]int64{w.till, w.beatAt} {
			if at != 0 && (soonest == 0 || at < soonest) {
				soonest = at
			}
		}
	}
	if soonest == 0 || o.timer != 0 && o.timer <= soonest && o.timer > t {
		return
	}
	o.timer = soonest
	s.at(soonest, func() {
		if o.timer == soonest && !o.gone {
			o.timer = 0
			o.tend()
		}
	})
}

// heartbeat tells how far the consumer is.
func (o *consumer) heartbeat() []byte {
	return statusHeader(100, "Idle Heartbeat", number("Nats-Last-Consumer", o.deliver-1), number("Nats-Last-Stream", o.next-1))
}
