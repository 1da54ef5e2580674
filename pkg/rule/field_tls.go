package rule

import (
	"crypto/tls"
	"encoding/hex"
	"slices"

	"github.com/plumbline-io/plumbline/pkg/event"
)

const day = 24 * 60 * 60

func tlsFields() []field {
	set := kindsOf(event.Handshake)
	str := func(name string, get func(*event.HandshakeInfo) string) field {
		return text(name, set, func(e *Env) string { return get(&e.Event.Handshake) })
	}
	num := func(name string, get func(*event.HandshakeInfo) (int64, bool)) field {
		return number(name, set, func(e *Env) (int64, bool) { return get(&e.Event.Handshake) })
	}
	library := str("tls.library", func(h *event.HandshakeInfo) string { return h.Library.String() })
	library.words = []string{"unknown", event.LibraryGo.String(), event.LibraryOpenSSL.String()}
	role := str("tls.role", func(h *event.HandshakeInfo) string { return h.Role.String() })
	role.words = []string{"unknown", event.Client.String(), event.Server.String()}
	texts := written(text("tls.version", set, versionName), text("tls.cipher", set, suiteName()), text("tls.peer.sha256", set, fingerprint))
	return append(texts, []field{
		library, role,
		flag("tls.ok", set, func(e *Env) bool { return e.Event.Handshake.OK }),
		flag("tls.resumed", set, func(e *Env) bool { return e.Event.Handshake.Resumed }),
		str("tls.sni", func(h *event.HandshakeInfo) string { return h.ServerName }),
		str("tls.alpn", func(h *event.HandshakeInfo) string { return h.ALPN }),
		str("tls.peer.spiffe_id", func(h *event.HandshakeInfo) string { return h.PeerSPIFFEID }),
		num("tls.version_number", func(h *event.HandshakeInfo) (int64, bool) { return int64(h.Version), h.Version != 0 }),
		num("tls.cipher_number", func(h *event.HandshakeInfo) (int64, bool) { return int64(h.Suite), h.Suite != 0 }),
		num("tls.group_number", func(h *event.HandshakeInfo) (int64, bool) { return int64(h.Group), h.Group != 0 }),
		num("tls.alert", func(h *event.HandshakeInfo) (int64, bool) { return int64(h.Alert), h.Alert >= 0 }),
		num("tls.reason", func(h *event.HandshakeInfo) (int64, bool) { return int64(h.Reason), h.Reason != 0 }),
		num("tls.verify_result", func(h *event.HandshakeInfo) (int64, bool) {
			return int64(h.VerifyResult), h.Library == event.LibraryOpenSSL
		}),
		num("tls.duration_us", func(h *event.HandshakeInfo) (int64, bool) { return microseconds(h.Duration), true }),
		number("tls.peer.days_left", set, daysLeft),
	}...)
}

// daysLeft counts whole days; what ended less than a day ago has -1.
func daysLeft(e *Env) (int64, bool) {
	notAfter := e.Event.Handshake.PeerNotAfter
	left := notAfter - e.Wall/1e9
	if left < 0 {
		left -= day - 1
	}
	return left / day, notAfter != 0
}

// versionName is a TLS version as the standards write it; "" if the handshake did not agree on one.
func versionName(e *Env) string {
	switch v := e.Event.Handshake.Version; v {
	case 0:
		return ""
	case tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13:
		return tls.VersionName(v)
	case 0x0300:
		return "SSL 3.0"
	default:
		return e.hexadecimal(v)
	}
}

// suiteName names the suites that crypto/tls has names for; others are numbers.
func suiteName() func(*Env) string {
	names := map[uint16]string{}
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		names[suite.ID] = suite.Name
	}
	return func(e *Env) string {
		suite := e.Event.Handshake.Suite
		if name, ok := names[suite]; ok || suite == 0 {
			return name
		}
		return e.hexadecimal(suite)
	}
}

// hexadecimal writes a number as 0x0A0B.
func (e *Env) hexadecimal(v uint16) string {
	const digits = "0123456789ABCDEF"
	from := len(e.text)
	e.text = append(e.text, '0', 'x', digits[v>>12], digits[v>>8&15], digits[v>>4&15], digits[v&15])
	return e.since(from)
}

// fingerprint writes the SHA-256 of the peer's certificate.
func fingerprint(e *Env) string {
	h := &e.Event.Handshake
	if !h.HasPeer || h.PeerFingerprint == [32]byte{} {
		return ""
	}
	from := len(e.text)
	e.text = hex.AppendEncode(e.text, h.PeerFingerprint[:])
	return e.since(from)
}
