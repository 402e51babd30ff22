// Package text writes numbers, sizes and times for people.
package text

import (
	"fmt"
	"strings"
	"time"
)

// OneLine puts one blank in the place of line breaks and runs of blanks.
func OneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Number groups digits: 1,234,567.
func Number(n int64) string {
	digits := fmt.Sprint(n)
	var out []byte
	for i := range len(digits) {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			out = append(out, ',')
		}
		out = append(out, digits[i])
	}
	return string(out)
}

// Count is a rate: 2.3, 12,345.
func Count(v float64) string {
	if v > 0 && v < 10 {
		return fmt.Sprintf("%.1f", v)
	}
	return Number(int64(v))
}

// Seconds is a time: 0.4 s, 75 s, 2h0m0s.
func Seconds(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.1f s", v)
	case v < 600:
		return fmt.Sprintf("%.0f s", v)
	}
	return time.Duration(v * float64(time.Second)).Round(time.Minute).String()
}

// Size is a number of bytes: 1.0 MiB.
func Size(n int64) string {
	const units = "KMGTP"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}
