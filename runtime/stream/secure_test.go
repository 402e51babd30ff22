package stream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// authority is a CA that lives as long as its test.
type authority struct {
	file string // its certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := newKey(t)
	a := &authority{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = writePEM(t, "CERTIFICATE", der)
	return a
}

// issue signs a certificate for 127.0.0.1, or for whom else, and returns the files of it and its key.
func (a *authority) issue(t testing.TB, use x509.ExtKeyUsage, address string) (cert, key string) {
	t.Helper()
	private := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "runnel"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use}, IPAddresses: []net.IP{net.ParseIP(address)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, "CERTIFICATE", der), writePEM(t, "PRIVATE KEY", keyDER)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t testing.TB, kind string, der []byte) string {
	t.Helper()
	return writeFile(t, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func writeFile(t testing.TB, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// encrypted runs a server with TLS; with clients it takes only those that this CA knows.
func encrypted(t testing.TB, a *authority, address string, clients *authority) string {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(a.issue(t, x509.ExtKeyUsageServerAuth, address))
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if clients != nil {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		config.ClientCAs.AddCert(clients.cert)
	}
	// The default of 2 s for a handshake is short on a busy machine.
	return external(t, &server.Options{JetStream: true, TLS: true, TLSVerify: clients != nil, TLSConfig: config, TLSTimeout: 60})
}

// works publishes through everything that opens a connection: the first one, the fence's and the chain's.
func works(t testing.TB, config stream.Config) {
	t.Helper()
	c, err := stream.Connect(deadline(t, *patience), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := create(t, c, "shop")
	warm(t, chain(t, s, 1, stream.ChainOptions{}), "shop")
	b, err := stream.OpenBucket(deadline(t, *patience), c, stream.BucketConfig{Name: "runnel_test"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(deadline(t, *patience), "key", []byte("value")); err != nil {
		t.Fatal(err)
	}
	if e, err := b.Get(deadline(t, *patience), "key"); err != nil || string(e.Value) != "value" {
		t.Errorf("got %+v, %v", e, err)
	}
}

// refused is the error of a connection that must not come about.
func refused(t testing.TB, config stream.Config) error {
	t.Helper()
	c, err := stream.Connect(deadline(t, *patience), config)
	if err == nil {
		c.Close()
	} else if strings.Contains(err.Error(), "is nats-server running") {
		t.Errorf("%q sends the operator to a server that runs", err)
	}
	return err
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	url := encrypted(t, ca, "127.0.0.1", nil)
	works(t, stream.Config{URL: url, CAFile: ca.file})

	plain := strings.Replace(url, "tls://", "nats://", 1) // the server asks for TLS, whatever the URL says
	for _, u := range []string{url, plain} {
		fails(t, refused(t, stream.Config{URL: u}), u, "unknown authority", "CA file")
		fails(t, refused(t, stream.Config{URL: u, CAFile: other.file}), u, "unknown authority", "CA file")
	}
	stranger := encrypted(t, ca, "127.0.0.2", nil)
	fails(t, refused(t, stream.Config{URL: stranger, CAFile: ca.file}), stranger, "127.0.0.2", "names the host of the URL")

	fails(t, refused(t, stream.Config{URL: url, CAFile: "/nowhere/ca.pem"}), "/nowhere/ca.pem")
	empty := writeFile(t, nil)
	fails(t, refused(t, stream.Config{URL: url, CAFile: empty}), empty)

	without := external(t, &server.Options{JetStream: true})
	fails(t, refused(t, stream.Config{URL: without, CAFile: ca.file}), without, "does not offer TLS")
}

func TestTLSWithClientCertificate(t *testing.T) {
	t.Parallel()
	ca, clients := newAuthority(t), newAuthority(t)
	url := encrypted(t, ca, "127.0.0.1", clients)
	cert, key := clients.issue(t, x509.ExtKeyUsageClientAuth, "127.0.0.1")
	works(t, stream.Config{URL: url, CAFile: ca.file, CertFile: cert, KeyFile: key})

	fails(t, refused(t, stream.Config{URL: url, CAFile: ca.file}), url, "client certificate")
	foreign, foreignKey := newAuthority(t).issue(t, x509.ExtKeyUsageClientAuth, "127.0.0.1")
	fails(t, refused(t, stream.Config{URL: url, CAFile: ca.file, CertFile: foreign, KeyFile: foreignKey}), url, "client certificate")

	fails(t, refused(t, stream.Config{URL: url, CAFile: ca.file, CertFile: cert}), cert, "both")
	fails(t, refused(t, stream.Config{URL: url, CAFile: ca.file, KeyFile: key}), key, "both")
	fails(t, refused(t, stream.Config{URL: url, CAFile: ca.file, CertFile: cert, KeyFile: foreignKey}), cert, foreignKey)
}

// pair makes an nkey.
func pair(t testing.TB, create func() (nkeys.KeyPair, error)) (p nkeys.KeyPair, public string) {
	t.Helper()
	p, err := create()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = p.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return p, public
}

func sign(t testing.TB, claims jwt.Claims, by nkeys.KeyPair) string {
	t.Helper()
	token, err := claims.Encode(by)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// credentials are a user's of an account.
type credentials struct{ file, token, seed string }

func newCredentials(t testing.TB, account nkeys.KeyPair) credentials {
	t.Helper()
	user, public := pair(t, nkeys.CreateUser)
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	c := credentials{token: sign(t, jwt.NewUserClaims(public), account), seed: string(seed)}
	data, err := jwt.FormatUserConfig(c.token, seed)
	if err != nil {
		t.Fatal(err)
	}
	c.file = writeFile(t, data)
	return c
}

func TestCreds(t *testing.T) {
	t.Parallel()
	operator, operatorID := pair(t, nkeys.CreateOperator)
	_, systemID := pair(t, nkeys.CreateAccount)
	account, accountID := pair(t, nkeys.CreateAccount)
	bare, bareID := pair(t, nkeys.CreateAccount) // has no JetStream
	claims := jwt.NewAccountClaims(accountID)
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
	resolver := &server.MemAccResolver{}
	for id, c := range map[string]*jwt.AccountClaims{systemID: jwt.NewAccountClaims(systemID), accountID: claims, bareID: jwt.NewAccountClaims(bareID)} {
		if err := resolver.Store(id, sign(t, c, operator)); err != nil {
			t.Fatal(err)
		}
	}
	url := external(t, &server.Options{
		JetStream: true, TrustedOperators: []*jwt.OperatorClaims{jwt.NewOperatorClaims(operatorID)}, AccountResolver: resolver, SystemAccount: systemID,
	})
	known := newCredentials(t, account)
	works(t, stream.Config{URL: url, CredsFile: known.file})

	fails(t, refused(t, stream.Config{URL: url}), url, "creds")
	fails(t, refused(t, stream.Config{URL: url, CredsFile: newCredentials(t, bare).file}), url, "JetStream limits")

	// No error shows what is in the file.
	stranger, _ := pair(t, nkeys.CreateAccount)
	unknown, mixed := newCredentials(t, stranger), newCredentials(t, account)
	data, err := os.ReadFile(known.file)
	if err != nil {
		t.Fatal(err)
	}
	mixed.file = writeFile(t, []byte(strings.Replace(string(data), known.seed, mixed.seed, 1))) // another user's seed
	half := writeFile(t, []byte(known.token))
	broken := writeFile(t, []byte(strings.Replace(string(data), known.seed, known.seed[:len(known.seed)-4]+"AAAA", 1)))
	for _, x := range []struct {
		file string
		says []string
	}{
		{unknown.file, []string{url, "Authorization", "creds"}},
		{mixed.file, []string{url, "Authorization", "creds"}},
		{half, []string{half, "creds"}},
		{broken, []string{broken, "creds"}},
		{"/nowhere/user.creds", []string{"/nowhere/user.creds", "creds"}},
	} {
		err := refused(t, stream.Config{URL: url, CredsFile: x.file})
		fails(t, err, x.says...)
		for _, secret := range []string{known.token, known.seed[:20], unknown.token, unknown.seed[:20], mixed.seed[:20]} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%q shows a secret", err)
			}
		}
	}
}
