package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// process is one `runnel run` on a specification.
type process struct {
	dir string
	cmd *exec.Cmd
}

// log is all that the process printed.
func (p *process) log() string {
	b, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// loaded waits until the process has read all tables.
func (p *process) loaded(ctx context.Context) error {
	return until(ctx, func() (bool, error) { return strings.Contains(p.log(), "load finished"), nil })
}

func (b *bench) start(name, spec string) (*process, error) {
	p := &process{dir: filepath.Join(b.dir, name)}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(p.dir, name+".yaml")
	if err := os.WriteFile(file, []byte(spec), 0o644); err != nil {
		return nil, err
	}
	p.cmd = exec.Command(b.binary, "run", file, "--data", filepath.Join(p.dir, "data"))
	if b.source != nil {
		p.cmd.Env = append(os.Environ(), "BENCH_SOURCE="+b.source.PostgresURL(), "BENCH_TARGET="+b.target.PostgresURL())
	}
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	b.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p, nil
}

func (p *process) stop() error {
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		return fmt.Errorf("runnel ended early:\n%s", p.log())
	}
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("runnel: %w:\n%s", err, p.log())
	}
	return nil
}

// stream opens the stream of the running process.
func (p *process) stream(ctx context.Context) (*stream.Stream, func(), error) {
	b, err := os.ReadFile(filepath.Join(p.dir, "data", "nats.json"))
	if err != nil {
		return nil, nil, err
	}
	var a struct{ URL, User, Password string }
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, nil, err
	}
	c, err := stream.Connect(ctx, stream.Config{URL: a.URL, User: a.User, Password: a.Password, Name: "bench"})
	if err != nil {
		return nil, nil, err
	}
	s, err := stream.Open(ctx, c, "bench")
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return s, c.Close, nil
}

// until polls until f is true.
func until(ctx context.Context, f func() (bool, error)) error {
	for {
		ok, err := f()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func execute(ctx context.Context, c *pgx.Conn, sql ...string) error {
	for _, s := range sql {
		if _, err := c.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}
