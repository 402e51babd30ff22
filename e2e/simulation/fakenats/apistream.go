package fakenats

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// subjectsMost is how many subjects one answer lists.
const subjectsMost = 100_000

// stream answers a request about a stream.
func (r *request) stream(verb, name string) {
	s := r.s
	st := s.stream(name)
	if st == nil && verb != "CREATE" && verb != "NAMES" && verb != "LIST" {
		r.answer(kinds[verb], nil, errNoStream)
		return
	}
	switch verb {
	case "CREATE", "UPDATE":
		r.change(verb, name, st)
	case "INFO":
		r.streamInfo(s.leader(st))
	case "MSG.GET":
		r.get(s.leader(st))
	case "DELETE":
		s.dropStream(st)
		r.answer(kinds[verb], success{true}, nil)
	case "PURGE":
		if st.config.DenyPurge {
			r.answer(kinds[verb], nil, &failure{500, 10110, "stream purge not permitted"})
			return
		}
		var q struct {
			Filter   string `json:"filter"`
			Sequence uint64 `json:"seq"`
			Keep     uint64 `json:"keep"`
		}
		if len(r.body) > 0 && !r.parse(verb, &q) {
			return
		}
		r.answer(kinds[verb], purged{success{true}, st.purge(q.Filter, q.Sequence, q.Keep)}, nil)
	case "MSG.DELETE":
		if st.config.DenyDelete {
			r.answer(kinds[verb], nil, &failure{500, 10057, "message delete not permitted"})
			return
		}
		var q struct {
			Sequence uint64 `json:"seq"`
		}
		switch {
		case !r.parse(verb, &q):
		case st.at(q.Sequence) == nil:
			r.answer(kinds[verb], nil, &failure{400, 10043, fmt.Sprintf("sequence %d not found", q.Sequence)})
		default:
			st.remove(q.Sequence)
			st.settle()
			r.answer(kinds[verb], success{true}, nil)
		}
	case "NAMES", "LIST":
		r.list(verb)
	default:
		r.answer("stream_"+strings.ToLower(verb), nil, &failure{501, 10003, "not simulated"})
	}
}

// kinds are the answers' types.
var kinds = map[string]string{
	"CREATE": "stream_create", "UPDATE": "stream_update", "INFO": "stream_info", "DELETE": "stream_delete", "PURGE": "stream_purge",
	"MSG.GET": "stream_msg_get", "MSG.DELETE": "stream_msg_delete",
}

func (r *request) parse(verb string, into any) bool {
	if err := json.Unmarshal(r.body, into); err != nil {
		r.answer(kinds[verb], nil, &failure{400, 10025, "invalid JSON: " + err.Error()})
		return false
	}
	return true
}

func (r *request) list(verb string) {
	var q struct {
		Subject string `json:"subject"`
	}
	if len(r.body) > 0 && !r.parse("INFO", &q) {
		return
	}
	answer := struct {
		page
		Streams []any `json:"streams"`
	}{page{Limit: 1024}, []any{}}
	names := verb == "NAMES"
	for _, st := range r.s.streams {
		switch {
		case q.Subject != "" && !slices.ContainsFunc(st.config.Subjects, func(f string) bool { return overlap(f, q.Subject) }):
		case names:
			answer.Streams = append(answer.Streams, st.config.Name)
		default:
			answer.Streams = append(answer.Streams, json.RawMessage(st.info("")))
		}
	}
	answer.Total = len(answer.Streams)
	kind := "stream_list"
	if names {
		kind = "stream_names"
	}
	r.answer(kind, answer, nil)
}

// change creates or updates a stream.
func (r *request) change(verb, name string, st *stream) {
	s := r.s
	var c jetstream.StreamConfig
	if !r.parse(verb, &c) {
		return
	}
	if c.Name != name {
		r.answer(kinds[verb], nil, &failure{400, 10056, "stream name in subject does not match request"})
		return
	}
	complete(&c)
	switch {
	case st == nil && slices.ContainsFunc(s.streams, func(o *stream) bool {
		return slices.ContainsFunc(o.config.Subjects, func(have string) bool {
			return slices.ContainsFunc(c.Subjects, func(want string) bool { return overlap(have, want) })
		})
	}):
		r.answer(kinds[verb], nil, errOverlap)
		return
	case st == nil:
		st = newStream(s, c)
		s.addStream(st)
		if s.options.SyncInterval == 0 {
			st.settle()
		}
	case verb == "CREATE" && !reflect.DeepEqual(st.config, c):
		r.answer(kinds[verb], nil, errNameInUse)
		return
	case verb == "UPDATE":
		if why := unchangeable(&st.config, &c); why != "" {
			r.answer(kinds[verb], nil, &failure{500, 10052, why})
			return
		}
		st.config = c
		st.encode()
		st.aging = false
		st.age()
	}
	r.answer(kinds[verb], st.info(""), nil)
}

