package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	vm "github.com/plumbline-io/plumbline/test/vm"
)

// pushdown counts in guests how many operations of a known load leave the kernel, with what rules ask of them
// tested there and without. The test does it, which also checks the numbers.
func pushdown(ctx context.Context, kernels string) ([]row, error) {
	dir, err := os.MkdirTemp("", "plumbline-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	vmrun := filepath.Join(dir, "vmrun")
	if err := vm.Build(ctx, runtime.GOARCH, vmrun, "./test/vm/cmd/vmrun"); err != nil {
		return nil, err
	}
	said := regexp.MustCompile(`of (\d+) operations of a load.* (\d+) left the kernel with push-down and (\d+) without`)
	var rows []row
	for _, kernel := range strings.Split(kernels, ",") {
		cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-exec", vmrun+" -timeout 600s -kernel "+kernel+" --",
			"-run", "^TestPushdown$", "-v", "./pkg/enforce")
		cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("run the load on %s: %w: %s", kernel, err, out)
		}
		m := said.FindSubmatch(out)
		if m == nil {
			return nil, fmt.Errorf("run the load on %s: no result in %q", kernel, out)
		}
		rows = append(rows, row{
			fmt.Sprintf("Linux %s: of %s operations of a load, that leave the kernel", kernel, m[1]),
			fmt.Sprintf("%s with rules pushed down, %s without (programs' starts among them)", m[2], m[3]), "",
		})
	}
	return rows, nil
}
