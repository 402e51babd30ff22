package stream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// JetStream's file store never writes again once a write has failed, until its server starts anew. So the embedded server is
// watched: after a failed write its trouble is told to whoever waits, and when the disk takes data again it is started anew
// on the same store. Connections find it by themselves, and chains resend from memory what was not stored.

const (
	probeFirst = 250 * time.Millisecond
	probeMost  = 5 * time.Second

	// What must be free before the server is started again.
	roomNeeded = 4 << 20
	probeSize  = 1 << 20
)

// supervise waits for failed writes until Stop.
func (s *Server) supervise() {
	for {
		select {
		case <-s.stop:
			return
		case text := <-s.log.failed:
			if !s.recover(text) {
				return
			}
		}
	}
}

// recover waits until the disk takes data, and starts the server again; false means that Stop was called.
func (s *Server) recover(text string) bool {
	reason := errors.New(text)
	if outOfSpace(text) {
		reason = fmt.Errorf("%w: make room in %s, everything goes on by itself then", ErrDiskFull, s.config.Dir)
	}
	s.setTrouble(reason)
	s.log.to.Error("the embedded JetStream cannot write; it is started again when the disk takes data", "error", reason)
	for wait := probeFirst; ; wait = min(2*wait, probeMost) {
		select {
		case <-s.stop:
			return false
		case <-time.After(wait):
		}
		if err := probe(s.config.Dir); err != nil {
			if errors.Is(err, ErrDiskFull) {
				s.setTrouble(fmt.Errorf("%w: make room in %s, everything goes on by itself then", ErrDiskFull, s.config.Dir))
			}
			continue
		}
		if err := s.restart(); err != nil {
			s.setTrouble(err)
			s.log.to.Error("the embedded JetStream does not start again; it is tried on", "error", err)
			continue
		}
		s.setTrouble(nil)
		s.log.to.Info("the embedded JetStream writes again")
		return true
	}
}

// restart replaces the server by a new one on the same store.
func (s *Server) restart() error {
	s.mu.Lock()
	old := s.running
	s.running = nil
	s.mu.Unlock()
	if old != nil {
		old.Shutdown()
		old.WaitForShutdown()
	}
	srv, err := s.launch()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.running = srv
	s.mu.Unlock()
	return nil
}

func (s *Server) setTrouble(err error) {
	s.mu.Lock()
	s.trouble = err
	s.mu.Unlock()
}

// probe says whether the folder takes data, quotas included.
func probe(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	if fs.Bavail*uint64(fs.Bsize) < roomNeeded {
		return ErrDiskFull
	}
	name := filepath.Join(dir, "probe")
	defer func() { _ = os.Remove(name) }()
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeSize))
	err = errors.Join(err, f.Sync(), f.Close())
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return ErrDiskFull
	}
	return err
}
