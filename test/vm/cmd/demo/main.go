// Demo runs the demo's programs, as built into bin/, inside a guest that has BPF LSM.
//
//	make demo VM=6.1
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	vm "github.com/plumbline-io/plumbline/test/vm"
)

func main() {
	kernel := flag.String("kernel", "6.1", "one of "+strings.Join(vm.Lines(), ", "))
	bin := flag.String("bin", "bin", "directory of the programs")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	code, err := run(ctx, *kernel, *bin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(ctx context.Context, kernel, bin string) (int, error) {
	fmt.Printf("fetching the newest Debian kernel of the %s line, if it is not in the cache\n", kernel)
	k, err := vm.Fetch(kernel)
	if err != nil {
		return 0, err
	}
	if k.Arch != "amd64" {
		return 0, fmt.Errorf("run demo on %s: its curl is this machine's, which is of another architecture", k.Version)
	}
	m := vm.Machine{
		Kernel: k, Timeout: 12 * time.Minute,
		Plan: vm.Plan{Steps: []vm.Step{{
			Name: "demo", Dir: "/root", Timeout: 11 * time.Minute, Args: []string{"/opt/plumbline/demo", "-bin", "/opt/plumbline"},
		}}},
	}
	if m.Init, err = vm.BuildInit(ctx, k.Arch); err != nil {
		return 0, err
	}
	defer os.Remove(m.Init)
	if m.Files, err = vm.Userland(k, []string{"sh", "true", "uname", "curl", "cat", "echo"}); err != nil {
		return 0, err
	}
	for _, name := range []string{"plumbline", "plumbline-agent", "demo", "demo-service"} {
		file := filepath.Join(bin, name)
		libs, err := vm.Libraries(file)
		if err != nil {
			return 0, err
		}
		m.Files = append(append(m.Files, libs...), vm.File{Path: "/opt/plumbline/" + name, From: file})
	}
	fmt.Printf("booting %s under emulation, with BPF LSM\n", k.Version)
	results, boot, err := vm.Boot(ctx, m, os.Stdout)
	if err != nil {
		return 0, err
	}
	fmt.Printf("(%s booted in %.1f s; the demo took %.0f s there)\n", k.Version, boot.Seconds(), results[0].Took.Seconds())
	return results[0].Code, nil
}
