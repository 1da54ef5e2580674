package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Emulator is a QEMU.
type Emulator struct {
	Program string // a name to look up, or a file
	Version string // 10.0.2; empty: it could not be asked
}

// newEnough is the major version of QEMU that is not replaced. Measured with 6.12 as the guest: programs start
// three times as fast in 10.0 as in 7.2, which Debian 12 has. Nothing between the two was measured.
const newEnough = 10

// major is the first number of the version; 0: not known.
func (e Emulator) major() int {
	first, _, _ := strings.Cut(e.Version, ".")
	n, _ := strconv.Atoi(first)
	return n
}

// ask runs a program for its version.
func ask(program string) (Emulator, error) {
	e := Emulator{Program: program}
	out, err := exec.Command(program, "--version").Output()
	if err != nil {
		return e, fmt.Errorf("ask %s for its version: %w", program, err)
	}
	found := regexp.MustCompile(`version (\d+(?:\.\d+)*)`).FindSubmatch(out)
	if found == nil {
		return e, fmt.Errorf("ask %s for its version: it says %.80q", program, out)
	}
	e.Version = string(found[1])
	return e, nil
}

// fetchEmulator gives the QEMU of an architecture: the machine's own if it is new enough, else that of the
// backports of the machine's release, unpacked in the cache with nothing installed. Where there is none, the
// machine's own will do: it is slow, not wrong.
func fetchEmulator(cache, arch string) Emulator {
	program := map[string]string{"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}[arch]
	own, err := ask(program)
	if err != nil || own.major() >= newEnough {
		return own
	}
	suite, err := backports("/etc/os-release")
	if err != nil {
		return own
	}
	if better, err := backported(filepath.Join(cache, "qemu"), suite, program); err == nil && better.major() > own.major() {
		return better
	}
	return own
}

// backports names the suite of the machine's release, see os-release(5).
func backports(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("find the machine's release: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return strings.Trim(name, `"'`) + "-backports", nil
		}
	}
	return "", fmt.Errorf("find the machine's release: %s has no VERSION_CODENAME", file)
}

// backported is the program of a suite, from the cache if it is there. Its libraries are those of the machine's
// own QEMU; if they do not fit, it does not say its version.
func backported(dir, suite, program string) (Emulator, error) {
	unlock, err := lock(dir)
	if err != nil {
		return Emulator{}, err
	}
	defer unlock()
	tree := filepath.Join(dir, suite)
	file := filepath.Join(tree, "usr/bin", program)
	if e, err := ask(file); err == nil {
		return e, nil
	}
	if info, err := os.Stat(tree); err == nil && time.Since(info.ModTime()) < freshFor {
		return Emulator{}, fmt.Errorf("use QEMU of %s: it was tried less than a day ago", suite)
	}
	a, err := newApt(filepath.Join(dir, "apt"), "amd64", []string{suite})
	if err != nil {
		return Emulator{}, err
	}
	if err := a.unpackEmulator(tree); err != nil {
		return Emulator{}, err
	}
	return ask(file)
}

// unpackEmulator leaves a tree also where it fails: it remembers when that was tried.
func (a *apt) unpackEmulator(tree string) error {
	if _, err := a.run("apt-get", "update"); err != nil {
		return errors.Join(err, os.MkdirAll(tree, 0o755))
	}
	partial := tree + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	err := a.unpack(partial, "qemu-system-x86", "qemu-system-arm", "qemu-system-common", "qemu-system-data")
	return errors.Join(err, os.RemoveAll(tree), os.MkdirAll(partial, 0o755), os.Rename(partial, tree))
}
