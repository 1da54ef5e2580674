package accessor

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

// library opens this machine's OpenSSL. That its fields are where the accessors say is proven by the
// handshakes that pkg/sensor/openssl reads through them.
func library(t testing.TB, name string) *Library {
	t.Helper()
	for _, dir := range []string{"/usr/lib/x86_64-linux-gnu/", "/usr/lib/aarch64-linux-gnu/", "/usr/lib64/"} {
		f, err := os.Open(dir + name)
		if err != nil {
			continue
		}
		t.Cleanup(func() { f.Close() })
		l, err := Open(f)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	t.Skipf("needs %s", name)
	return nil
}

func TestFieldsOfOpenSSL(t *testing.T) {
	for file, depths := range map[string]map[string]int{
		"libssl.so.3": {
			"SSL_version": 1, "SSL_is_server": 1, "SSL_get_session": 1, "SSL_get_state": 1, "SSL_get_verify_result": 1,
			"SSL_get_current_cipher": 2, "SSL_get_peer_cert_chain": 2, "SSL_CIPHER_get_id": 1,
		},
		"libcrypto.so.3": {"ASN1_STRING_length": 1, "ASN1_STRING_get0_data": 1, "X509_get0_extensions": 1, "OPENSSL_sk_num": 1},
	} {
		l := library(t, file)
		seen := map[string]string{}
		for name, depth := range depths {
			trace, err := l.Eval(name, Options{})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			p, ok := trace.Result.Path()
			if !ok || p.Arg != 0 || p.Address || len(p.Offsets) != depth {
				t.Errorf("%s: %s, want %d dereferences of the argument", name, p, depth)
			}
			if file == "libssl.so.3" && name != "SSL_CIPHER_get_id" {
				if other := seen[p.String()]; other != "" {
					t.Errorf("%s and %s read the same field %s", name, other, p)
				}
				seen[p.String()] = name
			}
		}
	}
}

func TestMethodTable(t *testing.T) {
	l := library(t, "libssl.so.3")
	trace, err := l.Eval("TLS_method", Options{})
	if err != nil {
		t.Fatal(err)
	}
	table, constant := trace.Result.Number()
	if !constant {
		t.Fatal("TLS_method does not return a constant")
	}
	if _, err := l.Pointer(table + 48); err != nil {
		t.Error(err)
	}
}

func TestNotExported(t *testing.T) {
	l := library(t, "libssl.so.3")
	for _, name := range []string{"", "SSL_no_such_function", "ossl_statem_connect"} {
		if _, err := l.Function(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestNotALibrary(t *testing.T) {
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("#!/bin/sh\n" + string(make([]byte, 100))), "short": []byte("\x7fELF\x02\x01"),
		"header only": append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 57)...),
	} {
		if l, err := Open(bytes.NewReader(data)); err == nil {
			if _, err := l.Eval("SSL_version", Options{}); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	}
}

// Hostile files must end in an error, soon and without a panic.
func FuzzOpen(f *testing.F) {
	if data, err := os.ReadFile("/usr/lib/x86_64-linux-gnu/libssl.so.3"); err == nil {
		f.Add(data[:4096], "SSL_version")
	}
	f.Add([]byte("\x7fELF\x02\x01\x01"), "f")
	f.Fuzz(func(_ *testing.T, data []byte, name string) {
		l, err := Open(bytes.NewReader(data))
		if err != nil {
			return
		}
		_, _ = l.Eval(name, Options{})
		_, _ = l.Pointer(0)
	})
}

// Code, too, is input: bytes of a real library are changed before it is interpreted.
func FuzzCode(f *testing.F) {
	data, err := os.ReadFile("/usr/lib/x86_64-linux-gnu/libssl.so.3")
	if err != nil {
		f.Skip("needs libssl.so.3")
	}
	l, err := Open(bytes.NewReader(data))
	if err != nil {
		f.Fatal(err)
	}
	at, err := l.Function("SSL_get_current_cipher")
	if err != nil {
		f.Fatal(err)
	}
	off, _ := l.FileOffset(at)
	f.Add([]byte{0x48, 0x8b, 0x07, 0xc3})
	f.Add([]byte{0xe8, 0xfb, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, code []byte) {
		changed := bytes.Clone(data)
		copy(changed[off:], code)
		l, err := Open(bytes.NewReader(changed))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = l.Eval("SSL_get_current_cipher", Options{})
	})
}

func BenchmarkEval(b *testing.B) {
	l := library(b, "libssl.so.3")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Eval("SSL_get_current_cipher", Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
