package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/process"
	"github.com/runnel-dev/runnel/runtime/registry"
)

//go:embed project
var project embed.FS

// initCommand is `runnel init`.
type initCommand struct{ dryRun bool }

func newInit() *cobra.Command {
	i := &initCommand{}
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Begin a function of your own: a project in Go that compiles and passes its tests",
		Long: `Init writes a project into a folder, named after it: a source and a function in YAML, a handler in Go that writes rows into a
key-value store over HTTP, its tests, and a main function that makes a worker of it. It is made to be changed. Files that are there
already are never overwritten.`,
		Example: `  runnel init orders-cache
  runnel init --dry-run`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("expected one folder, found %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return i.run(append(args, ".")[0], cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&i.dryRun, "dry-run", false, "only list the files that would be written")
	return cmd
}

// scaffold is what the templates know.
type scaffold struct {
	Name    string
	Version string // of Runnel; "" where this is no release
}

var released = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+$`)

func (i *initCommand) run(dir string, out io.Writer) error {
	where, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	s := scaffold{Name: filepath.Base(where)}
	if err := registry.CheckHandler(s.Name); err != nil {
		return misconfigured("the project is named after its folder: %w", err)
	}
	if v := process.Version(version); released.MatchString(v) {
		s.Version = v
	}
	files, err := s.files()
	if err != nil {
		return err
	}
	var there []string
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.name)); !errors.Is(err, fs.ErrNotExist) {
			there = append(there, filepath.Join(dir, f.name))
		}
	}
	if there != nil {
		return misconfigured("%s: there already; nothing is written; choose another folder", strings.Join(there, ", "))
	}
	for _, f := range files {
		if err := i.write(filepath.Join(dir, f.name), f.content); err != nil {
			return err
		}
		fmt.Fprintln(out, filepath.Join(dir, f.name))
	}
	if i.dryRun {
		return nil
	}
	fmt.Fprintf(out, "\nNext:\n")
	if dir != "." {
		fmt.Fprintf(out, "  cd %s\n", dir)
	}
	fmt.Fprintf(out, "  go mod tidy\n  go test ./...\n  runnel test cases.yaml\n")
	return nil
}

func (i *initCommand) write(path string, content []byte) error {
	if i.dryRun {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Close())
}

// rendered is a file of the project.
type rendered struct {
	name    string
	content []byte
}

// files are those of the project, in the order of their names.
func (s scaffold) files() ([]rendered, error) {
	entries, err := project.ReadDir("project")
	if err != nil {
		return nil, err
	}
	all := []rendered{{"runnel.schema.json", registry.JSONSchema}}
	for _, e := range entries {
		t, err := template.ParseFS(project, path.Join("project", e.Name()))
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, s); err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(e.Name(), ".tmpl")
		if name == "gitignore" {
			name = ".gitignore"
		}
		all = append(all, rendered{name, b.Bytes()})
	}
	return all, nil
}
