// Command specimen does TLS handshakes with itself and garbage collections, as each line on standard
// input says, and answers with one line of JSON that tells what happened. It must build with Go 1.20.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"runtime"
	"runtime/metrics"
	"sync"
	"time"
)

// request is one line of input.
type request struct {
	Do       string // "handshake", "gc", "stall" or "pid"
	Times    int
	Version  uint16 // of the client, minimum and maximum
	Suite    uint16 // TLS 1.2 only
	Name     string // SNI
	ALPN     string
	Mutual   bool
	Nested   bool // the server makes a handshake of its own inside its handshake
	Distrust bool // the client does not trust the server
	Stranger bool // the server does not trust the client
	Nameless bool // the client presents no certificate where one is required
	Resume   bool
	Parallel int // so many at a time, Times each; 0 is 1
	Padding  int // bytes of names added to the certificates
}

// side is what one end saw of its last handshake.
type side struct {
	Version, Suite  uint16
	Name, ALPN      string
	Resumed         bool
	PeerFingerprint string
	PeerNotAfter    int64
	Error           string
}

// pauses is the runtime's own account of one collection run.
type pauses struct {
	NumGC, PauseTotalNs   uint64
	GCPauses, OtherPauses uint64
	HaveMetrics           bool
}

type answer struct {
	PID            int
	Go             string
	Client, Server side
	Completed      int // client handshakes without an error
	Elapsed        time.Duration
	Pauses         pauses
	Error          string
}

func main() {
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for in.Scan() {
		var req request
		a := answer{PID: os.Getpid(), Go: runtime.Version()}
		if err := json.Unmarshal(in.Bytes(), &req); err != nil {
			a.Error = err.Error()
		} else if err := do(req, &a); err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			os.Exit(1)
		}
	}
}

func do(req request, a *answer) error {
	switch req.Do {
	case "handshake":
		return handshakes(req, a)
	case "gc":
		a.Pauses = collect(req.Times)
		return nil
	case "stall":
		stall(req.Times)
		return nil
	case "pid":
		return nil
	}
	return fmt.Errorf("what is %q", req.Do)
}

// collect runs the collector and returns the difference that it made. Memory statistics stop the world
// too: twice, and only the first falls between the two readings of the metrics.
func collect(times int) pauses {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	gc0, other0, ok := pauseMetrics()
	for i := 0; i < times; i++ {
		runtime.GC()
	}
	gc1, other1, _ := pauseMetrics()
	runtime.ReadMemStats(&after)
	return pauses{
		NumGC: uint64(after.NumGC - before.NumGC), PauseTotalNs: after.PauseTotalNs - before.PauseTotalNs,
		GCPauses: gc1 - gc0, OtherPauses: other1 - other0, HaveMetrics: ok,
	}
}

func pauseMetrics() (gc, other uint64, ok bool) {
	samples := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}, {Name: "/sched/pauses/total/other:seconds"}}
	metrics.Read(samples)
	for i, n := range []*uint64{&gc, &other} {
		if samples[i].Value.Kind() != metrics.KindFloat64Histogram {
			return 0, 0, false // before Go 1.22
		}
		for _, c := range samples[i].Value.Float64Histogram().Counts {
			*n += c
		}
	}
	return gc, other, true
}

// handshakes makes all with new connections. What the last one of the first line of work saw is told.
func handshakes(req request, a *answer) error {
	pair, err := newPair(req)
	if err != nil {
		return err
	}
	lines := make([]answer, max(req.Parallel, 1))
	errs := make(chan error, len(lines))
	begin := time.Now()
	for i := range lines {
		go func(a *answer) { errs <- pair.line(req.Times, a) }(&lines[i])
	}
	for range lines {
		if e := <-errs; e != nil {
			err = e
		}
	}
	a.Elapsed = time.Since(begin)
	a.Client, a.Server = lines[0].Client, lines[0].Server
	for _, l := range lines {
		a.Completed += l.Completed
	}
	return err
}

func max(a, b int) int {
	if a > b {
		return a
	}
	return b
}

// line makes handshakes one after the other.
func (p pair) line(times int, a *answer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	for i := 0; i < times; i++ {
		if err := p.shake(l, a); err != nil {
			return err
		}
	}
	return nil
}

type pair struct{ server, client *tls.Config }

