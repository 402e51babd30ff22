package myjson

import (
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"

	"github.com/runnel-dev/runnel/runtime/event"
)

var charsets = map[string]encoding.Encoding{
	"latin2": charmap.ISO8859_2, "latin5": charmap.ISO8859_9, "latin7": charmap.ISO8859_13, "greek": charmap.ISO8859_7, "hebrew": charmap.ISO8859_8,
	"cp1250": charmap.Windows1250, "cp1251": charmap.Windows1251, "cp1256": charmap.Windows1256, "cp1257": charmap.Windows1257,
	"cp850": charmap.CodePage850, "cp852": charmap.CodePage852, "cp866": charmap.CodePage866, "koi8r": charmap.KOI8R, "koi8u": charmap.KOI8U,
	"macroman": charmap.Macintosh, "tis620": charmap.Windows874, "big5": traditionalchinese.Big5, "gbk": simplifiedchinese.GBK,
	"gb2312": simplifiedchinese.GBK, "gb18030": simplifiedchinese.GB18030, "euckr": korean.EUCKR, "sjis": japanese.ShiftJIS,
	"cp932": japanese.ShiftJIS, "ujis": japanese.EUCJP, "eucjpms": japanese.EUCJP,
	"ucs2":    unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM),
	"utf16":   unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM),
	"utf16le": unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM),
	"utf32":   utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM),
}

// KnownCharset says whether strings of a character set can be printed.
func KnownCharset(name string) bool {
	switch name {
	case "", "utf8", "utf8mb3", "utf8mb4", "ascii", "latin1":
		return true
	}
	return charsets[name] != nil
}

// appendString prints a string of the column's character set.
func (c *Column) appendString(dst, b []byte) ([]byte, error) {
	s, err := Decode(c.Charset, b)
	if err != nil {
		return dst, err
	}
	return event.AppendJSONString(dst, s), nil
}

// Decode makes Unicode of a string in a character set; "" is UTF-8.
func Decode(charset string, b []byte) (string, error) {
	switch charset {
	case "", "utf8", "utf8mb3", "utf8mb4":
		return string(b), nil
	case "ascii":
		if ascii(b) {
			return string(b), nil
		}
	case "latin1": // Windows-1252, whose five holes are control characters
		if ascii(b) {
			return string(b), nil
		}
		out := make([]rune, len(b))
		for i, x := range b {
			if out[i] = charmap.Windows1252.DecodeByte(x); out[i] == utf8.RuneError {
				out[i] = rune(x)
			}
		}
		return string(out), nil
	default:
		e := charsets[charset]
		if e == nil {
			return "", fmt.Errorf("character set %s is not supported: ALTER TABLE … CONVERT TO CHARACTER SET utf8mb4", charset)
		}
		out, err := e.NewDecoder().Bytes(b)
		if err != nil {
			return "", fmt.Errorf("decode a string of %s: %w", charset, err)
		}
		return string(out), nil
	}
	return "", fmt.Errorf("a string of %s has bytes above 127", charset)
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
