package vm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// archive is a Debian archive of ours on this machine, which the real apt reads.
type archive struct {
	t    *testing.T
	dir  string
	list string // of packages
}

func newArchive(t *testing.T) *archive {
	for _, program := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs Debian's package tools: ", err)
		}
	}
	return &archive{t: t, dir: t.TempDir()}
}

// add publishes a package with the files that are named.
func (a *archive) add(name, version, depends string, files ...string) {
	a.t.Helper()
	tree := a.t.TempDir()
	for _, file := range files {
		a.write(filepath.Join(tree, file), name+" "+version)
	}
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: us <us@example.org>\nDescription: test\n", name, version)
	if depends != "" {
		control += "Depends: " + depends + "\n"
	}
	a.write(filepath.Join(tree, "DEBIAN/control"), control)
	deb := filepath.Join(a.dir, name+"_"+version+"_amd64.deb")
	if out, err := exec.Command("dpkg-deb", "-Znone", "--build", tree, deb).CombinedOutput(); err != nil {
		a.t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(deb)
	if err != nil {
		a.t.Fatal(err)
	}
	a.list += fmt.Sprintf("%sFilename: ./%s\nSize: %d\nSHA256: %x\n\n", control, filepath.Base(deb), len(data), sha256.Sum256(data))
	a.write(filepath.Join(a.dir, "Packages"), a.list)
}

func (a *archive) write(file, text string) {
	a.t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		a.t.Fatal(err)
	}
}

// fetch is line.fetch from this archive.
func (a *archive) fetch(l line, cache string) (Kernel, error) {
	a.t.Helper()
	private, err := makeApt(filepath.Join(cache, "apt"), "amd64", "deb [trusted=yes] file:"+a.dir+" ./\n")
	if err != nil {
		a.t.Fatal(err)
	}
	return l.fetch(private, cache)
}

func TestFetchTakesTheNewest(t *testing.T) {
	a, cache := newArchive(t), t.TempDir()
	l := line{name: "6.1", arch: "amd64"}
	for _, abi := range []string{"9", "56", "55"} {
		image := "linux-image-6.1.0-" + abi + "-cloud-amd64"
		a.add("linux-image-cloud-amd64", "6.1."+abi, "foo, "+image+" (= 6.1."+abi+")")
		a.add(image, "6.1."+abi, "", "boot/vmlinuz-6.1.0-"+abi+"-cloud-amd64")
	}
	k, err := a.fetch(l, cache)
	if err != nil {
		t.Fatal(err)
	}
	if k.Version != "6.1.0-56-cloud-amd64" || k.Image != filepath.Join(cache, k.Version, "boot/vmlinuz-"+k.Version) || k.Tree != "" {
		t.Errorf("got %+v", k)
	}
	cached, age, err := l.cached(cache)
	if err != nil || cached != k || age > time.Minute {
		t.Errorf("cached: %+v, %s, %v", cached, age, err)
	}
}

// From 7.x on the image package is empty, and another one has the kernel.
func TestFetchSplitPackages(t *testing.T) {
	a, cache := newArchive(t), t.TempDir()
	const version = "7.3.4-cloud-amd64"
	a.add("linux-image-cloud-amd64", "7.3.4", "linux-image-"+version)
	a.add("linux-image-"+version, "7.3.4", "linux-binary-"+version)
	a.add("linux-binary-"+version, "7.3.4", "", "usr/lib/modules/"+version+"/vmlinuz")
	k, err := a.fetch(line{name: "newest", arch: "amd64"}, cache)
	if err != nil {
		t.Fatal(err)
	}
	if k.Image != filepath.Join(cache, version, "usr/lib/modules", version, "vmlinuz") {
		t.Errorf("got %+v", k)
	}
}

// A package that is listed and cannot be had leaves the cache as it was.
func TestFetchKeepsTheOld(t *testing.T) {
	a, cache := newArchive(t), t.TempDir()
	l := line{name: "6.1", arch: "amd64"}
	add := func(abi string) {
		a.add("linux-image-cloud-amd64", "6.1."+abi, "linux-image-"+abi)
		a.add("linux-image-"+abi, "6.1."+abi, "", "boot/vmlinuz-"+abi)
	}
	add("1")
	old, err := a.fetch(l, cache)
	if err != nil {
		t.Fatal(err)
	}
	add("2")
	if err := os.Remove(filepath.Join(a.dir, "linux-image-2_6.1.2_amd64.deb")); err != nil {
		t.Fatal(err)
	}
	if k, err := a.fetch(l, cache); err == nil || !strings.Contains(err.Error(), "download [linux-image-2]") {
		t.Errorf("got %+v, %v", k, err)
	}
	if k, _, err := l.cached(cache); err != nil || k != old {
		t.Errorf("cached: %+v, %v; want %+v", k, err, old)
	}
}

func TestUnknownKernel(t *testing.T) {
	_, err := Fetch("4.19")
	if err == nil || !strings.Contains(err.Error(), `find kernel "4.19": want one of 5.10, 6.1`) {
		t.Errorf("got %v", err)
	}
}

func TestCachedWithoutImage(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "current"), []byte("6.1"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := (line{name: "6.1", arch: "amd64"}).cached(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want a missing image", err)
	}
}
