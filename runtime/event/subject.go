package event

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	subjectPrefix = "cdc."
	fenceSuffix   = "._fence"
	markSuffix    = "._mark"
	maxPartition  = 255
)

// StreamName of a source: CDC_<source>.
func StreamName(source string) string { return "CDC_" + source }

// Subject is cdc.<source>.<schema>.<table>.<partition>, tokens escaped.
func Subject(source string, t Table, partition int) string {
	return string(AppendSubject(make([]byte, 0, 64), source, t, partition))
}

// AppendSubject appends Subject.
func AppendSubject(dst []byte, source string, t Table, partition int) []byte {
	dst = append(dst, subjectPrefix...)
	dst = appendToken(dst, source)
	dst = append(dst, '.')
	dst = appendToken(dst, t.Schema)
	dst = append(dst, '.')
	dst = appendToken(dst, t.Name)
	dst = append(dst, '.')
	return strconv.AppendInt(dst, int64(partition), 10)
}

// ParseSubject is its inverse. It allocates only where a token is escaped.
func ParseSubject(subject string) (source string, t Table, partition int, err error) {
	rest, ok := strings.CutPrefix(subject, subjectPrefix)
	source, rest, ok2 := strings.Cut(rest, ".")
	schema, rest, ok3 := strings.Cut(rest, ".")
	name, number, ok4 := strings.Cut(rest, ".")
	n, ok5 := parseUint(number, maxPartition)
	if !ok || !ok2 || !ok3 || !ok4 || !ok5 {
		return "", Table{}, 0, fmt.Errorf("subject %q: want cdc.<source>.<schema>.<table>.<partition>", subject)
	}
	tokens := [3]*string{&source, &schema, &name}
	for _, token := range tokens {
		if *token, err = UnescapeToken(*token); err != nil {
			return "", Table{}, 0, fmt.Errorf("subject %q: %w", subject, err)
		}
	}
	return source, Table{Schema: schema, Name: name}, int(n), nil
}

// FenceSubject is cdc.<source>._fence. It has three tokens, so no table can have it.
func FenceSubject(source string) string { return subjectPrefix + EscapeToken(source) + fenceSuffix }

// MarkSubject is cdc.<source>._mark. It has three tokens, so no table can have it.
func MarkSubject(source string) string { return subjectPrefix + EscapeToken(source) + markSuffix }

// EscapeToken makes any identifier a legal subject token: `.`, `*`, `>`, `%`, blanks, control characters and bytes that are
// not UTF-8 become %XX. The empty identifier becomes `%`.
func EscapeToken(s string) string {
	if i := plainPrefix(s); i == len(s) && i > 0 {
		return s
	}
	return string(appendToken(make([]byte, 0, len(s)+16), s))
}

func appendToken(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, '%')
	}
	for s != "" {
		i := plainPrefix(s)
		dst = append(dst, s[:i]...)
		if i == len(s) {
			break
		}
		dst = append(dst, '%', upperHex[s[i]>>4], upperHex[s[i]&15])
		s = s[i+1:]
	}
	return dst
}

// plainPrefix is the length of what needs no escape.
func plainPrefix(s string) int {
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c <= ' ' || c == 0x7f || c == '.' || c == '*' || c == '>' || c == '%':
			return i
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				return i
			}
			i += n
		}
	}
	return len(s)
}

// UnescapeToken is the inverse of EscapeToken. What EscapeToken would not have written is an error, so that a table has one
// subject only.
func UnescapeToken(s string) (string, error) {
	if s == "%" {
		return "", nil
	}
	if i := plainPrefix(s); i == len(s) && i > 0 {
		return s, nil
	}
	dst := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			dst = append(dst, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", tokenError(s)
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", tokenError(s)
		}
		dst = append(dst, byte(n))
		i += 2
	}
	if t := string(dst); EscapeToken(t) == s {
		return t, nil
	}
	return "", tokenError(s)
}

func tokenError(s string) error { return fmt.Errorf("token %q is not an escaped identifier", s) }

// KeyToken makes any identifier a legal token of a KV bucket's key: letters, digits, - and _ are kept, other bytes become
// =XX, the empty identifier becomes `=`.
func KeyToken(s string) string {
	dst := make([]byte, 0, len(s)+16)
	for i := 0; i < len(s); i++ {
		if c := s[i]; isWord(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '=', upperHex[c>>4], upperHex[c&15])
		}
	}
	if s == "" {
		dst = append(dst, '=')
	}
	return string(dst)
}
