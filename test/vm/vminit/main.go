// Vminit is the first process of a test guest: it mounts what tests need, runs the steps of
// /plan.json one after the other, tells the host how each ended, and powers off. It must never run
// anywhere else.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	vm "github.com/plumbline-io/plumbline/test/vm"
)

// stepsMode is the argument of init's only child, which does the work: the first process itself reaps
// what others leave behind, so that a process that has ended is gone in a guest too.
const stepsMode = "steps"

func main() {
	switch {
	case os.Getpid() == 1:
		if err := reap(); err != nil {
			fmt.Println("vminit:", err)
		}
		unix.Sync()
		// The console's and the results' last bytes are still in the emulated serial ports' queues.
		time.Sleep(50 * time.Millisecond)
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	case os.Getppid() == 1 && len(os.Args) == 2 && os.Args[1] == stepsMode:
		if err := run(); err != nil {
			fmt.Println("vminit:", err)
			os.Exit(1)
		}
	case len(os.Args) == 3 && os.Args[1] == orphanMode:
		os.Exit(orphan(os.Args[2]))
	default:
		fmt.Fprintln(os.Stderr, "vminit: it runs only as the first process of a guest")
		os.Exit(2)
	}
}

// reap starts the child and waits for every process until that one has ended.
func reap() error {
	child, err := os.StartProcess("/init", []string{"/init", stepsMode}, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return err
	}
	for {
		switch pid, err := unix.Wait4(-1, nil, 0, nil); {
		case pid == child.Pid:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for steps: %w", err)
		}
	}
}

func run() error {
	if err := mountAll(baseMounts()); err != nil {
		return err
	}
	data, err := os.ReadFile("/plan.json")
	if err != nil {
		return err
	}
	var plan vm.Plan
	if err := json.Unmarshal(data, &plan); err != nil {
		return err
	}
	if err := mountCgroups(plan.Cgroups); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	results, err := openResults()
	if err != nil {
		return err
	}
	fmt.Fprintf(results, "%s\n", vm.MarkReady)
	for _, s := range plan.Steps {
		fmt.Fprintf(results, "%s%s\n", vm.MarkStep, s.Name)
		code := step(s, results)
		for _, name := range s.Fetch {
			send(results, name)
		}
		fmt.Fprintf(results, "\n%s%d\n", vm.MarkExit, code)
	}
	fmt.Fprintln(results, vm.MarkEnd)
	return unix.IoctlSetInt(int(results.Fd()), unix.TCSBRK, 1) // drain
}

type mountPoint struct{ source, target, kind, options string }

func baseMounts() []mountPoint {
	return []mountPoint{
		{"proc", "/proc", "proc", ""},
		{"sysfs", "/sys", "sysfs", ""},
		{"devtmpfs", "/dev", "devtmpfs", ""},
		{"devpts", "/dev/pts", "devpts", ""},
		{"tmpfs", "/dev/shm", "tmpfs", ""},
		{"tmpfs", "/tmp", "tmpfs", "mode=1777"},
		{"tmpfs", "/run", "tmpfs", ""},
		{"securityfs", "/sys/kernel/security", "securityfs", ""},
		{"bpf", "/sys/fs/bpf", "bpf", ""},
		{"tracefs", "/sys/kernel/tracing", "tracefs", ""},
	}
}

func mountAll(points []mountPoint) error {
	for _, m := range points {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, 0, m.options); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// mountCgroups makes one of systemd's three layouts.
func mountCgroups(layout string) error {
	const root = "/sys/fs/cgroup"
	if layout == "" || layout == "v2" {
		return mountAll([]mountPoint{{"cgroup2", root, "cgroup2", "nsdelegate"}})
	}
	points := []mountPoint{{"tmpfs", root, "tmpfs", "mode=755"}}
	if layout == "hybrid" {
		points = append(points, mountPoint{"cgroup2", root + "/unified", "cgroup2", "nsdelegate"})
	}
	for _, c := range []string{"pids", "memory", "devices", "cpu,cpuacct", "freezer"} {
		points = append(points, mountPoint{"cgroup", root + "/" + c, "cgroup", c})
	}
	return mountAll(append(points, mountPoint{"cgroup", root + "/systemd", "cgroup", "none,name=systemd"}))
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// openResults opens the serial port that the command line names, as a plain pipe of bytes.
func openResults() (*os.File, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	name := ""
	for _, word := range strings.Fields(string(line)) {
		if v, ok := strings.CutPrefix(word, "plumbline.results="); ok {
			name = v
		}
	}
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open results: %w", err)
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("set up results: %w", err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = t.Cflag&^unix.CBAUD | unix.B115200 | unix.CLOCAL
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("set up results: %w", err)
	}
	return f, nil
}

func step(s vm.Step, out io.Writer) int {
	ctx, cancel := context.WithTimeout(context.Background(), s.Timeout)
	defer cancel()
	if s.Dir != "" {
		if err := os.MkdirAll(s.Dir, 0o755); err != nil {
			fmt.Fprintln(out, "vminit:", err)
			return -1
		}
	}
	cmd := exec.CommandContext(ctx, s.Args[0], s.Args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, out, out
	cmd.WaitDelay = 2 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Env = append([]string{
		"PATH=/bin:/usr/bin:/sbin:/usr/sbin", "HOME=/root", "TMPDIR=/tmp", "TERM=dumb",
		"PLUMBLINE_VM=1", "PLUMBLINE_TEST_BIN=/testbin",
	}, s.Env...)
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		fmt.Fprintf(out, "\nvminit: %s was killed after %s\n", s.Name, s.Timeout)
		return -1
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(out, "vminit:", err)
		return -1
	}
	return 0
}

// send gives a file to the host, in lines of base64.
func send(out io.Writer, name string) {
	data, err := os.ReadFile(name)
	if err != nil {
		return // the host misses it
	}
	fmt.Fprintf(out, "\n%s%s %d\n", vm.MarkFile, name, len(data))
	for chunk := range slices.Chunk(data, 3*1024) {
		fmt.Fprintf(out, "%s%s\n", vm.MarkData, base64.StdEncoding.EncodeToString(chunk))
	}
}
