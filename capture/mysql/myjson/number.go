package myjson

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
)

// littleEndian reads an integer of 1 to 8 bytes.
func littleEndian(b []byte) (n uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		n = n<<8 | uint64(b[i])
	}
	return n
}

// bigEndian reads an integer of 1 to 8 bytes.
func bigEndian(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

func appendInt(dst, b []byte, unsigned bool) []byte {
	n := littleEndian(b)
	if unsigned {
		return strconv.AppendUint(dst, n, 10)
	}
	shift := 64 - 8*len(b)
	return strconv.AppendInt(dst, int64(n<<shift)>>shift, 10)
}

// maxPlain is how far from the point a float's first digit may be before it is printed with an exponent: DBL_DIG, as the servers' my_gcvt
// has it.
const maxPlain = 15

// appendFloat prints the shortest digits that give the number back, in the form of the servers' my_gcvt: 0.1, 1e15, 1.5e-16.
func appendFloat(dst []byte, f float64, bits int) []byte {
	var buf [32]byte
	s := strconv.AppendFloat(buf[:0], f, 'e', -1, bits)
	if s[0] == '-' {
		dst = append(dst, '-')
		s = s[1:]
	}
	i := bytes.IndexByte(s, 'e')
	exponent, err := strconv.Atoi(string(s[i+1:]))
	if err != nil { // infinities and NaN cannot be stored
		return append(dst, "null"...)
	}
	digits := append([]byte{s[0]}, bytes.TrimPrefix(s[1:i], []byte("."))...)
	point := exponent + 1 // digits before the point
	switch {
	case f == 0:
		return append(dst, '0')
	case point > maxPlain || point < -maxPlain+1:
		dst = append(dst, digits[0])
		if len(digits) > 1 {
			dst = append(append(dst, '.'), digits[1:]...)
		}
		return strconv.AppendInt(append(dst, 'e'), int64(exponent), 10)
	case point <= 0:
		dst = append(dst, "0."...)
		for ; point < 0; point++ {
			dst = append(dst, '0')
		}
		return append(dst, digits...)
	case point >= len(digits):
		dst = append(dst, digits...)
		for n := point - len(digits); n > 0; n-- {
			dst = append(dst, '0')
		}
		return dst
	default:
		dst = append(dst, digits[:point]...)
		return append(append(dst, '.'), digits[point:]...)
	}
}

// decimalBytes is how many bytes hold so many digits that are no full group of nine.
var decimalBytes = [10]int{0, 1, 1, 2, 2, 3, 3, 4, 4, 4}

func decimalSize(precision, scale int) int {
	whole := precision - scale
	return whole/9*4 + decimalBytes[whole%9] + scale/9*4 + decimalBytes[scale%9]
}

// appendDecimal prints the binary form: groups of nine digits in four bytes, big endian, the first bit is set for positive numbers,
// and all bits are inverted for negative ones.
func appendDecimal(dst, b []byte, precision, scale int) ([]byte, int, error) {
	size := decimalSize(precision, scale)
	if len(b) < size || size == 0 || scale > precision {
		return dst, 0, fmt.Errorf("decimal(%d,%d) of %d bytes", precision, scale, len(b))
	}
	raw := make([]byte, size)
	copy(raw, b)
	negative := raw[0]&0x80 == 0
	raw[0] ^= 0x80
	if negative {
		for i := range raw {
			raw[i] ^= 0xff
		}
	}
	digits := make([]byte, 0, precision)
	take := func(n int) { // n digits
		w := decimalBytes[n%9]
		if n == 9 {
			w = 4
		}
		text := strconv.FormatUint(bigEndian(raw[:w]), 10)
		raw = raw[w:]
		for i := len(text); i < n; i++ {
			digits = append(digits, '0')
		}
		digits = append(digits, text...)
	}
	whole := precision - scale
	if n := whole % 9; n > 0 {
		take(n)
	}
	for range whole / 9 {
		take(9)
	}
	point := len(digits)
	for range scale / 9 {
		take(9)
	}
	if n := scale % 9; n > 0 {
		take(n)
	}
	if len(digits) != precision {
		return dst, 0, fmt.Errorf("decimal(%d,%d): a group has too many digits", precision, scale)
	}
	if negative {
		dst = append(dst, '-')
	}
	head := bytes.TrimLeft(digits[:point], "0")
	if len(head) == 0 {
		head = []byte{'0'}
	}
	dst = append(dst, head...)
	if scale > 0 {
		dst = append(append(dst, '.'), digits[point:]...)
	}
	return dst, size, nil
}

// appendNumber prints the server's text of a number: ZEROFILL puts zeros in front that JSON does not know.
func appendNumber(dst, text []byte) []byte {
	if len(text) > 0 && text[0] == '-' {
		dst = append(dst, '-')
		text = text[1:]
	}
	for len(text) > 1 && text[0] == '0' && '0' <= text[1] && text[1] <= '9' {
		text = text[1:]
	}
	return append(dst, text...)
}

const hexDigits = "0123456789abcdef"

// appendHex prints bytes as PostgreSQL does.
func appendHex(dst, b []byte) []byte {
	dst = append(dst, `"\\x`...)
	for _, c := range b {
		dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
	}
	return append(dst, '"')
}

func uint16At(b []byte) int { return int(binary.LittleEndian.Uint16(b)) }
