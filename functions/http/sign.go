package http

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
)

// sign sets the headers of Standard Webhooks. The ID is that of the body: what is posted again has it again, and nothing else has.
func (s *Sink) sign(h http.Header, body []byte) {
	sum := sha256.Sum256(body)
	id, at := "msg_"+hex.EncodeToString(sum[:16]), strconv.FormatInt(s.cfg.Now().Unix(), 10)
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", at)
	if len(s.key) > 0 {
		h.Set("Webhook-Signature", signature(s.key, id, at, body))
	}
}

// signature is v1, and the HMAC of <id>.<timestamp>.<body> in Base64.
func signature(key []byte, id, at string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(id + "." + at + ".")) // never fails
	_, _ = mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
