package stream

import (
	"reflect"
	"sync"
	"time"
	"unsafe"

	"github.com/nats-io/nats-server/v2/server"
)

// The embedded server reads and writes a stream in blocks, and keeps each in memory as a whole for a while after its last use. There is
// no option for either figure: its own ones are 8 MB and 10 s.
const (
	// keepWritten is how long: what was written within that time lies in memory, hundreds of megabytes in a first load. Readers
	// that follow closely find what they need all the same; those behind read from the disk's cache.
	keepWritten = 100 * time.Millisecond

	// blockSize is how much: behind a target that stalls, every partition of every function reads in another block.
	blockSize = 1 << 20
)

// forgetSooner sets keepWritten and blockSize on all streams that the server has at the moment; it holds for the blocks that they
// begin from now on. The fields are the server's private ones, taken under its own locks: where a version has others, false is returned
// and only memory is lost. A test holds the version in go.mod to it.
func forgetSooner(s *server.Server) (done bool) {
	account := reflect.ValueOf(s.GlobalAccount())
	js, unlock, ok := private(account, "js")
	if !ok {
		return false
	}
	unlock()
	streams, unlock, ok := private(js, "streams")
	if !ok || streams.Kind() != reflect.Map {
		return false
	}
	defer unlock()
	for _, name := range streams.MapKeys() {
		store, release, ok := private(streams.MapIndex(name), "store")
		if !ok || store.Kind() != reflect.Interface {
			return false
		}
		release()
		config, release, ok := private(store.Elem(), "fcfg")
		if !ok {
			continue // in memory
		}
		expire := config.FieldByName("CacheExpire")
		size := config.FieldByName("BlockSize")
		ok = expire.IsValid() && expire.Type() == reflect.TypeFor[time.Duration]() && size.IsValid() && size.Kind() == reflect.Uint64
		if ok {
			expire.SetInt(int64(keepWritten))
			size.SetUint(min(size.Uint(), blockSize))
		}
		release()
		if !ok {
			return false
		}
	}
	return true
}

// private is a field of a struct with a lock named mu, which is held until unlock.
func private(pointer reflect.Value, name string) (field reflect.Value, unlock func(), ok bool) {
	if pointer.Kind() != reflect.Pointer || pointer.IsNil() || pointer.Elem().Kind() != reflect.Struct {
		return field, nil, false
	}
	mu, v := pointer.Elem().FieldByName("mu"), pointer.Elem().FieldByName(name)
	if !mu.IsValid() || !v.IsValid() {
		return field, nil, false
	}
	lock, ok := reflect.NewAt(mu.Type(), unsafe.Pointer(mu.UnsafeAddr())).Interface().(sync.Locker)
	if !ok {
		return field, nil, false
	}
	lock.Lock()
	return reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem(), lock.Unlock, true
}
