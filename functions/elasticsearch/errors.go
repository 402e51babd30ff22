package elasticsearch

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/elastic/go-elasticsearch/v8/esapi"

	"github.com/runnel-dev/runnel/functions"
)

// privileges that the sink needs on its indexes.
const privileges = "create_index, manage, read, write"

// refused turns an answer that is no success into an error of the right class.
func refused(res *esapi.Response, action string) error {
	if res.StatusCode < 300 {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
	var told struct {
		Error struct {
			Type   string `json:"type"`
			Reason string `json:"reason"`
		} `json:"error"`
	}
	reason := string(body)
	if json.Unmarshal(body, &told) == nil && told.Error.Reason != "" {
		reason = told.Error.Type + ": " + told.Error.Reason
	}
	err := fmt.Errorf("elasticsearch: %s: status %d: %s", action, res.StatusCode, reason)
	switch {
	case res.StatusCode == http.StatusForbidden && told.Error.Type == blocked:
		return readOnly(err)
	case res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusServiceUnavailable:
		if s, e := strconv.Atoi(res.Header.Get("Retry-After")); e == nil {
			return functions.RetryAfter(time.Duration(s)*time.Second, err)
		}
		return err
	case res.StatusCode == http.StatusUnauthorized:
		return functions.Halt(fmt.Errorf("%w; check user, password or api_key of the target", err))
	case res.StatusCode == http.StatusForbidden:
		return functions.Halt(fmt.Errorf("%w; grant the privileges %s on the index", err, privileges))
	case res.StatusCode >= 500, res.StatusCode == http.StatusRequestTimeout:
		return err
	default:
		return functions.Halt(err)
	}
}

// blocked is the type of error of an index or a cluster that takes no writes, as one whose disk is full: that passes.
const blocked = "cluster_block_exception"

func readOnly(err error) error {
	return fmt.Errorf("%w (the index is read-only: is the disk full?)", err)
}

// drain lets the connection be used again.
func drain(res *esapi.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
	_ = res.Body.Close()
}
