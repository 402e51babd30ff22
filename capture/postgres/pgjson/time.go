package pgjson

import "bytes"

// Dates and times under DateStyle ISO differ from JSON's (XSD) form in two places only: the T, and offsets that always
// have minutes.

func (t *Type) appendDate(dst, text []byte) ([]byte, error) {
	date, _ := bytes.CutSuffix(text, []byte(" BC"))
	if !isInfinity(text) && isoDate(date) != len(date) {
		return dst, t.malformed(0, "want an ISO date: set DateStyle")
	}
	return quote(dst, text), nil
}

func (t *Type) appendTimestamp(dst, text []byte) ([]byte, error) {
	if isInfinity(text) {
		return quote(dst, text), nil
	}
	day := isoDate(text)
	if day < 0 || day == len(text) || text[day] != ' ' {
		return dst, t.malformed(max(day, 0), "want an ISO timestamp: set DateStyle")
	}
	clock, era := bytes.CutSuffix(text[day+1:], []byte(" BC"))
	sign := bytes.IndexAny(clock, "+-")
	if !isClock(clock) || (sign >= 0) != (t.kind == asTimestamptz) {
		return dst, t.malformed(day+1, "want a time of day, with an offset if the type has one")
	}
	dst = append(dst, '"')
	dst = append(dst, text[:day]...)
	dst = append(dst, 'T')
	dst = append(dst, clock...)
	if sign >= 0 && bytes.IndexByte(clock[sign:], ':') < 0 {
		dst = append(dst, ":00"...)
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
	for year < len(text) && isDigit(text[year]) {
		year++
	}
	if year < 4 || !matches(text[year:], "-00-00") {
		return -1
	}
	return year + len("-00-00")
}

// isClock says whether text is 00:00:00 with nothing but a fraction and an offset after it.
func isClock(text []byte) bool {
	const shortest = "00:00:00"
	if !matches(text, shortest) {
		return false
	}
	for _, c := range text[len(shortest):] {
		if !isDigit(c) && c != '.' && c != '+' && c != '-' && c != ':' {
			return false
		}
	}
	return true
}

// matches says whether text begins as the pattern, in which 0 stands for any digit.
func matches(text []byte, pattern string) bool {
	if len(text) < len(pattern) {
		return false
	}
	for i := range len(pattern) {
		if c := text[i]; pattern[i] == '0' && !isDigit(c) || pattern[i] != '0' && c != pattern[i] {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// quote is for texts that need no escapes.
func quote(dst, text []byte) []byte {
	dst = append(dst, '"')
	dst = append(dst, text...)
	return append(dst, '"')
}
