package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// flow is a nats-server with what is deployed there.
type flow struct {
	b    *bench
	name string
	dir  string
	nats *servers.Node
	env  []string
}

// flow deploys a specification on a nats-server of its own.
func (b *bench) flow(ctx context.Context, name, spec string, env ...string) (*flow, error) {
	f := &flow{b: b, name: name, dir: filepath.Join(b.dir, name), nats: servers.NATS(b, 1).Nodes[0]}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return nil, err
	}
	f.env = append(os.Environ(), append(env, "RUNNEL_NATS_URL="+f.nats.URL(), "RUNNEL_NATS_SYNC_INTERVAL=100ms", "RUNNEL_HTTP=none", "RUNNEL_SETTLE=1ms")...)
	return f, f.deploy(ctx, spec)
}

func (f *flow) deploy(ctx context.Context, spec string) error {
	file := filepath.Join(f.dir, "spec.yaml")
	if err := os.WriteFile(file, []byte(spec), 0o644); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, f.b.binary, "deploy", file)
	c.Env = f.env
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("deploy: %w: %s", err, out)
	}
	return nil
}

// process is a child.
type process struct {
	cmd *exec.Cmd
	out string
}

// start runs a child; it is killed at the end of the measurement.
func (f *flow) start(bin string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(bin, args...), out: filepath.Join(f.dir, args[0]+".log")}
	p.cmd.Env = f.env
	log, err := os.OpenFile(p.out, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	f.b.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	return p, nil
}

func (f *flow) agent() (*process, error) { return f.start(f.b.binary, "capture", "bench") }

func (f *flow) worker() (*process, error) { return f.start(f.b.binary, "worker") }

// prepared runs an agent until it has read its tables, which are empty, so that the next one finds a slot that stands before the
// backlog. A load counts only once its stream has been there for a minute, except for a build with failpoints, which is told so.
func (f *flow) prepared(ctx context.Context) error {
	p, err := f.start(f.b.binary+"-failpoints", "capture", "bench")
	if err != nil {
		return err
	}
	if err := p.says(ctx, "load finished"); err != nil {
		return err
	}
	return p.stop()
}

func (p *process) log() string {
	b, err := os.ReadFile(p.out)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// says waits until the process has printed something.
func (p *process) says(ctx context.Context, what string) error {
	return until(ctx, func() (bool, error) {
		if strings.Contains(p.log(), what) {
			return true, nil
		}
		if _, err := readStat(p.cmd.Process.Pid); err != nil {
			return false, fmt.Errorf("%s ended:\n%s", p.cmd.Args[:2], p.log())
		}
		return false, nil
	})
}

func (p *process) stop() error {
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		return fmt.Errorf("it ended early:\n%s", p.log())
	}
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("runnel: %w:\n%s", err, p.log())
	}
	return nil
}

// stream opens the source's stream, until the measurement ends.
func (f *flow) stream(ctx context.Context) (*stream.Stream, error) {
	c, err := stream.Connect(ctx, stream.Config{URL: f.nats.URL(), Name: "bench"})
	if err != nil {
		return nil, err
	}
	f.b.Cleanup(c.Close)
	return stream.Open(ctx, c, "bench")
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
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func execute(ctx context.Context, c *pgx.Conn, sql ...string) error {
	for _, s := range sql {
		if _, err := c.Exec(ctx, s); err != nil {
			return fmt.Errorf("%.200s: %w", s, err)
		}
	}
	return nil
}

// connect is a session until the measurement ends.
func (b *bench) connect(ctx context.Context, s *servers.Server) (*pgx.Conn, error) {
	c, err := pgx.Connect(ctx, s.PostgresURL())
	if err == nil {
		b.Cleanup(func() { _ = c.Close(context.Background()) })
	}
	return c, err
}
