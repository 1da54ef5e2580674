// Package gobintest builds the specimen, a program that does a known number of TLS handshakes and
// garbage collections on command and tells what it did. It is for tests only; the specimen talks to
// itself on the loopback interface and must never need anything else.
//
//	path := gobintest.Build(t, gobintest.Specimen{Stripped: true, PIE: true})
package gobintest

import (
	"embed"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// source of the specimen; it is compiled by toolchains back to Go 1.20.
//
//go:embed specimen/main.go
var source embed.FS

// Specimen is a way to build the program.
type Specimen struct {
	Toolchain string // "go1.22.12"; empty: the one that runs the test
	Arch      string // GOARCH; empty: this machine's
	Stripped  bool   // neither symbols nor DWARF, as production builds are
	PIE       bool
	External  bool   // linked by the system's linker, as programs with C in them are
	Linker    string // flags of that linker
}

// Name tells builds apart.
func (s Specimen) Name() string {
	name := []string{"specimen"}
	if s.Toolchain != "" {
		name = append(name, s.Toolchain)
	}
	if s.Arch != "" {
		name = append(name, s.Arch)
	}
	if s.Stripped {
		name = append(name, "stripped")
	}
	if s.PIE {
		name = append(name, "pie")
	}
	if s.External {
		name = append(name, "external")
	}
	return strings.Join(name, "-")
}

// Production is the specimen as services are built: stripped and position independent. Where programs
// are prebuilt and that one is not among them, because a PIE needs the system's loader, it is stripped
// only.
func Production() Specimen {
	s := Specimen{Stripped: true, PIE: true}
	if dir := os.Getenv("PLUMBLINE_TEST_BIN"); dir != "" {
		if _, err := os.Stat(filepath.Join(dir, s.Name())); err != nil {
			s.PIE = false
		}
	}
	return s
}

// Toolchains are the releases to test with: $PLUMBLINE_TEST_TOOLCHAINS, separated by commas, besides
// the one that runs the test, which is "".
func Toolchains() []string {
	all := []string{""}
	if more := os.Getenv("PLUMBLINE_TEST_TOOLCHAINS"); more != "" {
		all = append(all, strings.Split(more, ",")...)
	}
	return all
}

// Build compiles the program and returns its path. Where $PLUMBLINE_TEST_BIN names a directory, as on
// machines without a toolchain, the program is taken from there by its name.
func Build(t testing.TB, s Specimen) string {
	t.Helper()
	if dir := os.Getenv("PLUMBLINE_TEST_BIN"); dir != "" {
		path := filepath.Join(dir, s.Name())
		if _, err := os.Stat(path); err != nil {
			t.Skipf("needs a prebuilt %s: %v", s.Name(), err)
		}
		return path
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("needs a Go toolchain: %v", err)
	}
	path := filepath.Join(t.TempDir(), s.Name())
	if err := os.WriteFile(path, s.build(t), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// build returns the program. It is built at a place of its own in the user's cache, where the go command does not link
// it again unless something has changed; one test at a time, and each has a file that is its own.
func (s Specimen) build(t testing.TB) []byte {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "plumbline", "specimens", s.Name()+s.Linker)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatalf("lock %s: %v", dir, err)
	}
	main, err := source.ReadFile("specimen/main.go")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "main.go"), main)
	write(t, filepath.Join(dir, "go.mod"), []byte("module specimen\n\ngo 1.20\n"))
	path := filepath.Join(dir, s.Name())
	cmd := s.command(path)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", s.Name(), err, out)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func (s Specimen) command(path string) *exec.Cmd {
	var ldflags []string
	if s.Stripped {
		ldflags = append(ldflags, "-s", "-w")
	}
	cgo := "0"
	if s.External {
		cgo = "1"
		ldflags = append(ldflags, "-linkmode=external", "-extldflags="+s.Linker)
	}
	args := []string{"build", "-o", path, "-ldflags=" + strings.Join(ldflags, " ")}
	if s.PIE {
		args = append(args, "-buildmode=pie")
	}
	cmd := exec.Command("go", append(args, ".")...)
	// The settings of the running test (go.work, -race) must not reach the build.
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo, "GOFLAGS=-mod=mod -buildvcs=false -trimpath", "GOWORK=off", "GOARCH="+arch(s))
	if s.Toolchain != "" {
		cmd.Env = append(cmd.Env, "GOTOOLCHAIN="+s.Toolchain)
	}
	return cmd
}

func arch(s Specimen) string {
	if s.Arch != "" {
		return s.Arch
	}
	return runtime.GOARCH
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
