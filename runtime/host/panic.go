package host

import (
	"fmt"
	"path"
	"runtime"
	"strings"
)

// panicError is a panic of a handler. What made it is never given to the handler again as it is: a batch is halved until one event
// is left, and that one is a dead letter whose reason shows where it happened.
type panicError struct {
	value any
	stack []string // where it happened, and from where that was called, up to the handler's method
}

func (p *panicError) Error() string {
	return fmt.Sprintf("the handler panicked: %v; at %s", p.value, strings.Join(p.stack, ", called by "))
}

func (p *panicError) Permanent() bool { return true }

// caught calls a handler. A panic is an error.
func caught(call func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &panicError{value, stack()}
		}
	}()
	return call()
}

// mostFrames of a stack are shown: a dead letter's reason is short.
const mostFrames = 12

const here = "github.com/runnel-dev/runnel/runtime/host."

// stack is that of the panic that was just recovered, down to this package.
func stack() []string {
	counters := make([]uintptr, 64)
	frames := runtime.CallersFrames(counters[:runtime.Callers(4, counters)]) // behind Callers, stack, the deferred function and gopanic
	var lines []string
	for more := true; more && len(lines) < mostFrames; {
		var f runtime.Frame
		f, more = frames.Next()
		switch {
		case strings.HasPrefix(f.Function, here) && len(lines) > 0:
			return lines
		case strings.HasPrefix(f.Function, "runtime."): // which noticed it
		default:
			lines = append(lines, fmt.Sprintf("%s (%s:%d)", f.Function[strings.LastIndexByte(f.Function, '/')+1:], path.Base(f.File), f.Line))
		}
	}
	return lines
}
