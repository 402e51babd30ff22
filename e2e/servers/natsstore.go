package servers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// CopyStore is a copy of all nodes' stores as of one moment, as a disk's snapshot would be: the nodes stand still meanwhile. It is
// gone with the test.
func (c *Cluster) CopyStore(t TB) (copied string) {
	t.Helper()
	copied = tempDir(t, "natscopy")
	for _, n := range c.Nodes {
		Freeze(t, n.cmd.Process.Pid)
		defer Thaw(t, n.cmd.Process.Pid)
	}
	for _, n := range c.Nodes {
		if err := os.CopyFS(filepath.Join(copied, n.Name), os.DirFS(n.Store)); err != nil {
			t.Fatalf("copy the store of %s: %v", n.Name, err)
		}
	}
	return copied
}

// PID is the number of the server's process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Freeze stops a process with SIGSTOP, and returns when each of its threads stands still.
func Freeze(t TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatalf("freeze process %d: %v", pid, err)
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		stopped := len(threads) > 0
		for _, name := range threads {
			b, err := os.ReadFile(name)
			if _, state, _ := strings.Cut(string(b), ") "); err == nil && !strings.HasPrefix(state, "T") {
				stopped = false
			}
		}
		if stopped {
			return
		}
	}
	t.Fatalf("process %d does not stand still", pid)
}

// Thaw lets a frozen process go on.
func Thaw(t TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatalf("thaw process %d: %v", pid, err)
	}
}

// RestoreStore kills all nodes and starts them again on a copy that CopyStore made: what was stored since is lost. With parts, folders
// below the store such as StreamFolder gives, only these are restored; the nodes of a cluster would not agree on one then.
func (c *Cluster) RestoreStore(t TB, copied string, parts ...string) {
	t.Helper()
	for _, n := range c.Nodes {
		n.Kill()
	}
	for _, n := range c.Nodes {
		if err := Replace(n.Store, filepath.Join(copied, n.Name), parts...); err != nil {
			t.Fatalf("restore the store of %s: %v", n.Name, err)
		}
	}
	for _, n := range c.Nodes {
		n.Restart(t)
	}
	c.Wait(t)
}

// StreamFolder is where a store keeps a stream, of the account that there is without accounts.
func StreamFolder(stream string) string { return filepath.Join("jetstream", "$G", "streams", stream) }

// Replace puts a copy in place of what a folder holds, or of its parts.
func Replace(folder, copied string, parts ...string) error {
	if len(parts) == 0 {
		parts = []string{"."}
	}
	for _, part := range parts {
		to := filepath.Join(folder, part)
		entries, err := os.ReadDir(to) // the folder itself may be where a disk is
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(to, e.Name())); err != nil {
				return err
			}
		}
		if err := os.CopyFS(to, os.DirFS(filepath.Join(copied, part))); err != nil {
			return err
		}
	}
	return nil
}

// Empty removes everything from the store of a node that does not run, as a new disk would.
func (n *Node) Empty(t TB) {
	t.Helper()
	entries, err := os.ReadDir(n.Store)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(n.Store, e.Name())); err != nil {
			t.Fatalf("empty the store of %s: %v", n.Name, err)
		}
	}
}
