package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// Machine is one guest.
type Machine struct {
	Kernel Kernel
	Files  []File
	Init   string // the compiled vminit of the kernel's architecture
	Plan   Plan
	// LSM is the lsm= list of the command line; empty: "bpf" is added to what the kernel has.
	LSM    string
	CPUs   int    // default 2; one is a quarter cheaper to emulate
	Memory string // of QEMU's -m; default 2G
	// CountInstructions makes the guest's clock count the instructions of its one CPU, a nanosecond each:
	// what takes how long there is the same on every machine. It is slower than the default.
	CountInstructions bool
	Timeout           time.Duration // of the whole boot; default 10 minutes
}

// Default lists of LSMs. Debian's 5.10 does not have bpf in its own list.
const (
	lsmWithBPF    = "lockdown,yama,integrity,apparmor,bpf"
	LSMWithoutBPF = "lockdown,yama,integrity,apparmor"
)

// Result is how a step ended.
type Result struct {
	Step   string
	Code   int // -1: killed or not run
	Output []byte
	Files  map[string][]byte // of Step.Fetch, by name; one that arrived incomplete is missing
	Took   time.Duration
}

// Boot runs a plan in a guest and gives every line of output to live as it comes (may be nil). It
// returns the results of the steps that ended, also with an error.
func Boot(ctx context.Context, m Machine, live io.Writer) (results []Result, boot time.Duration, err error) {
	dir, err := os.MkdirTemp("", "plumbline-vm-")
	if err != nil {
		return nil, 0, fmt.Errorf("make guest: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := m.writeInitramfs(filepath.Join(dir, "initramfs")); err != nil {
		return nil, 0, err
	}
	if m.Timeout == 0 {
		m.Timeout = 10 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	program, args := m.qemu(dir)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = 5 * time.Second
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, 0, fmt.Errorf("start %s: %w", program, err)
	}
	r := &receiver{live: live, start: start}
	readErr := r.read(out)
	waitErr := cmd.Wait()
	if !r.ended {
		console, _ := os.ReadFile(filepath.Join(dir, "console"))
		err = fmt.Errorf("boot %s: the guest did not end by itself (%w); its console ends with:\n%s%s",
			m.Kernel.Version, errors.Join(ctx.Err(), readErr, waitErr), tail(console, 80), complaints.Bytes())
		if r.current != nil {
			err = fmt.Errorf("%w\nit was running %s, whose output ends with:\n%s", err, r.current.Step, tail(r.current.Output, 30))
		}
	}
	return r.results, r.boot, err
}

func tail(text []byte, lines int) []byte {
	all := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return append(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")), '\n')
}

func (m *Machine) writeInitramfs(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	w := bufio.NewWriter(f)
	return errors.Join(m.writeFiles(w), w.Flush(), f.Close())
}

// writeFiles writes all that is in the guest.
func (m *Machine) writeFiles(w io.Writer) error {
	plan, err := json.Marshal(m.Plan)
	if err != nil {
		return err
	}
	files := append([]File{
		{Path: "/init", From: m.Init},
		{Path: "/plan.json", Data: plan},
		{Path: "/etc/passwd", Data: []byte("root:x:0:0:root:/root:/bin/sh\n"), Mode: 0o644},
		{Path: "/etc/hosts", Data: []byte("127.0.0.1 localhost\n"), Mode: 0o644},
		{Path: "/etc/ld.so.conf", Data: []byte("/lib/x86_64-linux-gnu\n/usr/lib/x86_64-linux-gnu\n"), Mode: 0o644},
	}, m.Files...)
	return writeCPIO(w, files)
}

// coarseTimers are the clocks of an emulated PC. A device that is asked for the time, or told when to wake, stops the
// emulation: the processor's own counter is read instead, and sleepers wake at ticks of 4 ms, which takes a third off
// what Go's runtime costs, with its sleeps of 20 µs.
const coarseTimers = "tsc=reliable no_timer_check highres=off"

// qemu is the command line: no KVM, no devices but two serial ports, the second one for results.
func (m *Machine) qemu(dir string) (string, []string) {
	memory, lsm, cpus := m.Memory, m.LSM, m.CPUs
	if cpus == 0 {
		cpus = 2
	}
	if memory == "" {
		memory = "2G"
	}
	if lsm == "" {
		lsm = lsmWithBPF
	}
	accel, timers := "tcg,thread=multi", coarseTimers
	if m.CountInstructions {
		accel, cpus, timers = "tcg,thread=single", 1, "tsc=reliable nokaslr"
	}
	args := []string{
		"-accel", accel, "-smp", strconv.Itoa(cpus), "-m", memory,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", m.Kernel.Image, "-initrd", filepath.Join(dir, "initramfs"),
		"-chardev", "file,id=console,path=" + filepath.Join(dir, "console"),
		"-chardev", "stdio,id=results,signal=off",
	}
	if m.CountInstructions {
		args = append(args, "-icount", "shift=0,sleep=off")
	}
	// Grace periods of milliseconds, as on a machine, and not of tens of them. Without mitigations, which an emulated
	// processor does not need, a guest takes a fifth less time of a real one, and a tenth less where memory is not cleared
	// before it is given out; the systemd flavour keeps that.
	line := "oops=panic panic=-1 rcupdate.rcu_expedited=1 mitigations=off init_on_alloc=0 psi=0 cryptomgr.notests quiet loglevel=4 net.ifnames=0 lsm=" + lsm
	if m.Kernel.Arch == "arm64" {
		return "qemu-system-aarch64", append(args,
			"-machine", "virt,gic-version=3", "-cpu", "cortex-a72",
			"-serial", "chardev:console", "-device", "pci-serial,chardev=results",
			"-append", "console=ttyAMA0 highres=off plumbline.results=/dev/ttyS0 "+line)
	}
	return "qemu-system-x86_64", append(args,
		"-machine", "q35", "-cpu", "Nehalem,+rdrand", // emulated a quarter faster than "max"; random numbers at once
		"-serial", "chardev:console", "-serial", "chardev:results",
		"-append", "console=ttyS0 "+timers+" plumbline.results=/dev/ttyS1 "+line)
}
