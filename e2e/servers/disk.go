package servers

import (
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
)

// Disk is a file system in memory that can be filled and freed.
type Disk struct{ dir, size string }

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

// SmallDisk puts a disk of that size ("256m") at dir, until the test ends.
func SmallDisk(t TB, dir, size string) *Disk {
	t.Helper()
	if !SmallDisks() {
		if os.Getenv("CI") != "" {
			t.Fatal("no small disk: it needs the right to mount a tmpfs")
		}
		t.Skipf("no small disk: it needs the right to mount a tmpfs")
	}
	d := &Disk{dir, size}
	d.mount(t, "size="+size)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil { // lazily: a server may not have let go of it
			t.Logf("umount %s: %v: %s", dir, err, out)
		}
	})
	return d
}

func (d *Disk) mount(t TB, options string) {
	t.Helper()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", d.dir).CombinedOutput(); err != nil {
		t.Fatalf("mount a disk (%s) at %s: %v: %s", options, d.dir, err, out)
	}
}

// spare is what a full disk has left: a file or two, not a block of messages.
const spare = 64 << 10

// Fill leaves almost no room.
func (d *Disk) Fill(t TB) {
	t.Helper()
	// While a server writes, what is used grows between the look and the mount.
	for try := range 20 {
		var fs syscall.Statfs_t
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

// Free ends Fill.
func (d *Disk) Free(t TB) {
	t.Helper()
	d.mount(t, "remount,size="+d.size)
}
