package text_test

import (
	"testing"

	"github.com/runnel-dev/runnel/runtime/text"
)

func TestForPeople(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		text.Number(0): "0", text.Number(999): "999", text.Number(1000): "1,000", text.Number(-1234567): "-1,234,567",
		text.Count(0): "0", text.Count(2.25): "2.2", text.Count(12345.6): "12,345",
		text.Seconds(0.04): "0.0 s", text.Seconds(75): "75 s", text.Seconds(7200): "2h0m0s",
		text.Size(1000): "1000 B", text.Size(1 << 20): "1.0 MiB", text.Size(10 << 30): "10.0 GiB",
		text.OneLine(" a\n b\tc "): "a b c",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
