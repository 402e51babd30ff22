package mysql

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// spoolBytes is how much of XA transactions lies in memory; what is more goes to files without a name.
const spoolBytes = 16 << 20

// spool keeps events of one XA transaction in their order.
type spool struct {
	held     *int64 // in memory, by all of them
	most     int64
	captured bool // some are of captured tables

	memory bytes.Buffer
	file   *os.File
	to     *bufio.Writer
}

// add keeps an event. What was told of the log's format comes before the first one.
func (s *spool) add(format, raw []byte) error {
	if s.memory.Len() == 0 && s.file == nil {
		if err := s.write(format); err != nil {
			return err
		}
	}
	return s.write(raw)
}

func (s *spool) write(b []byte) error {
	size := int64(len(b)) + 4
	if s.file == nil && *s.held+size > s.most {
		if err := s.spill(); err != nil {
			return fmt.Errorf("keep an XA transaction in a file: %w", err)
		}
	}
	var head [4]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(b)))
	if s.file == nil {
		*s.held += size
		s.memory.Write(head[:])
		s.memory.Write(b)
		return nil
	}
	_, err := s.to.Write(head[:])
	_, err2 := s.to.Write(b)
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("keep an XA transaction in a file: %w", err)
	}
	return nil
}

// spill goes on in a file, which is gone with its last user.
func (s *spool) spill() error {
	f, err := os.CreateTemp("", "runnel-xa-*")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return err
	}
	s.file, s.to = f, bufio.NewWriterSize(f, 64<<10)
	_, err = s.to.Write(s.memory.Bytes())
	*s.held -= int64(s.memory.Len())
	s.memory = bytes.Buffer{}
	return err
}

// read gives what was kept, from the first event on.
func (s *spool) read() (io.Reader, error) {
	if s.file == nil {
		return bytes.NewReader(s.memory.Bytes()), nil
	}
	if err := s.to.Flush(); err != nil {
		return nil, fmt.Errorf("read an XA transaction from its file: %w", err)
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read an XA transaction from its file: %w", err)
	}
	return bufio.NewReaderSize(s.file, 64<<10), nil
}

// nextSpooled is the next event; io.EOF behind the last one.
func nextSpooled(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read an XA transaction again: %w", err)
	}
	b := make([]byte, binary.LittleEndian.Uint32(head[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("read an XA transaction again: %w", err)
	}
	return b, nil
}

func (s *spool) close() {
	*s.held -= int64(s.memory.Len())
	s.memory = bytes.Buffer{}
	if s.file != nil {
		_ = s.file.Close()
	}
}
