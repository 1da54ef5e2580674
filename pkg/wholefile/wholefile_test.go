package wholefile

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func check(t *testing.T, name, want string, mode fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil || string(data) != want {
		t.Errorf("%s: %q, %v, want %q", name, data, err, want)
	}
	if info, err := os.Lstat(name); err != nil || info.Mode() != mode {
		t.Errorf("%s: %v, %v, want %v", name, info, err, mode)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(name), ".plumbline-*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	name, link := filepath.Join(dir, "a"), filepath.Join(dir, "link")
	for _, step := range []struct {
		text string
		mode fs.FileMode
	}{{"first", 0o600}, {"second", 0o644}, {"", 0o600}} {
		if err := Write(name, []byte(step.text), step.mode); err != nil {
			t.Fatal(err)
		}
		check(t, name, step.text, step.mode)
	}
	if err := os.Symlink("a", link); err != nil {
		t.Fatal(err)
	}
	if err := Write(link, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	check(t, link, "x", 0o600)
	check(t, name, "", 0o600)
}

func TestRewrite(t *testing.T) {
	dir := t.TempDir()
	name, link := filepath.Join(dir, "a"), filepath.Join(dir, "link")
	if err := os.WriteFile(name, []byte("first"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", link); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(name, 12, 34); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := Rewrite(link, []byte("second")); err != nil {
		t.Fatal(err)
	}
	check(t, name, "second", before.Mode())
	check(t, filepath.Join(dir, "a"), "second", 0o640)
	if to, err := os.Readlink(link); err != nil || to != "a" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if os.Geteuid() == 0 {
		after, err := os.Stat(name)
		if err != nil || !sameOwner(before, after) {
			t.Errorf("owner: %v, %v", after, err)
		}
	}
}

func sameOwner(a, b fs.FileInfo) bool {
	one, other := a.Sys().(*syscall.Stat_t), b.Sys().(*syscall.Stat_t)
	return one.Uid == other.Uid && one.Gid == other.Gid
}

// What cannot be written leaves everything as it was.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"a directory":      Write(filepath.Join(dir, "d"), nil, 0o600),
		"in no directory":  Write(filepath.Join(dir, "none", "a"), nil, 0o600),
		"a file not there": Rewrite(filepath.Join(dir, "a"), nil),
	} {
		if err == nil {
			t.Errorf("written: %s", what)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}
