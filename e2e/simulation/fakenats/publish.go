package fakenats

import (
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// failure is an error of JetStream's, as nats-server's errors.json has it.
type failure struct {
	Status int    `json:"code"`
	Code   int    `json:"err_code"`
	Text   string `json:"description"`
}

var (
	errBadRequest      = &failure{400, 10003, "bad request"}
	errUnavailable     = &failure{503, 10008, "JetStream system temporarily unavailable"}
	errNoConsumer      = &failure{404, 10014, "consumer not found"}
	errNoResources     = &failure{503, 10023, "insufficient resources"}
	errNoMessage       = &failure{404, 10037, "no message found"}
	errTooBig          = &failure{400, 10054, "message size exceeds maximum allowed"}
	errNameInUse       = &failure{400, 10058, "stream name already in use with a different configuration"}
	errNoStream        = &failure{404, 10059, "stream not found"}
	errOtherStream     = &failure{400, 10060, "expected stream does not match"}
	errOverlap         = &failure{400, 10065, "subjects overlap with an existing stream"}
	errConsumerExists  = &failure{400, 10148, "consumer already exists"}
	errTTLDisabled     = &failure{400, 10166, "per-message TTL is disabled"}
	errWrongLastFlying = &failure{400, 10164, "wrong last sequence"}
	errNoBatches       = &failure{400, 10174, "atomic publish is disabled"}
	errBatchNoNumber   = &failure{400, 10175, "atomic publish sequence is missing"}
	errBatchIncomplete = &failure{400, 10176, "atomic publish batch is incomplete"}
	errBatchID         = &failure{400, 10179, "atomic publish batch ID is invalid"}
	errBatchTooLarge   = &failure{400, 10199, "atomic publish batch is too large: 1000"}
	errBatchCommit     = &failure{400, 10200, "atomic publish batch commit is invalid"}
	errBatchDuplicate  = &failure{400, 10201, "atomic publish batch contains duplicate message id"}
	errBatchesInFlight = &failure{429, 10210, "atomic publish too many inflight"}
)

func wrongLast(seq uint64) *failure {
	return &failure{400, 10071, "wrong last sequence: " + strconv.FormatUint(seq, 10)}
}

func storeFailed(why string) *failure { return &failure{503, 10077, why} }

func (f *failure) append(b []byte) []byte {
	return fmt.Appendf(b, `{"code":%d,"err_code":%d,"description":%q}`, f.Status, f.Code, f.Text)
}

// publication is a message that asks to be stored. Its slices belong to the connection.
type publication struct {
	subject, reply string
	header, data   []byte
	headers
}

// receive takes what a client published.
func (st *stream) receive(c *conn, subject, reply string, header, data []byte) {
	s := st.s
	f := &s.faults
	switch {
	case s.mute:
		s.hit("publish to a store that failed")
		return
	case s.happens("publish lost", f.PublishLost):
		s.tracef("%s: a publish of %s on %s is lost", st.config.Name, c, subject)
		return
	case s.happens("publish without responders", f.NoResponders):
		if reply != "" {
			s.noResponders(c, subject, reply)
		}
		return
	}
	p := publication{subject, reply, header, data, headers{}}
	if len(header) > 0 {
		p.headers = parseHeaders(header)
	}
	if len(p.batch) > 0 {
		st.stage(c, &p)
		return
	}
	st.one(c, &p)
}

// one stores a single message, if it may be.
func (st *stream) one(c *conn, p *publication) {
	refusal, duplicate := st.check(p)
	switch {
	case refusal != nil:
		st.refuse(c, p, refusal)
	case duplicate != 0:
		st.s.hit("duplicate")
		st.acknowledge(c, p, duplicate, `,"duplicate": true}`)
	default:
		if m := st.message(p); st.store(m) {
			st.rollUp(m, p)
			st.acknowledge(c, p, m.seq, "}")
			st.signal()
		}
	}
}

// check says why a message may not be stored, or which stored one it repeats.
func (st *stream) check(p *publication) (refusal *failure, duplicate uint64) {
	s := st.s
	f := &s.faults
	switch {
	case st.config.MaxMsgSize >= 0 && len(p.header)+len(p.data) > int(st.config.MaxMsgSize):
		return errTooBig, 0
	case len(p.stream) > 0 && string(p.stream) != st.config.Name:
		return errOtherStream, 0
	case len(p.ttl) > 0:
		return errTTLDisabled, 0
	}
	// A replicated stream looks at IDs before it proposes anything.
	if s.options.Cluster != "" && len(p.id) > 0 {
		if seq := st.duplicate(p.id); seq != 0 {
			return nil, seq
		}
	}
	if p.hasLastOn {
		on := p.subject
		if len(p.lastOnSubject) > 0 {
			on = string(p.lastOnSubject)
		}
		have := uint64(0)
		if m := st.lastOn(on); m != nil {
			have = m.seq
		}
		if s.happens("write in flight", f.InFlight) {
			return errWrongLastFlying, 0
		}
		if have != p.lastOn {
			s.hit("wrong last sequence of a subject")
			return wrongLast(have), 0
		}
	}
	if p.hasLast && p.last != st.last {
		s.hit("wrong last sequence")
		return wrongLast(st.last), 0
	}
	if len(p.id) > 0 {
		if seq := st.duplicate(p.id); seq != 0 {
			return nil, seq
		}
	}
	if len(p.lastID) > 0 {
		panic("fakenats: Nats-Expected-Last-Msg-Id stops a replicated stream for good; nobody may send it")
	}
	if len(p.rollup) > 0 && (!st.config.AllowRollup || st.config.DenyPurge) {
		return &failure{500, 10111, "rollup not permitted"}, 0
	}
	return st.room(p), 0
}

// room says whether the stream may take one more.
func (st *stream) room(p *publication) *failure {
	s := st.s
	if s.full || s.happens("store refuses", s.faults.StoreRefuses) {
		if s.rand.IntN(2) == 0 {
			return errNoResources
		}
		return storeFailed("insufficient storage resources available")
	}
	if st.config.Discard != jetstream.DiscardNew {
		return nil
	}
	// One that replaces another of its subject may come.
	on := st.subjects[p.subject]
	replaces := on != nil && st.config.MaxMsgsPerSubject > 0 && int64(len(on.seqs)) >= st.config.MaxMsgsPerSubject
	if st.config.MaxMsgs > 0 && st.held >= uint64(st.config.MaxMsgs) && !replaces {
		return storeFailed("maximum messages exceeded")
	}
	if most := st.config.MaxBytes; most > 0 {
		m := message{subject: p.subject, raw: p.data, header: len(p.header)}
		size := m.size() + uint64(len(p.header))
		if st.bytes+size > uint64(most) && (!replaces || st.at(on.seqs[0]).size() < size) {
			return storeFailed("maximum bytes exceeded")
		}
	}
	return nil
}

// message makes what can be stored of a publication.
func (st *stream) message(p *publication) *message {
	raw := make([]byte, 0, len(p.header)+len(p.data))
	m := &message{subject: p.subject, raw: append(append(raw, p.header...), p.data...), header: len(p.header)}
	if on := st.subjects[p.subject]; on != nil {
		m.subject = on.name // one string for all
	}
	if len(p.id) > 0 {
		m.id = string(p.id)
	}
	return m
}

// store stores a message under the next sequence; false where the store has failed.
func (st *stream) store(m *message) bool {
	s := st.s
	if s.room == 0 {
		s.hit("store failed")
		s.tracef("%s: the store fails", st.config.Name)
		s.mute = true
	}
	if s.mute {
		return false
	}
	if s.room > 0 {
		s.room--
	}
	m.seq, m.at = st.last+1, max(now(), st.lastAt)
	for _, o := range st.consumers {
		o.added(m)
	}
	st.put(m)
	if s.options.SyncInterval > 0 {
		st.since = append(st.since, m)
	}
	if s.options.Stored != nil {
		s.options.Stored(st.config.Name, m.public())
	}
	return true
}

// rollUp lets a message replace those before it.
func (st *stream) rollUp(m *message, p *publication) {
	switch string(p.rollup) {
	case "sub":
		st.purge(m.subject, m.seq, 0)
	case "all":
		st.purge("", m.seq, 0)
	}
}

// refuse answers with an error.
func (st *stream) refuse(c *conn, p *publication, why *failure) {
	st.s.tracef("%s: %s on %s is refused: %s", st.config.Name, c, p.subject, why.Text)
	if p.reply == "" {
		return
	}
	b := fmt.Appendf(nil, `{"error":`)
	b = append(why.append(b), `,"stream":`...)
	st.respond(c, p, fmt.Appendf(b, `%q,"seq":0}`, st.config.Name))
}

// acknowledge answers that a message is stored.
func (st *stream) acknowledge(c *conn, p *publication, seq uint64, rest string) {
	if p.reply == "" {
		return
	}
	b := append(make([]byte, 0, 64), `{"stream":"`...)
	b = append(append(b, st.config.Name...), `","seq":`...)
	st.respond(c, p, append(strconv.AppendUint(b, seq, 10), rest...))
}

func (st *stream) respond(c *conn, p *publication, answer []byte) {
	s := st.s
	reply := p.reply
	switch f := &s.faults; {
	case s.happens("acknowledgement lost", f.AckLost):
		s.tracef("%s: the answer to %s is lost", st.config.Name, c)
	case s.happens("acknowledgement late", f.AckLate):
		boot := s.boot
		s.after(s.late(), func() {
			if s.boot == boot {
				s.send(reply, reply, "", nil, answer)
			}
		})
	default:
		s.send(reply, reply, "", nil, answer)
	}
}
