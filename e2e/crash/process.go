package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// restartAfter is how long the supervisor waits before it starts a process again, as systemd's RestartSec; shorter, for more faults.
const restartAfter = 300 * time.Millisecond

// stopWithin is how long an orderly end may take: systemd's TimeoutStopSec.
const stopWithin = 60 * time.Second

// Life is what one start of a process has beside its usual command line.
type Life struct {
	Args       []string
	Failpoints string // RUNNEL_FAILPOINTS
	Until      string // what its log must say: a life that something else ends before is begun again
}

// Process is a runnel process with its supervisor: whenever it ends without having been told to, it is started again.
type Process struct {
	Name string // run, agent-1, worker-2
	Role string // run, agent, worker

	binary, log string
	args, env   []string
	restarts    bool // the supervisor works

	owner sync.Mutex // of the fault that decides about its lives

	mu    sync.Mutex
	cmd   *exec.Cmd
	done  chan struct{} // of the life under way
	state *os.ProcessState
	this  Life // the one under way
	lives int
	birth int64 // size of the log when the life began
	held  int
	kills int // by SIGKILL, from outside and by failpoints
	fault error
}

// Start begins a life. It is not to be called while one is under way.
func (p *Process) Start(l Life) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.begin(l)
}

func (p *Process) begin(l Life) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	if p.birth, err = log.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	fmt.Fprintf(log, "---- life %d %s %s\n", p.lives+1, strings.Join(l.Args, " "), l.Failpoints)
	cmd := exec.Command(p.binary, append(append([]string(nil), p.args...), l.Args...)...)
	cmd.Env = append(append([]string(nil), p.env...), "RUNNEL_FAILPOINTS="+l.Failpoints)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := spawn(cmd); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done, p.state, p.this = cmd, done, nil, l
	p.lives++
	go p.supervise(cmd, done)
	return nil
}

// supervise waits for the end of a life, and begins the next one unless the process is held.
func (p *Process) supervise(cmd *exec.Cmd, done chan struct{}) {
	_ = cmd.Wait() // the state tells
	p.mu.Lock()
	p.state = cmd.ProcessState
	status, _ := p.state.Sys().(syscall.WaitStatus)
	if status.Signaled() && status.Signal() == syscall.SIGKILL {
		p.kills++
	}
	if code := status.ExitStatus(); code == 2 || code == 3 {
		p.fault = fmt.Errorf("%s ended with code %d, which starting again does not cure: see %s", p.Name, code, p.log)
	}
	close(done)
	p.mu.Unlock()
	time.Sleep(restartAfter)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.restarts && p.held == 0 && p.fault == nil && p.done == done { // else somebody was faster
		if err := p.begin(p.next()); err != nil {
			p.fault = err
		}
	}
}

// next is the life after one that has ended.
func (p *Process) next() Life {
	if p.this.Until != "" && !p.logged(p.birth, p.this.Until) {
		return p.this
	}
	return Life{}
}

// killedAtFailpoint is in the log of a process that a failpoint has killed.
const killedAtFailpoint = ": kill at hit "

// Kill sends SIGKILL and waits for the end; the supervisor starts the process again.
func (p *Process) Kill() {
	cmd, done := p.life()
	_ = cmd.Process.Kill() // an error means that it has ended
	<-done
}

// Stop freezes the process with SIGSTOP, Continue lets it go on. One that has just ended is frozen in its next life.
func (p *Process) Stop() error {
	for end := time.Now().Add(10 * restartAfter); ; time.Sleep(restartAfter / 10) {
		err := p.signal(syscall.SIGSTOP)
		if !errors.Is(err, os.ErrProcessDone) || time.Now().After(end) {
			return err
		}
	}
}

// Continue ends a Stop.
func (p *Process) Continue() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s os.Signal) error {
	cmd, _ := p.life()
	if err := cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%s to %s: %w", s, p.Name, err)
	}
	return nil
}

// Wait blocks until the life under way ends, and says how.
func (p *Process) Wait(ctx context.Context) (syscall.WaitStatus, error) {
	cmd, done := p.life()
	select {
	case <-done:
		status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
		return status, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s still runs: %w", p.Name, ctx.Err())
	}
}

// Restart stops the process in an orderly way and begins another life.
func (p *Process) Restart(ctx context.Context, l Life) error {
	p.hold()
	defer p.unhold()
	if err := p.Fault(); err != nil {
		return err
	}
	return p.Start(l)
}

// Replace kills the process and begins another life.
func (p *Process) Replace(l Life) error {
	p.mu.Lock()
	p.held++
	p.mu.Unlock()
	defer p.unhold()
	p.Kill()
	return p.Start(l)
}

// hold ends the process in an orderly way and keeps the supervisor from starting it again.
func (p *Process) hold() {
	p.mu.Lock()
	p.held++
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	_ = cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	select {
	case <-done:
	case <-time.After(stopWithin):
		_ = cmd.Process.Signal(syscall.SIGQUIT) // its goroutines go to the log
		<-done
		p.mu.Lock()
		defer p.mu.Unlock()
		p.fault = errors.Join(p.fault, fmt.Errorf("%s did not end within %v of SIGTERM: see %s", p.Name, stopWithin, p.log))
	}
}

func (p *Process) unhold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held--
}

// release starts a held process again.
func (p *Process) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held--; p.held > 0 || !p.restarts || p.fault != nil {
		return
	}
	if err := p.begin(Life{}); err != nil {
		p.fault = err
	}
}

func (p *Process) life() (*exec.Cmd, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd, p.done
}

// PID of the life under way.
func (p *Process) PID() int {
	cmd, _ := p.life()
	return cmd.Process.Pid
}

// Kills counts the ends by SIGKILL.
func (p *Process) Kills() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kills
}

// Fault is what no process may do, such as not ending when told to.
func (p *Process) Fault() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

func (p *Process) logSize() int64 {
	info, err := os.Stat(p.log)
	if err != nil {
		return 0
	}
	return info.Size()
}

// logFrom is what the process wrote to its log from a place on.
func (p *Process) logFrom(from int64) []byte {
	f, err := os.Open(p.log)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, from, 1<<40))
	if err != nil {
		return nil
	}
	return b
}

func (p *Process) logged(from int64, text string) bool {
	return bytes.Contains(p.logFrom(from), []byte(text))
}

// captures says whether the life under way holds the source's log.
func (p *Process) captures() bool {
	p.mu.Lock()
	birth := p.birth
	p.mu.Unlock()
	log := p.logFrom(birth)
	return bytes.LastIndex(log, []byte("capture started")) > bytes.LastIndex(log, []byte("standby: another agent"))
}

// end stops the process for good.
func (p *Process) end() {
	p.mu.Lock()
	p.restarts = false
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Kill()
	<-done
}

// spawn starts a command on a thread that lives as long as this process: Pdeathsig, which ends Runnel when the harness is killed,
// is sent when the thread ends that started it (prctl(2)).
func spawn(cmd *exec.Cmd) error {
	started := make(chan error)
	spawns() <- func() { started <- cmd.Start() }
	return <-started
}

var spawns = sync.OnceValue(func() chan<- func() {
	c := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range c {
			f()
		}
	}()
	return c
})
