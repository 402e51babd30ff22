package fakenats

// pipe is one direction of a connection: bytes arrive in order, each chunk at its time.
type pipe struct {
	c       *conn
	deliver func([]byte)
	ended   func() // after the last byte
	queue   []chunk
	newest  int64 // when the last chunk arrives
	end     bool  // nothing follows
	over    bool  // and all has arrived
}

type chunk struct {
	data []byte
	at   int64
}

// send puts bytes on their way; they belong to the pipe.
func (p *pipe) send(data []byte) {
	if p.end || len(data) == 0 {
		return
	}
	s, r := p.c.s, p.c.rand
	f := &s.faults
	if p.c.ready && chance(r, f.Cut) {
		s.hit("connection cut in a message")
		p.put(data)
		p.c.cut()
		return
	}
	if p.c.ready && len(data) > 1 && chance(r, f.Split) {
		at := 1 + r.IntN(len(data)-1)
		p.put(data[:at:at])
		data = data[at:]
	}
	p.put(data)
}

func (p *pipe) put(data []byte) {
	p.newest = max(p.newest, now()+int64(p.c.latency()))
	p.queue = append(p.queue, chunk{data, p.newest})
	p.c.s.at(p.newest, p.pump)
}

// pump delivers what has arrived.
func (p *pipe) pump() {
	for len(p.queue) > 0 && !p.c.client.frozen && p.queue[0].at <= now() {
		data := p.queue[0].data
		p.queue[0] = chunk{}
		p.queue = p.queue[1:]
		p.deliver(data)
	}
	if p.end && !p.over && len(p.queue) == 0 && !p.c.client.frozen {
		p.over = true
		p.ended()
	}
}

func (p *pipe) bytes() int {
	n := 0
	for _, c := range p.queue {
		n += len(c.data)
	}
	return n
}

// truncate keeps the first n bytes of what is under way.
func (p *pipe) truncate(n int) {
	for i, c := range p.queue {
		if n < len(c.data) {
			p.queue[i].data = c.data[:n]
			clear(p.queue[i+1:])
			p.queue = p.queue[:i+1]
			return
		}
		n -= len(c.data)
	}
}

// delay makes everything under way arrive later.
func (p *pipe) delay(by int64) {
	for i := range p.queue {
		p.queue[i].at += by
		p.newest = max(p.newest, p.queue[i].at)
		p.c.s.at(p.queue[i].at, p.pump)
	}
}

// finish lets nothing follow what is under way.
func (p *pipe) finish() {
	p.end = true
	p.c.s.at(max(p.newest, now()), p.pump)
}

// thaw lets what was held up arrive: in a moment, as new packets.
func (p *pipe) thaw() {
	for i := range p.queue {
		p.queue[i].at = max(p.queue[i].at, now()+int64(p.c.latency()))
		if i > 0 {
			p.queue[i].at = max(p.queue[i].at, p.queue[i-1].at)
		}
		p.newest = max(p.newest, p.queue[i].at)
		p.c.s.at(p.queue[i].at, p.pump)
	}
	p.c.s.at(max(p.newest, now()), p.pump)
}
