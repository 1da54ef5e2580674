package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func program(t *testing.T, dir, says string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "qemu-system-x86_64")
	if err := os.WriteFile(file, fmt.Appendf(nil, "#!/bin/sh\necho '%s'\n", says), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAsk(t *testing.T) {
	for says, want := range map[string]Emulator{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)":           {Version: "7.2.22"},
		"QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\n": {Version: "10.0.2"},
	} {
		want.Program = program(t, t.TempDir(), says)
		if e, err := ask(want.Program); err != nil || e != want {
			t.Errorf("ask for %q gives %+v, %v, want %+v", says, e, err, want)
		}
	}
	if e, err := ask(program(t, t.TempDir(), "no such library")); err == nil {
		t.Errorf("a program that says no version gives %+v", e)
	}
}

func TestOwnEmulatorIfNewEnough(t *testing.T) {
	for version, major := range map[string]int{"10.0.2": 10, "11": 11} {
		dir := t.TempDir()
		program(t, dir, "QEMU emulator version "+version)
		t.Setenv("PATH", dir)
		e := fetchEmulator(t.TempDir(), "amd64")
		if e.Program != "qemu-system-x86_64" || e.Version != version || e.major() != major {
			t.Errorf("with %s installed: %+v", version, e)
		}
	}
}

func TestBackportedFromCache(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("PATH", t.TempDir()) // no apt: it would fail
	file := program(t, filepath.Join(cache, "bookworm-backports/usr/bin"), "QEMU emulator version 10.0.2")
	e, err := backported(cache, "bookworm-backports", "qemu-system-x86_64")
	if err != nil || e.Program != file || e.Version != "10.0.2" {
		t.Fatalf("from the cache: %+v, %v", e, err)
	}
	// What does not run here is not fetched again at each boot.
	program(t, filepath.Dir(file), "no such library")
	if e, err := backported(cache, "bookworm-backports", "qemu-system-x86_64"); err == nil {
		t.Errorf("one that does not run: %+v", e)
	}
}

func TestUnpackEmulator(t *testing.T) {
	archive := newArchive(t)
	for _, name := range []string{"qemu-system-x86", "qemu-system-arm", "qemu-system-common", "qemu-system-data"} {
		archive.add(name, "10", "", "usr/share/"+name)
	}
	tree := filepath.Join(t.TempDir(), "bookworm-backports")
	if err := archive.apt(t.TempDir()).unpackEmulator(tree); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"qemu-system-x86", "qemu-system-data"} {
		if _, err := os.Stat(filepath.Join(tree, "usr/share", name)); err != nil {
			t.Error(err)
		}
	}
	if err := newArchive(t).apt(t.TempDir()).unpackEmulator(tree); err == nil {
		t.Error("an archive without QEMU is no error")
	}
	if _, err := os.Stat(tree); err != nil {
		t.Error("it is not remembered that there is none:", err)
	}
}

func TestBackports(t *testing.T) {
	file := filepath.Join(t.TempDir(), "os-release")
	for text, want := range map[string]string{
		"ID=debian\nVERSION_CODENAME=bookworm\n": "bookworm-backports",
		"VERSION_CODENAME=\"trixie\"\nID=debian": "trixie-backports",
		"ID=other\n":                             "",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if suite, err := backports(file); suite != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, suite, err, want)
		}
	}
}
