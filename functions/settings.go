package functions

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Settings reads Config into a struct, whose fields name settings by their tags:
//
//	var s struct {
//		URL     string        `config:"url,required"`
//		Timeout time.Duration `config:"timeout"`
//	}
//	s.Timeout = 5 * time.Second // where the specification says nothing
//	if err := f.Settings(&s); err != nil {
//		return nil, err
//	}
//
// Fields are strings, bools, integers, floats and durations. The error is marked by Halt and names all that is wrong: settings that
// no field has, required ones that are not there, and values that are none.
func (f Function) Settings(into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("functions: Settings wants a pointer to a struct, not %T", into))
	}
	v = v.Elem()
	var names, faults []string
	for i := range v.NumField() {
		tag, ok := v.Type().Field(i).Tag.Lookup("config")
		if !ok {
			continue
		}
		name, option, _ := strings.Cut(tag, ",")
		names = append(names, name)
		text, there := f.Config[name]
		switch {
		case !there && option == "required":
			faults = append(faults, name+" is missing")
		case there:
			if want := set(v.Field(i), text); want != "" {
				faults = append(faults, fmt.Sprintf("%s: expected %s", name, want)) // the value may be a secret
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Config)) {
		if !slices.Contains(names, name) {
			faults = append(faults, fmt.Sprintf("%s is unknown: the handler has %s", name, strings.Join(names, ", ")))
		}
	}
	if faults != nil {
		return Halt(fmt.Errorf("config of function %s: %s", f.Name, strings.Join(faults, "; ")))
	}
	return nil
}

// set gives what was expected, or "".
func set(v reflect.Value, text string) string {
	var err error
	switch value := v.Addr().Interface().(type) {
	case *string:
		*value = text
	case *bool:
		*value, err = strconv.ParseBool(text)
		return unless(err, "true or false")
	case *int:
		*value, err = strconv.Atoi(text)
		return unless(err, "a whole number")
	case *int64:
		*value, err = strconv.ParseInt(text, 10, 64)
		return unless(err, "a whole number")
	case *float64:
		*value, err = strconv.ParseFloat(text, 64)
		return unless(err, "a number")
	case *time.Duration:
		*value, err = time.ParseDuration(text)
		return unless(err, "a duration such as 500ms, 10s or 15m")
	default:
		panic(fmt.Sprintf("functions: Settings cannot fill a %T", v.Interface()))
	}
	return ""
}

func unless(err error, want string) string {
	if err == nil {
		return ""
	}
	return want
}
