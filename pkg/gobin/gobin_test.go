package gobin_test

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/gobin"
	"github.com/plumbline-io/plumbline/pkg/gobin/gobintest"
)

const (
	client = "crypto/tls.(*Conn).clientHandshake"
	server = "crypto/tls.(*Conn).serverHandshake"
	start  = "runtime.startTheWorldWithSema"
)

// Everything that is read from stripped files must be what DWARF says of a file that has it.
func TestAgreesWithDWARF(t *testing.T) {
	for _, toolchain := range gobintest.Toolchains() {
		for _, arch := range []string{"amd64", "arm64"} {
			for _, pie := range []bool{false, true} {
				s := gobintest.Specimen{Toolchain: toolchain, Arch: arch, PIE: pie}
				t.Run(s.Name(), func(t *testing.T) { compare(t, s) })
			}
		}
	}
}

// The system's linker lays files out in other ways, and may pack the relocations.
func TestAgreesWithDWARFExternal(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil || os.Getenv("PLUMBLINE_TEST_BIN") != "" {
		t.Skip("needs a C compiler")
	}
	for name, s := range map[string]gobintest.Specimen{
		"plain":  {},
		"pie":    {PIE: true},
		"packed": {PIE: true, Linker: "-Wl,-z,pack-relative-relocs"},
		"static": {Linker: "-static"},
	} {
		t.Run(name, func(t *testing.T) {
			s.External, s.Arch = true, runtime.GOARCH
			compare(t, s)
		})
	}
}

func compare(t *testing.T, s gobintest.Specimen) {
	full := gobintest.Build(t, s)
	s.Stripped = true
	stripped := gobintest.Build(t, s)
	fromDWARF, err := elf.Open(full)
	if err != nil {
		t.Fatal(err)
	}
	defer fromDWARF.Close()
	info, err := fromDWARF.DWARF()
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := fromDWARF.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{full, stripped} {
		f := open(t, path)
		if f.Arch() != s.Arch || s.Toolchain != "" && f.Version().Text != s.Toolchain ||
			s.Toolchain == "" && f.Version().Text != runtime.Version() {
			t.Errorf("%s built for %s", f.Version().Text, f.Arch())
		}
		got, err := f.Struct("crypto/tls", "Conn")
		if err != nil {
			t.Fatal(err)
		}
		want := structFrom(t, info, "crypto/tls.Conn")
		if got.Size != want.Size || !maps.Equal(got.Fields, want.Fields) {
			t.Errorf("tls.Conn is %+v, DWARF says %+v", got, want)
		}
		if path != full {
			continue // its addresses are not the stripped one's
		}
		fns, err := f.Functions(client, server, start, "no.such.function")
		if err != nil || len(fns) != 3 {
			t.Fatalf("found %d functions, want 3: %v", len(fns), err)
		}
		for _, name := range []string{client, server, start} {
			compareFunction(t, f, fns[name], symbols)
		}
	}
}

func compareFunction(t *testing.T, f *gobin.File, fn gobin.Function, symbols []elf.Symbol) {
	t.Helper()
	i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == fn.Name })
	if i < 0 {
		t.Fatalf("no symbol %s", fn.Name)
	}
	if s := symbols[i]; s.Value != fn.Address || s.Size > fn.Size || fn.Size-s.Size > 64 {
		t.Errorf("%s at %#x size %d, the symbol says %#x and %d", fn.Name, fn.Address, fn.Size, s.Value, s.Size)
	}
	rets, err := f.Returns(fn)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rets {
		if r < fn.Offset || r >= fn.Offset+fn.Size {
			t.Errorf("%s: RET at %#x is outside", fn.Name, r)
		}
	}
	body, err := f.Body(fn)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s: %d bytes, body at +%d, %d RETs", f.Version().Text, fn.Name, fn.Size, body-fn.Offset, len(rets))
}

