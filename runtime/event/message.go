package event

import (
	"bytes"
	"strconv"
	"strings"
)

// Message is one stored message.
type Message struct {
	Subject  string
	Sequence uint64
	ID       string // Nats-Msg-Id
	Writer   Writer // Runnel-Epoch
	Group    Group  // Runnel-Group
	For      string // Runnel-For: the only function that takes it; empty for all
	TimeMS   int64  // when JetStream stored it
	Large    string // Runnel-Large: where the payload lies that is not in Data
	Data     []byte
}

// Headers of a message.
const (
	HeaderID       = "Nats-Msg-Id"
	HeaderEpoch    = "Runnel-Epoch"
	HeaderGroup    = "Runnel-Group"
	HeaderFor      = "Runnel-For"
	HeaderInstance = "Runnel-Instance" // of fence markers: who wrote it
	HeaderLarge    = "Runnel-Large"    // name of the payload's object in RUNNEL_large; the message's own data is empty
)

// MaxLines is the most lines a message may hold.
const MaxLines = 1024

// Lines counts the events of the message.
func (m *Message) Lines() int {
	n := bytes.Count(m.Data, newline)
	if len(m.Data) > 0 && m.Data[len(m.Data)-1] != '\n' {
		n++
	}
	return n
}

// Line is the event of that version as it is stored, without its line break; ok is false where the message has none.
func (m *Message) Line(v Version) (line []byte, ok bool) {
	rest := m.Data
	for n := 1; len(rest) > 0; n++ {
		line, rest, _ = bytes.Cut(rest, newline)
		if m.Writer.Version(m.Sequence, n) == v {
			return line, true
		}
	}
	return nil, false
}

// Last is the version of the message's last line, or of the marker itself.
func (m *Message) Last() Version { return m.Writer.Version(m.Sequence, m.Lines()) }

// Marker says whether the message carries a place and no events: a fence's marker or a moved position.
func (m *Message) Marker() bool {
	return strings.HasSuffix(m.Subject, fenceSuffix) || strings.HasSuffix(m.Subject, markSuffix)
}

var newline = []byte{'\n'}

// MessageID identifies the message that begins with the change at that position: `<source>:<position's ID>`.
func MessageID(source string, p Position) string {
	dst := make([]byte, 0, len(source)+64)
	dst = append(dst, source...)
	dst = append(dst, ':')
	return string(p.AppendID(dst))
}

// SnapshotID identifies the n-th message of a snapshot's chunk: `<source>:s<snapshot>.<epoch>:<table>:<chunk>:<n>`. The epoch
// is part of it because a chunk that is read again may hold newer rows.
func SnapshotID(source, snapshot string, epoch uint32, t Table, chunk string, n int) string {
	dst := make([]byte, 0, 128)
	dst = append(dst, source...)
	dst = append(dst, ":s"...)
	dst = append(dst, snapshot...)
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, uint64(epoch), 10)
	dst = append(dst, ':')
	dst = appendToken(dst, t.Schema)
	dst = append(dst, '.')
	dst = appendToken(dst, t.Name)
	dst = append(dst, ':')
	dst = append(dst, chunk...)
	dst = append(dst, ':')
	return string(strconv.AppendInt(dst, int64(n), 10))
}
