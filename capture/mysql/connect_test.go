package mysql_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/runtime/event"
)

// TestTLS: all connections are encrypted and the server's certificate is verified; a user with the rights that the docs name suffices.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	each(t, func(t *testing.T, w *world) {
		how := "IDENTIFIED WITH caching_sha2_password BY 'p@ss'"
		rights := "REPLICATION SLAVE, REPLICATION CLIENT"
		if w.flavor == mysql.MariaDB {
			how, rights = "IDENTIFIED BY 'p@ss'", "REPLICATION SLAVE, BINLOG MONITOR"
		}
		w.exec("CREATE TABLE a (id int PRIMARY KEY)", "CREATE USER cdc@'%' "+how+" REQUIRE SSL", "GRANT "+rights+" ON *.* TO cdc@'%'")
		source := func(parameters string) *mysql.Source {
			s, err := mysql.New(mysql.Config{Name: "shop", Flavor: w.flavor, Tables: []string{"shop.*"},
				URL: "mysql://cdc:p%40ss@" + w.server.Addr + "/?" + parameters})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		good := "tls=verify&ca=" + dir + "/ca.pem"
		for _, refused := range []string{"", "tls=verify"} {
			if l, err := source(refused).Acquire(t.Context(), nil); err == nil {
				_ = l.Close(context.Background())
				t.Errorf("%q: connected", refused)
			}
		}
		l, err := source(good).Acquire(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var setup *capture.SetupError
		if _, err := l.(capture.Snapshotter).Tables(t.Context()); !errors.As(err, &setup) || !strings.Contains(err.Error(), "GRANT SELECT") {
			t.Errorf("tables without SELECT: %v", err)
		}
		_ = l.Close(context.Background())
		w.exec("GRANT SELECT ON shop.* TO cdc@'%'", "INSERT INTO a VALUES (1)")
		r := w.open(source(good), "")
		w.exec("INSERT INTO a VALUES (2)")
		if got := r.changes("a"); len(got) != 1 || got[0].after != `{"id":2}` {
			t.Errorf("got %s", lines(got))
		}
		c, err := r.Chunk(t.Context(), capture.ChunkRequest{Table: event.Table{Schema: "shop", Name: "a"}, MaxRows: 10, MaxBytes: 1 << 20})
		if err != nil || len(c.Rows) != 2 {
			t.Errorf("chunk: %v, %v", c, err)
		}
		if err := r.Mark(t.Context(), "m"); err != nil {
			t.Error(err)
		}
		r.until(func(i item) bool { return i.Kind == capture.Marked })
	}, "--ssl-ca="+dir+"/ca.pem", "--ssl-cert="+dir+"/ca.pem", "--ssl-key="+dir+"/key.pem")
}

// certificate makes one for 127.0.0.1.
func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"ca.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}} {
		if err := os.WriteFile(dir+"/"+name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLostLock: a reader whose lock is gone ends, also where its log goes on.
func TestLostLock(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)")
		l := w.open(w.source("shop.*"), "")
		w.exec(fmt.Sprintf("KILL %s", w.text("SELECT IS_USED_LOCK('runnel.shop')")))
		if err := l.Holds(t.Context()); err == nil {
			t.Error("it still holds the lock")
		}
		if err := l.fails(); err == nil || !strings.Contains(err.Error(), "the lock runnel.shop is lost") {
			t.Errorf("got %v", err)
		}
	})
}
