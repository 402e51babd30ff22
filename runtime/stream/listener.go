package stream

import (
	"net"
	"reflect"

	"github.com/nats-io/nats-server/v2/server"
)

// handListener gives the server a listener that is open already: by itself it begins to listen only once the store is open, which
// takes seconds in which another process may take the port. Who connects meanwhile waits. There is no option for it, and the field is
// private: where a version has another one false is returned.
func handListener(s *server.Server, l net.Listener) (done bool) {
	field, unlock, ok := private(reflect.ValueOf(s), "listener")
	if !ok {
		return false
	}
	defer unlock()
	if field.Type() != reflect.TypeFor[net.Listener]() {
		return false
	}
	field.Set(reflect.ValueOf(l))
	return true
}
