package http

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/functions"
)

// mostAnswer is how much of an answer is read.
const mostAnswer = 4 << 20

// outcome is what the body of a 2xx may say: {"failed":[{"event":3,"status":422,"error":"no such customer"}]}.
type outcome struct {
	Failed []struct {
		Event  int    `json:"event"`  // of the request, from 0
		Status int    `json:"status"` // means the same as that of an answer; default 500
		Error  string `json:"error"`
	} `json:"failed"`
}

// results reads which events of a request are not done.
func (s *Sink) results(answer *http.Response, items []functions.Item, failed *functions.Failures) error {
	if !strings.Contains(answer.Header.Get("Content-Type"), "json") {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, mostAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("http: read the answer: %w", err)
	case len(body) > mostAnswer:
		return functions.Halt(fmt.Errorf("http: the answer of %s has more than %d MiB: let it name failed events only", s.where(), mostAnswer>>20))
	case len(body) == 0:
		return nil
	}
	var said outcome
	if json.Unmarshal(body, &said) != nil {
		return nil // JSON of its own
	}
	for _, f := range said.Failed {
		if f.Event < 0 || f.Event >= len(items) {
			return functions.Halt(fmt.Errorf("http: the answer of %s says that event %d failed, of a request with %d: correct the endpoint, events count from 0", s.where(), f.Event, len(items)))
		}
		switch {
		case f.Status == 0:
			f.Status = http.StatusInternalServerError
		case f.Status < 300:
			continue
		}
		failed.Add(items[f.Event], s.judge(f.Status, answer.Header, []byte(f.Error), "one event"))
	}
	return nil
}

// judge classifies a status.
func (s *Sink) judge(status int, h http.Header, said []byte, what string) error {
	err := fmt.Errorf("http: %s answers %d %s to %s", s.where(), status, http.StatusText(status), what)
	if text := strings.Join(strings.Fields(strings.ToValidUTF8(string(said), "")), " "); text != "" {
		err = fmt.Errorf("%w: %.500s", err, text)
	}
	switch {
	case status == http.StatusBadRequest, status == http.StatusUnprocessableEntity, status == http.StatusRequestEntityTooLarge:
		return functions.Permanent(err)
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		if d, ok := retryAfter(h.Get("Retry-After"), s.cfg.Now()); ok {
			return functions.RetryAfter(d, err)
		}
		return err
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooEarly, status >= 500:
		return err
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return functions.Halt(fmt.Errorf("%w; check token, user, password, secret and headers of the target", err))
	case status == http.StatusNotFound, status == http.StatusGone, status == http.StatusMethodNotAllowed:
		return functions.Halt(fmt.Errorf("%w; check the url of the target, which must take POST", err))
	case status >= 300 && status < 400:
		return functions.Halt(fmt.Errorf("%w; redirections are not followed: give the target the url %s", err, h.Get("Location")))
	}
	return functions.Halt(err)
}

// where is the endpoint without what may be a secret, as paths of webhooks are.
func (s *Sink) where() string { return s.url.Scheme + "://" + s.url.Host }

// mostPause is how long an endpoint may have its events kept back.
const mostPause = time.Hour

// retryAfter reads seconds or a date (RFC 9110, 10.2.3).
func retryAfter(v string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.ParseUint(v, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, mostPause), true
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(0, at.Sub(now)), mostPause), true
	}
	return 0, false
}

// unreachable is an error of the connection, without the URL, which may hold a secret. A certificate that is refused does not pass by
// itself.
func unreachable(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return functions.Halt(fmt.Errorf("http: %w; name the certificates that it is to be checked against in ca_file", err))
	}
	return fmt.Errorf("http: %w", err)
}
