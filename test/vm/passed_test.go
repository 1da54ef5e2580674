package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestPassed(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	p, err := OpenPassed()
	if err != nil {
		t.Fatal(err)
	}
	want := []Result{{Step: "one", Output: []byte("ok\n"), Files: map[string][]byte{"/tmp/cover": {1, 2}}, Took: time.Second}}
	if err := p.Put("abc", want, time.Minute); err != nil {
		t.Fatal(err)
	}
	got, boot, ok := p.Get("abc")
	if !ok || boot != time.Minute || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, %t; want %v", got, boot, ok, want)
	}
	if _, _, ok := p.Get("abd"); ok {
		t.Error("another guest is remembered")
	}
	long := time.Now().Add(-passedFor - time.Hour)
	if err := os.Chtimes(filepath.Join(p.dir, "abc"), long, long); err != nil {
		t.Fatal(err)
	}
	if p, err = OpenPassed(); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := p.Get("abc"); ok {
		t.Error("a guest of long ago is remembered")
	}
}

func TestDigest(t *testing.T) {
	for _, program := range []string{"qemu-system-x86_64", "qemu-system-aarch64"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs QEMU:", err)
		}
	}
	dir := t.TempDir()
	put := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	kernel, init, program := put("kernel", "k"), put("init", "i"), put("program", "p")
	machine := func() Machine {
		return Machine{
			Kernel: Kernel{Image: kernel}, Init: init, Files: []File{{Path: "/bin/program", From: program}, {Path: "/etc/file", Data: []byte("d")}},
			Plan: Plan{Cgroups: "v2", Steps: []Step{{Name: "one", Args: []string{"/bin/program"}}}},
		}
	}
	digest := func(m Machine) string {
		text, err := m.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	before := digest(machine())
	turned := machine()
	turned.Files[0], turned.Files[1] = turned.Files[1], turned.Files[0]
	if digest(turned) != before {
		t.Error("the order of files makes another guest")
	}
	for name, change := range map[string]func(m *Machine){
		"kernel":       func(*Machine) { put("kernel", "K") },
		"init":         func(*Machine) { put("init", "I") },
		"program":      func(*Machine) { put("program", "P") },
		"data":         func(m *Machine) { m.Files[1].Data = []byte("D") },
		"mode":         func(m *Machine) { m.Files[1].Mode = 0o600 },
		"plan":         func(m *Machine) { m.Plan.Steps[0].Args = []string{"/bin/program", "-v"} },
		"list of LSMs": func(m *Machine) { m.LSM = LSMWithoutBPF },
		"processors":   func(m *Machine) { m.CPUs = 1 },
		"architecture": func(m *Machine) { m.Kernel.Arch = "arm64" },
	} {
		t.Run(name, func(t *testing.T) {
			m := machine()
			change(&m)
			if digest(m) == before {
				t.Error("it is the same guest with another", name)
			}
			put("kernel", "k")
			put("init", "i")
			put("program", "p")
		})
	}
}
