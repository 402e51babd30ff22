package stream

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/minio/highwayhash"
)

// The server writes the index of a stream's blocks every two minutes and when it stops. After a kill it finds the index stale, throws
// it away and reads all blocks: seconds for millions of messages. catchUp reads only what was appended since, and brings the index up
// to date, so that the server takes it. Whatever it does not know for sure leaves everything as it is, to the server: other versions
// of the format, anything but messages appended one after the other, a checksum that is wrong.
//
// It does so only where the process ended and the machine did not: see sameBoot.
// The format: _writeFullState, recoverFullState and rebuildStateFromBufLocked in nats-server's filestore.go.

// indexFile is the index of the blocks beside it.
const indexFile = "index.db"

var errUnknown = errors.New("not known for sure")

// catchUp brings the indexes of all streams with changes up to date.
func catchUp(store string) {
	folders, err := filepath.Glob(filepath.Join(store, "jetstream", "*", "streams", "CDC_*", "msgs"))
	if err != nil || !sameBoot(store, folders) {
		return
	}
	for _, dir := range folders {
		name := filepath.Join(dir, indexFile)
		if info, err := os.Stat(name); err == nil && info.ModTime().Equal(distrusted) {
			continue
		}
		old, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		next, err := caughtUp(filepath.Base(filepath.Dir(dir)), dir, old)
		if err != nil || bytes.Equal(next, old) {
			continue
		}
		if err := os.WriteFile(name+".new", next, 0o640); err == nil {
			err = os.Rename(name+".new", name)
			if err == nil {
				continue
			}
		}
		_ = os.Remove(name + ".new")
	}
}

// distrusted is the time of indexes that were written before the machine was started.
var distrusted = time.Unix(1, 0)

// sameBoot says whether the machine runs since the store was last opened. If not, it may have lost what was written last, in any
// block: the server reads all, and the indexes of that time are marked, since they may not fit what it repairs.
func sameBoot(store string, folders []string) bool {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return false
	}
	name := filepath.Join(store, "boot")
	if last, err := os.ReadFile(name); err == nil && bytes.Equal(last, boot) {
		return true
	}
	for _, dir := range folders {
		if err := os.Chtimes(filepath.Join(dir, indexFile), distrusted, distrusted); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	_ = os.WriteFile(name, boot, 0o640) // else the next start sees to it
	return false
}

// caughtUp is the index with what was appended since it was written: everything, if there is none.
func caughtUp(stream, dir string, old []byte) ([]byte, error) {
	x, known := &blockIndex{bySubject: map[string]int{}}, true
	if old != nil {
		var err error
		if x, err = decodeIndex(stream, old); err != nil {
			return nil, err
		}
		known = false // the index ends within its last block
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.blk"))
	if err != nil {
		return nil, err
	}
	var there []uint64
	for _, f := range files {
		var n uint64
		if _, err := fmt.Sscanf(filepath.Base(f), "%d.blk", &n); err != nil || fmt.Sprintf("%d.blk", n) != filepath.Base(f) {
			return nil, errUnknown
		}
		there = append(there, n)
	}
	slices.Sort(there)
	for i, b := range x.blocks {
		if i >= len(there) || there[i] != b.index {
			return nil, errUnknown
		}
		info, err := os.Stat(blockFile(dir, b.index))
		if err != nil {
			return nil, err
		}
		// Of the first one messages may be taken away, and later its file shrinks; the last one grows; the others stay as they are.
		size := uint64(info.Size())
		if size < b.bytes || size > b.bytes && i > 0 && i < len(x.blocks)-1 {
			return nil, errUnknown
		}
	}
	for i, n := range there[max(len(x.blocks)-1, 0):] {
		if i > 0 && n != uint64(x.last)+1 {
			return nil, errUnknown
		}
		data, err := os.ReadFile(blockFile(dir, n))
		if err != nil {
			return nil, err
		}
		if known, err = x.read(stream, n, data, known); err != nil {
			return nil, err
		}
	}
	if x.messages == 0 {
		return nil, errUnknown
	}
	return x.encode(stream), nil
}

func blockFile(dir string, n uint64) string { return filepath.Join(dir, fmt.Sprintf("%d.blk", n)) }

// read takes in the messages of a block that come after the index; known says whether that was met before.
func (x *blockIndex) read(stream string, n uint64, data []byte, known bool) (bool, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, n))
	h, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return known, err
	}
	if len(data) == 0 {
		return known, errUnknown
	}
	for len(data) > 0 {
		r, err := nextRecord(h, data)
		if err != nil {
			return known, err
		}
		data = data[r.size:]
		if known {
			if err := x.add(n, r); err != nil {
				return known, err
			}
		}
		known = known || r.checksum == x.checksum
	}
	if !known {
		return known, errUnknown
	}
	return known, nil
}

// blockRecord is a message in a block.
type blockRecord struct {
	size     int
	sequence uint64
	time     int64
	subject  []byte
	checksum [checksumSize]byte
}

func nextRecord(h hash.Hash, data []byte) (r blockRecord, err error) {
	if len(data) < recordHeader+checksumSize {
		return r, errUnknown
	}
	length, subject := binary.LittleEndian.Uint32(data), int(binary.LittleEndian.Uint16(data[20:]))
	body := recordHeader + subject
	if length&hasHeaders != 0 {
		body += 4
	}
	r.size = int(length &^ hasHeaders)
	if r.size > len(data) || body > r.size-checksumSize {
		return r, errUnknown
	}
	r.sequence, r.time = binary.LittleEndian.Uint64(data[4:]), int64(binary.LittleEndian.Uint64(data[12:]))
	r.subject = data[recordHeader : recordHeader+subject]
	h.Reset()
	_, _ = h.Write(data[4:20])
	_, _ = h.Write(r.subject)
	_, _ = h.Write(data[body : r.size-checksumSize])
	copy(r.checksum[:], data[r.size-checksumSize:])
	if !bytes.Equal(h.Sum(nil), r.checksum[:]) {
		return r, errUnknown
	}
	return r, nil
}
