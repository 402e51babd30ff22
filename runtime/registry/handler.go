package registry

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

var secretName = regexp.MustCompile(`(?i)password|secret|token|api[_-]?key|credential`)

// checkHandler wants settings only where there is a handler to read them, and no secret among them.
func (d *document) checkHandler(f *Function) {
	switch {
	case d.places["handler"] == nil:
		if d.places["config"] != nil && !d.meant["handler"] {
			d.at("config", "config: settings are for a handler: of your own, and %s has none", d)
		}
	case d.places["to"] != nil:
		d.at("handler", "handler and to: expected one of them; make a function for each target")
	case !validName.MatchString(f.Handler):
		d.at("handler", "handler %q: expected 1 to 40 of a-z, 0-9, _ and -, beginning with a letter or digit, as the binary names it", f.Handler)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Config)) {
		path, value := "config."+name, f.Config[name]
		if _, rest, ok := strings.Cut(value, "://"); ok && literalPassword(rest) {
			d.at(path, "%s: the URL holds a password, which would be stored; write ${%s} instead of the URL or of the password and put the value into the environment", path, suggestion(path))
		} else if secretName.MatchString(name) {
			d.checkSecret(path, value)
		} else {
			d.checkReferences(path, value)
		}
	}
}

// HandlerOf is the handler that a specification names, also one of another version of Runnel, in which this one finds faults; "" where
// it names none.
func HandlerOf(text string) string {
	root, ok := (&document{text: text}).parse().(*ast.MappingNode)
	if !ok {
		return ""
	}
	for _, entry := range root.Values {
		if entry.Key.GetToken().Value == "handler" {
			handler, _ := scalar(entry.Value)
			return handler
		}
	}
	return ""
}

// CheckHandler says what keeps a specification from naming a handler.
func CheckHandler(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("handler %q: expected 1 to 40 of a-z, 0-9, _ and -, beginning with a letter or digit", name)
	}
	return nil
}
