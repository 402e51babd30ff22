package mysql

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// TestTagged: a GTID with a tag, which no server of the tests writes, ends the log; a set that has some from before is no obstacle.
func TestTagged(t *testing.T) {
	t.Parallel()
	p, err := parseProgress(uuidSets, uuidA+":1-5:blue:1-3;@"+uuidA+":5,50,")
	if err != nil {
		t.Fatal(err)
	}
	from, err := p.start(set{})
	if want := uuidA + ":1-4:blue:1-3"; err != nil || from.String() != want {
		t.Errorf("got %s, %v, want %s", from, err, want)
	}
	s, err := New(Config{Name: "shop", URL: "mysql://localhost", Tables: []string{"shop.*"}})
	if err != nil {
		t.Fatal(err)
	}
	l := &Log{source: s, progress: p}
	l.dec.init(l, event.Position{}, from)
	err = l.dec.event(t.Context(), &replication.BinlogEvent{
		Header: &replication.EventHeader{EventType: replication.GTID_TAGGED_LOG_EVENT, LogPos: 200, EventSize: 100}, Event: &replication.GtidTaggedLogEvent{},
	})
	if gap := (*capture.GapError)(nil); !errors.As(err, &gap) || !strings.Contains(err.Error(), "gtid_next = 'AUTOMATIC'") || !strings.Contains(err.Error(), "--resnapshot") {
		t.Errorf("got %v, want a gap that says what to do", err)
	}
}

// TestEd25519: MariaDB's way to prove a password, whose plugin no server of the tests has: the answer to a server that asks for it is a signature that
// holds. (A password of 32 bytes is a private key of the standard library's.)
func TestEd25519(t *testing.T) {
	t.Parallel()
	const password = "0123456789abcdef0123456789abcdef"
	for _, given := range []string{password, strings.ToUpper(password)} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		done := make(chan error, 1)
		go func() {
			done <- serveEd25519(listener, ed25519.NewKeyFromSeed([]byte(password)).Public().(ed25519.PublicKey))
		}()
		s, err := New(Config{Name: "shop", Flavor: MariaDB, URL: "mariadb://cdc:" + given + "@" + listener.Addr().String(), Tables: []string{"shop.*"}})
		if err != nil {
			t.Fatal(err)
		}
		x, err := s.open(t.Context())
		if err == nil {
			x.close()
		}
		if right := given == password; right != (err == nil) {
			t.Errorf("right password %t: got %v", right, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// serveEd25519 is a server that asks one client for a signature.
func serveEd25519(listener net.Listener, key ed25519.PublicKey) error {
	c, err := listener.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	send := func(sequence byte, parts ...[]byte) {
		var body []byte
		for _, p := range parts {
			body = append(body, p...)
		}
		if err == nil {
			_, err = c.Write(append([]byte{byte(len(body)), byte(len(body) >> 8), 0, sequence}, body...))
		}
	}
	receive := func() []byte {
		head := make([]byte, 4)
		if err == nil {
			_, err = io.ReadFull(c, head)
		}
		head[3] = 0
		body := make([]byte, binary.LittleEndian.Uint32(head))
		if err == nil {
			_, err = io.ReadFull(c, body)
		}
		return body
	}
	nonce := make([]byte, ed25519.SeedSize)
	rand.Read(nonce)
	const capabilities = 1 | 0x200 | 0x2000 | 0x8000 | 0x80000 // long passwords, protocol 41, transactions, secure connections, plugins
	send(0, []byte("\x0a10.11.6-MariaDB\x00"), []byte{7, 0, 0, 0}, []byte("12345678\x00"), binary.LittleEndian.AppendUint16(nil, capabilities&0xffff), []byte{45, 2, 0},
		binary.LittleEndian.AppendUint16(nil, capabilities>>16), []byte{21}, make([]byte, 10), []byte("123456789012\x00mysql_native_password\x00"))
	receive()
	send(2, []byte("\xfeclient_ed25519\x00"), nonce)
	signature := receive()
	if err != nil {
		return fmt.Errorf("speak with the client: %w", err)
	}
	if ed25519.Verify(key, nonce, signature) {
		send(4, []byte{0, 0, 0, 2, 0, 0, 0})
	} else {
		send(4, []byte("\xff\x15\x04#28000Access denied for user 'cdc'"))
	}
	_, _ = io.Copy(io.Discard, c) // until the client goes
	return err
}
