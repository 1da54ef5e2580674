// Package gobin finds functions, their RET instructions and struct field offsets in Go executables,
// also in stripped and position independent ones, from what the Go runtime itself needs to run: the
// function table and the type descriptors. It reads foreign, possibly hostile files: it must never
// panic, never execute anything of them, and never hold more than a few windows of them in memory.
//
//	f, err := gobin.Open("/proc/4711/exe")
//	fns, err := f.Functions("crypto/tls.(*Conn).clientHandshake")
//	rets, err := f.Returns(fns["crypto/tls.(*Conn).clientHandshake"])
//	conn, err := f.Struct("crypto/tls", "Conn")
package gobin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// ErrNotGo means that the file is no Go executable for 64-bit x86 or ARM.
var ErrNotGo = errors.New("not a Go executable")

// ErrUnsupported means that the file is a Go executable that cannot be read; the text says why.
var ErrUnsupported = errors.New("unsupported Go executable")

// maxFile bounds the work that one file can cause: reading all of it takes less than a second.
const maxFile = 512 << 20

// File is one analysed executable. It is not safe for concurrent use.
type File struct {
	image
	version Version
	module  module
	closer  io.Closer
}

// Version is the Go release that built a file.
type Version struct {
	Minor int    // 26 for go1.26.8; 0: not a release
	Text  string // as the toolchain wrote it, for example "go1.26.8 X:nodwarf5"
}

// Function is one function's machine code.
type Function struct {
	Name    string
	Address uint64 // virtual, before relocation
	Offset  uint64 // in the file
	Size    uint64 // up to the next function, padding included
}

// Open reads the file at path; Close releases it. It takes 2 to 30 milliseconds.
func Open(path string) (*File, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open executable: %w", err)
	}
	info, err := r.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open executable: %w", err), r.Close())
	}
	f, err := New(r, info.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), r.Close())
	}
	f.closer = r
	return f, nil
}

// New reads an executable of size bytes. r is used until the File is no longer used.
func New(r io.ReaderAt, size int64) (*File, error) {
	f := &File{image: image{r: r, fileSize: uint64(size)}}
	if err := f.readHeaders(); err != nil {
		return nil, err
	}
	if err := f.readVersion(); err != nil {
		return nil, err
	}
	if err := f.readRelocations(); err != nil {
		return nil, err
	}
	if err := f.readModule(); err != nil {
		return nil, fmt.Errorf("%s: %w", f.version.Text, err)
	}
	return f, nil
}

// Close closes the file that Open opened.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// Version of Go that built the file.
func (f *File) Version() Version { return f.version }

// Arch is the machine as GOARCH names it: amd64 or arm64.
func (f *File) Arch() string {
	if f.machine == machineARM64 {
		return "arm64"
	}
	return "amd64"
}

// buildInfoMagic begins the block in which the toolchain records how it built the file. It is
// aligned to 16 bytes; the version follows the 32 bytes of the header, since Go 1.18.
const buildInfoMagic = "\xff Go buildinf:"

// readVersion reads the toolchain's version. The block is in every Go executable, so its absence is
// what tells other executables apart, cheaply: the writable segment is searched first.
func (f *File) readVersion() error {
	for _, writable := range []bool{true, false} {
		for _, s := range f.segments {
			if s.executable() && len(f.segments) > 1 || s.writable() != writable {
				continue
			}
			var at uint64
			err := f.find(s.va, s.va+s.size, []byte(buildInfoMagic), func(va uint64) bool {
				if va%16 == 0 {
					at = va
				}
				return at == 0
			})
			if err != nil {
				return err
			}
			if at != 0 {
				return f.parseBuildInfo(at)
			}
		}
	}
	return ErrNotGo
}

func (f *File) parseBuildInfo(va uint64) error {
	const header, maxText = 32, 128
	var b [header + 1 + maxText]byte
	n, err := f.readSome(va, b[:])
	if err != nil {
		return err
	}
	if n < header || b[14] != 8 || b[15]&2 == 0 {
		return fmt.Errorf("%w: built by Go before 1.18 or for 32 bits", ErrUnsupported)
	}
	length, used := binary.Uvarint(b[header:n])
	if used <= 0 || length > maxText || header+used+int(length) > n {
		return fmt.Errorf("%w: no version in its build information", ErrUnsupported)
	}
	f.version = parseVersion(string(b[header+used:][:length]))
	return nil
}

// parseVersion reads release names ("go1.26.8", "go1.27rc1 X:foo") and development ones.
func parseVersion(text string) Version {
	v := Version{Text: strings.ToValidUTF8(text, "?")}
	_, rest, found := strings.Cut(text, "go1.")
	if !found {
		return v
	}
	end := 0
	for end < len(rest) && end < 4 && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	v.Minor, _ = strconv.Atoi(rest[:end]) // no digits: 0, not a release
	return v
}