// complete sets what is not said.
func complete(c *jetstream.StreamConfig) {
	for _, limit := range []*int64{&c.MaxMsgs, &c.MaxBytes, &c.MaxMsgsPerSubject} {
		if *limit == 0 {
			*limit = -1
		}
	}
	if c.MaxMsgSize == 0 {
		c.MaxMsgSize = -1
	}
	if c.MaxConsumers == 0 {
		c.MaxConsumers = -1
	}
	c.Replicas = max(c.Replicas, 1)
	if c.Duplicates == 0 {
		c.Duplicates = 2 * time.Minute
		if c.MaxAge > 0 {
			c.Duplicates = min(c.Duplicates, c.MaxAge)
		}
	}
	if len(c.Subjects) == 0 {
		c.Subjects = []string{c.Name}
	}
	c.Metadata = maps.Clone(c.Metadata)
	if c.Metadata == nil {
		c.Metadata = map[string]string{}
	}
	maps.Copy(c.Metadata, map[string]string{"_nats.req.level": "0", "_nats.ver": version, "_nats.level": "4"})
}

// unchangeable says what of a stream cannot be updated.
func unchangeable(have, want *jetstream.StreamConfig) string {
	switch {
	case have.Storage != want.Storage:
		return "stream configuration update can not change storage type"
	case have.Retention != want.Retention:
		return "stream configuration update can not change retention policy to/from workqueue"
	case have.DenyDelete && !want.DenyDelete:
		return "stream configuration update can not cancel deny message deletes"
	case have.DenyPurge && !want.DenyPurge:
		return "stream configuration update can not cancel deny purge"
	case !slices.Equal(have.Subjects, want.Subjects):
		return "changes of subjects are not simulated"
	}
	return ""
}

func (st *stream) encode() {
	var err error
	if st.encoded, err = json.Marshal(st.config); err != nil {
		panic(err) // it came as JSON
	}
}

func (r *request) streamInfo(st *stream) {
	var q struct {
		Filter string `json:"subjects_filter"`
		Offset int    `json:"offset"`
	}
	if len(r.body) > 0 && !r.parse("INFO", &q) {
		return
	}
	if q.Filter == "" {
		r.answer(kinds["INFO"], st.info(""), nil)
		return
	}
	b := []byte(`,"subjects":{`)
	total := 0
	for _, name := range st.names() {
		if !matches(q.Filter, name) {
			continue
		}
		if total >= q.Offset && total < q.Offset+subjectsMost {
			if total > q.Offset {
				b = append(b, ',')
			}
			b = append(strconv.AppendQuote(b, name), ':')
			b = strconv.AppendInt(b, int64(len(st.subjects[name].seqs)), 10)
		}
		total++
	}
	if total == 0 {
		r.answer(kinds["INFO"], st.info(""), nil)
		return
	}
	info := st.info(string(append(b, '}')))
	r.answer(kinds["INFO"], fmt.Appendf(info[:len(info)-1], `,"total":%d,"offset":%d,"limit":%d}`, total, q.Offset, subjectsMost), nil)
}

const zeroTime = "0001-01-01T00:00:00Z"

func stamp(at int64) string { return date(at).Format(time.RFC3339Nano) }