// The RETs of stripped files lie on RET instructions, and a body on PUSH RBP or the first one.
func TestReturnsAndBodyInStripped(t *testing.T) {
	for _, pie := range []bool{false, true} {
		path := gobintest.Build(t, gobintest.Specimen{Stripped: true, PIE: pie, Arch: "amd64"})
		f := open(t, path)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		fns, err := f.Functions(client, server, start)
		if err != nil || len(fns) != 3 {
			t.Fatalf("found %d functions, want 3: %v", len(fns), err)
		}
		for _, fn := range fns {
			rets, err := f.Returns(fn)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rets {
				if raw[r] != 0xc3 {
					t.Errorf("%s: %#x at a RET's place", fn.Name, raw[r])
				}
			}
			body, err := f.Body(fn)
			if err != nil || raw[body] != 0x55 {
				t.Errorf("%s: %#x at the body's place, want PUSH RBP: %v", fn.Name, raw[body], err)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	specimen, err := os.ReadFile(gobintest.Build(t, gobintest.Specimen{Stripped: true, PIE: true}))
	if err != nil {
		t.Fatal(err)
	}
	cat, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Skip(err)
	}
	damaged := func(change func(b []byte)) []byte {
		b := bytes.Clone(specimen)
		change(b)
		return b
	}
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"empty":                {nil, gobin.ErrNotGo},
		"text":                 {[]byte(strings.Repeat("#!/bin/sh\n", 50)), gobin.ErrNotGo},
		"C program":            {cat, gobin.ErrNotGo},
		"header only":          {specimen[:64], gobin.ErrNotGo},
		"truncated":            {specimen[:len(specimen)/2], gobin.ErrNotGo},
		"32 bits":              {damaged(func(b []byte) { b[4] = 1 }), gobin.ErrNotGo},
		"other machine":        {damaged(func(b []byte) { b[18] = 0xf3 }), gobin.ErrNotGo},
		"many program headers": {damaged(func(b []byte) { b[56], b[57] = 0xff, 0xff }), gobin.ErrNotGo},
		"no build information": {bytes.ReplaceAll(specimen, []byte("\xff Go buildinf:"), make([]byte, 14)), gobin.ErrNotGo},
		"other function table": {bytes.ReplaceAll(specimen, []byte{0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8}, []byte{0xfb, 0xff, 0xff, 0xff, 0, 0, 1, 8}), gobin.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := gobin.New(bytes.NewReader(c.file), int64(len(c.file))); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	if _, err := gobin.Open("/no/such/file"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestMissing(t *testing.T) {
	f := open(t, gobintest.Build(t, gobintest.Specimen{Stripped: true}))
	if _, err := f.Struct("crypto/tls", "Connn"); !errors.Is(err, gobin.ErrUnsupported) {
		t.Errorf("missing type: %v", err)
	}
	if _, err := f.Struct("other/tls", "Conn"); !errors.Is(err, gobin.ErrUnsupported) {
		t.Errorf("type of another package: %v", err)
	}
	if fns, err := f.Functions("crypto/tls.(*Conn).no"); err != nil || len(fns) != 0 {
		t.Errorf("missing function: %v %v", fns, err)
	}
}

// FuzzNew overwrites words of a real executable. Nothing may panic or hang; what is found must lie in
// the file.
func FuzzNew(f *testing.F) {
	for _, pie := range []bool{true, false} {
		specimen, err := os.ReadFile(gobintest.Build(f, gobintest.Specimen{Stripped: true, PIE: pie}))
		if err != nil {
			f.Fatal(err)
		}
		// The places that steer the analysis: headers, build information, function table, module.
		for _, key := range []string{"\x7fELF", "\xff Go buildinf:", "\xf1\xff\xff\xff\x00\x00\x01\x08", "\x09*tls.Conn"} {
			at := bytes.Index(specimen, []byte(key))
			f.Add(uint32(at), uint64(0), pie)
			f.Add(uint32(at+32), ^uint64(0), pie)
			f.Add(uint32(at+64), uint64(1)<<63, pie)
		}
	}
	specimens := map[bool][]byte{}
	for _, pie := range []bool{true, false} {
		b, err := os.ReadFile(gobintest.Build(f, gobintest.Specimen{Stripped: true, PIE: pie}))
		if err != nil {
			f.Fatal(err)
		}
		specimens[pie] = b
	}
	f.Fuzz(func(t *testing.T, at uint32, value uint64, pie bool) {
		r := patched{specimens[pie], int64(at) % int64(len(specimens[pie])), value}
		file, err := gobin.New(r, int64(len(r.file)))
		if err != nil {
			return
		}
		fns, err := file.Functions(client, start)
		if err == nil {
			for _, fn := range fns {
				if fn.Offset+fn.Size > uint64(len(r.file)) {
					t.Fatalf("%+v ends beyond the file", fn)
				}
				_, _ = file.Returns(fn)
				_, _ = file.Body(fn)
			}
		}
		_, _ = file.Struct("crypto/tls", "Conn")
	})
}

// patched is a file of which eight bytes are different.
type patched struct {
	file  []byte
	at    int64
	value uint64
}

func (p patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := bytes.NewReader(p.file).ReadAt(b, off)
	word := binary.LittleEndian.AppendUint64(nil, p.value)
	for i, c := range word {
		if k := p.at + int64(i) - off; k >= 0 && k < int64(n) {
			b[k] = c
		}
	}
	return n, err
}

func open(t testing.TB, path string) *gobin.File {
	t.Helper()
	f, err := gobin.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func structFrom(t *testing.T, info *dwarf.Data, name string) gobin.Struct {
	t.Helper()
	for r := info.Reader(); ; {
		e, err := r.Next()
		if err != nil || e == nil {
			t.Fatalf("no %s in DWARF: %v", name, err)
		}
		if e.Tag != dwarf.TagStructType || e.Val(dwarf.AttrName) != name {
			continue
		}
		typ, err := info.Type(e.Offset)
		if err != nil {
			t.Fatal(err)
		}
		st := typ.(*dwarf.StructType)
		s := gobin.Struct{Size: uint64(st.ByteSize), Fields: map[string]uint64{}}
		for _, f := range st.Field {
			s.Fields[f.Name] = uint64(f.ByteOffset)
		}
		return s
	}
}

func BenchmarkAnalyse(b *testing.B) {
	for _, pie := range []bool{false, true} {
		path := gobintest.Build(b, gobintest.Specimen{Stripped: true, PIE: pie})
		b.Run(fmt.Sprintf("pie=%t", pie), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f := open(b, path)
				if _, err := f.Functions(client, server, start); err != nil {
					b.Fatal(err)
				}
				if _, err := f.Struct("crypto/tls", "Conn"); err != nil {
					b.Fatal(err)
				}
				if err := f.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
