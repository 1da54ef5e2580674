package sensor

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"unsafe"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Handshake is struct handshake_event of bpf/tls.h up to the certificate. The sensors assert that it
// has the layout generated from there.
type Handshake struct {
	Header       Header
	DurationNs   uint64
	CipherSuite  uint32
	CertLen      uint32
	Version      uint16
	Curve        uint16
	Alert        uint16
	NameLen      uint16
	VerifyResult int32
	ErrorReason  uint32
	Library      uint8
	Role         uint8
	OK           uint8
	Resumed      uint8
	ALPNLen      uint8
	CertIsTBS    uint8
	CertCut      uint8
	Calls        uint8
	Name         [256]byte
	ALPN         [32]byte
}

// knownPeers bounds the certificates whose facts are remembered.
const knownPeers = 1024

// HandshakeDecoder decodes the records of all TLS sensors. It remembers what the latest certificates
// say, by their hash, so that only a new one is parsed. It is not safe for concurrent use.
type HandshakeDecoder struct {
	peers  map[[sha256.Size]byte]peer
	order  [][sha256.Size]byte // ring of the map's keys, oldest at next
	next   int
	whole  []byte // scratch for a certificate put together
	parsed uint64
}

// peer is what a leaf certificate says.
type peer struct {
	spiffeID string
	notAfter int64
}

// NewHandshakeDecoder returns a decoder that knows no certificate.
func NewHandshakeDecoder() *HandshakeDecoder {
	return &HandshakeDecoder{peers: make(map[[sha256.Size]byte]peer, knownPeers)}
}

// Parsed is the number of certificates that were parsed, which is what allocates.
func (d *HandshakeDecoder) Parsed() uint64 { return d.parsed }

// Decode fills ev.Handshake. Its strings alias raw, except for the SPIFFE ID.
func (d *HandshakeDecoder) Decode(raw []byte, ev *event.Event) error {
	const fixed = int(unsafe.Sizeof(Handshake{}))
	if len(raw) < fixed {
		return fmt.Errorf("decode handshake: %d bytes, want at least %d", len(raw), fixed)
	}
	r := (*Handshake)(unsafe.Pointer(unsafe.SliceData(raw)))
	if int(r.NameLen) > len(r.Name) || int(r.ALPNLen) > len(r.ALPN) || int64(r.CertLen) > int64(len(raw)-fixed) {
		return fmt.Errorf("decode handshake: name of %d, ALPN of %d, certificate of %d bytes in a record of %d",
			r.NameLen, r.ALPNLen, r.CertLen, len(raw))
	}
	ev.Handshake = event.HandshakeInfo{
		Library: event.Library(r.Library), Role: event.Role(r.Role), OK: r.OK != 0, Resumed: r.Resumed != 0,
		Version: r.Version, Suite: uint16(r.CipherSuite), Group: r.Curve, Alert: int16(r.Alert) - 1,
		VerifyResult: r.VerifyResult, Reason: r.ErrorReason, Duration: r.DurationNs,
		ServerName: unsafe.String(&r.Name[0], int(r.NameLen)),
		ALPN:       unsafe.String(&r.ALPN[0], int(r.ALPNLen)),
		HasPeer:    r.CertLen > 0 || r.CertCut != 0,
	}
	if cert := raw[fixed:][:r.CertLen]; len(cert) > 0 {
		if r.CertIsTBS != 0 {
			cert = d.assemble(cert)
		}
		d.describe(cert, &ev.Handshake)
	}
	return nil
}

// describe adds the peer's certificate. Bytes that are no certificate, as memory that was reused
// between their arrival and the handshake's failure, are dropped: rather none than a wrong one.
func (d *HandshakeDecoder) describe(der []byte, h *event.HandshakeInfo) {
	sum := sha256.Sum256(der)
	p, known := d.peers[sum]
	if !known {
		d.parsed++
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			h.HasPeer = wholeElement(der)
			if h.HasPeer {
				h.PeerFingerprint = sum
			}
			return
		}
		p = peer{spiffeID: spiffeID(cert), notAfter: cert.NotAfter.Unix()}
		d.remember(sum, p)
	}
	h.PeerFingerprint, h.PeerSPIFFEID, h.PeerNotAfter = sum, p.spiffeID, p.notAfter
}

func (d *HandshakeDecoder) remember(sum [sha256.Size]byte, p peer) {
	if len(d.order) < knownPeers {
		d.order = append(d.order, sum)
	} else {
		delete(d.peers, d.order[d.next])
		d.order[d.next] = sum
		d.next = (d.next + 1) % knownPeers
	}
	d.peers[sum] = p
}

// spiffeID is the only URI name of the certificate, if its scheme is spiffe (SPIFFE X509-SVID, 2).
func spiffeID(cert *x509.Certificate) string {
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != "spiffe" {
		return ""
	}
	return cert.URIs[0].String()
}

// assemble puts a certificate together from its to-be-signed part and the signature's bytes after it.
// The algorithm between the two is repeated inside of the first.
func (d *HandshakeDecoder) assemble(parts []byte) []byte {
	n := elementLen(parts)
	if n < 0 {
		return parts
	}
	tbs, signature := parts[:n], parts[n:]
	algorithm := signatureAlgorithm(tbs[elementHeader(tbs):])
	bits := 1 + len(signature) // the first byte: no unused bits
	d.whole = appendHeader(d.whole[:0], 0x30, len(tbs)+len(algorithm)+headerLen(bits)+bits)
	d.whole = append(append(d.whole, tbs...), algorithm...)
	d.whole = append(appendHeader(d.whole, 0x03, bits), 0)
	d.whole = append(d.whole, signature...)
	return d.whole
}

// signatureAlgorithm is the third element of a certificate's content, after version and serial number;
// nil if it is not there.
func signatureAlgorithm(content []byte) []byte {
	for i := 0; ; i++ {
		n := elementLen(content)
		if n < 0 {
			return nil
		}
		// A version 1 certificate leaves out the version, whose tag is [0].
		if i == 0 && content[0] != 0xa0 {
			i++
		}
		if i == 2 {
			return content[:n]
		}
		content = content[n:]
	}
}

// elementLen is the length of the first DER element of b, with its header; -1 if b is too short.
func elementLen(b []byte) int {
	header := elementHeader(b)
	if header < 0 {
		return -1
	}
	n := int(b[1])
	if header > 2 {
		n = 0
		for _, c := range b[2:header] {
			n = n<<8 | int(c)
		}
	}
	if n > len(b)-header {
		return -1
	}
	return header + n
}

// elementHeader is the length of the header of the first element: a tag and a length in 1 to 4 bytes.
func elementHeader(b []byte) int {
	if len(b) < 2 {
		return -1
	}
	if b[1] < 0x80 {
		return 2
	}
	header := 2 + int(b[1]&0x7f)
	if header == 2 || header > 5 || len(b) < header {
		return -1
	}
	return header
}

// wholeElement says that b is one DER sequence and nothing else.
func wholeElement(b []byte) bool { return len(b) > 0 && b[0] == 0x30 && elementLen(b) == len(b) }

func headerLen(n int) int {
	switch {
	case n < 0x80:
		return 2
	case n < 0x100:
		return 3
	default:
		return 4
	}
}

func appendHeader(b []byte, tag byte, n int) []byte {
	switch headerLen(n) {
	case 2:
		return append(b, tag, byte(n))
	case 3:
		return append(b, tag, 0x81, byte(n))
	default:
		return append(b, tag, 0x82, byte(n>>8), byte(n))
	}
}
