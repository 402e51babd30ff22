package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/runtime/event"
)

// streamName is the source's stream.
var streamName = event.StreamName(SourceName)

// ask is a request to the API of the world's JetStream, past all proxies.
func (w *World) ask(ctx context.Context, subject string, request, answer any) error {
	a, err := w.access()
	if err != nil {
		return err
	}
	return servers.Ask(ctx, a.URL, subject, request, answer, nats.UserInfo(a.User, a.Password))
}

// unavailable is the code of JetStream's error while there is no leader.
const unavailable = 10008

// insist asks until there is an answer; a refusal is one.
func (w *World) insist(ctx context.Context, subject string, request, answer any) error {
	for {
		err := w.ask(ctx, subject, request, answer)
		var refused *servers.Refusal
		if err == nil || errors.As(err, &refused) && refused.Code != unavailable {
			return err
		}
		if e := pause(ctx, 100*time.Millisecond); e != nil {
			return err
		}
	}
}

// streamInfo is what the server says of the stream.
type streamInfo struct {
	Config map[string]any
	State  struct {
		FirstSeq uint64 `json:"first_seq"`
		LastSeq  uint64 `json:"last_seq"`
		Bytes    int64
	}
}

func (w *World) stream(ctx context.Context) (info streamInfo, err error) {
	return info, w.insist(ctx, "STREAM.INFO."+streamName, nil, &info)
}

// data is the folder of `runnel run`, with the store of the embedded JetStream in it.
func (w *World) data() string { return filepath.Join(w.Dir, "data") }

// keepStore makes a copy of what JetStream holds now; restore puts it back in place of what is there then, with all that was
// acknowledged since lost. With parts it puts back only these (servers.StreamFolder).
func (w *World) keepStore() (restore func(parts ...string) error, err error) {
	if err := os.RemoveAll(w.kept); err != nil { // a long run makes many
		return nil, fmt.Errorf("remove the copy before: %w", err)
	}
	if w.NATS != nil {
		copied := w.NATS.CopyStore(w)
		w.kept = copied
		return func(parts ...string) error { w.NATS.RestoreStore(w, copied, parts...); return nil }, nil
	}
	p, copied := w.Run[0], filepath.Join(w.Dir, fmt.Sprintf("copy-%d", time.Now().UnixNano()))
	w.kept = copied
	servers.Freeze(w, p.PID())
	defer servers.Thaw(w, p.PID())
	if err := os.CopyFS(copied, os.DirFS(w.data())); err != nil {
		return nil, fmt.Errorf("copy the data of runnel run: %w", err)
	}
	return func(parts ...string) error {
		p.down()
		defer p.release()
		if len(parts) > 0 {
			return servers.Replace(filepath.Join(w.data(), "jetstream"), filepath.Join(copied, "jetstream"), parts...)
		}
		return servers.Replace(w.data(), copied)
	}, nil
}

// flowing gives a time before which all that was committed is in the stream and in every target: what is lost from now on was
// committed later.
func (w *World) flowing(ctx context.Context) (time.Time, error) {
	since := time.Now().Add(-10 * time.Millisecond) // the source's commits have their time from before they are written
	_, err := w.recovered(ctx)
	return since, err
}

// down ends a process with SIGKILL, and keeps the supervisor from starting it again until release.
func (p *Process) down() {
	p.mu.Lock()
	p.held++
	p.mu.Unlock()
	p.Kill()
}

// passGap waits until an agent stops at a gap, and does what its message says.
func (w *World) passGap(ctx context.Context) error {
	if _, err := w.AwaitLog(ctx, w.Agents, "gap: "); err != nil {
		return err
	}
	if _, err := w.AwaitLog(ctx, w.Agents, "run once with --resnapshot", "--resnapshot, which"); err != nil {
		return fmt.Errorf("a gap without the way out: %w", err)
	}
	return w.Resnapshot(ctx)
}

// republished declares that targets may go back for a while, to the newest state in the end: what the stream lost is published again.
func (w *World) republished(from time.Time, why string) {
	w.Recorder.Allow(check.Allowance{Promise: check.Backwards, From: from, Until: time.Now(), Why: why})
}

// emptied declares that the stream no longer holds what it held.
func (w *World) emptied(why string) {
	for _, p := range []check.Promise{check.Lost, check.Undurable} {
		w.Recorder.Allow(check.Allowance{Promise: p, Until: time.Now(), Why: why})
	}
}

// runnel runs a command of an operator.
func (w *World) runnel(ctx context.Context, args ...string) error {
	args = append(args, "--data", w.data())
	if w.NATS != nil {
		args = append(args, "--nats", w.NATS.URL())
	}
	cmd := exec.CommandContext(ctx, w.binary, args...)
	cmd.Env = w.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("runnel %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// disks are what JetStream's stores are on; none where they cannot be filled.
func (w *World) disks() (all []*servers.Disk) {
	if w.dataDisk != nil {
		all = append(all, w.dataDisk)
	}
	if w.NATS != nil {
		for _, n := range w.NATS.Nodes {
			if n.Disk != nil {
				all = append(all, n.Disk)
			}
		}
	}
	return all
}

// diskSize is that of the disks under JetStream's stores: more than a run stores.
const diskSize = "1g"

// natsSettings puts stores on disks that can be filled, where that can be had.
func natsSettings() []string {
	if servers.SmallDisks() {
		return []string{"disk=" + diskSize}
	}
	return nil
}

// mountData does the same for `runnel run`.
func (w *World) mountData() error {
	if err := os.Mkdir(w.data(), 0o755); err != nil {
		return err
	}
	if servers.SmallDisks() {
		w.dataDisk = servers.SmallDisk(w, w.data(), diskSize)
	}
	return nil
}
