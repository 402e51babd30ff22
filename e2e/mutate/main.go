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
	"regexp"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/runnel-dev/runnel/e2e/mutate/mutation"
)

// limit of a test beside compiling: one that does not end has found the mutation, if it ends without it. A run of the crash harness
// ends by itself.
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
	missed := 0
	for _, m := range mutations {
		var caught []mutation.Result
		for _, by := range m.By {
			res, err := try(ctx, ".", m, by)
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
	began := time.Now()
	text, failed, err := catch(ctx, root, by, env)
	if err != nil {
		return res, fmt.Errorf("mutation %s: %w", m.Name, err)
	}
	res.Seconds, res.Caught, res.Finding = time.Since(began).Seconds(), failed, finding(text)
	if bytes.Contains(text, []byte("panic: test timed out")) {
		res.Finding = "does not end"
		if text, failed, err = catch(ctx, root, by, append(os.Environ(), "CI=true")); err != nil || failed {
			return res, errors.Join(err, fmt.Errorf("mutation %s: %s does not pass without it either, perhaps since the machine is busy:\n%s", m.Name, by.Name(), text))
		}
	}
	if by.Crash != nil && res.Caught && !counted.Match(text) {
		return res, fmt.Errorf("mutation %s: %s failed and found nothing:\n%s", m.Name, by.Name(), text[max(0, len(text)-2000):])
	}
	return res, nil
}

// counted is a run of the crash harness that found something, and did not fail for another reason.
var counted = regexp.MustCompile(`(?m)^crash: .*(lost|duplicated|disordered|backwards|differing|undurable|interleaved|delayed)=[1-9]`)

// catch runs a catcher, and says whether it found something.
func catch(ctx context.Context, root string, by mutation.Catcher, env []string) (text []byte, failed bool, err error) {
	args := append([]string{"test", "-count=1", "-timeout=" + limit.String(), "-run=^" + strings.ReplaceAll(by.Run, "/", "$/^") + "$", by.Package}, by.Args...)
	if by.Crash != nil {
		args = append([]string{"run", "./e2e/crash"}, by.Crash...)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = root, env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	text, err = cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		return text, false, errors.Join(err, ctx.Err())
	}
	for _, sign := range []string{"[build failed]", "[setup failed]", "no tests to run"} {
		if bytes.Contains(text, []byte(sign)) {
			return text, false, fmt.Errorf("%s does not run:\n%s", by.Name(), text)
		}
	}
	return text, err != nil, nil
}

// findings are lines that say what is wrong.
var findings = regexp.MustCompile(`(?m)^\s*(\w+_test\.go:\d+: .*|(?:lost|duplicated|disordered|backwards|differing|undurable|interleaved|delayed): .*|crash: .*|panic: .*)$`)

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
