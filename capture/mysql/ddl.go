package mysql

import (
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
)

// statement is what must be known of a statement in the log.
type statement uint8

const (
	other     statement = iota // of structure, rights, …: structures are read again
	begins                     // a transaction
	commits                    // one of tables without transactions
	rollsBack                  // what was logged
	truncates
	changes // rows, as a statement
	saves   // a point to roll back to
	xa      // of two phases
)

// parse reads the first words of a statement; of TRUNCATE the table.
func parse(database, query string) (statement, event.Table) {
	w := words{rest: query}
	first := strings.ToUpper(w.next())
	switch first {
	case "BEGIN":
		return begins, event.Table{}
	case "COMMIT":
		return commits, event.Table{}
	case "ROLLBACK":
		return rollsBack, event.Table{}
	case "SAVEPOINT", "RELEASE":
		return saves, event.Table{}
	case "XA":
		return xa, event.Table{}
	case "INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD":
		return changes, event.Table{}
	case "TRUNCATE":
		name := w.next()
		if strings.EqualFold(name, "TABLE") {
			name = w.next()
		}
		t := event.Table{Schema: database, Name: name}
		if w.dot() {
			t.Schema, t.Name = name, w.next()
		}
		return truncates, t
	}
	return other, event.Table{}
}

// words of a statement: identifiers without their quotes.
type words struct{ rest string }

// next is the next word, or one character that is none; comments are passed.
func (w *words) next() string {
	w.skip()
	if w.rest == "" {
		return ""
	}
	if q := w.rest[0]; q == '`' || q == '"' {
		var name strings.Builder
		s := w.rest[1:]
		for s != "" {
			if s[0] == q {
				if len(s) == 1 || s[1] != q {
					s = s[1:]
					break
				}
				s = s[1:]
			}
			name.WriteByte(s[0])
			s = s[1:]
		}
		w.rest = s
		return name.String()
	}
	n := 0
	for n < len(w.rest) && isWord(w.rest[n]) {
		n++
	}
	n = max(n, 1)
	word := w.rest[:n]
	w.rest = w.rest[n:]
	return word
}

// dot takes a point that stands next.
func (w *words) dot() bool {
	w.skip()
	if !strings.HasPrefix(w.rest, ".") {
		return false
	}
	w.rest = w.rest[1:]
	return true
}

// skip passes blanks and comments. What stands in /*! … */ is executed.
func (w *words) skip() {
	for {
		w.rest = strings.TrimLeft(w.rest, " \t\r\n;")
		switch {
		case strings.HasPrefix(w.rest, "/*!"), strings.HasPrefix(w.rest, "/*M!"):
			_, w.rest, _ = strings.Cut(w.rest, "!")
			w.rest = strings.TrimLeft(w.rest, "0123456789")
		case strings.HasPrefix(w.rest, "/*"):
			_, after, ok := strings.Cut(w.rest[2:], "*/")
			if !ok {
				w.rest = ""
				return
			}
			w.rest = after
		case strings.HasPrefix(w.rest, "*/"):
			w.rest = w.rest[2:]
		case strings.HasPrefix(w.rest, "-- "), strings.HasPrefix(w.rest, "#"):
			_, w.rest, _ = strings.Cut(w.rest, "\n")
		default:
			return
		}
	}
}

func isWord(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == '$' || c >= 0x80
}
