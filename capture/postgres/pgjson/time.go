package pgjson

import "bytes"

// Dates and times under DateStyle ISO differ from JSON's (XSD) form in two places only: the T, and offsets that always
// have minutes.

func (t *Type) appendDate(dst, text []byte) ([]byte, error) {
	if !isInfinity(text) && isoDate(text) < 0 {
		return dst, t.malformed(0, "want an ISO date: set DateStyle")
	}
	return quote(dst, text), nil
}

func (t *Type) appendTimestamp(dst, text []byte) ([]byte, error) {
	if isInfinity(text) {
		return quote(dst, text), nil
	}
	day := isoDate(text)
	if day < 0 || day >= len(text) || text[day] != ' ' {
		return dst, t.malformed(max(day, 0), "want an ISO timestamp: set DateStyle")
	}
	clock, era := bytes.CutSuffix(text[day+1:], []byte(" BC"))
	if len(clock) < len("00:00:00") || bytes.IndexByte(clock, ' ') >= 0 {
		return dst, t.malformed(day, "want a time of day")
	}
	start := len(dst)
	dst = append(dst, '"')
	dst = append(dst, text[:day]...)
	dst = append(dst, 'T')
	dst = append(dst, clock...)
	if t.kind == asTimestamptz {
		sign := bytes.LastIndexAny(clock, "+-")
		if sign < 0 {
			return dst[:start], t.malformed(len(text), "want an offset")
		}
		if bytes.IndexByte(clock[sign:], ':') < 0 {
			dst = append(dst, ":00"...)
		}
	}
	if era {
		dst = append(dst, " BC"...)
	}
	return append(dst, '"'), nil
}

func isInfinity(text []byte) bool {
	return string(text) == "infinity" || string(text) == "-infinity"
}

// isoDate gives the length of the ISO date that text begins with, or -1. Years have four digits or more.
func isoDate(text []byte) int {
	year := 0
	for year < len(text) && '0' <= text[year] && text[year] <= '9' {
		year++
	}
	day := year + len("-01-01")
	if year < 4 || day > len(text) || text[year] != '-' || text[year+3] != '-' {
		return -1
	}
	return day
}

// quote is for texts that need no escapes.
func quote(dst, text []byte) []byte {
	dst = append(dst, '"')
	dst = append(dst, text...)
	return append(dst, '"')
}
