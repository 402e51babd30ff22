package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// Exit codes, as --help documents them.
const (
	exitRuntime       = 1
	exitUsage         = 2
	exitConfiguration = 3
	exitFenced        = 4
)

// usageError is a command line that makes no sense.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() + "; see runnel --help" }
func (e usageError) Unwrap() error { return e.err }

// usageArgs marks what cobra says about arguments as an error of usage.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// configurationError is something that the operator wrote and must change.
type configurationError struct{ err error }

func (e configurationError) Error() string       { return e.err.Error() }
func (e configurationError) Unwrap() error       { return e.err }
func (e configurationError) Configuration() bool { return true }

func misconfigured(format string, a ...any) error {
	return configurationError{fmt.Errorf(format, a...)}
}

// statusError ends the command with a code after everything was printed already.
type statusError struct {
	code int
	text string
}

func (e statusError) Error() string { return e.text }

func exitCode(err error) int {
	var usage usageError
	var configuration interface{ Configuration() bool }
	var status statusError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return status.code
	case errors.Is(err, stream.ErrFenced):
		return exitFenced
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &configuration):
		return exitConfiguration
	}
	return exitRuntime
}
