package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestModules(t *testing.T) {
	tree := filepath.Join(t.TempDir(), "1.2-amd64")
	in := filepath.Join(tree, "lib/modules/1.2-amd64/kernel/fs")
	if err := os.MkdirAll(in, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"plain.ko", "packed.ko", "other.ko"} {
		if err := os.WriteFile(filepath.Join(in, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := exec.Command("xz", filepath.Join(in, "packed.ko")).Run(); err != nil {
		t.Fatal(err)
	}
	k := Kernel{Version: "1.2-amd64", Image: filepath.Join(tree, "boot/vmlinuz-1.2-amd64")}
	files, err := Modules(k, "plain", "packed", "absent")
	if err != nil || len(files) != 2 {
		t.Fatalf("got %+v, %v", files, err)
	}
	if f := files[0]; f.Path != "/lib/modules/packed.ko" || string(f.Data) != "packed.ko" {
		t.Errorf("packed: %+v", f)
	}
	if f := files[1]; f.Path != "/lib/modules/plain.ko" || f.From != filepath.Join(in, "plain.ko") {
		t.Errorf("plain: %+v", f)
	}
	k.Image = "/boot/vmlinuz"
	if _, err := Modules(k, "plain"); err == nil {
		t.Error("an image outside of its tree was not refused")
	}
}