// info is what STREAM.INFO says; subjects are further fields of the state.
func (st *stream) info(subjects string) []byte {
	first, firstAt, lastAt := st.first(), zeroTime, zeroTime
	if len(st.msgs) > 0 {
		firstAt = stamp(st.msgs[0].at)
	} else if st.last == 0 {
		first = 0
	}
	if st.lastAt > 0 {
		lastAt = stamp(st.lastAt)
	}
	b := make([]byte, 0, len(st.encoded)+len(subjects)+512)
	b = append(append(b, `{"config":`...), st.encoded...)
	b = fmt.Appendf(b, `,"created":%q,"state":{"messages":%d,"bytes":%d,"first_seq":%d,"first_ts":%q,"last_seq":%d,"last_ts":%q,"consumer_count":%d`,
		st.created.Format(time.RFC3339Nano), st.held, st.bytes, first, firstAt, st.last, lastAt, len(st.consumers))
	if n := uint64(len(st.msgs)) - st.held; n > 0 {
		b = fmt.Appendf(b, `,"num_deleted":%d`, n)
	}
	if n := len(st.subjects); n > 0 {
		b = fmt.Appendf(b, `,"num_subjects":%d`, n)
	}
	b = append(append(b, subjects...), '}')
	if cluster := st.s.options.Cluster; cluster != "" {
		b = fmt.Appendf(b, `,"cluster":{"name":%q,"leader":"fake"}`, cluster)
	}
	return fmt.Appendf(b, `,"ts":%q}`, stamp(now()))
}

type getRequest struct {
	Sequence uint64 `json:"seq"`
	LastOn   string `json:"last_by_subj"`
	NextOn   string `json:"next_by_subj"`
}

func (st *stream) find(q getRequest) *message {
	switch {
	case q.NextOn != "":
		return st.next(q.NextOn, q.Sequence)
	case q.Sequence > 0:
		return st.at(q.Sequence)
	default:
		return st.lastOn(q.LastOn)
	}
}

// get answers with one message.
func (r *request) get(st *stream) {
	var q getRequest
	if !r.parse("MSG.GET", &q) {
		return
	}
	if q.Sequence > 0 && q.LastOn != "" || q == (getRequest{}) || q.LastOn != "" && q.NextOn != "" {
		r.answer(kinds["MSG.GET"], nil, errBadRequest)
		return
	}
	m := st.find(q)
	if m == nil {
		r.answer(kinds["MSG.GET"], nil, errNoMessage)
		return
	}
	b := make([]byte, 0, 256+len(m.subject)+base64.StdEncoding.EncodedLen(len(m.raw)))
	b = strconv.AppendQuote(append(b, `{"message":{"subject":`...), m.subject)
	b = strconv.AppendUint(append(b, `,"seq":`...), m.seq, 10)
	if m.header > 0 {
		b = append(base64.StdEncoding.AppendEncode(append(b, `,"hdrs":"`...), m.headers()), '"')
	}
	if len(m.data()) > 0 {
		b = append(base64.StdEncoding.AppendEncode(append(b, `,"data":"`...), m.data()), '"')
	}
	r.answer(kinds["MSG.GET"], fmt.Appendf(b, `,"time":%q}}`, stamp(m.at)), nil)
}

// direct answers $JS.API.DIRECT.GET.<stream>[.<subject>], as any replica does.
func (r *request) direct() bool {
	s := r.s
	if len(r.words) < 3 || r.words[1] != "GET" {
		return false
	}
	st := s.stream(r.words[2])
	if st == nil || !st.config.AllowDirect {
		return false
	}
	var q getRequest
	if len(r.words) > 3 {
		q.LastOn = join(r.words[3:])
	} else if err := json.Unmarshal(r.body, &q); err != nil || q == (getRequest{}) {
		s.send(r.reply, r.reply, "", statusHeader(408, "Empty Request"), nil)
		return true
	}
	if s.happens("stale direct get", s.faults.DirectStale) {
		st = st.past()
	}
	m := st.find(q)
	if m == nil {
		s.send(r.reply, r.reply, "", statusHeader(404, "Message Not Found"), nil)
		return true
	}
	header := []byte("NATS/1.0\r\n")
	if m.header > 0 {
		header = append([]byte(nil), m.raw[:m.header-len(lineEnd)]...)
	}
	header = appendFields(header, []field{
		{"Nats-Stream", st.config.Name},
		{"Nats-Subject", m.subject},
		number("Nats-Sequence", m.seq),
		{"Nats-Time-Stamp", stamp(m.at)},
	})
	s.send(r.reply, r.reply, "", header, m.data())
	return true
}
