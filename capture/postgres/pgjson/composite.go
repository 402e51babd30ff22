package pgjson

import (
	"bytes"
	"fmt"
)

// appendComposite reads what record_out prints: `(a,"b ""q""",)`. NULL is nothing at all; fields are quoted where they are
// empty or contain parentheses, commas, quotes, backslashes or blank space; quotes and backslashes inside are doubled.
// https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX
func (t *Type) appendComposite(dst, text []byte) ([]byte, error) {
	start, i := len(dst), 1
	if len(text) < 2 || text[0] != '(' || text[len(text)-1] != ')' {
		return dst, t.malformed(0, "want parentheses")
	}
	dst = append(dst, '{')
	for n, a := range t.attrs {
		if n > 0 {
			if text[i] == ')' {
				return dst[:start], t.shape(i)
			}
			dst = append(dst, ',')
			i++ // the comma
		}
		dst = append(dst, a.key...)
		var err error
		if dst, i, err = t.appendField(dst, text, i, a.kind); err != nil {
			return dst[:start], err
		}
	}
	switch {
	case text[i] != ')':
		return dst[:start], t.shape(i)
	case i != len(text)-1:
		return dst[:start], t.malformed(i, "want the end")
	}
	return append(dst, '}'), nil
}

// shape is the error for a field too few or too many.
func (t *Type) shape(offset int) error {
	return fmt.Errorf("%w: %s has %d attributes, byte %d", ErrShape, t.Name, len(t.attrs), offset)
}

// appendField appends the field that begins at i, and gives where its comma or parenthesis is. The text's last byte is a
// parenthesis.
func (t *Type) appendField(dst, text []byte, i int, ft *Type) ([]byte, int, error) {
	switch text[i] {
	case ',', ')':
		return append(dst, "null"...), i, nil
	case '"':
		return t.appendQuotedField(dst, text, i+1, ft)
	}
	end := i + bytes.IndexAny(text[i:], `,)("\`)
	if c := text[end]; c != ',' && c != ')' {
		return dst, end, t.malformed(end, "want it quoted")
	}
	dst, err := ft.Append(dst, text[i:end])
	return dst, end, err
}

// appendQuotedField appends the field whose content begins at i.
func (t *Type) appendQuotedField(dst, text []byte, i int, ft *Type) ([]byte, int, error) {
	end, doubled := i, false
	for {
		n := bytes.IndexAny(text[end:], `"\`)
		if n < 0 {
			return dst, i, t.malformed(len(text), "want a closing quote")
		}
		end += n
		if text[end+1] != text[end] { // there is one: the last byte is a parenthesis
			break
		}
		doubled = true
		end += 2
	}
	if text[end] == '\\' || text[end+1] != ',' && text[end+1] != ')' {
		return dst, i, t.malformed(end, "want a closing quote and a comma or parenthesis")
	}
	if !doubled {
		dst, err := ft.Append(dst, text[i:end])
		return dst, end + 1, err
	}
	mark := len(dst)
	for ; i < end; i++ {
		if c := text[i]; c == '"' || c == '\\' {
			i++
		}
		dst = append(dst, text[i])
	}
	dst, err := ft.appendUnquoted(dst, mark)
	return dst, end + 1, err
}
