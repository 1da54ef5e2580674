package openssl_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/openssl"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// server is an `openssl s_server` in the scope, followed by the sensor.
type server struct {
	scope   *sensortest.Scope
	sensor  *openssl.Sensor
	events  *sensortest.Events
	dir     string
	address string
}

// startServer makes certificates, starts the server and attaches to it.
func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	scope := sensortest.NewScope(t)
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("needs the openssl program")
	}
	s := &server{scope: scope, dir: t.TempDir()}
	var err error
	if s.sensor, err = openssl.Open(scope.Shared); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.sensor.Close() })
	s.events = sensortest.Collect(t, scope.Shared, s.sensor)
	for _, name := range []string{"server", "client"} {
		s.makeCertificate(t, name)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	l.Close()
	cmd := scope.Command(t, "openssl", append([]string{
		"s_server", "-accept", s.address, "-cert", s.file("server.pem"), "-key", s.file("server.key"),
		"-alpn", "h2,http/1.1", "-quiet",
	}, args...)...)
	in, err := cmd.StdinPipe() // at its end the server closes its connections
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	port := l.Addr().(*net.TCPAddr).Port
	sensortest.Until(t, "the server listens", func() bool { return listens(t, port) })
	s.follow(t, uint32(cmd.Process.Pid))
	return s
}

// listens says whether somebody listens on a port of the loopback. To connect would be one handshake more, which fails.
func listens(t *testing.T, port int) bool {
	t.Helper()
	sockets, err := os.ReadFile("/proc/self/net/tcp") // see proc_net_tcp.rst; 0A: TCP_LISTEN
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(sockets), fmt.Sprintf(": 0100007F:%04X 00000000:0000 0A ", port))
}

func (s *server) file(name string) string { return filepath.Join(s.dir, name) }

// makeCertificate is done here and not by the program, which takes a second for it in a guest.
func (s *server) makeCertificate(t *testing.T, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		URIs: []*url.URL{{Scheme: "spiffe", Host: "bank.example", Path: "/" + name}},
		// A certificate for itself, as OpenSSL makes it: else it would be none of an authority's.
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(s.file(file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// follow gives the sensor what the agent would.
func (s *server) follow(t *testing.T, pid uint32) {
	t.Helper()
	files, err := workload.NewProc("").Images(pid)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		img := sensor.Image{PID: pid, File: f.File, Name: f.Name, Key: sensor.ImageKey{Inode: f.Inode, Size: f.Size, Mtime: f.Mtime}}
		if !s.sensor.Wants(img.Name, i == 0) {
			continue
		}
		if mine, err := s.sensor.Follow(img); err != nil || !mine {
			t.Fatalf("follow %s: %t, %v", img.Name, mine, err)
		}
	}
	if reason := s.sensor.Status()[0].Reason; !strings.HasPrefix(reason, "1 processes through 1 attachments") {
		t.Fatalf("not attached: %s", reason)
	}
}

// connect does one handshake from outside the scope, which is not observed.
func (s *server) connect(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("openssl", append([]string{"s_client", "-connect", s.address}, args...)...)
	cmd.Stdin = strings.NewReader("Q\n")
	out, _ := cmd.CombinedOutput() // a refused handshake is no failure of the test
	return string(out)
}

// fingerprint is the SHA-256 of a certificate, in hexadecimal.
func (s *server) fingerprint(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(s.file(name + ".pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	return fmt.Sprintf("%x", sha256.Sum256(block.Bytes))
}

func TestHandshakesAreCountedExactly(t *testing.T) {
	s := startServer(t)
	const n = 23
	var suites []uint16 // as the client says: which it prefers depends on its processor
	for range n {
		c, err := tls.Dial("tcp", s.address, &tls.Config{
			InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}, ServerName: "shop.example",
		})
		if err != nil {
			t.Fatal(err)
		}
		suites = append(suites, c.ConnectionState().CipherSuite)
		c.Close()
	}
	for i, ev := range s.events.Wait(t, event.Handshake, n) {
		h := ev.Handshake
		if !h.OK || h.Library != event.LibraryOpenSSL || h.Role != event.Server || h.Version != 0x0304 || h.Suite != suites[i] ||
			h.ServerName != "shop.example" || h.ALPN != "http/1.1" || h.Resumed || h.HasPeer || h.Duration == 0 {
			t.Errorf("handshake %d: %+v", i, h)
		}
	}
	lost, err := s.scope.Shared.LossCounters()
	if err != nil {
		t.Fatal(err)
	}
	for reason, count := range lost {
		if count > 0 {
			t.Errorf("lost: %s %d", reason, count)
		}
	}
}

func TestKindsOfHandshakes(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "newest")
	for name, tc := range map[string]struct {
		server, client []string
		check          func(h event.HandshakeInfo, s *server, t *testing.T) bool
	}{
		"TLS 1.2": {nil, []string{"-servername", "shop.example", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"}, func(h event.HandshakeInfo, _ *server, _ *testing.T) bool {
			return h.OK && h.Version == 0x0303 && h.Suite == 0xc02b && h.ServerName == "shop.example"
		}},
		"no name, no ALPN": {nil, []string{"-noservername"}, func(h event.HandshakeInfo, _ *server, _ *testing.T) bool {
			return h.OK && h.ServerName == "" && h.ALPN == ""
		}},
		"no common version": {[]string{"-tls1_3"}, []string{"-tls1_2"}, func(h event.HandshakeInfo, _ *server, _ *testing.T) bool {
			return !h.OK && h.Reason == 258 // SSL_R_UNSUPPORTED_PROTOCOL
		}},
		"certificate wanted, none sent": {[]string{"-Verify", "1", "-verify_return_error"}, nil, func(h event.HandshakeInfo, _ *server, _ *testing.T) bool {
			return !h.OK && h.Reason == 199 && !h.HasPeer // SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE
		}},
		"mutual": {[]string{"-verify", "1"}, []string{"-cert", "CLIENT.pem", "-key", "CLIENT.key"}, func(h event.HandshakeInfo, s *server, t *testing.T) bool {
			return h.OK && h.HasPeer && fmt.Sprintf("%x", h.PeerFingerprint) == s.fingerprint(t, "client") &&
				h.PeerSPIFFEID == "spiffe://bank.example/client" && h.PeerNotAfter > 0 && h.VerifyResult == 18 // self-signed
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, tc.server...)
			var args []string
			for _, a := range tc.client {
				args = append(args, strings.ReplaceAll(a, "CLIENT", s.file("client")))
			}
			out := s.connect(t, args...)
			if h := s.events.Wait(t, event.Handshake, 1)[0].Handshake; !tc.check(h, s, t) {
				t.Errorf("%+v\n%s", h, out)
			}
		})
	}
}

func TestResumption(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "newest")
	s := startServer(t)
	session := s.file("session")
	s.connect(t, "-tls1_2", "-sess_out", session)
	s.connect(t, "-tls1_2", "-sess_in", session)
	got := s.events.Wait(t, event.Handshake, 2)
	if got[0].Handshake.Resumed || !got[1].Handshake.Resumed || !got[1].Handshake.OK {
		t.Errorf("%+v\n%+v", got[0].Handshake, got[1].Handshake)
	}
}

