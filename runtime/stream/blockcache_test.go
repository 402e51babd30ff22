package stream

import (
	"reflect"
	"testing"
	"time"
)

// The server's private fields are what forgetSooner takes them for.
func TestForgetSooner(t *testing.T) {
	t.Parallel()
	s, err := Start(Embedded{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	conn, err := s.Connect(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := Create(t.Context(), conn, "shop", Settings{}); err != nil {
		t.Fatal(err)
	}
	if !forgetSooner(s.running) {
		t.Fatal("this version of the server has other fields: see how it keeps its blocks in memory")
	}
	js, unlock, _ := private(reflect.ValueOf(s.running.GlobalAccount()), "js")
	unlock()
	streams, unlock, _ := private(js, "streams")
	defer unlock()
	if streams.Len() < 2 {
		t.Errorf("got %d streams", streams.Len())
	}
	for _, name := range streams.MapKeys() {
		store, release, _ := private(streams.MapIndex(name), "store")
		release()
		config, release, _ := private(store.Elem(), "fcfg")
		if got := time.Duration(config.FieldByName("CacheExpire").Int()); got != keepWritten {
			t.Errorf("%s: got %v, want %v", name, got, keepWritten)
		}
		if got := config.FieldByName("BlockSize").Uint(); got > blockSize {
			t.Errorf("%s: got blocks of %d bytes, want %d", name, got, blockSize)
		}
		release()
	}
}
