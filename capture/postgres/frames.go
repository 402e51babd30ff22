package postgres

import (
	"encoding/binary"
	"fmt"
	"io"
)

// bufferSize of the replication connection: one read takes what the walsender wrote in hundreds of small ones.
const bufferSize = 256 << 10

// frames cuts what the server sends into messages: a type byte, four bytes of length, the body.
//
// The protocol library reads through Read until the copy mode begins, and gets no byte beyond the end of a message, so that
// nothing of the stream stays in its own buffer. Then next gives the bodies in place.
type frames struct {
	src  io.Reader
	buf  []byte
	r, w int
	left int // of the message that Read is giving out
}

func newFrames(src io.Reader) *frames { return &frames{src: src, buf: make([]byte, bufferSize)} }

// Read implements io.Reader.
func (f *frames) Read(p []byte) (int, error) {
	for f.left == 0 {
		if f.w-f.r >= 5 {
			f.left = 1 + int(binary.BigEndian.Uint32(f.buf[f.r+1:]))
			break
		}
		if _, err := f.fill(); err != nil {
			return 0, err
		}
	}
	if f.r == f.w {
		if _, err := f.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.buf[f.r:min(f.w, f.r+f.left)])
	f.r += n
	f.left -= n
	return n, nil
}

// next gives the next message if it is complete in the buffer; the body is valid until fill.
func (f *frames) next() (kind byte, body []byte, ok bool, err error) {
	n, err := f.size()
	if err != nil || n == 0 || f.w-f.r < n {
		return 0, nil, false, err
	}
	kind, body = f.buf[f.r], f.buf[f.r+5:f.r+n]
	f.r += n
	return kind, body, true, nil
}

// more says whether a complete message is in the buffer.
func (f *frames) more() bool {
	n, err := f.size()
	return err == nil && n > 0 && f.w-f.r >= n
}

// size of the message at the front, 0 where even that is not known yet.
func (f *frames) size() (int, error) {
	if f.w-f.r < 5 {
		return 0, nil
	}
	n := int(int32(binary.BigEndian.Uint32(f.buf[f.r+1:])))
	if n < 4 {
		return 0, fmt.Errorf("replication protocol: message of length %d", n)
	}
	return n + 1, nil
}

// fill reads once. The buffer grows to what the message at the front needs, and shrinks again after it.
func (f *frames) fill() (int, error) {
	need := bufferSize
	if n, err := f.size(); err != nil {
		return 0, err
	} else if n > need {
		need = n
	}
	switch {
	case need > len(f.buf), need == bufferSize && len(f.buf) > bufferSize && f.w-f.r <= bufferSize/2:
		b := make([]byte, need)
		f.w = copy(b, f.buf[f.r:f.w])
		f.buf, f.r = b, 0
	case f.r > 0:
		f.w = copy(f.buf, f.buf[f.r:f.w])
		f.r = 0
	}
	n, err := f.src.Read(f.buf[f.w:])
	f.w += n
	if n > 0 {
		return n, nil
	}
	return 0, err
}
