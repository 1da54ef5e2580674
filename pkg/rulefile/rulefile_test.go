package rulefile

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/rule"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func names(dir string, files []rule.File) []string {
	var all []string
	for _, f := range files {
		all = append(all, strings.TrimPrefix(f.Name, dir+"/"))
	}
	return all
}

func TestAdd(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.yaml", "a.yaml", "sub/c.yaml", "a_test.yaml", "notes.txt", ".hidden/d.yaml", ".e.yaml"} {
		write(t, filepath.Join(dir, name), name)
	}
	// As the kubelet mounts a ConfigMap: each file once.
	write(t, filepath.Join(dir, "map/..2026/x.yaml"), "x")
	link(t, "..2026", filepath.Join(dir, "map/..data"))
	link(t, "..data/x.yaml", filepath.Join(dir, "map/x.yaml"))
	// Nobody writes into it: it must not be opened.
	if err := unix.Mkfifo(filepath.Join(dir, "pipe.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	var f Files
	if err := errors.Join(f.Add(dir), f.Add(filepath.Join(dir, "a.yaml"))); err != nil {
		t.Fatal(err)
	}
	if got, want := names(dir, f.Rules), []string{"a.yaml", "b.yaml", "map/x.yaml", "sub/c.yaml"}; !slices.Equal(got, want) {
		t.Errorf("rules %q, want %q", got, want)
	}
	if got := names(dir, f.Tests); !slices.Equal(got, []string{"a_test.yaml"}) {
		t.Errorf("tests %q", got)
	}
	if err := new(Files).Add(t.TempDir()); !errors.Is(err, ErrNone) {
		t.Errorf("an empty directory: %v", err)
	}
	if err := new(Files).Add(filepath.Join(dir, "none.yaml")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
}

func TestBounds(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "large.yaml"), "")
	if err := os.Truncate(filepath.Join(dir, "large.yaml"), maxFileBytes+1); err != nil {
		t.Fatal(err)
	}
	if err := new(Files).Add(dir); err == nil || !strings.Contains(err.Error(), "large.yaml has more than 16 MiB") {
		t.Errorf("a large file: %v", err)
	}
	var f Files
	for range maxFiles {
		if err := f.AddReader(strings.NewReader(""), "x.yaml"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.AddReader(strings.NewReader(""), "x.yaml"); err == nil {
		t.Error("one file too many is taken")
	}
}
