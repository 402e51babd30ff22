package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/e2e/servers"
)

// Exit codes, as `runnel --help` documents them.
const (
	exitRuntime       = 1
	exitConfiguration = 3
)

// attempt is a runnel command that must end by itself.
type attempt struct {
	args []string // before --data
	env  []string
	data string // default: a new folder
}

// refused runs it. It must end with the code and exactly one error, which is returned.
func (a attempt) refused(t *testing.T, code int) string {
	t.Helper()
	if a.data == "" {
		a.data = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append(a.args, "--data", a.data)...)
	cmd.Env = append(os.Environ(), a.env...)
	all, _ := cmd.CombinedOutput() // the code says more
	text, entries := separate(string(all))
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%v: got exit code %d, want %d\n%s", a.args, got, code, all)
	}
	for _, e := range entries {
		if e.Level == "ERROR" {
			t.Errorf("%v: an error beside the one that ends it: %s", a.args, e.line)
		}
	}
	if n := strings.Count("\n"+text, "\nrunnel: "); n != 1 {
		t.Errorf("%v: got %d errors, want 1:\n%s", a.args, n, text)
	}
	return text
}

// entry is one line of the log.
type entry struct {
	Level, Msg, Source, Function, Reason, Error string
	line                                        string
}

// separate takes the log's entries out of the output.
func separate(output string) (text string, entries []entry) {
	for line := range strings.Lines(output) {
		e := entry{line: line}
		if json.Unmarshal([]byte(line), &e) == nil {
			entries = append(entries, e)
		} else {
			text += line
		}
	}
	return text, entries
}

// failures are the log's errors of a running runnel.
func (p *pipeline) failures() (lines []string) {
	_, entries := separate(p.log.String())
	for _, e := range entries {
		if e.Level == "ERROR" {
			lines = append(lines, e.line)
		}
	}
	return lines
}

// failedOnce: the log holds exactly one error, and that says all of it.
func (p *pipeline) failedOnce(says ...string) {
	p.t.Helper()
	lines := p.failures()
	if len(lines) != 1 {
		p.t.Errorf("got %d errors, want 1:\n%s", len(lines), strings.Join(lines, ""))
	}
	contains(p.t, strings.Join(lines, ""), says...)
}

func contains(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("got\n%s\nwant in it: %s", strings.TrimSpace(got), w)
		}
	}
}

// What is wrong in the files is told with its place before anything is started or stored.
func TestSpecificationRefused(t *testing.T) {
	t.Parallel()
	const source, function = `kind: source
name: shop
postgres: {url: "${SHOP_URL}"}
tables: [public.orders]
`, `---
kind: function
name: copy
from: shop.public.orders
to: {postgres: {url: "${COPY_URL}"}}
`
	both := []string{"SHOP_URL=postgres://127.0.0.1:1/a", "COPY_URL=postgres://127.0.0.1:1/b"}
	for name, c := range map[string]struct {
		yaml string
		env  []string
		want []string
	}{
		"UnknownField":     {strings.Replace(source, "tables:", "tabels:", 1), both, []string{`FILE:4:1: unknown field "tabels"`, `did you mean "tables"?`}},
		"UnknownDeepField": {source + strings.Replace(function, "{url:", "{uri:", 1), both, []string{`FILE:9:17: unknown field "uri"`, `did you mean "url"?`}},
		"DuplicateName":    {source + function + function, both, []string{`FILE:12:7: duplicate name: function "copy" stands in`, "FILE:7"}},
		"OneTarget": {source + function + strings.Replace(function, "copy", "twice", 1), both,
			[]string{"FILE:14:5: ", `function "twice" and function "copy" would both write postgres "public.orders" at the same URL`, "give one of them another name"}},
		"MissingVariable": {source + function, both[:1], []string{"function copy: environment variable COPY_URL is not set: export it"}},
		"LiteralPassword": {strings.Replace(source, "${SHOP_URL}", "postgres://me:hidden@127.0.0.1:1/a", 1), both, []string{"FILE:3:17: ", "holds a password", "write ${POSTGRES_URL}"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "shop.yaml")
			if err := os.WriteFile(file, []byte(c.yaml), 0o644); err != nil {
				t.Fatal(err)
			}
			data := filepath.Join(t.TempDir(), "data")
			got := attempt{args: []string{"run", file}, env: c.env, data: data}.refused(t, exitConfiguration)
			for _, w := range c.want {
				contains(t, got, strings.ReplaceAll(w, "FILE", file))
			}
			if strings.Contains(got, "hidden") {
				t.Error("the password is printed")
			}
			if _, err := os.Stat(data); err == nil {
				t.Error("the data folder was made")
			}
		})
	}
}

