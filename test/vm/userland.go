package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildInit compiles vminit for an architecture into a temporary file.
func BuildInit(ctx context.Context, arch string) (string, error) {
	f, err := os.CreateTemp("", "vminit-")
	if err != nil {
		return "", fmt.Errorf("build vminit: %w", err)
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	return f.Name(), Build(ctx, arch, f.Name(), "github.com/plumbline-io/plumbline/test/vm/vminit")
}

// Build compiles a static program for a guest.
func Build(ctx context.Context, arch, to, pkg string, flags ...string) error {
	// Which commit it is of is not in it: that alone makes no other guest.
	args := append(append([]string{"build", "-buildvcs=false", "-o", to}, flags...), pkg)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, out)
	}
	return nil
}

// Userland is the programs of a guest: this machine's own, or those unpacked beside the kernel where the
// guest has another architecture. What that one does not have is left out.
func Userland(k Kernel, programs []string) ([]File, error) {
	if k.Tree == "" {
		return Programs(programs...)
	}
	var (
		files []File
		tree  = tree{root: k.Tree, triplet: "aarch64-linux-gnu", seen: map[string]bool{}}
	)
	for _, name := range programs {
		file := filepath.Join(k.Tree, "usr/bin", name)
		if name == "sh" {
			file = filepath.Join(k.Tree, "usr/bin/dash")
		}
		if _, err := os.Stat(file); err != nil {
			continue
		}
		libs, err := tree.libraries(file)
		if err != nil {
			return nil, err
		}
		files = append(append(files, libs...), File{Path: "/bin/" + name, From: file})
	}
	return files, nil
}
