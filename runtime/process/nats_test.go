package process

import (
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// The embedded JetStream takes the first port that nobody uses when it begins to listen, and an address that was asked for or none.
func TestFreePort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	port := taken.Addr().(*net.TCPAddr).Port
	dir := t.TempDir()
	var tried []string
	start := func(address string) (*stream.Server, error) {
		tried = append(tried, address)
		return stream.Start(stream.Embedded{Dir: dir, Listen: address})
	}
	if _, err := AtFree(address, 0, 0, start); !errors.Is(err, syscall.EADDRINUSE) || len(tried) != 1 {
		t.Errorf("%v after %v", err, tried)
	}
	tried = nil
	s, err := AtFree("", port, port, start)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if url := s.ClientURL(); len(tried) != 2 || tried[0] != address || url == "" || url == "nats://127.0.0.1:"+strconv.Itoa(port) {
		t.Errorf("it listens at %q after %v", url, tried)
	}
}
