package stream

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/minio/highwayhash"
)

const (
	indexMagic   = 11
	indexVersion = 4
	recordHeader = 22 // length, sequence, time, length of the subject
	hasHeaders   = 1 << 31
	checksumSize = 8
	removed      = 1<<63 | 1<<62 // bits of sequences that stand for messages that were taken away
)

// blockIndex is what index.db says.
type blockIndex struct {
	messages, bytes uint64
	firstSeq        uint64
	firstTime       int64
	lastSeq         uint64
	lastTime        int64
	subjects        []subjectIndex
	bySubject       map[string]int
	blocks          []blockState
	last            uint32 // index of the last block
	checksum        [checksumSize]byte
}

type subjectIndex struct {
	name               string
	total, first, last uint64 // messages, blocks
}

type blockState struct {
	index, bytes, firstSeq uint64
	firstTime              int64 // after that of the stream
	lastSeq                uint64
	lastTime               int64
}

// add takes in the message after the last one.
func (x *blockIndex) add(block uint64, r blockRecord) error {
	if x.messages == 0 {
		x.firstSeq, x.firstTime, x.lastSeq = r.sequence, r.time, r.sequence-1
	}
	if r.sequence&removed != 0 || r.sequence != x.lastSeq+1 || len(r.subject) == 0 {
		return errUnknown
	}
	size := uint64(r.size)
	x.messages, x.bytes, x.lastSeq, x.lastTime, x.checksum = x.messages+1, x.bytes+size, r.sequence, r.time, r.checksum
	if len(x.blocks) == 0 || x.blocks[len(x.blocks)-1].index != block {
		x.last = uint32(block)
		x.blocks = append(x.blocks, blockState{index: block, firstSeq: r.sequence, firstTime: r.time - x.firstTime})
	}
	b := &x.blocks[len(x.blocks)-1]
	b.bytes, b.lastSeq, b.lastTime = b.bytes+size, r.sequence, r.time-x.firstTime
	i, ok := x.bySubject[string(r.subject)]
	if !ok {
		i = len(x.subjects)
		x.bySubject[string(r.subject)] = i
		x.subjects = append(x.subjects, subjectIndex{name: string(r.subject), first: block})
	}
	s := &x.subjects[i]
	s.total, s.last = s.total+1, block
	return nil
}

// indexReader reads the numbers of an index; one that fails makes all later ones fail.
type indexReader struct {
	data []byte
	bad  bool
}

func (r *indexReader) unsigned() uint64 {
	v, n := binary.Uvarint(r.data)
	r.skip(n)
	return v
}

func (r *indexReader) signed() int64 {
	v, n := binary.Varint(r.data)
	r.skip(n)
	return v
}

func (r *indexReader) skip(n int) {
	if n <= 0 || n > len(r.data) {
		r.bad, r.data = true, nil
		return
	}
	r.data = r.data[n:]
}

func indexChecksum(stream string, data []byte) []byte {
	key := sha256.Sum256([]byte(stream))
	h, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return nil
	}
	_, _ = h.Write(data)
	return h.Sum(nil)
}

func decodeIndex(stream string, data []byte) (*blockIndex, error) {
	end := len(data) - checksumSize
	if end < 2 || data[0] != indexMagic || data[1] != indexVersion || !bytes.Equal(indexChecksum(stream, data[:end]), data[end:]) {
		return nil, errUnknown
	}
	r := &indexReader{data: data[2:end]}
	x := &blockIndex{bySubject: map[string]int{}}
	x.messages, x.bytes, x.firstSeq, x.firstTime, x.lastSeq, x.lastTime = r.unsigned(), r.unsigned(), r.unsigned(), r.signed(), r.unsigned(), r.signed()
	for range min(r.unsigned(), uint64(len(r.data))) {
		n := int(min(r.unsigned(), uint64(len(r.data))))
		s := subjectIndex{name: string(r.data[:n])}
		if r.skip(n); r.bad {
			return nil, errUnknown
		}
		s.total, s.first, s.last = r.unsigned(), r.unsigned(), r.unsigned()
		x.bySubject[s.name] = len(x.subjects)
		x.subjects = append(x.subjects, s)
	}
	for range min(r.unsigned(), uint64(len(r.data))) {
		b := blockState{index: r.unsigned(), bytes: r.unsigned(), firstSeq: r.unsigned(), firstTime: r.signed(), lastSeq: r.unsigned(), lastTime: r.signed()}
		if deleted, timed, scheduled := r.unsigned(), r.unsigned(), r.unsigned(); deleted+timed+scheduled > 0 {
			return nil, errUnknown
		}
		x.blocks = append(x.blocks, b)
	}
	x.last = uint32(r.unsigned())
	if r.bad || len(r.data) != checksumSize || len(x.blocks) == 0 || x.messages == 0 {
		return nil, errUnknown
	}
	copy(x.checksum[:], r.data)
	if b := x.blocks[len(x.blocks)-1]; b.index != uint64(x.last) || b.lastSeq != x.lastSeq {
		return nil, errUnknown
	}
	return x, nil
}

func (x *blockIndex) encode(stream string) []byte {
	b := []byte{indexMagic, indexVersion}
	b = binary.AppendUvarint(b, x.messages)
	b = binary.AppendUvarint(b, x.bytes)
	b = binary.AppendUvarint(b, x.firstSeq)
	b = binary.AppendVarint(b, x.firstTime)
	b = binary.AppendUvarint(b, x.lastSeq)
	b = binary.AppendVarint(b, x.lastTime)
	b = binary.AppendUvarint(b, uint64(len(x.subjects)))
	for _, s := range x.subjects {
		b = binary.AppendUvarint(b, uint64(len(s.name)))
		b = append(b, s.name...)
		for _, n := range []uint64{s.total, s.first, s.last} {
			b = binary.AppendUvarint(b, n)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(x.blocks)))
	for _, k := range x.blocks {
		b = binary.AppendUvarint(b, k.index)
		b = binary.AppendUvarint(b, k.bytes)
		b = binary.AppendUvarint(b, k.firstSeq)
		b = binary.AppendVarint(b, k.firstTime)
		b = binary.AppendUvarint(b, k.lastSeq)
		b = binary.AppendVarint(b, k.lastTime)
		b = append(b, 0, 0, 0) // deleted, with a time to live, scheduled
	}
	b = binary.AppendUvarint(b, uint64(x.last))
	b = append(b, x.checksum[:]...)
	return append(b, indexChecksum(stream, b)...)
}
