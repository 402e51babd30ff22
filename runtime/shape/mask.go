package shape

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"unicode/utf8"

	"github.com/runnel-dev/runnel/runtime/event"
)

// MaskKind is a way to hide a value. NULL stays NULL under each.
type MaskKind uint8

// Kinds of masks.
const (
	None   MaskKind = iota
	Hash            // HMAC-SHA256 of the value's text with the salt, as 64 hex digits: equal values stay equal, and no table of hashes helps
	Redact          // NULL
	Last4           // asterisks for all characters but the last four, and for these too where there are no more than eight
)

// Mask hides the values of a column.
type Mask struct {
	Kind MaskKind
	Salt []byte // of Hash; a secret
}

// typ is the type of what comes out.
func (m Mask) typ(c event.Column, text string) event.Column {
	switch m.Kind {
	case Hash, Last4:
		return event.Column{Name: c.Name, Type: text, Nullable: c.Nullable, Key: c.Key}
	case Redact:
		c.Nullable = true
	case None:
	}
	return c
}

// append appends the masked value as JSON.
func (m Mask) append(dst []byte, v event.Value) []byte {
	switch {
	case m.Kind == None:
		return append(dst, v...)
	case m.Kind == Redact || v.IsNull():
		return append(dst, "null"...)
	case m.Kind == Hash:
		h := hmac.New(sha256.New, m.Salt)
		h.Write(v.AppendText(nil))
		dst = append(dst, '"')
		dst = hex.AppendEncode(dst, h.Sum(nil))
		return append(dst, '"')
	default:
		return event.AppendJSONString(dst, last4(v.AppendText(nil)))
	}
}

func last4(text []byte) []byte {
	n := utf8.RuneCount(text)
	hidden := n - 4
	if n <= 8 {
		hidden = n
	}
	out := make([]byte, 0, len(text))
	for i := 0; len(text) > 0; i++ {
		_, size := utf8.DecodeRune(text)
		if i < hidden {
			out = append(out, '*')
		} else {
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	return out
}
