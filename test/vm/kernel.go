// Package vm boots Debian's kernels under QEMU to test Plumbline where it has a kernel for itself. It
// needs no /dev/kvm, no image and no kernel module: everything is in an initramfs. It must never touch
// the machine's own packages, and ends only the QEMU processes it started.
//
//	k, err := vm.Fetch("6.1", cache)
//	result, err := vm.Boot(ctx, vm.Machine{Kernel: k, Files: files, Plan: plan}, handle)
package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Kernel is one kernel to boot.
type Kernel struct {
	Line    string // 5.10, 6.1, 6.12, newest, 6.12-arm64
	Version string // 6.1.0-56-cloud-amd64
	Arch    string // Go's name
	Image   string // file
	Tree    string // unpacked programs for another architecture than the machine's; else empty
}

// line says where a kernel comes from.
type line struct {
	name, arch string
	suites     []string
}

// lines are the kernels of the matrix, oldest first.
func lines() []line {
	return []line{
		{"5.10", "amd64", []string{"bullseye", "bullseye-security"}},
		{"6.1", "amd64", []string{"bookworm", "bookworm-security"}},
		{"6.12", "amd64", []string{"trixie", "trixie-security"}},
		{"newest", "amd64", []string{"trixie-backports"}},
		{"6.12-arm64", "arm64", []string{"trixie", "trixie-security"}},
	}
}

// Lines names the kernels of the matrix.
func Lines() []string {
	var names []string
	for _, l := range lines() {
		names = append(names, l.name)
	}
	return names
}

// freshFor is how long a kernel is used before a newer package is looked for.
const freshFor = 24 * time.Hour

// CacheDir is where downloads are kept, outside of any source tree.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache directory: %w", err)
	}
	return filepath.Join(base, "plumbline", "vm"), nil
}

// Fetch gets the newest kernel of a line, from the cache if that is younger than a day or if there
// is no network.
func Fetch(name string) (Kernel, error) {
	i := slices.IndexFunc(lines(), func(l line) bool { return l.name == name })
	if i < 0 {
		return Kernel{}, fmt.Errorf("find kernel %q: want one of %s", name, strings.Join(Lines(), ", "))
	}
	l := lines()[i]
	cache, err := CacheDir()
	if err != nil {
		return Kernel{}, err
	}
	dir := filepath.Join(cache, l.name)
	unlock, err := lock(dir)
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	cached, age, err := l.cached(dir)
	if err == nil && age < freshFor {
		return cached, nil
	}
	k, fetchErr := l.refresh(dir)
	if fetchErr != nil && err == nil {
		return cached, nil // without network an older one will do
	}
	return k, fetchErr
}

// lock keeps two runs from filling the same cache.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	f, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("lock cache: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock cache: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func (l line) kernel(tree, version string) (Kernel, error) {
	k := Kernel{Line: l.name, Version: version, Arch: l.arch}
	if l.arch != "amd64" {
		k.Tree = tree
		if _, err := os.Stat(filepath.Join(tree, "usr/bin/dash")); err != nil {
			return k, fmt.Errorf("find programs of %s: %w", version, err)
		}
	}
	for _, file := range []string{"boot/vmlinuz-" + version, "usr/lib/modules/" + version + "/vmlinuz"} {
		if _, err := os.Stat(filepath.Join(tree, file)); err == nil {
			k.Image = filepath.Join(tree, file)
			return k, nil
		}
	}
	return k, fmt.Errorf("find kernel image of %s in %s: %w", version, tree, fs.ErrNotExist)
}

// cached is the kernel that the file "current" names.
func (l line) cached(dir string) (Kernel, time.Duration, error) {
	current := filepath.Join(dir, "current")
	version, err := os.ReadFile(current)
	if err != nil {
		return Kernel{}, 0, err
	}
	info, err := os.Stat(current)
	if err != nil {
		return Kernel{}, 0, err
	}
	k, err := l.kernel(filepath.Join(dir, string(version)), string(version))
	return k, time.Since(info.ModTime()), err
}

// refresh fetches the kernel from the machine's archives.
func (l line) refresh(dir string) (Kernel, error) {
	a, err := newApt(filepath.Join(dir, "apt"), l.arch, l.suites)
	if err != nil {
		return Kernel{}, err
	}
	return l.fetch(a, dir)
}

// fetch resolves the newest package now and unpacks it if the cache does not have it.
func (l line) fetch(a *apt, dir string) (Kernel, error) {
	if _, err := a.run("apt-get", "update"); err != nil {
		return Kernel{}, err
	}
	image, err := only(a, "linux-image-cloud-"+l.arch, "linux-image-")
	if err != nil {
		return Kernel{}, err
	}
	version := strings.TrimPrefix(image, "linux-image-")
	tree := filepath.Join(dir, version)
	if _, err := l.kernel(tree, version); err != nil {
		if err := l.unpack(a, tree, image); err != nil {
			return Kernel{}, err
		}
	}
	k, err := l.kernel(tree, version)
	if err != nil {
		return k, err
	}
	return k, os.WriteFile(filepath.Join(dir, "current"), []byte(version), 0o644)
}

// only finds the dependency with a prefix.
func only(a *apt, name, prefix string) (string, error) {
	deps, err := a.depends(name)
	if err != nil {
		return "", err
	}
	for _, d := range deps {
		if strings.HasPrefix(d, prefix) {
			return d, nil
		}
	}
	return "", fmt.Errorf("resolve %s: no dependency %s* in %q", name, prefix, deps)
}

// foreignPackages are the programs of a guest of another architecture, and the libraries they need.
func foreignPackages() []string {
	return []string{
		"dash", "coreutils", "grep", "openssl", "libc6", "libssl3t64", "zlib1g", "libzstd1", "libacl1", "libattr1",
		"libgmp10", "libselinux1", "libpcre2-8-0", "libcap2", "libsystemd0",
	}
}

func (l line) unpack(a *apt, tree, image string) error {
	names := []string{image}
	// From 7.x on the image package is empty and names one with the kernel.
	if binary, err := only(a, image, "linux-binary-"); err == nil {
		names = append(names, binary)
	}
	if l.arch != "amd64" {
		names = append(names, foreignPackages()...)
	}
	partial := tree + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	if err := a.unpack(partial, names...); err != nil {
		return err
	}
	if err := os.RemoveAll(tree); err != nil {
		return err
	}
	return os.Rename(partial, tree)
}
