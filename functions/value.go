package functions

import (
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
)

var (
	unmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

	typeTime   = reflect.TypeFor[time.Time]()
	typeNumber = reflect.TypeFor[json.Number]()
	typeBytes  = reflect.TypeFor[[]byte]()
)

// read sets a field from a value that is not NULL.
func read(v reflect.Value, from event.Value) error {
	switch v.Type() {
	case typeTime:
		t, err := readTime(from.Text())
		v.Set(reflect.ValueOf(t))
		return err
	case typeNumber:
		if quoted(from) && !beyond(from) {
			return errors.New("a text, not a number")
		}
		if c := from[0]; c != '"' && c != '-' && (c < '0' || c > '9') {
			return errors.New("not a number")
		}
		v.SetString(from.Text())
		return nil
	case typeBytes:
		b, err := readBytes(from)
		v.SetBytes(b)
		return err
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		return read(v.Elem(), from)
	}
	if t := v.Addr().Type(); t.Implements(unmarshaler) || t.Implements(textUnmarshaler) {
		return unmarshal(from, v.Addr().Interface())
	}
	switch v.Kind() {
	case reflect.String:
		if !quoted(from) {
			return errors.New("not a text: json.Number takes numbers of any size, json.RawMessage takes anything")
		}
		v.SetString(from.Text())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(string(from), 10, v.Type().Bits())
		v.SetInt(n)
		return numeric(err)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(string(from), 10, v.Type().Bits())
		v.SetUint(n)
		return numeric(err)
	case reflect.Float32, reflect.Float64:
		if quoted(from) && !beyond(from) {
			return errors.New("a text, not a number")
		}
		f, err := strconv.ParseFloat(from.Text(), v.Type().Bits())
		v.SetFloat(f)
		return numeric(err)
	case reflect.Bool:
		b, err := readBool(from)
		v.SetBool(b)
		return err
	default:
		return unmarshal(from, v.Addr().Interface())
	}
	return nil
}

func quoted(v event.Value) bool { return len(v) > 0 && v[0] == '"' }

// beyond says whether a text stands for a number that JSON has none for.
func beyond(v event.Value) bool {
	switch v.Text() {
	case "NaN", "Infinity", "-Infinity":
		return true
	}
	return false
}

// numeric is an error of strconv without what stands around it.
func numeric(err error) error {
	switch {
	case errors.Is(err, strconv.ErrRange):
		return errors.New("out of range")
	case err != nil:
		return errors.New("not such a number")
	}
	return nil
}

// readBool takes MySQL's 0 and 1 too.
func readBool(v event.Value) (bool, error) {
	switch string(v) {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, errors.New("neither true nor false")
}

func readTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("neither a timestamp nor a date of the years 0 to 9999: a string takes it")
}

func readBytes(v event.Value) ([]byte, error) {
	digits, ok := strings.CutPrefix(v.Text(), `\x`)
	if !ok || !quoted(v) {
		return nil, errors.New(`not binary, which is "\\x…": a string takes texts, json.RawMessage takes anything`)
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil, fmt.Errorf("not binary: %w", err)
	}
	return b, nil
}