// The client's side: the peer is the server, whose certificate no certificate authority vouches for.
func TestClientSide(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "newest")
	s := startServer(t, "-client_renegotiation")
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	// s_client reads commands: the handshake is over when it has been followed, so that it renegotiates
	// on demand, which TLS 1.2 allows.
	cmd := s.scope.Command(t, "openssl", "s_client", "-connect", "127.0.0.1:"+port, "-tls1_2", "-servername", "shop.example")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s.events.Wait(t, event.Handshake, 1) // the server's
	files, err := workload.NewProc("").Images(uint32(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		img := sensor.Image{PID: uint32(cmd.Process.Pid), File: f.File, Name: f.Name, Key: sensor.ImageKey{Inode: f.Inode, Size: f.Size, Mtime: f.Mtime}}
		if s.sensor.Wants(img.Name, false) {
			if _, err := s.sensor.Follow(img); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := in.Write([]byte("R\n")); err != nil {
		t.Fatal(err)
	}
	client := 0
	for _, ev := range s.events.Wait(t, event.Handshake, 3) {
		h := ev.Handshake
		if h.Role != event.Client {
			continue
		}
		client++
		if !h.OK || fmt.Sprintf("%x", h.PeerFingerprint) != s.fingerprint(t, "server") || h.PeerSPIFFEID != "spiffe://bank.example/server" {
			t.Errorf("%+v", h)
		}
	}
	if client != 1 {
		t.Errorf("%d handshakes on the client's side, want 1", client)
	}
}

func TestNotOpenSSL(t *testing.T) {
	scope := sensortest.NewScope(t)
	s, err := openssl.Open(scope.Shared)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	file := filepath.Join(t.TempDir(), "libssl.so.3")
	if err := os.WriteFile(file, []byte("\x7fELF nothing else"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/usr/bin/true", "/lib/libssl.so.1.1", "/lib/libsslx.so.3"} {
		if s.Wants(name, true) {
			t.Errorf("wants %s", name)
		}
	}
	if mine, err := s.Follow(sensor.Image{PID: 1, Name: "/lib/other.so", File: file}); mine || err != nil {
		t.Errorf("%t, %v", mine, err)
	}
}
