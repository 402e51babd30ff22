package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/process"
)

// exitRuntime ends a command that could not do what it was told.
const exitRuntime = process.ExitRuntime

// usageError is a command line that makes no sense.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() + "; see --help" }
func (e usageError) Unwrap() error { return e.err }
func (e usageError) Usage() bool   { return true }

// atLeastOne, exactlyOne and nothing check arguments; what names them.
func atLeastOne(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError{fmt.Errorf("expected %s", what)}
		}
		return nil
	}
}

func exactlyOne(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError{fmt.Errorf("expected %s, found %d arguments", what, len(args))}
		}
		return nil
	}
}

func nothing(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		if cmd.HasSubCommands() {
			return usageError{fmt.Errorf("unknown command %q%s", args[0], didYouMean(cmd, args[0]))}
		}
		return usageError{fmt.Errorf("expected no arguments, found %q", args[0])}
	}
	return nil
}

func didYouMean(cmd *cobra.Command, name string) string {
	if s := cmd.SuggestionsFor(name); len(s) > 0 {
		return fmt.Sprintf("; did you mean %q?", s[0])
	}
	return ""
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

// exitCode is as --help documents it.
func exitCode(err error) int {
	var status statusError
	if errors.As(err, &status) {
		return status.code
	}
	return process.ExitCode(err)
}
