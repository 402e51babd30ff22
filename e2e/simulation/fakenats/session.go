package fakenats

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// subscription of a connection.
type subscription struct {
	c         *conn
	sid       string
	filter    string
	got, most int // most: ends after so many; 0: never
}

// receive takes bytes at the server's end.
func (c *conn) receive(data []byte) {
	if c.gone {
		return
	}
	if len(c.buf) > 0 {
		c.buf = append(c.buf, data...)
		data = c.buf
	}
	n := c.operations(data)
	c.buf = append(c.buf[:0], data[n:]...)
}

// operations executes what is complete, and says how many bytes that was.
func (c *conn) operations(data []byte) int {
	done := 0
	for !c.gone {
		line, rest, ok := bytes.Cut(data[done:], lineEnd)
		if !ok {
			break
		}
		var arguments [5][]byte
		verb, words := split(line, &arguments)
		used := len(line) + len(lineEnd)
		switch string(verb) {
		case "PUB", "HPUB":
			n, whole := c.published(string(verb) == "HPUB", words, rest)
			if !whole {
				return done
			}
			used += n
		case "SUB":
			c.subscribe(words)
		case "UNSUB":
			c.unsubscribe(words)
		case "PING":
			c.write([]byte("PONG\r\n"))
			if !c.ready {
				c.s.flush()
				c.ready = true
			}
		case "PONG":
		case "CONNECT":
			c.quiet = !bytes.Contains(line, []byte(`"no_responders":true`))
		default:
			c.refuse("Unknown Protocol Operation")
		}
		done += used
	}
	return done
}

// split makes the verb and the words of a line.
func split(line []byte, into *[5][]byte) (verb []byte, words [][]byte) {
	words = into[:0]
	verb, line, _ = bytes.Cut(line, []byte(" "))
	for len(line) > 0 && len(words) < len(into) {
		var word []byte
		if word, line, _ = bytes.Cut(line, []byte(" ")); len(word) > 0 {
			words = append(words, word)
		}
	}
	return verb, words
}

// published takes the rest of a PUB or HPUB; whole is false where it has not arrived yet.
func (c *conn) published(withHeader bool, words [][]byte, rest []byte) (used int, whole bool) {
	header, numbers := 0, 1
	if withHeader {
		numbers = 2
	}
	if n := len(words); n != numbers+1 && n != numbers+2 {
		c.refuse("Unknown Protocol Operation")
		return 0, true
	}
	size, ok := parseUint(words[len(words)-1])
	if withHeader {
		n, ok2 := parseUint(words[len(words)-2])
		header, ok = int(n), ok && ok2 && n <= size
	}
	switch {
	case !ok:
		c.refuse("Unknown Protocol Operation")
		return 0, true
	case size > uint64(c.s.options.MaxPayload):
		c.refuse("Maximum Payload Violation")
		return 0, true
	case len(rest) < int(size)+len(lineEnd):
		return 0, false
	}
	reply := ""
	if len(words) == numbers+2 {
		reply = string(words[1])
	}
	if string(words[0]) != c.last {
		c.last = string(words[0])
	}
	c.s.publish(c, c.last, reply, rest[:header], rest[header:size])
	return int(size) + len(lineEnd), true
}

func (c *conn) subscribe(words [][]byte) {
	if len(words) != 2 {
		c.refuse("Queue groups are not simulated")
		return
	}
	sub := &subscription{c: c, filter: string(words[0]), sid: string(words[1])}
	c.sids[sub.sid] = sub
	c.s.subs.add(sub.filter, sub)
	c.s.wakePush()
}

func (c *conn) unsubscribe(words [][]byte) {
	if len(words) == 0 || c.sids[string(words[0])] == nil {
		return
	}
	sub := c.sids[string(words[0])]
	if len(words) == 2 {
		sub.most, _ = strconv.Atoi(string(words[1]))
	}
	if sub.got >= sub.most {
		sub.remove()
	}
}

func (sub *subscription) remove() {
	delete(sub.c.sids, sub.sid)
	sub.c.s.subs.remove(sub.filter, sub)
}

// refuse tells of a violation of the protocol, and closes the connection.
func (c *conn) refuse(why string) {
	c.write(fmt.Appendf(nil, "-ERR '%s'\r\n", why))
	c.s.hit("protocol violation")
	c.s.tracef("%s: %s", c, why)
	c.s.flush()
	c.up.end, c.up.over, c.up.queue = true, true, nil
	c.leave()
}

func (c *conn) write(b []byte) {
	c.out = append(c.out, b...)
	c.touch()
}

func (c *conn) touch() {
	if !c.dirty {
		c.dirty = true
		c.s.dirty = append(c.s.dirty, c)
	}
}

// publish routes a message of a client's.
func (s *Server) publish(c *conn, subject, reply string, header, data []byte) {
	if name, ok := strings.CutPrefix(subject, "$JS."); ok && s.internal(name, subject, reply, data) {
		return
	}
	taken := false
	s.routes.find(subject, func(st *stream) {
		taken = true
		st.receive(c, subject, reply, header, data)
	})
	if s.send(subject, subject, reply, header, data) || taken || reply == "" || c.quiet {
		return
	}
	s.noResponders(c, subject, reply)
}

// noResponders tells a client that nobody takes what it asked.
func (s *Server) noResponders(c *conn, subject, reply string) {
	told := false
	s.subs.find(reply, func(sub *subscription) {
		if sub.c == c && !told {
			told = true
			sub.message(reply, "", statusHeader(503, "", field{"Nats-Subject", subject}), nil)
		}
	})
}

// send gives a message to all subscriptions of `to`; false if there is none.
func (s *Server) send(to, subject, reply string, header, data []byte) bool {
	sent := false
	s.subs.find(to, func(sub *subscription) {
		sent = true
		sub.message(subject, reply, header, data)
	})
	return sent
}

func (sub *subscription) message(subject, reply string, header, data []byte) {
	c := sub.c
	if c.out == nil {
		c.out = make([]byte, 0, len(subject)+len(reply)+len(header)+len(data)+256)
	}
	verb := "MSG "
	if len(header) > 0 {
		verb = "HMSG "
	}
	out := append(append(append(append(append(c.out, verb...), subject...), ' '), sub.sid...), ' ')
	if reply != "" {
		out = append(append(out, reply...), ' ')
	}
	if len(header) > 0 {
		out = append(strconv.AppendInt(out, int64(len(header)), 10), ' ')
	}
	out = append(strconv.AppendInt(out, int64(len(header)+len(data)), 10), lineEnd...)
	c.out = append(append(append(out, header...), data...), lineEnd...)
	c.touch()
	if sub.got++; sub.most > 0 && sub.got >= sub.most {
		sub.remove()
	}
}
