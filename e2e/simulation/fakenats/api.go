package fakenats

import (
	"encoding/json"
	"strings"
	"time"
)

// request is one to JetStream's API.
type request struct {
	s     *Server
	reply string
	words []string // of the subject, after $JS.API
	body  []byte
}

// internal takes what is published below $JS; false if nobody there does.
func (s *Server) internal(name, subject, reply string, data []byte) bool {
	switch {
	case strings.HasPrefix(name, "API."):
		return s.api(&request{s, reply, strings.Split(name[len("API."):], "."), data})
	case strings.HasPrefix(name, "ACK."):
		return s.acknowledged(strings.Split(name, "."), reply, data)
	case strings.HasPrefix(name, "FC."):
		if words := strings.Split(name, "."); len(words) == 4 {
			if o := s.consumer(words[1], words[2]); o != nil {
				o.flowed(subject)
				return true
			}
		}
	}
	return false
}

func (s *Server) consumer(stream, name string) *consumer {
	if st := s.stream(stream); st != nil {
		return st.consumer(name)
	}
	return nil
}

// acknowledged takes $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.<pending>.
func (s *Server) acknowledged(words []string, reply string, data []byte) bool {
	if len(words) != 8 {
		return false
	}
	o := s.consumer(words[1], words[2])
	if o == nil {
		s.hit("acknowledgement without a consumer")
		return false
	}
	var a sequence
	a.stream, _ = parseUint([]byte(words[4]))
	a.consumer, _ = parseUint([]byte(words[5]))
	known := true
	if len(data) == 0 || strings.HasPrefix(string(data), "+ACK") {
		known = o.acknowledge(a)
	}
	if reply != "" && known {
		s.send(reply, reply, "", nil, nil)
	}
	o.work()
	return true
}

// api answers a request; false where the API knows nothing of that kind.
func (s *Server) api(r *request) bool {
	word := func(i int) string {
		if i < len(r.words) {
			return r.words[i]
		}
		return ""
	}
	switch word(0) {
	case "INFO":
		r.unlessLost(func() { r.answer("account_info", s.account(), nil) })
	case "STREAM":
		verb, name := word(1), word(2)
		if verb == "MSG" {
			verb, name = verb+"."+name, word(3)
		}
		r.unlessLost(func() { r.stream(verb, name) })
	case "DIRECT":
		return r.direct()
	case "CONSUMER":
		if word(1) == "MSG" {
			o := s.consumer(word(3), word(4))
			if o == nil {
				s.hit("request without a consumer")
				return false
			}
			o.request(r.reply, r.body)
			return true
		}
		r.unlessLost(func() { r.consumer(word(1)) })
	default:
		return false
	}
	return true
}

// unlessLost lets a request happen, or not.
func (r *request) unlessLost(do func()) {
	s, f := r.s, &r.s.faults
	switch {
	case r.reply == "":
	case s.happens("request lost", f.RequestLost):
	case s.happens("unavailable", f.Unavailable):
		r.answer("stream_info", nil, errUnavailable)
	case s.happens("reply lost", f.ReplyLost):
		r.reply = ""
		do()
	default:
		do()
	}
}

// answer sends an answer: the fields of content beside the type, or the error.
func (r *request) answer(kind string, content any, failed *failure) {
	if r.reply == "" {
		return
	}
	fields, _ := content.([]byte)
	b := append(make([]byte, 0, len(fields)+256), `{"type":"io.nats.jetstream.api.v1.`...)
	b = append(append(b, kind...), `_response"`...)
	if failed != nil {
		b = append(failed.append(append(b, `,"error":`...)), '}')
	} else {
		b = appendObject(b, content)
	}
	r.s.send(r.reply, r.reply, "", nil, b)
}

// appendObject goes on with the fields of an object.
func appendObject(b []byte, content any) []byte {
	fields, ok := content.([]byte)
	if !ok {
		var err error
		if fields, err = json.Marshal(content); err != nil {
			panic(err) // all of them are our own types
		}
	}
	if string(fields) == "{}" {
		return append(b, '}')
	}
	return append(append(b, ','), fields[1:]...)
}

type accountInfo struct {
	Streams   int            `json:"streams"`
	Consumers int            `json:"consumers"`
	Memory    int            `json:"memory"`
	Storage   uint64         `json:"storage"`
	Limits    map[string]int `json:"limits"`
	API       map[string]int `json:"api"`
}

func (s *Server) account() accountInfo {
	a := accountInfo{
		Streams: len(s.streams),
		Limits:  map[string]int{"max_memory": -1, "max_storage": -1, "max_streams": -1, "max_consumers": -1},
		API:     map[string]int{"level": 4, "total": 0, "errors": 0},
	}
	for _, st := range s.streams {
		a.Consumers += len(st.consumers)
		a.Storage += st.bytes
	}
	return a
}

type success struct {
	Success bool `json:"success"`
}

type purged struct {
	success
	Purged uint64 `json:"purged"`
}

type page struct {
	Total  int `json:"total"`
	Offset int `json:"offset"`
	Limit  int `json:"limit"`
}

func date(at int64) time.Time { return time.Unix(0, at).UTC() }
