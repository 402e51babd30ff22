package event

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Value is one raw JSON value.
type Value []byte

// IsNull says whether it is null, or not there.
func (v Value) IsNull() bool { return len(v) == 0 || string(v) == "null" }

// Text is a string's content, or the JSON text of anything else.
func (v Value) Text() string {
	if s, ok := v.content(); ok && bytes.IndexByte(s, '\\') < 0 {
		return string(s)
	}
	return string(v.AppendText(nil))
}

// AppendText appends Text.
func (v Value) AppendText(dst []byte) []byte {
	if s, ok := v.content(); ok {
		return unescape(dst, s)
	}
	return append(dst, v...)
}

// content is what stands between a string's quotes, not yet decoded.
func (v Value) content() ([]byte, bool) {
	if len(v) < 2 || v[0] != '"' || v[len(v)-1] != '"' {
		return nil, false
	}
	return v[1 : len(v)-1], true
}

// number is what stands for a number: the JSON number, or a string that holds one (oid, NaN).
func (v Value) number() []byte {
	if s, ok := v.content(); ok {
		return s
	}
	return v
}

// Int64 is the value of an integer, also of one in quotes.
func (v Value) Int64() (int64, error) {
	digits, most := v.number(), uint64(math.MaxInt64)
	negative := len(digits) > 0 && digits[0] == '-'
	if negative {
		digits, most = digits[1:], 1<<63
	}
	n, ok := parseUint(digits, most)
	if !ok {
		return 0, fmt.Errorf("%.64q is not a 64-bit integer", []byte(v))
	}
	if negative {
		return -int64(n), nil
	}
	return int64(n), nil
}

// Float64 is the nearest float, also of a number in quotes: "NaN", "Infinity" and "-Infinity" are what PostgreSQL prints.
func (v Value) Float64() (float64, error) {
	f, err := strconv.ParseFloat(string(v.number()), 64)
	if err != nil {
		return 0, fmt.Errorf("%.64q is not a 64-bit float", []byte(v))
	}
	return f, nil
}

// Bool is the value of true or false.
func (v Value) Bool() (bool, error) {
	switch string(v) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	default:
		return false, fmt.Errorf("%.64q is neither true nor false", []byte(v))
	}
}

// unescape appends the content of a JSON string. A lone surrogate becomes U+FFFD, as in encoding/json; an escape that JSON
// does not know stays as it stands.
func unescape(dst, s []byte) []byte {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 || i+1 >= len(s) {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		c := s[i+1]
		s = s[i:]
		n := 2
		switch c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			var r rune
			if r, n = unescapeRune(s); n == 0 {
				dst = append(dst, '\\', 'u')
				n = 2
			} else {
				dst = utf8.AppendRune(dst, r)
			}
		default:
			dst = append(dst, '\\', c)
		}
		s = s[n:]
	}
}

// unescapeRune reads \uXXXX, or two of them that form a surrogate pair, and gives their length; 0 is no such escape.
func unescapeRune(s []byte) (rune, int) {
	r := hexRune(s)
	if r < 0 {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(s) >= 12 {
		if pair := utf16.DecodeRune(r, hexRune(s[6:])); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

func hexRune(s []byte) rune {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range s[2:6] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return -1
		}
	}
	return r
}
