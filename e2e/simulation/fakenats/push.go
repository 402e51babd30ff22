package fakenats

import (
	"strconv"
	"time"
)

// push is where a consumer sends messages unasked, and how it is slowed down. The object store reads so.
type push struct {
	subject   string
	flow      bool
	heartbeat time.Duration

	window  int // bytes that may be under way; 0: no limit
	flying  int
	asked   string // the reply subject of the flow control request that is not answered yet
	covered int    // bytes that its answer speaks of
	asks    int
}

const (
	flowMost  = 32 << 20
	flowFirst = flowMost / 16
)

// workPush sends while somebody listens and the window is not full.
func (o *consumer) workPush() {
	s := o.st.s
	for !o.gone && o.listened() && (!o.push.flow || o.push.flying <= o.push.window) {
		m, next, skipped := o.peek()
		if m == nil {
			return
		}
		o.push.flying += len(m.subject) + len(m.raw)
		reply := o.sent(m, next, skipped)
		if !o.lost() {
			s.send(o.push.subject, m.subject, reply, m.headers(), m.data())
		}
		if o.push.flow && o.push.asked == "" && o.push.flying > o.push.window/2 {
			o.push.asks++
			o.push.asked = "$JS.FC." + o.st.config.Name + "." + o.name + "." + strconv.Itoa(o.push.asks)
			o.push.covered = o.push.flying
			s.send(o.push.subject, o.push.subject, o.push.asked, statusHeader(100, "FlowControl Request"), nil)
		}
	}
}

// listened says whether somebody subscribes to just the subject; the server does not see those who do so by a wildcard.
func (o *consumer) listened() bool { return len(o.st.s.subs.exact[o.push.subject]) > 0 }

// flowed takes the answer to a flow control request.
func (o *consumer) flowed(subject string) {
	if subject != o.push.asked {
		return
	}
	o.push.window = min(2*o.push.window, flowMost)
	o.push.flying -= o.push.covered
	o.push.asked = ""
	o.work()
}

// beat sends heartbeats while the consumer lives and somebody listens.
func (o *consumer) beat() {
	o.st.s.after(o.push.heartbeat, func() {
		if o.gone {
			return
		}
		if now()-o.active >= int64(o.push.heartbeat) {
			o.st.s.send(o.push.subject, o.push.subject, "", o.heartbeat(), nil)
		}
		o.beat()
	})
}

// wakePush lets push consumers see that somebody listens now.
func (s *Server) wakePush() {
	for _, st := range s.streams {
		for _, o := range st.consumers {
			if o.push.subject != "" {
				o.work()
			}
		}
	}
}
