package nats

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/functions"
)

// Codes of JetStream's errors (nats-server, errors.json).
const (
	messageTooLarge jetstream.ErrorCode = 10054
	anotherStream   jetstream.ErrorCode = 10060
	streamSealed    jetstream.ErrorCode = 10109
)

// judge classifies why a message was not stored.
func (s *Sink) judge(subject string, err error) error {
	switch code, err := codeOf(err), fmt.Errorf("nats: publish on %s: %w", subject, err); {
	case tooLarge(err):
		return functions.Permanent(err)
	case code == anotherStream:
		return functions.Halt(fmt.Errorf("%w; the target names stream %s: correct the stream, or the subject", err, s.cfg.Stream))
	case code == streamSealed:
		return functions.Halt(fmt.Errorf("%w; a sealed stream takes nothing any more: name another subject", err))
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w; is there a stream that takes it?", err)
	default:
		return err
	}
}

func codeOf(err error) jetstream.ErrorCode {
	var told *jetstream.APIError
	if errors.As(err, &told) {
		return told.ErrorCode
	}
	return 0
}

// tooLarge says that a message can never be stored, and that this says nothing of others.
func tooLarge(err error) bool {
	return errors.Is(err, nats.ErrMaxPayload) || codeOf(err) == messageTooLarge
}

// denial is what the account may not do.
func (s *Sink) denial() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.denied == "" {
		return nil
	}
	denied := s.denied
	s.denied = ""
	return functions.Halt(fmt.Errorf("nats: %s; give the account this permission", denied))
}

// refused is why no connection was made.
func refused(err error) error {
	err = fmt.Errorf("nats: connect: %w", err)
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAccountAuthExpired) {
		return functions.Halt(fmt.Errorf("%w; check user, password, token, creds_file or nkey_file of the target", err))
	}
	return err
}
