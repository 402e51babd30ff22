package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// stat is what the kernel says of a process: CPU, of its dead children too, and its parent.
type stat struct {
	cpu    time.Duration
	parent int
}

const tick = 10 * time.Millisecond // USER_HZ is 100

func readStat(pid int) (s stat, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 15 || fields[0] == "Z" {
		return s, fmt.Errorf("process %d has ended", pid)
	}
	for _, i := range []int{11, 12, 13, 14} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return s, err
		}
		s.cpu += time.Duration(n) * tick
	}
	s.parent, err = strconv.Atoi(fields[1])
	return s, err
}

// family is the CPU of a process and its children.
func family(pid int) (all time.Duration) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if child, err := strconv.Atoi(e.Name()); err == nil {
			if s, err := readStat(child); err == nil && (child == pid || s.parent == pid) {
				all += s.cpu
			}
		}
	}
	return all
}

// peak is the largest resident size of a process so far, in MB.
func peak(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kb float64
	_, err = fmt.Sscan(rest, &kb)
	return kb / 1024, err
}

// watched follows a process that may end at any moment: the CPU that it had when it was seen last.
type watched struct {
	mu   sync.Mutex
	last time.Duration
	stop context.CancelFunc
	done chan struct{}
}

// watch asks for the process until there is one.
func watch(ctx context.Context, find func() int) *watched {
	ctx, stop := context.WithCancel(ctx)
	w := &watched{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		pid := 0
		for ctx.Err() == nil {
			if pid == 0 {
				pid = find()
			}
			if s, err := readStat(pid); pid != 0 && err == nil {
				w.mu.Lock()
				w.last = s.cpu
				w.mu.Unlock()
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return w
}

func (w *watched) cpu() time.Duration {
	w.stop()
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}
