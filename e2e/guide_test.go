package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/e2e/servers"
)

// TestGuide does what docs/write-a-function.md says, in an empty folder, and holds what comes out against what the page shows: `…` in
// an output is any text. A file is what stands below `<!-- file: name -->`, a command what stands after $ in a block `console`.
// `<!-- check: equal -->` compares both stores with the table.
func TestGuide(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/write-a-function.md")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	source := servers.Postgres(t, 17)
	web, cache := newValues(), newValues()
	g := &guide{t: t, root: root, dir: t.TempDir(), source: source.PostgresURL(), web: web, cache: cache}
	g.vars = map[string]string{"SHOP_URL": g.source, "STORE_URL": overHTTP(t, web), "CACHE_ADDR": overRESP(t, cache)}
	g.env = append(os.Environ(), "PATH="+filepath.Dir(plain)+":"+os.Getenv("PATH"), "GOFLAGS=-mod=mod -buildvcs=false", "GOTOOLCHAIN=local")
	t.Cleanup(g.end)
	g.play(string(page))
}

// guide is a shell in which the page is read.
type guide struct {
	t          *testing.T
	root       string // of the repository
	dir        string
	env        []string
	vars       map[string]string // where the reader has servers of their own, here are the test's
	source     string
	web, cache *values
	jobs       []*job
	written    int // to the stores, at the last replay
}

// job runs in the background.
type job struct {
	cmd  *exec.Cmd
	line string
	log  syncBuffer
	done chan struct{}
}

var comment = regexp.MustCompile(`^<!-- (file|check): (.*) -->$`)

func (g *guide) play(page string) {
	g.t.Helper()
	file, language, fenced := "", "", false
	var block []string
	for n, line := range strings.Split(page, "\n") {
		what := comment.FindStringSubmatch(line)
		mark, isMark := strings.CutPrefix(line, "```")
		switch {
		case fenced && !isMark:
			block = append(block, line)
		case isMark && !fenced:
			language, fenced, block = mark, true, nil
		case isMark && file != "":
			g.write(file, strings.Join(block, "\n")+"\n")
			file, fenced = "", false
		case isMark:
			if fenced = false; language == "console" {
				g.console(n-len(block), block)
			}
		case what != nil && what[1] == "file":
			file = what[2]
		case what != nil:
			g.check(what[2])
		}
		if g.t.Failed() {
			g.t.FailNow()
		}
	}
}

func (g *guide) write(name, text string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o644); err != nil {
		g.t.Fatal(err)
	}
}

// console runs the commands of a block, each with the output that follows it. Backslashes continue a line.
func (g *guide) console(line int, block []string) {
	g.t.Helper()
	for i := 0; i < len(block); {
		command, ok := strings.CutPrefix(block[i], "$ ")
		if !ok {
			g.t.Fatalf("line %d: expected a command after $, found %q", line+i+1, block[i])
		}
		at := line + i + 1
		for i++; strings.HasSuffix(command, "\\"); i++ {
			command = strings.TrimSuffix(command, "\\") + strings.TrimSpace(block[i])
		}
		from := i
		for i < len(block) && !strings.HasPrefix(block[i], "$ ") {
			i++
		}
		g.expect(at, command, strings.Join(block[from:i], "\n"))
	}
}

// looks are commands that are asked again until they show what the page shows: it takes a moment to come.
var looks = regexp.MustCompile(`^(runnel (list|tail|dry-run)|curl|redis-cli) `)

// guideTakes is how long anything may take on a busy machine.
const guideTakes = 90 * time.Second

func (g *guide) expect(at int, command, want string) {
	g.t.Helper()
	pattern := wildcards(want)
	for began := time.Now(); ; {
		got := strings.TrimRight(g.run(command), "\n") + "\n"
		if pattern.MatchString(got) {
			return
		}
		if !looks.MatchString(command+" ") || time.Since(began) > guideTakes {
			g.t.Fatalf("line %d: $ %s\nprints\n%sand the page shows\n%s", at, command, got, want)
		}
		select {
		case <-g.t.Context().Done():
			g.t.FailNow()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// wildcards is what an output must be like: … is any text within a line, and a line of it alone any lines, or none. Blanks that align columns
// are as many as it takes.
func wildcards(want string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`^`)
	for line := range strings.Lines(strings.TrimRight(want, "\n") + "\n") {
		if line == "…\n" {
			b.WriteString(`(?:.*\n)*`)
			continue
		}
		for j, word := range strings.Fields(line) {
			if j > 0 {
				b.WriteString(`\s+`)
			} else if line[0] == ' ' || line[0] == '\t' {
				b.WriteString(`[ \t]+`)
			}
			b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(word), "…", `.*`))
		}
		b.WriteString(`[ \t]*\n`)
	}
	return regexp.MustCompile(b.String() + `$`)
}

var (
	assignment = regexp.MustCompile(`(\w+)=(\S+)`)
	statement  = regexp.MustCompile(`^psql "\$SHOP_URL" -c "(.*)"$`)
	signalled  = regexp.MustCompile(`^kill (-9 )?%(\d+)$`)
)

