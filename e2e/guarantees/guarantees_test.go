package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// The page is what its inputs make: it never says what is not recorded any more.
func TestPageIsCurrent(t *testing.T) {
	t.Parallel()
	want, err := page(root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, pageFile))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what it is made from: run go run ./e2e/guarantees", pageFile)
	}
}

// Each test that the page names is in the tree.
func TestNamedTestsExist(t *testing.T) {
	t.Parallel()
	packages := map[string]*tests{}
	check := func(where, name string) {
		dir, test, ok := strings.Cut(name, " ")
		if !ok {
			t.Errorf("%s: %q is not a package and a test", where, name)
			return
		}
		if packages[dir] == nil {
			packages[dir] = parse(t, dir)
		}
		function, sub, _ := strings.Cut(test, "/")
		if !slices.Contains(packages[dir].functions, function) {
			t.Errorf("%s: %s has no %s", where, dir, function)
		}
		if sub != "" && !slices.Contains(packages[dir].literals, sub) {
			t.Errorf("%s: %s has no subtest %s of %s", where, dir, sub, function)
		}
	}
	for _, p := range promises {
		for _, name := range p.tests {
			check(p.name, name)
		}
	}
	for _, group := range pains {
		for _, p := range group.pains {
			for _, name := range p.tests {
				check("pain "+p.number, name)
			}
		}
	}
}

// Each pain is prevented by something, and none is left out.
func TestPainsAreComplete(t *testing.T) {
	t.Parallel()
	var numbers []string
	for _, group := range pains {
		for _, p := range group.pains {
			numbers = append(numbers, p.number)
			if len(p.tests) == 0 && p.because == "" || p.hurt == "" || len(p.reports) == 0 {
				t.Errorf("pain %s: what, where reported, and prevented by what?", p.number)
			}
		}
	}
	for i := range 55 {
		if !slices.Contains(numbers, strconv.Itoa(i+1)) {
			t.Errorf("pain %d is missing", i+1)
		}
	}
}

// tests are what a package's test files hold: functions, and strings that may be names of subtests.
type tests struct{ functions, literals []string }

func parse(t *testing.T, dir string) *tests {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var found tests
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				found.functions = append(found.functions, n.Name.Name)
			case *ast.BasicLit:
				if s, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					found.literals = append(found.literals, s)
				}
			}
			return true
		})
	}
	return &found
}
