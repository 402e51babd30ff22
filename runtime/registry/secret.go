package registry

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var reference = regexp.MustCompile(`\$\{([^}]*)\}?`)

var validVariable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// MissingError is a reference to a variable that the environment does not have.
type MissingError struct{ Names []string }

func (e *MissingError) Error() string {
	if len(e.Names) == 1 {
		return fmt.Sprintf("environment variable %s is not set: export it where runnel runs", e.Names[0])
	}
	return fmt.Sprintf("environment variables %s are not set: export them where runnel runs", strings.Join(e.Names, ", "))
}

// Configuration says that the operator's configuration is at fault.
func (e *MissingError) Configuration() bool { return true }

// Resolve replaces ${NAME} by the environment's value; a missing one is a *MissingError that names it. A value never appears
// in errors. Inside of a URL the value stands as it is: one with special characters is percent-encoded in the environment.
func Resolve(s string) (string, error) {
	var missing []string
	resolved := reference.ReplaceAllStringFunc(s, func(ref string) string {
		name := reference.FindStringSubmatch(ref)[1]
		value, ok := os.LookupEnv(name)
		if !ok && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
		return value
	})
	if missing != nil {
		return "", &MissingError{missing}
	}
	return resolved, nil
}

// index is the path of a list's item.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// checkReferences reports what looks like a reference and is none.
func (d *document) checkReferences(path, value string) {
	for _, m := range reference.FindAllStringSubmatch(value, -1) {
		if !strings.HasSuffix(m[0], "}") || !validVariable.MatchString(m[1]) {
			d.at(path, "%s: %q is no reference: expected ${NAME}, the name of an environment variable", path, m[0])
		}
	}
}

// checkSecret accepts references only.
func (d *document) checkSecret(path, value string) {
	if value != "" && !strings.Contains(value, "${") {
		d.at(path, "%s: a secret in plain text would be stored; write a reference such as ${%s} and put the value into the environment", path, suggestion(path))
		return
	}
	d.checkReferences(path, value)
}

// checkURL accepts a reference, or a URL of one of the schemes whose password, if it has one, is a reference.
func (d *document) checkURL(path, value string, schemes ...string) {
	if value == "" {
		if !d.meant[path] {
			d.at(path, "%s: expected a URL or a reference to one, such as ${%s}", path, suggestion(path))
		}
		return
	}
	d.checkReferences(path, value)
	scheme, rest, ok := strings.Cut(value, "://")
	if !ok {
		if !strings.Contains(value, "${") {
			d.at(path, "%s: %q is no URL: expected %s://… or a reference such as ${%s}", path, value, schemes[0], suggestion(path))
		}
		return
	}
	if !strings.Contains(scheme, "${") && !slices.Contains(schemes, scheme) {
		d.at(path, "%s: unknown scheme %q; expected %s", path, scheme, strings.Join(schemes, ", "))
	}
	if literalPassword(rest) {
		d.at(path, "%s: the URL holds a password, which would be stored; write ${%s} instead of the URL or of the password and put the value into the environment", path, suggestion(path))
	}
}

var passwordParameter = regexp.MustCompile(`(?i)[?&](?:password|sslpassword|pass|secret|token)=([^&]*)`)

// literalPassword says whether a URL (without its scheme) holds a password that is no reference.
func literalPassword(rest string) bool {
	plain := func(s string) bool { return s != "" && !strings.Contains(s, "${") }
	authority, _, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		if _, password, _ := strings.Cut(authority[:i], ":"); plain(password) {
			return true
		}
	}
	for _, m := range passwordParameter.FindAllStringSubmatch(rest, -1) {
		if plain(m[1]) {
			return true
		}
	}
	return false
}

// suggestion is a name for the variable: to.postgres.url becomes POSTGRES_URL.
func suggestion(path string) string {
	return strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(strings.TrimPrefix(strings.TrimPrefix(path, "to."), "config.")))
}
