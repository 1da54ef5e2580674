package openssl

import (
	"fmt"
	"os"
	"slices"

	"github.com/plumbline-io/plumbline/pkg/accessor"
)

// facts are what the probes need to know of one build of OpenSSL.
type facts struct {
	layout                       bpfSslLayout
	connect, accept, free, clear uint64 // file offsets in libssl
	reason                       uint64 // in libcrypto: ERR_vset_error
}

// reading is one evaluation of an accessor function and what is taken from it. The first error stays.
type reading struct {
	lib *accessor.Library
	err error
}

func (r *reading) eval(name string, opts accessor.Options) accessor.Trace {
	if r.err != nil {
		return accessor.Trace{}
	}
	var t accessor.Trace
	t, r.err = r.lib.Eval(name, opts)
	return t
}

// offset checks that a path has this many dereferences and gives the offset of the last one.
func (r *reading) offset(name string, p accessor.Path, ok bool, depth int) uint32 {
	const structBytes = 1 << 16 // no struct of OpenSSL is larger
	if r.err != nil {
		return 0
	}
	if !ok || p.Arg != 0 || len(p.Offsets) != depth || p.Offsets[depth-1] < 0 || p.Offsets[depth-1] >= structBytes {
		r.err = fmt.Errorf("read layout: %s returns %s, which is not understood", name, p)
		return 0
	}
	return uint32(p.Offsets[depth-1])
}

// result is the offset of the field that an accessor returns.
func (r *reading) result(name string, depth int) uint32 {
	t := r.eval(name, accessor.Options{})
	p, ok := t.Result.Path()
	return r.offset(name, p, ok && !p.Address, depth)
}

// first is result of an accessor whose second argument is zero.
func (r *reading) first(name string, opts accessor.Options, depth int) accessor.Path {
	opts.Fixed = map[int]uint64{1: 0}
	t := r.eval(name, opts)
	p, ok := t.Result.Path()
	r.offset(name, p, ok && !p.Address, depth)
	return p
}

// find reads the layout out of the libraries' accessor functions.
func find(ssl, crypto *os.File) (*facts, error) {
	libssl, err := accessor.Open(ssl)
	if err != nil {
		return nil, fmt.Errorf("read libssl: %w", err)
	}
	libcrypto, err := accessor.Open(crypto)
	if err != nil {
		return nil, fmt.Errorf("read libcrypto: %w", err)
	}
	f := &facts{}
	s, c := &reading{lib: libssl}, &reading{lib: libcrypto}
	readConnection(s, &f.layout)
	readSession(s, &f.layout)
	readCertificate(c, &f.layout)
	f.connect = s.method("SSL_set_connect_state")
	f.accept = s.method("SSL_set_accept_state")
	f.free, f.clear = s.function("SSL_free"), s.function("SSL_clear")
	f.reason = c.function("ERR_vset_error")
	if s.err != nil {
		return nil, s.err
	}
	return f, c.err
}

func readConnection(r *reading, l *bpfSslLayout) {
	l.Version = r.result("SSL_version", 1)
	l.Server = r.result("SSL_is_server", 1)
	l.Resumed = r.result("SSL_session_reused", 1)
	l.VerifyResult = r.result("SSL_get_verify_result", 1)
	l.HandState = r.result("SSL_get_state", 1)
	l.FlowState = r.otherLoad("SSL_in_before", l.HandState)
	// The selected protocol goes out through two pointers.
	t := r.eval("SSL_get0_alpn_selected", accessor.Options{})
	for arg, to := range map[int]*uint32{1: &l.Alpn, 2: &l.AlpnLen} {
		v, _ := t.Stored(arg, 0)
		p, ok := v.Path()
		*to = r.offset("SSL_get0_alpn_selected", p, ok && !p.Address, 1)
	}
	if p := r.first("SSL_get_servername", accessor.Options{}, 1); r.err == nil {
		l.Hostname = uint32(p.Offsets[0])
	}
}

