package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Codes of JetStream's API errors, as nats-server's errors.json has them.
const (
	codeUnavailable       = 10008 // no leader at the moment
	codeNoMessage         = 10037
	codeNoStorage         = 10047
	codeNoStream          = 10059
	codeWrongLast         = 10071
	codeNotClustered      = 10074
	codeStoreFailed       = 10077
	codeStreamOffline     = 10118
	codeDuplicateInFlight = 10158
	codeWrongLastInFlight = 10164 // another write to the same subject is being proposed
	codeTooManyRequests   = 10167
	codeNoResources       = 10023
	codeNoPeers           = 10005

	codeBatchIncomplete      = 10176
	codeBatchDuplicate       = 10201
	codeBatchesInFlight      = 10210
	codeBatchesInFlightTotal = 10211
)

const (
	requestTimeout = 5 * time.Second
	// A server that does not lead a stream any more leaves a question unanswered, so reads ask again soon.
	// Only later they are patient, for large messages on slow networks.
	readTimeout  = 250 * time.Millisecond
	readMost     = 2 * time.Second
	readPatience = 8 * time.Second // longer than a cluster needs to find a leader
	readPatient  = time.Minute

	retryFirst = 20 * time.Millisecond
	retryMost  = 500 * time.Millisecond
)

// apiError is JetStream's own error.
type apiError = jetstream.APIError

func codeOf(err error) int {
	var api *apiError
	if errors.As(err, &api) {
		return int(api.ErrorCode)
	}
	return 0
}

// transient says whether the same request may succeed by itself in a moment: leaders change, servers restart.
func transient(err error) bool {
	switch codeOf(err) {
	case codeUnavailable, codeStreamOffline, codeTooManyRequests:
		return true
	}
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrConnectionReconnecting) ||
		errors.Is(err, nats.ErrNoServers) || errors.Is(err, jetstream.ErrNoStreamResponse)
}

// retry repeats do while its error is transient, until ctx ends. Each try has a timeout of its own. Only for requests that
// may be repeated.
func (c *Conn) retry(ctx context.Context, do func(context.Context) error) error {
	return c.retryIn(ctx, requestTimeout, requestTimeout, do)
}

// retryIn is retry with timeouts that grow.
func (c *Conn) retryIn(ctx context.Context, timeout, most time.Duration, do func(context.Context) error) error {
	wait, began := retryFirst, time.Now()
	for ; ; timeout = min(2*timeout, most) {
		if time.Since(began) > readPatience {
			most = readPatient
		}
		one, cancel := context.WithTimeout(ctx, timeout)
		err := do(one)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			if !transient(err) {
				return err
			}
			pause(ctx, wait)
			wait = min(2*wait, retryMost)
		}
		if ctx.Err() != nil {
			return c.gaveUp(ctx, err)
		}
	}
}

// retryLong is retry for requests of several messages, whose tries are bounded by ctx alone.
func (c *Conn) retryLong(ctx context.Context, do func(context.Context) error) error {
	wait := retryFirst
	for {
		err := do(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return c.gaveUp(ctx, err)
		}
		if !transient(err) && !errors.Is(err, jetstream.ErrObjectNotFound) {
			return err
		}
		pause(ctx, wait)
		wait = min(2*wait, retryMost)
	}
}

// retryFor is retry with a bound of its own; the last error is returned as it is.
func (c *Conn) retryFor(ctx context.Context, most time.Duration, do func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	var last error
	err := c.retry(bounded, func(ctx context.Context) error {
		last = do(ctx)
		return last
	})
	if err != nil && ctx.Err() == nil {
		return last
	}
	return err
}

// gaveUp says what was being waited for when the context ended.
func (c *Conn) gaveUp(ctx context.Context, last error) error {
	if t := c.trouble(); t != nil {
		last = t
	} else if d := c.denial(); d != nil {
		last = d
	}
	if last == nil || errors.Is(last, ctx.Err()) {
		// As where most servers of a cluster are away or cannot write: then it has no leader.
		return fmt.Errorf("JetStream does not answer: %w; if that lasts look at the log and the disk of each server", ctx.Err())
	}
	return fmt.Errorf("JetStream does not answer (%w): %w", last, ctx.Err())
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// ask sends one request to JetStream's API and decodes the answer.
func (c *Conn) ask(ctx context.Context, subject string, request any, response interface{ failure() error }) error {
	var body []byte
	if request != nil {
		b, err := json.Marshal(request)
		if err != nil {
			return err
		}
		body = b
	}
	m, err := c.NC.RequestWithContext(ctx, subject, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(m.Data, response); err != nil {
		return fmt.Errorf("answer to %s: %w", subject, err)
	}
	return response.failure()
}

// answer is part of every answer of the API.
type answer struct {
	Error *apiError `json:"error"`
}

func (a *answer) failure() error {
	if a.Error == nil {
		return nil
	}
	return a.Error
}

// streamInfo is what STREAM.INFO says of a stream.
type streamInfo struct {
	answer
	Config  jetstream.StreamConfig `json:"config"`
	Created time.Time              `json:"created"`
	State   struct {
		Messages   uint64            `json:"messages"`
		Bytes      uint64            `json:"bytes"`
		FirstSeq   uint64            `json:"first_seq"`
		LastSeq    uint64            `json:"last_seq"`
		NumDeleted int               `json:"num_deleted"`
		Subjects   map[string]uint64 `json:"subjects"`
	} `json:"state"`
	Total int `json:"total"` // of subjects, where they were asked for
}

// streamInfo asks the leader; ErrNoStream.
func (c *Conn) streamInfo(ctx context.Context, name string) (*streamInfo, error) {
	var info streamInfo
	err := c.retryIn(ctx, readTimeout, readMost, func(ctx context.Context) error {
		info = streamInfo{}
		return c.ask(ctx, "$JS.API.STREAM.INFO."+name, nil, &info)
	})
	if codeOf(err) == codeNoStream {
		err = ErrNoStream
	}
	if err != nil {
		return nil, err
	}
	return &info, nil
}

func (c *Conn) addStream(ctx context.Context, want jetstream.StreamConfig) (*streamInfo, error) {
	create := func(ctx context.Context) error {
		_, err := c.js.CreateStream(ctx, want)
		return err
	}
	err := c.retry(ctx, create)
	if codeOf(err) == codeNotClustered && c.wantReplicas == 0 {
		// The server has a cluster's name, but its JetStream stands alone.
		c.replicas.Store(1)
		want.Replicas = 1
		err = c.retry(ctx, create)
	}
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil, err
	}
	return c.streamInfo(ctx, want.Name)
}

func explainCreate(err error) error {
	switch codeOf(err) {
	case codeNoStorage, codeNoResources:
		return fmt.Errorf("%w; max_bytes is above what JetStream may use of the disk: lower it, or raise max_file_store of the server", err)
	case codeNoPeers:
		return fmt.Errorf("%w; not enough JetStream servers of the cluster are up: start them, or set replicas: 1", err)
	default:
		return err
	}
}
