package pgjson

import "bytes"

// maxDims is PostgreSQL's MAXDIM.
const maxDims = 6

// appendArray reads what array_out prints: an optional `[2:3][0:1]=`, which JSON has no place for, then nested braces.
// Elements are quoted where they are empty, read NULL, or contain braces, quotes, backslashes, blank space or the
// delimiter; a backslash stands before quotes and backslashes. https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
func (t *Type) appendArray(dst, text []byte) ([]byte, error) {
	start, i, depth := len(dst), 0, 0
	if len(text) > 0 && text[0] == '[' {
		i = bytes.IndexByte(text, '=') + 1
	}
	value := true // where a value may begin; else a delimiter or closing brace must follow
	for i < len(text) {
		var err error
		switch c := text[i]; {
		case c == '{' && value && depth < maxDims:
			dst = append(dst, '[')
			depth++
			i++
			continue
		case c == '}' && depth > 0 && (!value || text[i-1] == '{'):
			dst = append(dst, ']')
			depth--
			i++
			value = false
			if depth == 0 && i < len(text) {
				return dst[:start], t.malformed(i, "want the end")
			}
			continue
		case c == t.delim && !value && depth > 0:
			dst = append(dst, ',')
			i++
			value = true
			continue
		case !value || depth == 0:
			return dst[:start], t.malformed(i, "want a brace or delimiter")
		case c == '"':
			dst, i, err = t.appendQuoted(dst, text, i)
		default:
			dst, i, err = t.appendBare(dst, text, i)
		}
		if err != nil {
			return dst[:start], err
		}
		value = false
	}
	if depth != 0 || value {
		return dst[:start], t.malformed(i, "want a closing brace")
	}
	return dst, nil
}

// appendBare appends the unquoted element that begins at i, and gives where it ends.
func (t *Type) appendBare(dst, text []byte, i int) ([]byte, int, error) {
	end := i
	for end < len(text) && text[end] != t.delim && text[end] != '}' {
		if c := text[end]; c == '{' || c == '"' || c == '\\' {
			return dst, end, t.malformed(end, "want it quoted")
		}
		end++
	}
	bare := text[i:end]
	if len(bare) == 0 {
		return dst, end, t.malformed(end, "want an element")
	}
	if string(bare) == "NULL" {
		return append(dst, "null"...), end, nil
	}
	dst, err := t.elem.Append(dst, bare)
	return dst, end, err
}

// appendQuoted appends the element whose opening quote is at i, and gives where its closing quote ends.
func (t *Type) appendQuoted(dst, text []byte, i int) ([]byte, int, error) {
	i++
	n := bytes.IndexAny(text[i:], `"\`)
	if n < 0 {
		return dst, i, t.malformed(len(text), "want a closing quote")
	}
	if text[i+n] == '"' {
		dst, err := t.elem.Append(dst, text[i:i+n])
		return dst, i + n + 1, err
	}
	mark := len(dst)
	for i < len(text) {
		switch text[i] {
		case '"':
			dst, err := t.elem.appendUnquoted(dst, mark)
			return dst, i + 1, err
		case '\\':
			if i++; i == len(text) {
				return dst, i, t.malformed(i, "want a character after the backslash")
			}
		}
		dst = append(dst, text[i])
		i++
	}
	return dst, i, t.malformed(i, "want a closing quote")
}

// appendUnquoted encodes a text that was unquoted onto the end of dst, from mark on, and puts the JSON in its place: dst
// itself is the scratch space, so nested types need no other.
func (t *Type) appendUnquoted(dst []byte, mark int) ([]byte, error) {
	end := len(dst)
	dst, err := t.Append(dst, dst[mark:end])
	if err != nil {
		return dst[:mark], err
	}
	return append(dst[:mark], dst[end:]...), nil
}

// appendVector reads int2vector and oidvector, elements with blanks between them.
func (t *Type) appendVector(dst, text []byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst, '[')
	for i := 0; i < len(text); {
		end := i
		for end < len(text) && text[end] != ' ' {
			end++
		}
		if end == i || end == len(text)-1 {
			return dst[:start], t.malformed(end, "want an element")
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = t.elem.Append(dst, text[i:end]); err != nil {
			return dst[:start], err
		}
		i = end + 1
	}
	return append(dst, ']'), nil
}
