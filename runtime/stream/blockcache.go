package stream

import (
	"reflect"
	"sync"
	"time"
	"unsafe"

	"github.com/nats-io/nats-server/v2/server"
)

// keepWritten is how long the embedded server keeps a block of 8 MB in memory after it was last written or read.
//
// The server's own figure is 10 s, and there is no option for it: what was written within that time lies in memory as a whole,
// hundreds of megabytes in a first load. Readers that follow closely find what they need all the same; those behind read from
// the disk's cache.
const keepWritten = 300 * time.Millisecond

// forgetSooner sets keepWritten on all streams that the server has at the moment; it holds for the blocks that they begin from
// now on. The fields are the server's private ones, taken under its own locks: where a version has others, false is returned
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
		if ok = expire.IsValid() && expire.Type() == reflect.TypeFor[time.Duration](); ok {
			expire.SetInt(int64(keepWritten))
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