// A source that does not let itself be captured ends the first start, with one error that says what to do.
func TestSourceRefused(t *testing.T) {
	t.Parallel()
	source, replica := servers.Postgres(t, 17), servers.Postgres(t, 16, "wal_level=replica")
	p := &pipeline{t: t, source: source}
	p.exec(source.PostgresURL(), `create table orders (id int primary key)`, `create table "Order items" (id int primary key)`,
		`create role weak login password 'Sesam-1'`, `create role reader login replication password 'Sesam-2'`, `grant select on orders to reader`)
	p.exec(replica.PostgresURL(), `create table orders (id int primary key)`)
	hba := source.Dir + "/data/pg_hba.conf"
	rules, err := os.ReadFile(hba)
	if err == nil {
		err = os.WriteFile(hba, append([]byte("host all weak,reader 127.0.0.1/32 scram-sha-256\n"), rules...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.exec(source.PostgresURL(), `select pg_reload_conf()`)
	as := func(user, password string) string {
		return fmt.Sprintf("postgres://%s:%s@%s/postgres?sslmode=disable", user, password, source.Addr)
	}

	const spec = `kind: source
name: shop
postgres: {url: "${SHOP_URL}"}
tables: [TABLE]
---
kind: function
name: copy
from: shop.public.*
to: {postgres: {url: "${COPY_URL}"}}
`
	for name, c := range map[string]struct {
		url, table string
		want       []string
	}{
		"WrongPassword": {as("weak", "Sesam-9"), "public.orders", []string{`password authentication failed`, `check user "weak" and its password in the source's url`}},
		"WalLevel":      {replica.PostgresURL(), "public.orders", []string{"wal_level is replica: ALTER SYSTEM SET wal_level = logical; then restart the server"}},
		"NoReplication": {as("weak", "Sesam-1"), "public.orders", []string{`ALTER ROLE "weak" REPLICATION;`, "GRANT rds_replication"}},
		"NoPublication": {as("reader", "Sesam-2"), "public.orders", []string{"user reader may not make or change publication runnel_shop", "run this as the tables' owner or a superuser:",
			`CREATE PUBLICATION "runnel_shop" FOR TABLE`}},
		"NoTable":  {source.PostgresURL(), "public.order", []string{"table public.order does not exist: did you mean public.orders?"}},
		"NoServer": {"postgres://weak:Sesam-1@127.0.0.1:1/postgres?sslmode=disable", "public.orders", []string{"connect to the source", "refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "shop.yaml")
			if err := os.WriteFile(file, []byte(strings.Replace(spec, "TABLE", c.table, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
			got := attempt{args: []string{"run", file}, env: []string{"SHOP_URL=" + c.url, "COPY_URL=" + source.PostgresURL()}}.refused(t, exitRuntime)
			contains(t, got, "runnel: source shop: ")
			contains(t, got, c.want...)
			if strings.Contains(got, "Sesam") {
				t.Error("the password is printed")
			}
		})
	}
	var left int
	if err := p.connect(source.PostgresURL()).QueryRow(t.Context(), `select (select count(*) from pg_replication_slots) + (select count(*) from pg_publication)`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d slots and publications are left behind, %v", left, err)
	}
}
