package vm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/pkg/wholefile"
)

// Passed remembers the guests in which everything passed, by all that makes a guest: its kernel, each file in it, what it
// is to run, and QEMU. One in which nothing is different need not run again, as `go test` does not run again what it has
// run. What did not pass is not remembered.
type Passed struct{ dir string }

// passedFor is how long a guest that nobody asked about is remembered.
const passedFor = 30 * 24 * time.Hour

// OpenPassed finds them in the cache, and forgets those of long ago.
func OpenPassed() (*Passed, error) {
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	p := &Passed{dir: filepath.Join(cache, "passed")}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cache of guests: %w", err)
	}
	files, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, fmt.Errorf("read cache of guests: %w", err)
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil && time.Since(info.ModTime()) > passedFor {
			_ = os.Remove(filepath.Join(p.dir, f.Name()))
		}
	}
	return p, nil
}

type passedGuest struct {
	Boot    time.Duration
	Results []Result
}

// Get tells how a guest's steps ended when they passed. False: they have not, or it cannot be read.
func (p *Passed) Get(digest string) (results []Result, boot time.Duration, ok bool) {
	file := filepath.Join(p.dir, digest)
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, 0, false
	}
	var g passedGuest
	if json.Unmarshal(data, &g) != nil {
		return nil, 0, false
	}
	now := time.Now()
	_ = os.Chtimes(file, now, now)
	return g.Results, g.Boot, true
}

// Put remembers a guest in which everything passed.
func (p *Passed) Put(digest string, results []Result, boot time.Duration) error {
	data, err := json.Marshal(passedGuest{boot, results})
	if err != nil {
		return fmt.Errorf("remember guest: %w", err)
	}
	if err := wholefile.Write(filepath.Join(p.dir, digest), data, 0o644); err != nil {
		return fmt.Errorf("remember guest: %w", err)
	}
	return nil
}

// Digest is of all that makes the guest what it is.
func (m *Machine) Digest() (string, error) {
	sum := sha256.New()
	program, args := m.qemu("")
	if err := sumQEMU(sum, program, args); err != nil {
		return "", err
	}
	if err := sumFile(sum, m.Kernel.Image); err != nil {
		return "", err
	}
	if err := m.writeFiles(sum); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Digest is of all that makes the guest what it is.
func (s *Systemd) Digest() (string, error) {
	sum := sha256.New()
	if err := sumQEMU(sum, "qemu-system-x86_64", append(s.qemu("", ""), s.Off...)); err != nil {
		return "", err
	}
	for _, file := range []string{s.Kernel.Image, s.Tar} {
		if err := sumFile(sum, file); err != nil {
			return "", err
		}
	}
	if err := writeCPIO(sum, s.files()); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func sumQEMU(sum io.Writer, program string, args []string) error {
	version, err := exec.Command(program, "--version").Output()
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", program, err)
	}
	_, err = fmt.Fprintf(sum, "%s%s\n", version, strings.Join(args, "\n"))
	return err
}

func sumFile(sum io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("sum up guest: %w", err)
	}
	defer f.Close()
	n, err := io.Copy(sum, f)
	if err != nil {
		return fmt.Errorf("sum up guest: %w", err)
	}
	_, err = fmt.Fprintln(sum, n)
	return err
}
