package fakenats

import (
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// consumer delivers a stream's messages. Nothing is delivered twice.
type consumer struct {
	st      *stream
	name    string
	config  consumerConfig
	created time.Time
	filters []string

	next      uint64   // stream sequence to look at next
	deliver   uint64   // consumer sequence of the next delivery
	skip      []uint64 // before all others: the last ones of each subject
	pending   uint64   // messages that come
	last      sequence // of the last delivery
	unacked   []unacked
	floor     sequence // everything up to it is acknowledged
	active    int64    // when it was used last
	threshold time.Duration

	waiting []*pull
	timer   int64 // when it looks at what waits next; 0: never
	lagging bool  // does not notice new messages at the moment
	push    push
	gone    bool
}

type consumerConfig = jetstream.ConsumerConfig

type sequence struct{ consumer, stream uint64 }

type unacked struct {
	sequence
	at int64
}

// newConsumer makes a consumer that begins where its configuration says.
func newConsumer(st *stream, name string, config consumerConfig, target push) *consumer {
	o := &consumer{st: st, name: name, config: config, created: time.Now().UTC(), deliver: 1, push: target, active: now()}
	o.filters = config.FilterSubjects
	if config.FilterSubject != "" {
		o.filters = []string{config.FilterSubject}
	}
	if o.threshold = config.InactiveThreshold; o.threshold > 0 && target.subject == "" {
		o.threshold += 100*time.Millisecond + time.Duration(st.s.rand.IntN(900))*time.Millisecond
	}
	o.begin()
	st.consumers = append(st.consumers, o)
	o.expire()
	if o.push.heartbeat > 0 {
		o.beat()
	}
	return o
}

// begin finds the first message.
func (o *consumer) begin() {
	st := o.st
	switch o.config.DeliverPolicy {
	case jetstream.DeliverAllPolicy:
		o.next = st.first()
	case jetstream.DeliverLastPolicy:
		o.next = st.last
		for _, filter := range o.filters {
			if m := st.lastOn(filter); m != nil {
				o.next = max(m.seq, st.first())
			}
		}
	case jetstream.DeliverNewPolicy:
		o.next = st.last + 1
	case jetstream.DeliverByStartSequencePolicy:
		o.next = o.config.OptStartSeq
	case jetstream.DeliverByStartTimePolicy:
		o.next = st.last + 1
		for _, m := range st.msgs {
			if m != nil && m.at >= o.config.OptStartTime.UnixNano() {
				o.next = m.seq
				break
			}
		}
	case jetstream.DeliverLastPerSubjectPolicy:
		o.next = st.first()
		if st.config.MaxMsgsPerSubject == 1 {
			break
		}
		for name, on := range st.subjects {
			if o.wants(name) {
				o.skip = append(o.skip, on.seqs[len(on.seqs)-1])
			}
		}
		slices.Sort(o.skip)
		o.next = st.last + 1
	}
	o.next = max(o.next, st.first(), 1)
	o.last = sequence{0, o.next - 1}
	switch {
	case len(o.skip) > 0:
		o.last.stream = o.skip[0] - 1
	case o.config.DeliverPolicy == jetstream.DeliverLastPerSubjectPolicy && st.config.MaxMsgsPerSubject != 1 && st.last > 0:
		o.last.stream = st.last - 1
	}
	o.floor = o.last
	o.pending = uint64(len(o.skip))
	for m := o.scan(o.next); m != nil; m = o.scan(m.seq + 1) {
		o.pending++
	}
}

// wants says whether the consumer takes a subject.
func (o *consumer) wants(subject string) bool {
	return len(o.filters) == 0 || slices.ContainsFunc(o.filters, func(f string) bool { return matches(f, subject) })
}

// scan finds the next message from a sequence on.
func (o *consumer) scan(from uint64) *message {
	switch len(o.filters) {
	case 0:
		return o.st.next("", from)
	case 1:
		return o.st.next(o.filters[0], from)
	}
	for {
		m := o.st.next("", from)
		if m == nil || o.wants(m.subject) {
			return m
		}
		from = m.seq + 1
	}
}

// peek finds what is to be delivered now, and where to look after that.
func (o *consumer) peek() (m *message, next uint64, skipped bool) {
	for len(o.skip) > 0 {
		if m := o.st.at(o.skip[0]); m != nil {
			return m, o.next, true
		}
		o.skip = o.skip[1:]
	}
	m = o.scan(o.next)
	if m == nil {
		o.next = max(o.next, o.st.last+1)
		o.pending = 0 // what was stored below the first message was counted too
		return nil, o.next, false
	}
	return m, m.seq + 1, false
}

// added counts a message that is stored: as the server does it, also one below the consumer's start.
func (o *consumer) added(m *message) {
	if o.wants(m.subject) {
		o.pending++
	}
}

// removed notes that a message is gone: it is not pending any more, and counts as acknowledged.
func (o *consumer) removed(m *message) {
	if !o.wants(m.subject) {
		return
	}
	if m.seq >= o.next || slices.Contains(o.skip, m.seq) {
		if o.pending > 0 {
			o.pending--
		}
		return
	}
	i := slices.IndexFunc(o.unacked, func(u unacked) bool { return u.stream == m.seq })
	if i < 0 {
		return
	}
	if i == 0 {
		o.floor = o.unacked[0].sequence
	}
	o.unacked = slices.Delete(o.unacked, i, i+1)
}

// purged lets the consumer go on behind what was purged.
func (o *consumer) purged() {
	if first := o.st.first(); o.next < first {
		o.next = first
	}
	if len(o.unacked) == 0 && len(o.skip) == 0 && o.next == o.st.first() {
		o.last = sequence{o.deliver - 1, o.next - 1}
		o.floor = o.last
	}
}

// signal lets consumers deliver what is new.
func (st *stream) signal() {
	s := st.s
	for _, o := range slices.Clone(st.consumers) {
		if s.happens("consumer late", s.faults.ConsumerLate) && !o.lagging {
			o.lagging = true
			s.after(s.late(), func() {
				o.lagging = false
				o.work()
			})
		}
		o.work()
	}
}

// work delivers whatever can be.
func (o *consumer) work() {
	if o.gone || o.lagging {
		return
	}
	if o.push.subject != "" {
		o.workPush()
		return
	}
	o.workPull()
}

// sent notes a delivery, and says under which reply subject it goes.
func (o *consumer) sent(m *message, next uint64, skipped bool) (reply string) {
	s := o.st.s
	if o.pending > 0 {
		o.pending--
	}
	if skipped {
		o.skip = o.skip[1:]
	} else {
		o.next = next
	}
	b := append(make([]byte, 0, 96), "$JS.ACK."...)
	b = append(append(b, o.st.config.Name...), '.')
	b = append(append(b, o.name...), ".1."...)
	b = append(strconv.AppendUint(b, m.seq, 10), '.')
	b = append(strconv.AppendUint(b, o.deliver, 10), '.')
	b = append(strconv.AppendInt(b, m.at, 10), '.')
	b = strconv.AppendUint(b, o.pending, 10)
	o.last = sequence{o.deliver, m.seq}
	if o.config.AckPolicy == jetstream.AckNonePolicy {
		o.floor = o.last
	} else {
		o.unacked = append(o.unacked, unacked{sequence{o.deliver, m.seq}, now()})
	}
	o.deliver++
	o.active = now()
	if s.happens("consumer gone", s.faults.ConsumerGone) {
		o.vanish()
	}
	return string(b)
}

// lost says whether a delivery that is counted as sent never comes.
func (o *consumer) lost() bool { return o.st.s.happens("delivery lost", o.st.s.faults.DeliveryLost) }

// acknowledge takes the acknowledgement of a delivery; false where it says nothing to this consumer.
func (o *consumer) acknowledge(a sequence) bool {
	o.active = now()
	switch {
	case o.config.AckPolicy == jetstream.AckNonePolicy, a.stream >= o.next && len(o.skip) == 0:
		return false
	case o.config.AckPolicy == jetstream.AckExplicitPolicy:
		o.unacked = slices.DeleteFunc(o.unacked, func(u unacked) bool { return u.stream == a.stream })
		o.floor = sequence{o.deliver - 1, o.next - 1}
		if len(o.unacked) > 0 {
			o.floor = sequence{o.unacked[0].consumer - 1, o.unacked[0].stream - 1}
		}
	case a.consumer > o.floor.consumer && a.stream > o.floor.stream:
		o.floor = a
		o.unacked = slices.DeleteFunc(o.unacked, func(u unacked) bool { return u.stream <= a.stream })
	}
	return true
}

// expire ends a consumer that nobody uses: not while it has requests that wait, nor while acknowledgements are awaited.
func (o *consumer) expire() {
	if o.threshold <= 0 || o.gone {
		return
	}
	due := o.active + int64(o.threshold)
	for _, u := range o.unacked {
		due = max(due, u.at+int64(o.config.AckWait)+int64(o.threshold))
	}
	if len(o.waiting) > 0 || o.push.subject != "" && o.listened() {
		due = now() + int64(o.threshold)
	}
	if due <= now() {
		o.st.s.hit("consumer inactive")
		o.end("Consumer Deleted")
		return
	}
	o.st.s.at(due, o.expire)
}

// end removes the consumer and tells those who wait for messages.
func (o *consumer) end(why string) {
	for _, w := range o.waiting {
		o.st.s.send(w.reply, w.reply, "", statusHeader(409, why), nil)
	}
	if o.push.subject != "" {
		o.st.s.send(o.push.subject, o.push.subject, "", statusHeader(409, why), nil)
	}
	o.vanish()
}

// vanish removes the consumer; nobody is told.
func (o *consumer) vanish() {
	o.gone = true
	o.st.consumers = without(o.st.consumers, o)
}

func (st *stream) consumer(name string) *consumer {
	for _, o := range st.consumers {
		if o.name == name {
			return o
		}
	}
	return nil
}
