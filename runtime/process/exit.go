package process

import (
	"errors"
	"fmt"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// Exit codes.
const (
	ExitRuntime       = 1
	ExitUsage         = 2
	ExitConfiguration = 3
	ExitFenced        = 4
)

// ExitCode says how a process ends that ends with an error. An error with Usage() or Configuration() is the operator's.
func ExitCode(err error) int {
	var usage interface{ Usage() bool }
	var configuration interface{ Configuration() bool }
	switch {
	case err == nil:
		return 0
	case errors.Is(err, stream.ErrFenced):
		return ExitFenced
	case errors.As(err, &usage) && usage.Usage():
		return ExitUsage
	case errors.As(err, &configuration) && configuration.Configuration():
		return ExitConfiguration
	}
	return ExitRuntime
}

// usageError is a command line, or its environment, that makes no sense.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() + "; see --help" }
func (e usageError) Unwrap() error { return e.err }
func (e usageError) Usage() bool   { return true }

// configurationError is something else that the operator must change.
type configurationError struct{ err error }

func (e configurationError) Error() string       { return e.err.Error() }
func (e configurationError) Unwrap() error       { return e.err }
func (e configurationError) Configuration() bool { return true }

func misconfigured(format string, a ...any) error {
	return configurationError{fmt.Errorf(format, a...)}
}

// UsageError is one.
func UsageError(err error) error { return usageError{err} }
