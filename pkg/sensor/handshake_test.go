package sensor

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// record builds a record as the kernel side sends it.
func record(change func(*Handshake), cert []byte) []byte {
	const fixed = int(unsafe.Sizeof(Handshake{}))
	raw := make([]byte, fixed, fixed+len(cert))
	h := (*Handshake)(unsafe.Pointer(&raw[0]))
	h.CertLen = uint32(len(cert))
	h.NameLen = uint16(copy(h.Name[:], "svc.example.org"))
	h.ALPNLen = uint8(copy(h.ALPN[:], "h2"))
	h.Library, h.Role, h.OK, h.Version, h.CipherSuite = 1, 2, 1, 0x0304, 0x1301
	if change != nil {
		change(h)
	}
	return append(raw, cert...)
}

func newCert(t testing.TB, serial int64, uris ...string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: strings.Repeat("n", int(serial%60))},
		NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(2e9, 0),
	}
	for _, u := range uris {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, parsed)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestDecodeHandshake(t *testing.T) {
	const id = "spiffe://example.org/ns/prod/sa/web"
	svid, plain, two := newCert(t, 1, id), newCert(t, 2, "https://example.org/"), newCert(t, 3, id, id+"2")
	parts := append(bytes.Clone(svid.RawTBSCertificate), svid.Signature...)
	tbs := func(h *Handshake) { h.CertIsTBS = 1 }
	for name, c := range map[string]struct {
		raw         []byte
		hasPeer     bool
		fingerprint [32]byte
		spiffeID    string
		notAfter    int64
	}{
		"no peer":        {raw: record(nil, nil)},
		"svid":           {record(nil, svid.Raw), true, sha256.Sum256(svid.Raw), id, 2e9},
		"in parts":       {record(tbs, parts), true, sha256.Sum256(svid.Raw), id, 2e9},
		"other uri":      {record(nil, plain.Raw), true, sha256.Sum256(plain.Raw), "", 2e9},
		"two uris":       {record(nil, two.Raw), true, sha256.Sum256(two.Raw), "", 2e9},
		"too large":      {raw: record(func(h *Handshake) { h.CertCut = 1 }, nil), hasPeer: true},
		"reused memory":  {raw: record(nil, bytes.Repeat([]byte{0x30, 0x41}, 300))},
		"cut":            {raw: record(nil, svid.Raw[:len(svid.Raw)-1])},
		"no certificate": {raw: record(nil, []byte{0x30, 1, 7}), hasPeer: true, fingerprint: sha256.Sum256([]byte{0x30, 1, 7})},
		"bad parts":      {raw: record(tbs, []byte{0x30, 0x84})},
	} {
		t.Run(name, func(t *testing.T) {
			d, ev := NewHandshakeDecoder(), event.Event{}
			for range 2 { // parsed, then remembered
				if err := d.Decode(c.raw, &ev); err != nil {
					t.Fatal(err)
				}
				want := event.HandshakeInfo{
					Library: event.LibraryGo, Role: event.Server, OK: true, Version: 0x0304, Suite: 0x1301, Alert: -1,
					ServerName: "svc.example.org", ALPN: "h2",
					HasPeer: c.hasPeer, PeerFingerprint: c.fingerprint, PeerSPIFFEID: c.spiffeID, PeerNotAfter: c.notAfter,
				}
				if ev.Handshake != want {
					t.Errorf("got %+v, want %+v", ev.Handshake, want)
				}
			}
		})
	}
}

func TestDecodeHandshakeRefuses(t *testing.T) {
	for name, raw := range map[string][]byte{
		"empty":            nil,
		"short":            record(nil, nil)[:100],
		"long name":        record(func(h *Handshake) { h.NameLen = 257 }, nil),
		"long alpn":        record(func(h *Handshake) { h.ALPNLen = 33 }, nil),
		"long certificate": record(func(h *Handshake) { h.CertLen = 1 }, nil),
		"huge certificate": record(func(h *Handshake) { h.CertLen = 1 << 31 }, nil),
	} {
		if err := NewHandshakeDecoder().Decode(raw, new(event.Event)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The memory of certificates is bounded and forgets the oldest.
func TestHandshakeDecoderForgets(t *testing.T) {
	d, ev := NewHandshakeDecoder(), event.Event{}
	certs := make([][]byte, knownPeers+1)
	base := newCert(t, 1).Raw
	for i := range certs {
		certs[i] = bytes.Clone(base)
		// The signature's end: still a certificate, and another one.
		certs[i][len(base)-1], certs[i][len(base)-2] = byte(i), byte(i>>8)
	}
	decode := func(i int) uint64 {
		if err := d.Decode(record(nil, certs[i]), &ev); err != nil {
			t.Fatal(err)
		}
		return d.Parsed()
	}
	for i := range certs {
		decode(i)
	}
	if n := decode(knownPeers); n != knownPeers+1 || len(d.peers) != knownPeers {
		t.Errorf("parsed %d, remembers %d", n, len(d.peers))
	}
	if n := decode(0); n != knownPeers+2 {
		t.Errorf("the oldest was remembered")
	}
}

func FuzzDecodeHandshake(f *testing.F) {
	svid := newCert(f, 1, "spiffe://example.org/x")
	f.Add(record(nil, svid.Raw))
	f.Add(record(func(h *Handshake) { h.CertIsTBS = 1 }, append(bytes.Clone(svid.RawTBSCertificate), svid.Signature...)))
	f.Add(record(nil, nil))
	d, ev := NewHandshakeDecoder(), event.Event{}
	f.Fuzz(func(t *testing.T, raw []byte) {
		// The ring buffer's records are aligned.
		aligned := make([]uint64, len(raw)/8+1)
		b := unsafe.Slice((*byte)(unsafe.Pointer(&aligned[0])), len(raw))
		copy(b, raw)
		_ = d.Decode(b, &ev)
	})
}

func BenchmarkDecodeHandshake(b *testing.B) {
	svid := newCert(b, 1, "spiffe://example.org/ns/prod/sa/web")
	parts := append(bytes.Clone(svid.RawTBSCertificate), svid.Signature...)
	for name, raw := range map[string][]byte{
		"no_peer":    record(nil, nil),
		"known_peer": record(nil, svid.Raw),
		"in_parts":   record(func(h *Handshake) { h.CertIsTBS = 1 }, parts),
	} {
		b.Run(name, func(b *testing.B) {
			d, ev := NewHandshakeDecoder(), event.Event{}
			if err := d.Decode(raw, &ev); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := d.Decode(raw, &ev); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