// otherLoad is the field that a function reads last beside a known one. First, from OpenSSL 3.2 on, it
// reads what kind of connection it has.
func (r *reading) otherLoad(name string, known uint32) uint32 {
	t := r.eval(name, accessor.Options{})
	for _, p := range slices.Backward(t.Loads) {
		if off, ok := p.Field(); ok && p.Arg == 0 && off != int64(known) {
			return r.offset(name, p, true, 1)
		}
	}
	if r.err == nil {
		r.err = fmt.Errorf("read layout: %s reads nothing beside offset %d", name, known)
	}
	return 0
}

func readSession(r *reading, l *bpfSslLayout) {
	l.Session = r.result("SSL_get_session", 1)
	l.SessionCipher = r.result("SSL_get_current_cipher", 2)
	l.SessionHostname = r.result("SSL_SESSION_get0_hostname", 1)
	l.SessionPeer = r.result("SSL_SESSION_get0_peer", 1)
	l.SessionChain = r.result("SSL_get_peer_cert_chain", 2)
	l.CipherId = r.result("SSL_CIPHER_get_id", 1)
}

func readCertificate(r *reading, l *bpfSslLayout) {
	if p := r.first("OPENSSL_sk_value", accessor.Options{Int: 1}, 2); r.err == nil {
		l.StackItems = uint32(p.Offsets[0])
	}
	l.StringLength = r.result("ASN1_STRING_length", 1)
	l.StringData = r.result("ASN1_STRING_get0_data", 1)
	// X509_get0_signature hands out the address of the signature, which is part of the struct.
	t := r.eval("X509_get0_signature", accessor.Options{})
	if v, ok := t.Stored(0, 0); ok {
		if p, ok := v.Path(); ok && p.Address && p.Arg == 2 && len(p.Offsets) == 1 {
			l.X509Signature = uint32(p.Offsets[0])
		}
	}
	// i2d_re_X509_tbs sets the flag "modified" of the cached encoding: pointer, length, flag (ASN1_ENCODING).
	const flagAfter = 16
	t = r.eval("i2d_re_X509_tbs", accessor.Options{})
	for _, st := range t.Stores {
		if off, ok := st.To.Field(); ok && st.To.Arg == 0 && off > flagAfter {
			l.X509Tbs = uint32(off) - flagAfter
		}
	}
	if r.err == nil && (l.X509Signature == 0 || l.X509Tbs == 0) {
		r.err = fmt.Errorf("read layout: signature at %d and encoding at %d of X509 are not understood", l.X509Signature, l.X509Tbs)
	}
}

// function is the file offset of an exported function.
func (r *reading) function(name string) uint64 {
	if r.err != nil {
		return 0
	}
	address, err := r.lib.Function(name)
	if err != nil {
		r.err = err
		return 0
	}
	return r.fileOffset(name, address)
}

func (r *reading) fileOffset(name string, address uint64) uint64 {
	off, ok := r.lib.FileOffset(address)
	if !ok || off == 0 {
		r.err = fmt.Errorf("find %s: address %#x is not in the file", name, address)
	}
	return off
}

// method finds the state machine's entry, which is not exported: the function that a setter takes out
// of the connection's method, in the method that TLS_method returns.
func (r *reading) method(setter string) uint64 {
	if r.err != nil {
		return 0
	}
	// What the setter does after that, clearing buffers, need not be understood.
	t, evalErr := r.lib.Eval(setter, accessor.Options{})
	slot := int64(-1)
	for _, st := range t.Stores {
		if p, ok := st.Value.Path(); ok && !p.Address && p.Arg == 0 && len(p.Offsets) == 2 {
			slot = p.Offsets[1]
			break
		}
	}
	if slot < 0 && evalErr != nil {
		r.err = evalErr
		return 0
	}
	table, constant := r.eval("TLS_method", accessor.Options{}).Result.Number()
	if r.err != nil {
		return 0
	}
	if slot < 0 || !constant {
		r.err = fmt.Errorf("read layout: %s does not take a function out of the method", setter)
		return 0
	}
	address, err := r.lib.Pointer(table + uint64(slot))
	if err != nil {
		r.err = fmt.Errorf("read method of TLS_method: %w", err)
		return 0
	}
	return r.fileOffset(setter, address)
}
