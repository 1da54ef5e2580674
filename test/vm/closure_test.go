package vm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestProgramsAreComplete runs a program with nothing but the files that a guest would have.
func TestProgramsAreComplete(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for chroot")
	}
	root := t.TempDir()
	files, err := Programs("sh", "ls", "openssl")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		if seen[f.Path] {
			t.Errorf("%s is there twice", f.Path)
		}
		seen[f.Path] = true
		if err := put(root, f); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("chroot", root, "/bin/sh", "-c", "/bin/ls / && /bin/openssl version")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "bin\n") || !strings.Contains(string(out), "OpenSSL ") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestLibraries(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	static := filepath.Join(dir, "static")
	if err := Build(context.Background(), "amd64", static, "github.com/plumbline-io/plumbline/test/vm/vminit"); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{script, static} {
		if files, err := Libraries(file); err != nil || len(files) != 0 {
			t.Errorf("%s: %v, %v", file, files, err)
		}
	}
	if _, err := Libraries(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "read libraries of "+dir) {
		t.Errorf("got %v", err)
	}
	if _, err := Programs("no-such-program"); err == nil || !strings.Contains(err.Error(), "find program") {
		t.Errorf("got %v", err)
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []File{{Path: "a", Mode: 0o644}, {Path: "b/c"}} {
		if err := put(dir, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	files, err := Directory("/work/testdata", dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2 || files[0].Path != "/work/testdata/a" || files[0].Mode != 0o644 || files[1].Path != "/work/testdata/b/c" || files[1].Mode != 0o755 {
		t.Errorf("got %+v", files)
	}
}
