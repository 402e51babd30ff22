package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// CopyStore is a copy of all nodes' stores as of one moment, as a disk's snapshot would be: the nodes stand still meanwhile. It is
// gone with the test.
func (c *Cluster) CopyStore(t TB) (copied string) {
	t.Helper()
	copied = tempDir(t, "natscopy")
	for _, n := range c.Nodes {
		if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatalf("freeze %s: %v", n.Name, err)
		}
	}
	defer func() {
		for _, n := range c.Nodes {
			if err := n.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatalf("go on with %s: %v", n.Name, err)
			}
		}
	}()
	for _, n := range c.Nodes {
		standing(t, n.cmd.Process.Pid)
		if err := os.CopyFS(filepath.Join(copied, n.Name), os.DirFS(n.Store)); err != nil {
			t.Fatalf("copy the store of %s: %v", n.Name, err)
		}
	}
	return copied
}

// standing waits until every thread of a process that was told to stop has stopped.
func standing(t TB, pid int) {
	t.Helper()
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

// RestoreStore kills all nodes and starts them again on a copy that CopyStore made: what was stored since is lost.
func (c *Cluster) RestoreStore(t TB, copied string) {
	t.Helper()
	for _, n := range c.Nodes {
		n.Kill()
	}
	for _, n := range c.Nodes {
		n.Empty(t)
		if err := os.CopyFS(n.Store, os.DirFS(filepath.Join(copied, n.Name))); err != nil {
			t.Fatalf("restore the store of %s: %v", n.Name, err)
		}
	}
	for _, n := range c.Nodes {
		n.Restart(t)
	}
	c.Wait(t)
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

// FillDisk leaves almost no room on the node's disk, FreeDisk all of it again.
func (n *Node) FillDisk(t TB) { t.Helper(); n.disk.fill(t) }

// FreeDisk ends FillDisk.
func (n *Node) FreeDisk(t TB) { t.Helper(); n.disk.free(t) }

// disk is a file system in memory that can be made smaller and larger.
type disk struct{ dir, size string }

// SmallDisks says whether disks can be made that are small enough to fill: that needs the right to mount.
var SmallDisks = sync.OnceValue(func() bool {
	dir, err := os.MkdirTemp("", "disk")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	if exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir).Run() != nil {
		return false
	}
	return exec.Command("umount", dir).Run() == nil
})

// mount puts a disk of that size ("256m") at dir, until the test ends.
func mount(t TB, dir, size string) disk {
	t.Helper()
	if !SmallDisks() {
		if os.Getenv("CI") != "" {
			t.Fatal("no small disk: it needs the right to mount a tmpfs")
		}
		t.Skipf("no small disk: it needs the right to mount a tmpfs")
	}
	d := disk{dir, size}
	d.mount(t, "size="+size)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil { // lazily: a server may not have let go of it
			t.Logf("umount %s: %v: %s", dir, err, out)
		}
	})
	return d
}

func (d disk) mount(t TB, options string) {
	t.Helper()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", d.dir).CombinedOutput(); err != nil {
		t.Fatalf("mount a disk (%s) at %s: %v: %s", options, d.dir, err, out)
	}
}

// spare is what a full disk has left: a file or two, not a block of messages.
const spare = 64 << 10

func (d disk) fill(t TB) {
	t.Helper()
	var fs syscall.Statfs_t
	// While a server writes, what is used grows between the look and the mount.
	for try := range 20 {
		if err := syscall.Statfs(d.dir, &fs); err != nil {
			t.Fatal(err)
		}
		used := (fs.Blocks - fs.Bfree) * uint64(fs.Bsize)
		out, err := exec.Command("mount", "-o", "remount,size="+strconv.FormatUint(used+spare, 10), d.dir).CombinedOutput()
		if err == nil {
			return
		}
		if try == 19 {
			t.Fatalf("fill the disk at %s: %v: %s", d.dir, err, out)
		}
	}
}

func (d disk) free(t TB) {
	t.Helper()
	d.mount(t, "remount,size="+d.size)
}