func (p pair) shake(l net.Listener, a *answer) error {
	var (
		done sync.WaitGroup
		conn net.Conn
		err  error
	)
	done.Add(1)
	go func() {
		defer done.Done()
		if conn, err = l.Accept(); err != nil {
			return
		}
		server := tls.Server(conn, p.server)
		a.Server = see(server, server.Handshake())
		if a.Server.Error == "" {
			server.Write([]byte("x"))
		}
		server.Close()
	}()
	raw, dialErr := net.Dial("tcp", l.Addr().String())
	if dialErr != nil {
		return dialErr
	}
	client := tls.Client(raw, p.client)
	a.Client = see(client, client.Handshake())
	if a.Client.Error == "" {
		a.Completed++
		// The byte comes after the session ticket, which the next handshake resumes with.
		client.Read(make([]byte, 1))
	}
	client.Close()
	done.Wait()
	return err
}

func see(c *tls.Conn, err error) side {
	state := c.ConnectionState()
	s := side{
		Version: state.Version, Suite: state.CipherSuite, Name: state.ServerName,
		ALPN: state.NegotiatedProtocol, Resumed: state.DidResume,
	}
	if err != nil {
		s.Error = err.Error()
	}
	if len(state.PeerCertificates) > 0 {
		leaf := state.PeerCertificates[0]
		sum := sha256.Sum256(leaf.Raw)
		s.PeerFingerprint, s.PeerNotAfter = hex.EncodeToString(sum[:]), leaf.NotAfter.Unix()
	}
	return s
}

// stall begins handshakes with a peer that never answers.
func stall(times int) {
	for i := 0; i < times; i++ {
		_, b := net.Pipe()
		go tls.Server(b, &tls.Config{}).Handshake()
	}
}

func newPair(req request) (pair, error) {
	ca, err := newAuthority()
	if err != nil {
		return pair{}, err
	}
	serverCert, err := ca.leaf("server", req)
	if err != nil {
		return pair{}, err
	}
	clientCert, err := ca.leaf("client", req)
	if err != nil {
		return pair{}, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	p := pair{
		server: &tls.Config{Certificates: []tls.Certificate{serverCert}, MinVersion: tls.VersionTLS10},
		client: &tls.Config{RootCAs: roots, ServerName: req.Name, MinVersion: tls.VersionTLS10},
	}
	if req.Version != 0 {
		p.client.MinVersion, p.client.MaxVersion = req.Version, req.Version
	}
	if req.Suite != 0 {
		p.client.CipherSuites = []uint16{req.Suite}
		p.server.CipherSuites = []uint16{req.Suite}
	}
	if req.ALPN != "" {
		p.client.NextProtos = []string{req.ALPN}
		p.server.NextProtos = []string{"other", req.ALPN}
	}
	if req.Mutual {
		p.server.ClientAuth, p.server.ClientCAs = tls.RequireAndVerifyClientCert, roots
		if !req.Nameless {
			p.client.Certificates = []tls.Certificate{clientCert}
		}
	}
	if req.Stranger {
		p.server.ClientCAs = x509.NewCertPool()
		// Else the client would see that its certificate is not wanted, and send none.
		p.client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &clientCert, nil }
	}
	if req.Distrust {
		p.client.RootCAs = x509.NewCertPool()
	}
	if req.Resume {
		p.client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	}
	if req.Nested {
		inner := pair{server: p.server.Clone(), client: p.client.Clone()}
		p.server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, inner.inside() }
	}
	return p, nil
}

// inside makes a whole handshake whose client runs in the calling goroutine.
func (p pair) inside() error {
	p.client.ServerName = "nested.example.org"
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	errs := make(chan error, 1)
	go func() { errs <- tls.Server(b, p.server).Handshake() }()
	if err := tls.Client(a, p.client).Handshake(); err != nil {
		return err
	}
	return <-errs
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority() (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "specimen authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return authority{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return authority{cert, key}, err
}

func (ca authority) leaf(who string, req request) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	id, err := url.Parse("spiffe://example.org/ns/test/sa/" + who)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: who},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * time.Minute),
		URIs: []*url.URL{id}, DNSNames: []string{req.Name, "nested.example.org"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for n := 0; n < req.Padding; n += 64 {
		template.DNSNames = append(template.DNSNames, fmt.Sprintf("%048d.example.org", n))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if len(der) == 0 {
		return tls.Certificate{}, errors.New("empty certificate")
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