// run executes a command; what needs programs that are not everybody's, or a state of the shell, is done here.
func (g *guide) run(command string) string {
	g.t.Helper()
	switch {
	case strings.HasPrefix(command, "cd "):
		g.dir = filepath.Join(g.dir, strings.TrimPrefix(command, "cd "))
	case strings.HasPrefix(command, "export "):
		for _, a := range assignment.FindAllStringSubmatch(command, -1) {
			value, ours := g.vars[a[1]]
			if !ours {
				value = a[2]
			}
			g.env = append(g.env, a[1]+"="+value)
		}
	case command == "go mod tidy":
		g.useTree()
	case strings.HasSuffix(command, " &"):
		g.start(strings.TrimSuffix(command, " &"))
	case signalled.MatchString(command):
		m := signalled.FindStringSubmatch(command)
		n, _ := strconv.Atoi(m[2])
		g.kill(g.jobs[n-1], map[bool]syscall.Signal{true: syscall.SIGKILL, false: syscall.SIGTERM}[m[1] != ""])
	case statement.MatchString(command):
		return g.sql(statement.FindStringSubmatch(command)[1])
	case command == `curl -s "$STORE_URL"`:
		return g.fetch(g.vars["STORE_URL"])
	case command == "redis-cli HVALS orders":
		rows := g.cache.all()
		var b strings.Builder
		for i, key := range byKey(rows) {
			fmt.Fprintf(&b, "%d) %q\n", i+1, rows[key])
		}
		return b.String()
	default:
		ctx, cancel := context.WithTimeout(g.t.Context(), guideTakes)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-c", command)
		cmd.Dir, cmd.Env = g.dir, g.env
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			g.t.Fatalf("$ %s: %v", command, err)
		}
		return string(out)
	}
	return ""
}

// useTree lets the project use this Runnel, which the reader's takes from the network.
func (g *guide) useTree() {
	g.t.Helper()
	sums, err := os.ReadFile(filepath.Join(g.root, "go.sum"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.write("go.sum", string(sums))
	cmd := exec.CommandContext(g.t.Context(), "go", "mod", "edit", "-require", "github.com/runnel-dev/runnel@v0.0.0", "-replace", "github.com/runnel-dev/runnel="+g.root)
	cmd.Dir, cmd.Env = g.dir, g.env
	if out, err := cmd.CombinedOutput(); err != nil {
		g.t.Fatalf("go mod edit: %v\n%s", err, out)
	}
}

func (g *guide) start(command string) {
	g.t.Helper()
	j := &job{line: command, done: make(chan struct{})}
	j.cmd = exec.Command("bash", "-c", "exec "+command)
	j.cmd.Dir, j.cmd.Env, j.cmd.Stdout, j.cmd.Stderr = g.dir, g.env, &j.log, &j.log
	j.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := j.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	go func() { _ = j.cmd.Wait(); close(j.done) }() // how it ended does not matter: it was told to
	g.jobs = append(g.jobs, j)
}

func (g *guide) kill(j *job, s syscall.Signal) {
	g.t.Helper()
	_ = j.cmd.Process.Signal(s) // where it has ended already the page is wrong in what follows
	select {
	case <-j.done:
	case <-time.After(guideTakes):
		g.t.Errorf("%s does not end", j.line)
	}
}

func (g *guide) end() {
	for _, j := range g.jobs {
		_ = j.cmd.Process.Kill()
		<-j.done
		if log := j.log.String(); g.t.Failed() {
			g.t.Logf("%s:\n%s", j.line, log[max(0, len(log)-4000):])
		}
	}
}

func (g *guide) sql(text string) string {
	g.t.Helper()
	c, err := pgx.Connect(g.t.Context(), g.source)
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close(context.Background())
	tag, err := c.Exec(g.t.Context(), text)
	if err != nil {
		g.t.Fatalf("%s: %v", text, err)
	}
	return tag.String()
}

func (g *guide) fetch(url string) string {
	g.t.Helper()
	res, err := http.Get(url)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(b)
}

// check looks at what the page promises beyond what commands print.
func (g *guide) check(what string) {
	g.t.Helper()
	switch what {
	case "equal":
		g.equal()
	case "replaying":
		g.written = g.web.count()
	case "replayed": // each row was written once more
		if rows := len(g.web.all()); g.web.count() < g.written+rows {
			g.t.Errorf("%d rows were written %d times by a replay", rows, g.web.count()-g.written)
		}
	default:
		g.t.Fatalf("unknown check %q", what)
	}
}

// equal waits until both stores hold what the table holds, without drafts.
func (g *guide) equal() {
	g.t.Helper()
	c, err := pgx.Connect(g.t.Context(), g.source)
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close(context.Background())
	rows, err := c.Query(g.t.Context(), "SELECT id::text, json_build_object('id', id, 'status', status, 'total', total)::text FROM orders WHERE status <> 'draft'")
	if err != nil {
		g.t.Fatal(err)
	}
	want := map[string]any{}
	var id, row string
	if _, err := pgx.ForEachRow(rows, []any{&id, &row}, func() error {
		want[id], err = exactly(row)
		return err
	}); err != nil {
		g.t.Fatal(err)
	}
	if len(want) == 0 {
		g.t.Fatal("the table is empty")
	}
	for began := time.Now(); ; {
		diff := ""
		for _, v := range []*values{g.web, g.cache} {
			got := map[string]any{}
			for key, row := range v.all() {
				if got[key], err = exactly(row); err != nil {
					g.t.Fatal(err)
				}
			}
			diff += cmp.Diff(want, got)
		}
		if diff == "" {
			return
		}
		if time.Since(began) > guideTakes {
			g.t.Fatalf("a store differs from the table (-want +got):\n%s", diff[:min(len(diff), 4000)])
		}
		select {
		case <-g.t.Context().Done():
			g.t.FailNow()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// exactly decodes with every digit.
func exactly(text string) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	return v, d.Decode(&v)
}

// TestGuideShowsEveryStep: the page shows the way from an empty folder to a replay, not a part of it.
func TestGuideShowsEveryStep(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/write-a-function.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"$ runnel init ", "$ go test ", "$ runnel test ", "$ runnel deploy ", "$ kill -9 ", "$ runnel scale ", "$ runnel replay ", "$ runnel dry-run ", "--record ", "check: equal", "check: replayed"} {
		if !strings.Contains(string(page), step) {
			t.Errorf("the page does not show %q", step)
		}
	}
}
