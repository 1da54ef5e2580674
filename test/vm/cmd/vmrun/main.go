// Vmrun runs one program in a guest and ends with its exit code. It is made for go test, which gets its
// profiles back and whose testdata is in the guest. Packages with other programs of theirs need the
// matrix.
//
//	go build -o bin/vmrun ./test/vm/cmd/vmrun
//	CGO_ENABLED=0 go test -exec "$PWD/bin/vmrun -kernel 6.1 --" -cover ./pkg/enforce
//	bin/vmrun -kernel 5.10 -- /bin/sh -c 'uname -r; ls /sys/kernel/btf'
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	vm "github.com/plumbline-io/plumbline/test/vm"
)

func main() {
	kernel := flag.String("kernel", "6.1", "one of "+strings.Join(vm.Lines(), ", "))
	cgroups := flag.String("cgroups", "v2", "v2, hybrid or legacy")
	noLSM := flag.Bool("nolsm", false, "boot without bpf in the list of LSMs")
	cpus := flag.Int("cpus", 2, "processors of the guest")
	timeout := flag.Duration("timeout", 5*time.Minute, "of the boot")
	programs := flag.String("programs", "sh,true,cat,uname,ls,sleep,mkdir,cp,rm,echo,openssl,curl", "programs of this machine that the guest gets")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	m := vm.Machine{Timeout: *timeout, CPUs: *cpus, Plan: vm.Plan{Cgroups: *cgroups}}
	if *noLSM {
		m.LSM = vm.LSMWithoutBPF
	}
	code, err := run(ctx, m, *kernel, strings.Split(*programs, ","), flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmrun:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(ctx context.Context, m vm.Machine, kernel string, programs, args []string) (int, error) {
	var err error
	if m.Kernel, err = vm.Fetch(kernel); err != nil {
		return 0, err
	}
	if m.Init, err = vm.BuildInit(ctx, m.Kernel.Arch); err != nil {
		return 0, err
	}
	defer os.Remove(m.Init)
	if m.Files, err = vm.Userland(m.Kernel, programs); err != nil {
		return 0, err
	}
	modules, err := vm.Modules(m.Kernel, "overlay")
	if err != nil {
		return 0, err
	}
	m.Files = append(m.Files, modules...)
	file, err := exec.LookPath(args[0])
	if err != nil {
		return 0, err
	}
	libs, err := vm.Libraries(file)
	if err != nil {
		return 0, err
	}
	if _, err := os.Stat("testdata"); err == nil {
		data, err := vm.Directory("/work/testdata", "testdata")
		if err != nil {
			return 0, err
		}
		m.Files = append(m.Files, data...)
	}
	program := "/program/" + filepath.Base(file)
	m.Files = append(append(m.Files, libs...), vm.File{Path: program, From: file})
	args, profiles := redirect(args[1:])
	m.Plan.Steps = []vm.Step{{
		Name: "program", Dir: "/work", Args: append([]string{program}, args...), Timeout: m.Timeout, Fetch: slices.Sorted(maps.Keys(profiles)),
	}}
	results, boot, err := vm.Boot(ctx, m, os.Stdout)
	if err != nil {
		return 0, err
	}
	if len(results) == 0 {
		return 0, errors.New("run program: the guest did not start it")
	}
	fmt.Fprintf(os.Stderr, "vmrun: %s booted in %.1f s, ran %.1f s\n", m.Kernel.Version, boot.Seconds(), results[0].Took.Seconds())
	for inGuest, name := range profiles {
		data, ok := results[0].Files[inGuest]
		if !ok {
			fmt.Fprintf(os.Stderr, "vmrun: %s was not written\n", name)
			continue
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return 0, fmt.Errorf("save profile: %w", err)
		}
	}
	return results[0].Code, nil
}

// redirect makes a test binary write its profiles where the guest can, and says where they belong on this
// machine: guest's file to ours.
func redirect(args []string) (inGuest []string, profiles map[string]string) {
	dir := ""
	profiles = map[string]string{}
	for _, arg := range args {
		if v, ok := strings.CutPrefix(arg, "-test.outputdir="); ok {
			dir = v
		}
	}
	for _, arg := range args {
		flag, value, _ := strings.Cut(arg, "=")
		switch flag {
		case "-test.outputdir", "-test.testlogfile":
			continue
		case "-test.gocoverdir":
			arg = flag + "=/tmp" // only the runtime's scratch, beside -test.coverprofile
		case "-test.coverprofile", "-test.cpuprofile", "-test.memprofile", "-test.blockprofile", "-test.mutexprofile", "-test.trace":
			if !filepath.IsAbs(value) {
				value = filepath.Join(dir, value)
			}
			to := "/tmp/" + strings.TrimPrefix(flag, "-test.")
			profiles[to] = value
			arg = flag + "=" + to
		}
		inGuest = append(inGuest, arg)
	}
	return inGuest, profiles
}
