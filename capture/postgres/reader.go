package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
)

var errTruncated = errors.New("pgoutput: message is too short")

// reader walks over a pgoutput message. After the first read beyond the end all reads give zero, and err says so.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || len(r.b) < n {
		r.err = errTruncated
		return nil
	}
	x := r.b[:n]
	r.b = r.b[n:]
	return x
}

func (r *reader) byte() byte {
	if x := r.take(1); x != nil {
		return x[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if x := r.take(2); x != nil {
		return binary.BigEndian.Uint16(x)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if x := r.take(4); x != nil {
		return binary.BigEndian.Uint32(x)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if x := r.take(8); x != nil {
		return binary.BigEndian.Uint64(x)
	}
	return 0
}

func (r *reader) string() string {
	i := bytes.IndexByte(r.b, 0)
	if i < 0 {
		r.err = errTruncated
		return ""
	}
	s := string(r.b[:i])
	r.b = r.b[i+1:]
	return s
}

// field is one column of a tuple: n is NULL, u an unchanged TOAST value that was not sent, t a text.
type field struct {
	kind byte
	text []byte
}

// tuple appends the fields of a TupleData. They are slices of the message.
func (r *reader) tuple(dst []field) []field {
	for range r.uint16() {
		f := field{kind: r.byte()}
		switch f.kind {
		case 'n', 'u':
		case 't':
			f.text = r.take(int(int32(r.uint32())))
		default:
			r.err = errors.New("pgoutput: field is neither null, unchanged nor text")
		}
		if r.err != nil {
			return dst
		}
		dst = append(dst, f)
	}
	return dst
}
