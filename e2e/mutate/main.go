// Command mutate breaks Runnel on purpose, one mutation after another, and shows which checker finds each: what is not found is a
// hole in the checkers. The tree is never changed.
//
//	./scripts/crash --mutate all    all of them: minutes, on a quiet machine
//	go run ./e2e/mutate             the same, without looking for servers first
//	go run ./e2e/mutate -list       their names
//	go run ./e2e/mutate NAME...     these
//	go run ./e2e/mutate -record     all, and note the result for docs/guarantees.md
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/runnel-dev/runnel/e2e/mutate/mutation"
)

// limit of a test: one that does not end has found the mutation, if it ends without it. A run of the crash harness ends by itself.
const limit = time.Minute

func main() {
	list := flag.Bool("list", false, "show the mutations")
	record := flag.Bool("record", false, "note the results in "+mutation.ResultsFile)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"all"}
	}
	var mutations []*mutation.Mutation
	for _, name := range names {
		found, err := mutation.Find(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		mutations = append(mutations, found...)
	}
	if *list {
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		for _, m := range mutations {
			fmt.Fprintf(w, "%s\t%s\t%s\n", m.Name, m.By[0].Name(), m.Breaks)
		}
		_ = w.Flush()
		return
	}
	if err := run(ctx, os.Stdout, mutations, *record); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, mutations []*mutation.Mutation, record bool) error {
	results, err := mutation.ReadResults(".")
	if err != nil {
		return err
	}
	missed, sound := 0, map[string]error{}
	for _, m := range mutations {
		var caught []mutation.Result
		for _, by := range m.By {
			res, err := try(ctx, ".", m, by)
			if err == nil && res.Caught {
				if _, known := sound[by.Key()]; !known {
					sound[by.Key()] = passes(ctx, ".", by)
				}
				err = sound[by.Key()]
			}
			word := "caught"
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				word, res.Caught, res.Finding = "ERROR", false, err.Error()
				missed++
			case !res.Caught:
				word = "MISSED"
				missed++
			}
			fmt.Fprintf(out, "%s  %-24s %5.1f s  %s\n        %s\n", word, m.Name, res.Seconds, by.Name(), res.Finding)
			caught = append(caught, res)
		}
		results[m.Name] = caught
	}
	fmt.Fprintf(out, "mutate: mutations=%d missed=%d\n", len(mutations), missed)
	if record {
		if err := results.Write("."); err != nil {
			return err
		}
	}
	if missed > 0 {
		return errors.New("a mutation was not found")
	}
	return nil
}

// try runs a catcher over the broken code.
func try(ctx context.Context, root string, m *mutation.Mutation, by mutation.Catcher) (mutation.Result, error) {
	res := mutation.Result{By: by.Name()}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return res, err
	}
	defer os.RemoveAll(dir)
	overlay, err := mutation.Overlay(root, dir, m)
	if err != nil {
		return res, err
	}
	// In the environment, so that programs which build Runnel themselves break it too.
	env := append(os.Environ(), "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay), "CI=true")
	build := exec.CommandContext(ctx, "go", "build", m.Dir())
	build.Dir, build.Env = root, env
	if text, err := build.CombinedOutput(); err != nil {
		return res, fmt.Errorf("mutation %s does not compile: %w\n%s", m.Name, err, text)
	}
	text, failed, took, err := catch(ctx, root, dir, by, env)
	if err != nil {
		return res, fmt.Errorf("mutation %s: %w", m.Name, err)
	}
	res.Seconds, res.Caught, res.Finding = took.Seconds(), failed, finding(text)
	if bytes.Contains(text, []byte("panic: test timed out")) {
		res.Finding = "does not end"
	}
	if by.Crash != nil && res.Caught && !counted.Match(text) {
		return res, fmt.Errorf("mutation %s: %s failed and found nothing:\n%s", m.Name, by.Name(), text[max(0, len(text)-2000):])
	}
	return res, nil
}

// passes says whether a catcher finds nothing in code that is not broken: else what it found says nothing.
func passes(ctx context.Context, root string, by mutation.Catcher) error {
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	text, failed, _, err := catch(ctx, root, dir, by, append(os.Environ(), "CI=true"))
	if err == nil && failed {
		err = fmt.Errorf("%s does not pass without a mutation either, perhaps since the machine is busy:\n%s", by.Name(), text[max(0, len(text)-2000):])
	}
	return err
}

// counted is a run of the crash harness that found something, and did not fail for another reason.
var counted = regexp.MustCompile(`(?m)^crash: .*(lost|duplicated|disordered|backwards|differing|undurable|interleaved|delayed)=[1-9]`)

// catch builds a catcher in dir and runs it, and says whether it found something, and how long the run took.
func catch(ctx context.Context, root, dir string, by mutation.Catcher, env []string) (text []byte, failed bool, took time.Duration, err error) {
	where, binary := root, filepath.Join(dir, "catcher")
	build, args := []string{"build", "-o", binary, "./e2e/crash"}, by.Crash
	if by.Crash == nil {
		where = filepath.Join(root, by.Package)
		build = []string{"test", "-c", "-o", binary, by.Package}
		args = append([]string{"-test.count=1", "-test.timeout=" + limit.String(), "-test.run=^" + strings.ReplaceAll(by.Run, "/", "$/^") + "$"}, by.Args...)
	}
	compile := exec.CommandContext(ctx, "go", build...)
	compile.Dir, compile.Env = root, env
	if text, err := compile.CombinedOutput(); err != nil {
		return text, false, 0, fmt.Errorf("%s does not compile: %w\n%s", by.Name(), err, text)
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir, cmd.Env = where, env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	began := time.Now()
	text, err = cmd.CombinedOutput()
	took = time.Since(began)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		return text, false, took, errors.Join(err, ctx.Err())
	}
	if bytes.Contains(text, []byte("no tests to run")) {
		return text, false, took, fmt.Errorf("%s does not run:\n%s", by.Name(), text)
	}
	return text, err != nil, took, nil
}

// findings are lines that say what is wrong.
var findings = regexp.MustCompile(`(?m)^\s*(seed \d+: .*|\w+_test\.go:\d+: .*|(?:lost|duplicated|disordered|backwards|differing|undurable|interleaved|delayed): .*|crash: .*|panic: .*)$`)

func finding(text []byte) string {
	found := findings.FindSubmatch(text)
	if found == nil {
		return ""
	}
	s := strings.TrimSpace(string(found[1]))
	if len(s) > 160 {
		s = strings.ToValidUTF8(s[:157], "") + "..."
	}
	return s
}
