package simulation_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/e2e/simulation"
)

// player plays schedules in a process of its own, one at a time: so one that ends the process, or stands still since something
// in it waits for what the runtime cannot see through, is a violation too.
type player struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *json.Decoder
	output *bytes.Buffer // of a process that died
}

func newPlayer(t *testing.T) *player {
	p := &player{t: t}
	t.Cleanup(p.end)
	return p
}

func (p *player) start() error {
	p.output = &bytes.Buffer{}
	p.cmd = exec.Command(os.Args[0], "-test.run=^TestSimulation$", "-child")
	p.cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=160MiB") // with one processor goroutines run nearly in the order of their seed
	p.cmd.Stderr = p.output
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	p.out = json.NewDecoder(out)
	return p.cmd.Start()
}

// longest that a schedule may take on a busy machine.
const longest = 3 * time.Minute

func (p *player) play(o simulation.Options) *simulation.Result {
	if p.cmd == nil {
		if err := p.start(); err != nil {
			p.t.Fatal(err)
		}
	}
	stuck := time.AfterFunc(longest, func() { _ = p.cmd.Process.Signal(syscall.SIGQUIT) })
	defer stuck.Stop()
	r := &simulation.Result{}
	err := json.NewEncoder(p.in).Encode(o)
	if err == nil {
		err = p.out.Decode(r)
	}
	if err == nil {
		return r
	}
	ended := p.cmd.Wait()
	p.cmd = nil
	text := p.output.String()
	return &simulation.Result{
		Seed: o.Seed, Long: o.Long, Violation: fmt.Sprintf("process: it ended (%v)", errors.Join(ended, err)), History: text[:min(len(text), 20_000)], Happened: []string{},
	}
}

func (p *player) end() {
	if p.cmd == nil {
		return
	}
	_ = p.in.Close()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("a process that plays schedules: %v\n%s", err, p.output)
	}
}
