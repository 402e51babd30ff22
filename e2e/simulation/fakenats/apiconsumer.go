package fakenats

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func join(words []string) string { return strings.Join(words, ".") }

// createConsumer is the body of CONSUMER.CREATE.
type createConsumer struct {
	Stream string         `json:"stream_name"`
	Action string         `json:"action"`
	Config consumerConfig `json:"config"`
}

// pushConfig are the fields of push consumers, which nats.go's newer type does not have.
type pushConfig struct {
	Config struct {
		Deliver   string        `json:"deliver_subject"`
		Flow      bool          `json:"flow_control"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	} `json:"config"`
}

// consumer answers a request about a consumer: $JS.API.CONSUMER.<verb>.<stream>[.<consumer>[.<filter>]].
func (r *request) consumer(verb string) {
	words := r.words[2:]
	if verb == "DURABLE" { // CREATE
		words = words[1:]
		verb = "CREATE"
	}
	kind := "consumer_" + strings.ToLower(verb)
	if len(words) == 0 || r.s.stream(words[0]) == nil {
		r.answer(kind, nil, errNoStream)
		return
	}
	st := r.s.stream(words[0])
	name := ""
	if len(words) > 1 {
		name = words[1]
	}
	if verb == "NAMES" || verb == "LIST" {
		r.listConsumers(st, verb)
		return
	}
	if verb == "CREATE" {
		r.createConsumer(st, name)
		return
	}
	o := st.consumer(name)
	switch {
	case o == nil:
		r.answer(kind, nil, errNoConsumer)
	case verb == "INFO":
		r.answer(kind, o.info(), nil)
	case verb == "DELETE":
		r.answer(kind, success{true}, nil)
		o.end("Consumer Deleted")
	default:
		r.answer(kind, nil, errBadRequest)
	}
}

func (r *request) listConsumers(st *stream, verb string) {
	answer := struct {
		page
		Consumers []any `json:"consumers"`
	}{page{Total: len(st.consumers), Limit: 1024}, []any{}}
	for _, o := range slices.SortedFunc(slices.Values(st.consumers), func(a, b *consumer) int { return strings.Compare(a.name, b.name) }) {
		if verb == "NAMES" {
			answer.Consumers = append(answer.Consumers, o.name)
		} else {
			answer.Consumers = append(answer.Consumers, o.info())
		}
	}
	r.answer("consumer_"+strings.ToLower(verb), answer, nil)
}

func (r *request) createConsumer(st *stream, name string) {
	s := r.s
	var q createConsumer
	var p pushConfig
	if err := json.Unmarshal(r.body, &q); err != nil {
		r.answer("consumer_create", nil, &failure{400, 10025, "invalid JSON: " + err.Error()})
		return
	}
	if err := json.Unmarshal(r.body, &p); err != nil {
		r.answer("consumer_create", nil, &failure{400, 10025, "invalid JSON: " + err.Error()})
		return
	}
	target := push{subject: p.Config.Deliver, flow: p.Config.Flow, heartbeat: p.Config.Heartbeat, window: flowFirst}
	if name == "" {
		name = q.Config.Name
	}
	if name == "" {
		s.count++
		name = "fake" + strconv.FormatUint(s.count, 10)
	}
	completeConsumer(st, &q.Config, target.subject != "")
	if q.Config.AckPolicy != jetstream.AckNonePolicy && q.Config.AckWait < time.Hour {
		r.answer("consumer_create", nil, &failure{500, 10012, "consumers that deliver again are not simulated: ack_wait must be an hour or more"})
		return
	}
	if o := st.consumer(name); o != nil {
		switch {
		case q.Action == "create" && !same(&o.config, &q.Config):
			r.answer("consumer_create", nil, errConsumerExists)
		case !same(&o.config, &q.Config):
			r.answer("consumer_create", nil, &failure{500, 10012, "updates of consumers are not simulated"})
		default:
			r.answer("consumer_create", o.info(), nil)
		}
		return
	}
	o := newConsumer(st, name, q.Config, target)
	r.answer("consumer_create", o.info(), nil)
	o.work()
}

func same(a, b *consumerConfig) bool {
	return a.DeliverPolicy == b.DeliverPolicy && a.OptStartSeq == b.OptStartSeq && a.AckPolicy == b.AckPolicy &&
		a.FilterSubject == b.FilterSubject && slices.Equal(a.FilterSubjects, b.FilterSubjects) && a.InactiveThreshold == b.InactiveThreshold
}

// completeConsumer sets what is not said.
func completeConsumer(st *stream, c *consumerConfig, pushes bool) {
	if c.AckPolicy != jetstream.AckNonePolicy {
		if c.AckWait == 0 {
			c.AckWait = 30 * time.Second
		}
		if c.MaxAckPending == 0 {
			c.MaxAckPending = 1000
		}
	}
	if c.MaxDeliver == 0 {
		c.MaxDeliver = -1
	}
	if !pushes && c.MaxWaiting == 0 {
		c.MaxWaiting = waitingMost
	}
	if c.InactiveThreshold == 0 && c.Durable == "" {
		c.InactiveThreshold = 5 * time.Second
	}
	if c.Replicas == 0 && !c.MemoryStorage {
		c.Replicas = st.config.Replicas
	}
}

// info is what CONSUMER.INFO says.
func (o *consumer) info() any {
	type at struct {
		Consumer uint64 `json:"consumer_seq"`
		Stream   uint64 `json:"stream_seq"`
	}
	config := o.config
	config.Name = o.name
	return struct {
		Stream     string         `json:"stream_name"`
		Name       string         `json:"name"`
		Created    time.Time      `json:"created"`
		Config     consumerConfig `json:"config"`
		Delivered  at             `json:"delivered"`
		AckFloor   at             `json:"ack_floor"`
		AckPending int            `json:"num_ack_pending"`
		Again      int            `json:"num_redelivered"`
		Waiting    int            `json:"num_waiting"`
		Pending    uint64         `json:"num_pending"`
		Bound      bool           `json:"push_bound,omitempty"`
		Time       time.Time      `json:"ts"`
	}{
		o.st.config.Name, o.name, o.created, config, at{o.last.consumer, o.last.stream}, at{o.floor.consumer, o.floor.stream},
		len(o.unacked), 0, len(o.waiting), o.pending, o.push.subject != "" && o.listened(), date(now()),
	}
}
