package postgres

import (
	"bytes"
	"errors"
	"fmt"
)

// copyLines is an io.Writer that takes the output of COPY … TO STDOUT and gives each line's fields, decoded. They are valid
// until the next line.
// https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2
type copyLines struct {
	line   func(fields [][]byte) error
	rest   []byte // of a line that is not complete
	fields [][]byte
}

func (c *copyLines) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			c.rest = append(c.rest, p...)
			return n, nil
		}
		line := p[:i]
		if len(c.rest) > 0 {
			c.rest = append(c.rest, line...)
			line = c.rest
		}
		if err := c.give(line); err != nil {
			return 0, err
		}
		c.rest, p = c.rest[:0], p[i+1:]
	}
}

// give decodes in place.
func (c *copyLines) give(line []byte) error {
	c.fields = c.fields[:0]
	for {
		f, rest, more := bytes.Cut(line, []byte{'\t'})
		f, err := unescapeCopy(f)
		if err != nil {
			return err
		}
		c.fields = append(c.fields, f)
		if !more {
			return c.line(c.fields)
		}
		line = rest
	}
}

var errCopyEscape = errors.New("COPY ends within an escape")

// unescapeCopy decodes what COPY's text format escapes, in place.
func unescapeCopy(b []byte) ([]byte, error) {
	i := bytes.IndexByte(b, '\\')
	if i < 0 {
		return b, nil
	}
	out := b[:i]
	for i < len(b) {
		c := b[i]
		i++
		if c != '\\' {
			out = append(out, c)
			continue
		}
		if i == len(b) {
			return nil, errCopyEscape
		}
		switch c = b[i]; c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'v':
			c = '\v'
		case '\\':
		default:
			return nil, fmt.Errorf("COPY escapes %q", c)
		}
		out = append(out, c)
		i++
	}
	return out, nil
}
