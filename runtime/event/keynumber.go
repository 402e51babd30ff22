package event

import (
	"bytes"
	"strconv"
)

// maxExponent bounds what a number's exponent may say; numeric ends below 10^131072.
const maxExponent = 1 << 30

// appendNumber appends `[-]<digits>[e<exponent>]` and the terminator: the digits without leading and trailing zeros, read as
// an integer, times ten to the exponent. Zero is 0, without a sign.
func appendNumber(dst []byte, v Value) ([]byte, bool) {
	if skipNumber(v, 0) != len(v) {
		return dst, false
	}
	from := len(dst)
	if v[0] == '-' {
		dst = append(dst, '-')
		v = v[1:]
	}
	exponent := 0
	if i := bytes.IndexByte(v, 'e'); i >= 0 {
		v, exponent = v[:i], parseExponent(v[i+1:])
	} else if i := bytes.IndexByte(v, 'E'); i >= 0 {
		v, exponent = v[:i], parseExponent(v[i+1:])
	}
	digits := len(dst)
	whole, fraction, _ := bytes.Cut(v, dot)
	dst = append(dst, bytes.TrimLeft(whole, "0")...)
	if len(dst) == digits {
		fraction, exponent = trimZeros(fraction, exponent)
	}
	dst = append(dst, fraction...)
	exponent -= len(fraction)
	for len(dst) > digits && dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
		exponent++
	}
	if len(dst) == digits {
		return append(dst[:from], '0', endOf), true
	}
	if exponent != 0 {
		dst = append(dst, 'e')
		dst = strconv.AppendInt(dst, int64(exponent), 10)
	}
	return append(dst, endOf), exponent > -maxExponent && exponent < maxExponent
}

// trimZeros takes the leading zeros off a fraction without a whole part.
func trimZeros(fraction []byte, exponent int) ([]byte, int) {
	trimmed := bytes.TrimLeft(fraction, "0")
	return trimmed, exponent - (len(fraction) - len(trimmed))
}

// parseExponent reads digits with or without a sign; what lies beyond maxExponent is cut down to it.
func parseExponent(b []byte) int {
	sign := 1
	if b[0] == '-' || b[0] == '+' {
		if b[0] == '-' {
			sign = -1
		}
		b = b[1:]
	}
	n := 0
	for _, c := range b {
		n = min(n*10+int(c-'0'), 2*maxExponent)
	}
	return sign * n
}
