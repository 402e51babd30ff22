package postgres_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/capture/postgres"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	srv := ownServer(t, 17)
	d := databaseOn(t, srv)
	ca := certificate(t, filepath.Join(srv.Dir, "data"))
	d.exec(`ALTER SYSTEM SET ssl = on`)
	d.exec(`SELECT pg_reload_conf()`)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY, v text)`)
	s := d.source(func(c *postgres.Config) {
		c.URL = strings.Replace(c.URL, "sslmode=disable", "sslmode=verify-full&sslrootcert="+ca, 1)
	})
	var r *reader
	for end := time.Now().Add(90 * time.Second); r == nil; time.Sleep(20 * time.Millisecond) { // the server reads its settings when it likes
		l, err := s.Acquire(t.Context(), nil)
		if err == nil {
			r = &reader{Log: l, t: t}
			defer r.close()
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	r.start(r.Info().Confirmed)
	d.exec(`INSERT INTO a SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g`)
	if n := len(r.changes()); n != 20000 {
		t.Errorf("%d changes", n)
	}
	if got := d.text(`SELECT string_agg(DISTINCT s.ssl::text, ',') FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name LIKE 'runnel %'`); got != "true" {
		t.Errorf("sessions use TLS: %s", got)
	}
}

// certificate puts one for 127.0.0.1 where the server looks, and gives its path.
func certificate(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	for name, b := range map[string]*pem.Block{"server.crt": {Type: "CERTIFICATE", Bytes: der}, "server.key": {Type: "PRIVATE KEY", Bytes: private}} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "server.crt")
}
