package registry

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

var (
	validHeader = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
	placeholder = regexp.MustCompile(`\{[^}]*\}?`)
	validStream = regexp.MustCompile(`^[^\s.*>/\\]{1,255}$`)
)

func (d *document) checkHTTP(h *HTTPTarget) {
	d.checkURL("to.http.url", h.URL, "http", "https")
	if h.Format != "json" && h.Format != "cloudevents" {
		d.at("to.http.format", "to.http.format: expected json or cloudevents, found %q", h.Format)
	}
	d.checkSecret("to.http.secret", h.Secret)
	d.checkSecret("to.http.token", h.Token)
	d.checkSecret("to.http.password", h.Password)
	d.checkReferences("to.http.user", h.User)
	if h.Token != "" && (h.User != "" || h.Password != "") {
		d.at("to.http.token", "expected either token or user and password, found both")
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		switch path := "to.http.headers." + name; {
		case !validHeader.MatchString(name):
			d.at(path, "%s: %q is no name of a header", path, name)
		case ownHeader(name):
			d.at(path, "%s: this header is set by runnel", path)
		case strings.EqualFold(name, "Authorization") || strings.EqualFold(name, "Cookie") || secretName.MatchString(name):
			d.checkSecret(path, h.Headers[name])
		default:
			d.checkReferences(path, h.Headers[name])
		}
	}
	d.checkCertificates("to.http", h.CAFile, h.CertFile, h.KeyFile)
}

// ownHeader says whether every request has that header anyway.
func ownHeader(name string) bool {
	return slices.Contains([]string{"content-type", "content-length", "host", "transfer-encoding", "webhook-id", "webhook-timestamp", "webhook-signature"}, strings.ToLower(name))
}

func (d *document) checkNATS(n *NATSTarget) {
	d.checkURL("to.nats.url", n.URL, "nats", "tls", "ws", "wss")
	d.checkSecret("to.nats.password", n.Password)
	d.checkSecret("to.nats.token", n.Token)
	for _, p := range placeholder.FindAllString(n.Subject, -1) {
		if !slices.Contains([]string{"{source}", "{schema}", "{table}", "{partition}", "{op}", "{id}"}, p) {
			d.at("to.nats.subject", "to.nats.subject: %q: only {source}, {schema}, {table}, {partition}, {op} and {id} are replaced", p)
		}
	}
	for _, token := range strings.Split(n.Subject, ".") {
		if token == "" || strings.ContainsAny(token, " \t\r\n*>") {
			d.at("to.nats.subject", "to.nats.subject: %q is no subject to publish on: expected tokens between dots, without blanks, * and >", n.Subject)
			break
		}
	}
	if first, _, _ := strings.Cut(n.Subject, "."); first == "cdc" || first == "dlq" || strings.HasPrefix(first, "$") {
		d.at("to.nats.subject", "to.nats.subject: %q: subjects below %s. have their own writers; choose another one", n.Subject, first)
	}
	if n.Stream != "" && !validStream.MatchString(n.Stream) {
		d.at("to.nats.stream", "to.nats.stream: %q is no name of a stream", n.Stream)
	}
	for path, value := range map[string]string{"user": n.User, "creds_file": n.CredsFile, "nkey_file": n.NKeyFile} {
		d.checkReferences("to.nats."+path, value)
	}
	d.checkCertificates("to.nats", n.CAFile, n.CertFile, n.KeyFile)
}

// checkCertificates wants a certificate with its key.
func (d *document) checkCertificates(path, ca, cert, key string) {
	d.checkReferences(path+".ca_file", ca)
	d.checkReferences(path+".cert_file", cert)
	d.checkReferences(path+".key_file", key)
	switch {
	case cert != "" && key == "":
		d.at(path+".cert_file", "%s.cert_file: a certificate needs its key: add key_file", path)
	case cert == "" && key != "":
		d.at(path+".key_file", "%s.key_file: a key needs its certificate: add cert_file", path)
	}
}
