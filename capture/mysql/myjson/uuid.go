package myjson

import "fmt"

// appendUUID prints a UUID of MariaDB.
func appendUUID(dst, b []byte) ([]byte, error) {
	if len(b) > 16 {
		return dst, fmt.Errorf("uuid of %d bytes", len(b))
	}
	var u [16]byte
	copy(u[:], b)
	dst = append(dst, '"')
	for i, c := range u {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
	}
	return append(dst, '"'), nil
}
