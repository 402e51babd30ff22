// Package mutation lists deliberate breakages of Runnel: what a checker is worth is what it finds. Each one is a replacement in one
// file, which `go build -overlay` takes instead of the file, so the tree is never changed.
package mutation

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Mutation is one breakage.
type Mutation struct {
	Name   string
	Breaks string // the rule that does not hold any more, and what comes of it
	File   string // from the root of the repository
	Old    string // is there exactly once
	New    string
	By     []Catcher // each of them finds it
}

// Catcher is what finds a mutation: a test of a package, or a whole run.
type Catcher struct {
	Package string   // of a test, from the root
	Run     string   // its name, as -run takes it
	Args    []string // more of them for the test
	Crash   []string // instead: arguments of scripts/crash
}

// Name says it in a word or two, for people.
func (c Catcher) Name() string {
	if c.Crash != nil {
		return "crash " + strings.Join(c.Crash, " ")
	}
	return c.Package + " " + c.Run
}

// Key tells catchers apart.
func (c Catcher) Key() string { return c.Name() + " " + strings.Join(c.Args, " ") }

// Dir is the package that is broken, from the root.
func (m *Mutation) Dir() string { return "./" + filepath.Dir(m.File) }

// Broken is the file's text with the breakage.
func (m *Mutation) Broken(root string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, m.File))
	if err != nil {
		return "", fmt.Errorf("mutation %s: %w", m.Name, err)
	}
	if n := strings.Count(string(b), m.Old); n != 1 {
		return "", fmt.Errorf("mutation %s: its text is %d times in %s, not once: change it to what the code says now", m.Name, n, m.File)
	}
	return strings.Replace(string(b), m.Old, m.New, 1), nil
}

// Overlay writes the mutations, each of another file, and the JSON file that -overlay takes, into dir.
func Overlay(root, dir string, mutations ...*Mutation) (string, error) {
	replace := map[string]string{}
	for _, m := range mutations {
		text, err := m.Broken(root)
		if err != nil {
			return "", err
		}
		original, err := filepath.Abs(filepath.Join(root, m.File))
		if err != nil {
			return "", fmt.Errorf("mutation %s: %w", m.Name, err)
		}
		if replace[original] != "" {
			return "", fmt.Errorf("mutation %s: another one of %s is there already", m.Name, m.File)
		}
		file := filepath.Join(dir, m.Name+".go")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("mutation %s: %w", m.Name, err)
		}
		replace[original] = file
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, b, 0o600)
}

// Find gives the mutation of a name, or all of them for "all".
func Find(name string) ([]*Mutation, error) {
	var found []*Mutation
	for i := range All {
		if name == "all" || All[i].Name == name {
			found = append(found, &All[i])
		}
	}
	if found == nil {
		return nil, errors.New("there is no mutation " + name)
	}
	return found, nil
}
