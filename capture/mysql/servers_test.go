package mysql_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/e2e/servers"
)

// lent gives the servers that tests share the life of the whole test binary.
type lent struct {
	testing.TB
	cleanups []func()
	failed   bool // some test did: the servers' logs are told
}

func (*lent) Helper()                      {}
func (l *lent) Failed() bool               { return l.failed }
func (l *lent) Cleanup(f func())           { l.cleanups = append(l.cleanups, f) }
func (*lent) Logf(format string, a ...any) { fmt.Fprintf(os.Stderr, format+"\n", a...) }

// flavor is MySQL or MariaDB, with the servers of all tests.
type flavor struct {
	name  string // of the subtests
	kind  string // MySQL or MariaDB
	start func(servers.TB, ...string) *servers.Server

	mu     sync.Mutex
	life   lent
	shared *servers.Server // tests have a database each
	own    *servers.Server // a test has it for itself
	turn   sync.Mutex
}

var flavors = []*flavor{{name: mysql.MySQL, kind: mysql.MySQL, start: servers.MySQL8}, {name: mysql.MariaDB, kind: mysql.MariaDB, start: servers.MariaDB}}

// places is MySQL without GTIDs.
var places = &flavor{name: "places", kind: mysql.MySQL, start: func(t servers.TB, args ...string) *servers.Server {
	return servers.MySQL8(t, append([]string{"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"}, args...)...)
}}

// withPlaces are all.
var withPlaces = append(slices.Clone(flavors), places)

var (
	certificates string // of the servers: ca.pem, key.pem
	databases    atomic.Int64
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "runnel-tls")
	if err == nil {
		err = certify(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	certificates = dir
	status := m.Run()
	for _, f := range withPlaces {
		f.life.failed = status != 0
		for _, end := range slices.Backward(f.life.cleanups) {
			end()
		}
	}
	os.RemoveAll(dir)
	if status == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
	}
	os.Exit(status)
}

func (f *flavor) running(t testing.TB, s **servers.Server, args ...string) *servers.Server {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if *s == nil {
		f.life.TB = t
		*s = f.start(&f.life, append([]string{"--ssl-ca=" + certificates + "/ca.pem", "--ssl-cert=" + certificates + "/ca.pem", "--ssl-key=" + certificates + "/key.pem",
			"--max-connections=500", "--secure-file-priv=" + certificates}, args...)...)
	}
	return *s
}

// each runs a test on both flavors, in a database of its own.
func each(t *testing.T, test func(t *testing.T, w *world)) {
	t.Parallel()
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			test(t, f.world(t, f.running(t, &f.shared)))
		})
	}
}

// alone is each on servers that no other test uses meanwhile: what is in their logs may end a reader, and their settings may change.
func alone(t *testing.T, test func(t *testing.T, w *world)) { aloneOn(t, flavors, test) }

func aloneOn(t *testing.T, flavors []*flavor, test func(t *testing.T, w *world)) {
	t.Parallel()
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			test(t, f.alone(t))
		})
	}
}

func (f *flavor) alone(t *testing.T) *world {
	t.Helper()
	f.turn.Lock()
	t.Cleanup(f.turn.Unlock)
	return f.world(t, f.running(t, &f.own))
}

func (f *flavor) world(t testing.TB, s *servers.Server) *world {
	t.Helper()
	w := &world{t: t, flavor: f.kind, server: s, name: fmt.Sprintf("t%d", databases.Add(1))}
	w.db = w.connect()
	w.exec("CREATE DATABASE "+w.name, "USE "+w.name)
	return w
}

// certify makes a certificate for 127.0.0.1.
func certify(dir string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		return err
	}
	for name, b := range map[string]*pem.Block{"ca.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}} {
		if err := os.WriteFile(dir+"/"+name, pem.EncodeToMemory(b), 0o600); err != nil {
			return err
		}
	}
	return nil
}
