package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/rehearse"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// testCommand is `runnel test`.
type testCommand struct {
	run  string
	json bool
}

func newTest() *cobra.Command {
	t := &testCommand{}
	cmd := &cobra.Command{
		Use:   "test FILE...",
		Short: "Run the cases of test files, without any server",
		Long: `Test runs the cases of ` + "`kind: test`" + ` documents: the events that a case gives go through filter, set, mask and columns of
the function down to the requests that its target would get, and what comes out is compared with what the case expects. Nothing is
sent, no server is needed, and the environment is not looked at. The exit code is 1 if a case fails, 3 if a file is wrong.

  kind: test
  function: orders-search
  files: [shop.yaml]                     # where the function is, from this file's folder
  tables:
    - name: public.orders
      columns: {id: bigint key, status: text not null, amount: "numeric(12,2)"}
  cases:
    - name: a draft is taken out
      given:
        - update: {id: 1, status: draft} # or insert, delete, read, fixture: a file of runnel tail --record
      expect:
        deletes: [{id: 1}]               # or documents, rows, dead, request`,
		Example: `  runnel test orders_test.yaml
  runnel test *_test.yaml --run draft
  runnel test orders_test.yaml --json | jq '.[] | select(.ok | not)'`,
		Args: atLeastOne("files with tests"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.all(cmd.Context(), args, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&t.run, "run", "", "only cases whose name matches this regular expression")
	cmd.Flags().BoolVar(&t.json, "json", false, "print JSON")
	return cmd
}

// verdict on a case.
type verdict struct {
	File     string                `json:"file"`
	Line     int                   `json:"line"`
	Function string                `json:"function"`
	Name     string                `json:"name"`
	OK       bool                  `json:"ok"`
	Error    string                `json:"error,omitempty"` // the function would halt
	Differs  []rehearse.Difference `json:"differs,omitempty"`
	Request  string                `json:"request"`
}

func (t *testCommand) all(ctx context.Context, paths []string, out io.Writer) error {
	run, err := regexp.Compile(t.run)
	if err != nil {
		return usageError{fmt.Errorf("--run: %w", err)}
	}
	files, err := registry.ReadTests(paths...)
	if err != nil {
		return err
	}
	if len(files.Tests) == 0 {
		return misconfigured("no `kind: test` in %s", strings.Join(paths, ", "))
	}
	verdicts := []verdict{}
	for i := range files.Tests {
		if verdicts, err = playTest(ctx, files, &files.Tests[i], run, verdicts); err != nil {
			return err
		}
	}
	return t.report(out, verdicts)
}

func (t *testCommand) report(out io.Writer, verdicts []verdict) error {
	failed := 0
	for _, v := range verdicts {
		if !v.OK {
			failed++
		}
	}
	if t.json {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(verdicts); err != nil {
			return err
		}
	} else {
		for _, v := range verdicts {
			v.print(out)
		}
		fmt.Fprintf(out, "%s, %d failed\n", counted(len(verdicts), "case"), failed)
	}
	if failed > 0 {
		return statusError{exitRuntime, fmt.Sprintf("%s failed", counted(failed, "case"))}
	}
	return nil
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (v *verdict) print(out io.Writer) {
	word := "ok  "
	if !v.OK {
		word = "FAIL"
	}
	fmt.Fprintf(out, "%s  %s:%d  %s: %s\n", word, v.File, v.Line, v.Function, v.Name)
	if v.Error != "" {
		fmt.Fprintf(out, "      the function would halt: %s\n", strings.ReplaceAll(v.Error, "\n", "\n      "))
	}
	for _, d := range v.Differs {
		for line := range strings.Lines(d.String()) {
			fmt.Fprintf(out, "      %s", line)
		}
	}
}

// playTest runs the cases of a document.
func playTest(ctx context.Context, files *registry.Files, t *registry.Test, run *regexp.Regexp, verdicts []verdict) ([]verdict, error) {
	i := slices.IndexFunc(files.Functions, func(f registry.Function) bool { return f.Name == t.Function })
	if i < 0 {
		names := make([]string, len(files.Functions))
		for i := range files.Functions {
			names[i] = files.Functions[i].Name
		}
		return nil, t.Fault("function", "no function %q in the files; name its file with files: [...], or on the command line; there is: %s", t.Function, strings.Join(names, ", "))
	}
	spec := withoutReferences(&files.Functions[i], func(name string) (string, bool) { v, ok := t.Env[name]; return v, ok })
	origin := rehearse.Origin{Source: spec.Source(), Connector: "postgresql", Partitions: 8}
	if i := slices.IndexFunc(files.Sources, func(s registry.Source) bool { return s.Name == origin.Source }); i >= 0 {
		origin.Partitions = files.Sources[i].Stream.Partitions
		if name, _ := files.Sources[i].Connector(); name != "postgres" {
			origin.Connector = name
		}
	}
	handler, err := previewer(spec)
	if err != nil {
		return nil, err
	}
	if c, ok := handler.(sink.Closer); ok {
		defer c.Close()
	}
	function, err := rehearse.New(spec, handler, 1, origin.Partitions)
	if err != nil {
		return nil, err
	}
	for c := range t.Cases {
		if !run.MatchString(t.Cases[c].Name) {
			continue
		}
		events, err := rehearse.Events(t, c, origin)
		if err != nil {
			return nil, err
		}
		v := verdict{File: t.File(), Line: t.Line(c), Function: t.Function, Name: t.Cases[c].Name}
		if result, err := function.Play(ctx, events); err != nil {
			v.Error = err.Error()
		} else {
			v.Differs, v.Request = rehearse.Judge(&t.Cases[c].Expect, result), string(result.Request())
			v.OK = len(v.Differs) == 0
		}
		verdicts = append(verdicts, v)
	}
	return verdicts, nil
}

// previewer makes the handler of a function, for what it shows; nil for one of another binary.
func previewer(f *registry.Function) (sink.Handler, error) {
	if f.Handler != "" {
		return nil, nil
	}
	h, err := newHandler(f, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, configurationError{errors.Unwrap(err)}
	}
	return h, nil
}
