// Systemd boots a guest with a systemd userland, installs the built agent there as the package does, and
// runs the smoke test of test/vm/systemd; or, with -programs, learns, enforces and attacks real programs.
//
//	go run ./test/vm/cmd/systemd -kernel 6.1
//	go run ./test/vm/cmd/systemd -programs all -v
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/plumbline-io/plumbline/test/counts"
	vm "github.com/plumbline-io/plumbline/test/vm"
)

const allPrograms = "nginx,postgresql,jvm,goservice,cron"

func main() {
	kernel := flag.String("kernel", "6.1", "one of "+strings.Join(vm.Lines(), ", "))
	programs := flag.String("programs", "", "instead of the smoke test: which of "+allPrograms+", separated by commas, or all")
	must := flag.Bool("must", false, "fail, instead of skipping, where something is missing")
	fresh := flag.Bool("fresh", false, "run the guest also if everything passed in it and nothing has changed since")
	verbose := flag.Bool("v", false, "print the script's output as it comes")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	start := time.Now()
	result, cached, err := run(ctx, options{*kernel, *programs, *fresh, *verbose})
	if errors.Is(err, errMissing) && !*must {
		fmt.Println("systemd: skipped:", err)
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "systemd:", err)
		os.Exit(1)
	}
	if result.Code != 0 {
		fmt.Printf("%sFAILED systemd scenario: exit code %d\n", result.Output, result.Code)
		os.Exit(1)
	}
	took := fmt.Sprintf("%.0f s, %.0f s of it in the guest", time.Since(start).Seconds(), result.Took.Seconds())
	if cached {
		took = "cached"
	}
	if err := counts.Tell("systemd: 1 scenario passed, 0 failed; " + took); err != nil {
		fmt.Fprintln(os.Stderr, "systemd:", err)
		os.Exit(1)
	}
}

// errMissing is a program, or what the network did not bring, without which there is no guest.
var errMissing = errors.New("no guest")

type options struct {
	kernel, programs string
	fresh, verbose   bool
}

// run gives how the script ended, and whether that is remembered.
func run(ctx context.Context, o options) (result vm.Result, cached bool, err error) {
	guest, remove, err := newGuest(ctx, o.kernel, o.programs)
	if err != nil {
		return vm.Result{}, false, err
	}
	defer remove()
	passed, err := vm.OpenPassed()
	if err != nil {
		return vm.Result{}, false, err
	}
	digest, err := guest.Digest()
	if err != nil {
		return vm.Result{}, false, err
	}
	if results, _, ok := passed.Get(digest); ok && len(results) == 1 && !o.fresh {
		return results[0], true, nil
	}
	var live io.Writer
	if o.verbose {
		live = os.Stdout
	}
	if result, err = guest.Run(ctx, live); err == nil && result.Code == 0 {
		err = passed.Put(digest, []vm.Result{result}, 0)
	}
	return result, false, err
}

// newGuest builds what is in it, which remove takes away.
func newGuest(ctx context.Context, kernel, programs string) (guest *vm.Systemd, remove func(), err error) {
	for _, program := range []string{"qemu-system-x86_64", "mmdebstrap", "mke2fs"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, nil, fmt.Errorf("%w: %w (test/install.sh test installs it)", errMissing, err)
		}
	}
	k, err := vm.Fetch(kernel)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errMissing, err)
	}
	dir, err := os.MkdirTemp("", "plumbline-systemd-bin-")
	if err != nil {
		return nil, nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			remove()
		}
	}()
	guest = &vm.Systemd{Kernel: k, Script: "test/vm/systemd/smoke.sh"}
	if guest.Files, err = agentFiles(ctx, dir); err != nil {
		return nil, nil, err
	}
	var packages []string
	if programs != "" {
		packages = vm.ProgramPackages()
		guest.Script, guest.Timeout = "test/vm/systemd/programs.sh", time.Hour
		guest.Off = []string{"nginx.service", "postgresql.service", "cron.service"}
		more, err := programFiles(ctx, dir, programs)
		if err != nil {
			return nil, nil, err
		}
		guest.Files = append(guest.Files, more...)
	}
	fmt.Println("systemd: making the userland, if it is not in the cache")
	if guest.Tar, err = vm.SystemdUserland(ctx, packages...); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errMissing, err)
	}
	return guest, remove, nil
}

// agentFiles are the agent as its package installs it, and the workload of the smoke test.
func agentFiles(ctx context.Context, dir string) ([]vm.File, error) {
	agent := filepath.Join(dir, "plumbline-agent")
	err := vm.Build(ctx, "amd64", agent, "./cmd/agent", "-ldflags=-s -w")
	return []vm.File{
		{Path: "/usr/bin/plumbline-agent", From: agent},
		{Path: "/usr/lib/systemd/system/plumbline-agent.service", From: "deploy/rpm/plumbline-agent.service", Mode: 0o644},
		{Path: "/etc/plumbline/agent.yaml", From: "deploy/rpm/agent.yaml", Mode: 0o644},
		{Path: "/etc/systemd/system/shop.service", From: "test/vm/systemd/shop.service", Mode: 0o644},
		{Path: "/opt/shop", From: "test/vm/systemd/shop.sh"},
		{Path: "/opt/responses.yaml", From: "test/vm/systemd/responses.yaml", Mode: 0o644},
		{Path: "/opt/plumbline-agent-responses.conf", From: "deploy/rpm/plumbline-agent-responses.conf", Mode: 0o644},
		{Path: "/opt/lib.sh", From: "test/vm/systemd/lib.sh", Mode: 0o644},
	}, err
}

// programFiles are our own ones of the programs, the library that is injected, and who injects it.
func programFiles(ctx context.Context, dir, programs string) ([]vm.File, error) {
	const from = "test/vm/systemd/programs/"
	if programs == "all" {
		programs = allPrograms
	}
	teller, intruder, library := filepath.Join(dir, "teller"), filepath.Join(dir, "intruder"), filepath.Join(dir, "libinject.so")
	err := errors.Join(
		vm.Build(ctx, "amd64", teller, "./test/demo/service"),
		vm.Build(ctx, "amd64", intruder, "./test/vm/intruder"),
		compile(ctx, "gcc", "-shared", "-fPIC", "-o", library, from+"inject.c"),
		compile(ctx, "javac", "--release", "17", "-d", filepath.Join(dir, "till"), from+"Till.java"),
	)
	if err != nil {
		return nil, err
	}
	files, err := vm.Directory("/opt/till", filepath.Join(dir, "till"))
	if err != nil {
		return nil, err
	}
	scripts, err := vm.Directory("/opt/programs", from)
	if err != nil {
		return nil, err
	}
	return append(append(files, scripts...),
		vm.File{Path: "/opt/programs/chosen", Data: []byte(strings.ReplaceAll(programs, ",", "\n")), Mode: 0o644},
		vm.File{Path: "/opt/teller", From: teller},
		vm.File{Path: "/opt/intruder", From: intruder},
		vm.File{Path: "/opt/libinject.so", From: library},
		vm.File{Path: "/etc/systemd/system/teller.service", From: from + "teller.service", Mode: 0o644},
		vm.File{Path: "/etc/systemd/system/till.service", From: from + "till.service", Mode: 0o644},
	), nil
}

func compile(ctx context.Context, program string, args ...string) error {
	if out, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}
