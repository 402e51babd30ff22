package equal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

func object(doc []byte) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(doc, &m); err != nil {
		return nil, fmt.Errorf("row %.60s: %w", doc, err)
	}
	return m, nil
}

// canonical is one spelling for all values that are the same: numbers as fractions, times in UTC, JSON with sorted names. A
// target may spell json, arrays and composites as a string that holds them; nothing else is bent.
func canonical(typ string, raw json.RawMessage) (string, error) {
	v, err := decode(raw)
	if err != nil {
		return "", err
	}
	if v == nil {
		return "null", nil
	}
	s, isText := v.(string)
	base, _, _ := strings.Cut(typ, "(")
	switch {
	case isText && s != "" && (s[0] == '{' || s[0] == '[' || base == "json" || base == "jsonb"):
		if inner, err := decode([]byte(s)); err == nil {
			v = inner
		}
	case isText && strings.HasPrefix(base, "timestamp"):
		return instant(s), nil
	case isText && base == "numeric":
		if r, ok := new(big.Rat).SetString(s); ok {
			return r.RatString(), nil
		}
	case isText && (base == "double precision" || base == "real"):
		return strings.Replace(strings.ToLower(s), "infinity", "inf", 1), nil
	case base == "double precision" || base == "real":
		f, err := strconv.ParseFloat(string(bytes.TrimSpace(raw)), 64)
		return strconv.FormatFloat(f, 'g', -1, 64), err
	}
	return string(spell(nil, v)), nil
}

func decode(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("value %.60s: %w", raw, err)
	}
	return v, nil
}

func spell(dst []byte, v any) []byte {
	switch v := v.(type) {
	case json.Number:
		if r, ok := new(big.Rat).SetString(v.String()); ok {
			return append(dst, r.RatString()...)
		}
		return append(dst, v.String()...)
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = spell(dst, e)
		}
		return append(dst, ']')
	case map[string]any:
		dst = append(dst, '{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(strconv.AppendQuote(dst, k), ':')
			dst = spell(dst, v[k])
		}
		return append(dst, '}')
	case string:
		return strconv.AppendQuote(dst, v)
	default:
		return fmt.Append(dst, v)
	}
}

// instant is a time in UTC with all its digits; what is none (infinity, BC) stays as it is.
func instant(s string) string {
	for _, layout := range []string{"2006-01-02T15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC().Format("2006-01-02T15:04:05.000000000")
		}
	}
	return s
}
