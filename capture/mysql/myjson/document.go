package myjson

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Types of MySQL's binary JSON, https://dev.mysql.com/doc/dev/mysql-server/latest/json__binary_8h.html
const (
	smallObject = 0x0
	largeObject = 0x1
	smallArray  = 0x2
	largeArray  = 0x3
	literal     = 0x4
	int16Type   = 0x5
	uint16Type  = 0x6
	int32Type   = 0x7
	uint32Type  = 0x8
	int64Type   = 0x9
	uint64Type  = 0xa
	doubleType  = 0xb
	stringType  = 0xc
	opaqueType  = 0xf
)

var errDocument = errors.New("a JSON value of the log is damaged")

// deepest is how deep MySQL lets documents be.
const deepest = 101

// appendDocument prints a document as the server does.
func appendDocument(dst, b []byte) ([]byte, error) {
	if len(b) == 0 { // INSERT IGNORE of NULL into a NOT NULL column
		return append(dst, "null"...), nil
	}
	return appendNode(dst, b[0], b[1:], 0)
}

func appendNode(dst []byte, kind byte, b []byte, depth int) ([]byte, error) {
	if depth > deepest {
		return dst, errDocument
	}
	switch kind {
	case smallObject, largeObject, smallArray, largeArray:
		return appendContainer(dst, kind, b, depth)
	case stringType:
		s, err := counted(b)
		if err != nil {
			return dst, err
		}
		return appendQuoted(dst, s), nil
	case opaqueType:
		if len(b) < 1 {
			return dst, errDocument
		}
		s, err := counted(b[1:])
		if err != nil {
			return dst, err
		}
		return appendOpaque(dst, b[0], s)
	}
	size := scalarSize(kind)
	if size == 0 || len(b) < size {
		return dst, errDocument
	}
	switch kind {
	case literal:
		switch b[0] {
		case 0:
			return append(dst, "null"...), nil
		case 1:
			return append(dst, "true"...), nil
		default:
			return append(dst, "false"...), nil
		}
	case doubleType:
		from := len(dst)
		dst = appendFloat(dst, math.Float64frombits(littleEndian(b[:8])), 64)
		for _, c := range dst[from:] {
			if c == '.' || c == 'e' {
				return dst, nil
			}
		}
		return append(dst, ".0"...), nil
	default:
		return appendInt(dst, b[:size], kind == uint16Type || kind == uint32Type || kind == uint64Type), nil
	}
}

// scalarSize is how many bytes a value of a kind has; 0 for what has no size of its own.
func scalarSize(kind byte) int {
	switch kind {
	case literal:
		return 1
	case int16Type, uint16Type:
		return 2
	case int32Type, uint32Type:
		return 4
	case int64Type, uint64Type, doubleType:
		return 8
	default:
		return 0
	}
}

// counted reads a length of seven bits a byte, and what it counts.
func counted(b []byte) ([]byte, error) {
	n := 0
	for i := range min(len(b), 5) {
		n |= int(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			if b = b[i+1:]; len(b) < n {
				return nil, errDocument
			}
			return b[:n], nil
		}
	}
	return nil, errDocument
}

func appendContainer(dst []byte, kind byte, b []byte, depth int) ([]byte, error) {
	w := 2 // of numbers and offsets
	if kind == largeObject || kind == largeArray {
		w = 4
	}
	if len(b) < 2*w {
		return dst, errDocument
	}
	count, size := int(littleEndian(b[:w])), int(littleEndian(b[w:2*w]))
	if size > len(b) || count > size {
		return dst, errDocument
	}
	b = b[:size]
	object := kind == smallObject || kind == largeObject
	keys, values, closing := 2*w, 2*w, byte(']')
	if object {
		values += count * (w + 2)
		dst, closing = append(dst, '{'), '}'
	} else {
		dst = append(dst, '[')
	}
	if values+count*(1+w) > size {
		return dst, errDocument
	}
	for i := range count {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		if object {
			k := b[keys+i*(w+2):]
			at, n := int(littleEndian(k[:w])), uint16At(k[w:])
			if at+n > size {
				return dst, errDocument
			}
			dst = append(appendQuoted(dst, b[at:at+n]), ": "...)
		}
		v := b[values+i*(1+w):]
		inline := v[0] == literal || v[0] == int16Type || v[0] == uint16Type || w == 4 && (v[0] == int32Type || v[0] == uint32Type)
		at := values + i*(1+w) + 1
		if !inline {
			if at = int(littleEndian(v[1 : 1+w])); at >= size {
				return dst, errDocument
			}
		}
		var err error
		if dst, err = appendNode(dst, v[0], b[at:], depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, closing), nil
}

// appendQuoted escapes as the server's double_quote does.
func appendQuoted(dst, s []byte) []byte {
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\b':
			dst = append(dst, `\b`...)
		case c == '\f':
			dst = append(dst, `\f`...)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c < 0x20:
			dst = append(dst, `\u00`...)
			dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// appendOpaque prints what JSON has no type for: decimals as numbers, times as strings, all else in base 64.
func appendOpaque(dst []byte, kind byte, b []byte) ([]byte, error) {
	switch kind {
	case typeDecimal:
		if len(b) < 2 {
			return dst, errDocument
		}
		dst, _, err := appendDecimal(dst, b[2:], int(b[0]), int(b[1]))
		return dst, err
	case typeDate, typeDatetime, typeTimestamp, typeTime:
		if len(b) != 8 {
			return dst, errDocument
		}
		n := int64(littleEndian(b))
		negative := n < 0
		n = max(n, -n)
		d, c := packedDay(uint64(n >> 24))
		if kind == typeTime {
			c = packedClock(int(n >> 24))
		}
		c.negative, c.micros = negative, int(n&(1<<24-1))
		dst = append(dst, '"')
		if kind != typeTime {
			dst = d.append(dst)
		}
		if kind == typeDatetime || kind == typeTimestamp {
			dst = append(dst, ' ')
		}
		if kind != typeDate {
			dst = c.append(dst, 6)
		}
		return append(dst, '"'), nil
	}
	return event.AppendJSONString(dst, fmt.Sprintf("base64:type%d:%s", kind, base64.StdEncoding.EncodeToString(b))), nil
}
