package event

// AppendJSONString appends s as PostgreSQL's escape_json does: the canonical form of strings everywhere. Quote and backslash
// get a backslash; \b, \f, \n, \r and \t their letter; other bytes below 0x20 become \u00xx in lower case; everything
// else, 0x7f and non-ASCII included, stands as it is.
// https://github.com/postgres/postgres/blob/REL_17_STABLE/src/backend/utils/adt/json.c (escape_json)
func AppendJSONString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		e := escapes[c]
		if e == 0 {
			continue
		}
		dst = append(dst, s[from:i]...)
		if e == 'u' {
			dst = append(dst, '\\', 'u', '0', '0', lowerHex[c>>4], lowerHex[c&15])
		} else {
			dst = append(dst, '\\', e)
		}
		from = i + 1
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

const lowerHex = "0123456789abcdef"

// escapes holds the letter after the backslash, or 0 for bytes that need none.
var escapes = func() (t [256]byte) {
	for c := range 0x20 {
		t[c] = 'u'
	}
	t['\b'], t['\f'], t['\n'], t['\r'], t['\t'] = 'b', 'f', 'n', 'r', 't'
	t['"'], t['\\'] = '"', '\\'
	return t
}()
