// Matrix runs the tests that need a kernel of their own, and the scenarios, on every kernel that
// Plumbline supports here: one boot for each kernel, and short ones for other cgroup layouts and LSM
// lists. It ends with counts and exits 1 if anything failed.
//
//	go run ./test/vm/cmd/matrix -kernels 5.10,6.1 -run 'TestLearn' -v
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	vm "github.com/plumbline-io/plumbline/test/vm"
)

type options struct {
	kernels []string
	run     string
	verbose bool
	cover   string
	timeout time.Duration
	slowest int
	fresh   bool // run also what passed, and in which nothing has changed
	every   bool // and on every kernel, also what finds the same on another
	passed  *vm.Passed
}

func main() {
	kernels := flag.String("kernels", strings.Join(vm.Lines(), ","), "kernels to boot")
	run := flag.String("run", "", "only tests that match, as of go test")
	verbose := flag.Bool("v", false, "print the output of every test as it comes")
	must := flag.Bool("must", false, "fail, instead of skipping, where QEMU is missing")
	cover := flag.String("cover", "bin/coverage", "directory for coverage profiles")
	timeout := flag.Duration("timeout", 80*time.Minute, "of one boot")
	slowest := flag.Int("slowest", 0, "say how long the `N` slowest tests took")
	fresh := flag.Bool("fresh", false, "run every guest, also one in which everything passed and nothing has changed since")
	every := flag.Bool("every", false, "run each test and scenario on every kernel that it can run on: takes twice as long")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := ready(); err != nil {
		if *must {
			fmt.Fprintln(os.Stderr, "matrix:", err)
			os.Exit(1)
		}
		fmt.Println("matrix: skipped:", err)
		return
	}
	passed, err := vm.OpenPassed()
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
	ok, err := matrix(ctx, options{strings.Split(*kernels, ","), *run, *verbose, *cover, *timeout, *slowest, *fresh, *every, passed})
	if errors.Is(err, errNoKernel) && !*must {
		fmt.Println("matrix: skipped:", err)
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// guests run at once. Each waits a fifth of its time, for grace periods of the kernel and for ticks; four on two processors
// take longer than three.
const guests = 3

var errNoKernel = errors.New("no kernel to boot")

func ready() error {
	for _, program := range []string{"qemu-system-x86_64", "qemu-system-aarch64"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("find QEMU: %w (test/install.sh test installs it)", err)
		}
	}
	return nil
}

func matrix(ctx context.Context, o options) (bool, error) {
	start := time.Now()
	kernels, err := fetchAll(o.kernels)
	if err != nil {
		return false, err
	}
	builders := newBuilders(ctx)
	defer builders.remove()
	var (
		group  errgroup.Group
		report = newReport()
	)
	group.SetLimit(guests)
	for _, b := range boots() {
		k, wanted := kernels[b.kernel]
		if !wanted || b.scenarios && !o.wantsScenarios() {
			continue
		}
		group.Go(func() error {
			p, err := builders.get(k.Arch)
			if err != nil {
				report.add(outcome{boot: b, version: k.Version, err: err})
				return nil
			}
			report.add(b.run(ctx, k, p, o))
			return nil
		})
	}
	_ = group.Wait()
	report.printSlowest(o.slowest)
	return report.print(time.Since(start)), ctx.Err()
}

// wantsScenarios says whether -run may match a scenario.
func (o options) wantsScenarios() bool {
	first, _, _ := strings.Cut(o.run, "/")
	match, err := regexp.MatchString(first, "TestScenarios")
	return err != nil || match
}

func fetchAll(names []string) (map[string]vm.Kernel, error) {
	var (
		group   errgroup.Group
		fetched = make([]vm.Kernel, len(names))
		kernels = map[string]vm.Kernel{}
	)
	for i, name := range names {
		group.Go(func() (err error) {
			fetched[i], err = vm.Fetch(name)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoKernel, err)
	}
	for _, k := range fetched {
		kernels[k.Line] = k
		fmt.Printf("kernel %-11s %s\n", k.Line, k.Version)
	}
	return kernels, nil
}
