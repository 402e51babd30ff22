package myjson

import (
	"fmt"
	"strconv"
	"time"
)

// clock is a time of day, or a longer one; date a day.
type (
	clock struct {
		negative             bool
		hour, minute, second int
		micros               int
	}
	date struct{ year, month, day int }
)

func (d date) zero() bool { return d.year == 0 || d.month == 0 || d.day == 0 }

// appendPadded prints a number with at least so many digits.
func appendPadded(dst []byte, n, digits int) []byte {
	for limit := 10; digits > 1; digits-- {
		if n < limit {
			for range digits - 1 {
				dst = append(dst, '0')
			}
			break
		}
		limit *= 10
	}
	return strconv.AppendInt(dst, int64(n), 10)
}

func (d date) append(dst []byte) []byte {
	dst = appendPadded(dst, d.year, 4)
	dst = appendPadded(append(dst, '-'), d.month, 2)
	return appendPadded(append(dst, '-'), d.day, 2)
}

// append prints the clock with so many digits of a second's fraction.
func (c clock) append(dst []byte, scale int) []byte {
	if c.negative {
		dst = append(dst, '-')
	}
	dst = appendPadded(dst, c.hour, 2)
	dst = appendPadded(append(dst, ':'), c.minute, 2)
	dst = appendPadded(append(dst, ':'), c.second, 2)
	if scale > 0 {
		dst = append(dst, '.')
		dst = appendPadded(dst, c.micros, 6)
		dst = dst[:len(dst)-6+scale]
	}
	return dst
}

// micros reads a second's fraction of the newer types: two digits in a byte.
func micros(b []byte, scale int) int {
	n := int(bigEndian(b[:(scale+1)/2]))
	switch (scale + 1) / 2 {
	case 1:
		return n * 10_000
	case 2:
		return n * 100
	default:
		return n
	}
}

// packedDay unpacks 17 bits of clock under the day.
func packedDay(n uint64) (date, clock) {
	day, hms := n>>17, int(n&(1<<17-1))
	ym := int(day >> 5)
	return date{ym / 13, ym % 13, int(day & 31)}, packedClock(hms)
}

func packedClock(hms int) clock {
	return clock{hour: hms >> 12, minute: hms >> 6 & 63, second: hms & 63}
}

func dateOf(n uint64) date { return date{int(n >> 9), int(n >> 5 & 15), int(n & 31)} }

// timeOf reads TIME of the newer kind: a number with an offset, whose fraction counts downwards where it is negative.
func timeOf(b []byte, scale int) clock {
	w := (scale + 1) / 2
	n := int64(bigEndian(b[:3+w])) - int64(1)<<(23+8*w)
	negative := n < 0
	if negative {
		n = -n
	}
	c := packedClock(int(n >> (8 * w)))
	frac := int(n & (1<<(8*w) - 1))
	switch w {
	case 1:
		frac *= 10_000
	case 2:
		frac *= 100
	}
	c.negative, c.micros = negative, frac
	return c
}

func appendDatetime(dst []byte, d date, c clock, scale int, zone string) []byte {
	if d.zero() {
		return append(dst, "null"...)
	}
	dst = d.append(append(dst, '"'))
	dst = c.append(append(dst, 'T'), scale)
	dst = append(dst, zone...)
	return append(dst, '"')
}

func appendUnix(dst []byte, seconds int64, micros, scale int) []byte {
	if seconds == 0 {
		return append(dst, "null"...)
	}
	t := time.Unix(seconds, 0).UTC()
	return appendDatetime(dst, date{t.Year(), int(t.Month()), t.Day()},
		clock{hour: t.Hour(), minute: t.Minute(), second: t.Second(), micros: micros}, scale, utc)
}

const utc = "+00:00"

// appendTime prints what the log has of a date or a time, and says how many bytes that were.
func (c *Column) appendTime(dst, b []byte, wire byte) ([]byte, int, error) {
	fraction := (c.Scale + 1) / 2
	size := timeSize(wire, fraction)
	if size == 0 || len(b) < size {
		return dst, 0, fmt.Errorf("%s: %d bytes of type %d", c.Type(), len(b), wire)
	}
	if c.Scale > 0 && (wire == typeTime || wire == typeTimestamp || wire == typeDatetime) {
		return dst, 0, fmt.Errorf("%s is stored in the form of MariaDB 5.3: ALTER TABLE … FORCE rewrites the table", c.Type())
	}
	switch wire {
	case typeDate, typeNewDate:
		d := dateOf(littleEndian(b[:3]))
		if d.zero() {
			return append(dst, "null"...), size, nil
		}
		return append(d.append(append(dst, '"')), '"'), size, nil
	case typeTimestamp2:
		return appendUnix(dst, int64(bigEndian(b[:4])), micros(b[4:], c.Scale), c.Scale), size, nil
	case typeTimestamp:
		return appendUnix(dst, int64(littleEndian(b[:4])), 0, 0), size, nil
	case typeDatetime2:
		d, k := packedDay(bigEndian(b[:5]) - 1<<39)
		k.micros = micros(b[5:], c.Scale)
		return appendDatetime(dst, d, k, c.Scale, ""), size, nil
	case typeDatetime:
		n := littleEndian(b[:8])
		day, hms := int(n/1_000_000), int(n%1_000_000)
		return appendDatetime(dst, date{day / 10_000, day / 100 % 100, day % 100},
			clock{hour: hms / 10_000, minute: hms / 100 % 100, second: hms % 100}, 0, ""), size, nil
	case typeTime2:
		return append(timeOf(b, c.Scale).append(append(dst, '"'), c.Scale), '"'), size, nil
	default:
		n := int(int32(littleEndian(b[:3])<<8)) >> 8
		k := clock{negative: n < 0}
		n = max(n, -n)
		k.hour, k.minute, k.second = n/10_000, n/100%100, n%100
		return append(k.append(append(dst, '"'), 0), '"'), size, nil
	}
}

// appendTimeText prints the server's text: 2006-01-02 15:04:05.000000.
func (c *Column) appendTimeText(dst, text []byte) ([]byte, error) {
	if c.Kind == Time {
		return append(append(append(dst, '"'), text...), '"'), nil
	}
	var d date
	if len(text) < 10 || text[4] != '-' || text[7] != '-' {
		return dst, fmt.Errorf("%s: %q is no date", c.Type(), text)
	}
	for _, f := range []struct {
		n    *int
		from int
		to   int
	}{{&d.year, 0, 4}, {&d.month, 5, 7}, {&d.day, 8, 10}} {
		n, err := strconv.Atoi(string(text[f.from:f.to]))
		if err != nil {
			return dst, fmt.Errorf("%s: %q is no date", c.Type(), text)
		}
		*f.n = n
	}
	if d.zero() {
		return append(dst, "null"...), nil
	}
	dst = append(append(dst, '"'), text[:10]...)
	if c.Kind != Date && len(text) > 11 {
		dst = append(append(dst, 'T'), text[11:]...)
		if c.Kind == Timestamp {
			dst = append(dst, utc...)
		}
	}
	return append(dst, '"'), nil
}

// timeSize is how many bytes a date or a time of the log has, with those of its fraction; 0 for what is none.
func timeSize(wire byte, fraction int) int {
	switch wire {
	case typeDate, typeNewDate, typeTime:
		return 3
	case typeTimestamp:
		return 4
	case typeDatetime:
		return 8
	case typeTime2:
		return 3 + fraction
	case typeTimestamp2:
		return 4 + fraction
	case typeDatetime2:
		return 5 + fraction
	default:
		return 0
	}
}
