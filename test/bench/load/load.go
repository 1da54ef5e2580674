// Package load has the loads of the benchmark in a VM: what a service does all day, as a known number of
// operations that cost as little of their own as they can. It must never measure anything: that is done
// from outside, so that what a load does under one agent is what it does under another.
//
//	err := load.Prepare(dir)
//	op, err := load.Open("file", dir)
//	err = op.Run(10_000)
package load

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Load is one kind of operation, ready to be done.
type Load struct {
	Run   func(n int) error // n times, one after the other
	Close func() error
}

// Kind is what can be opened.
type Kind struct {
	Name   string
	What   string
	Rounds int     // operations of one measurement: about 150 million instructions
	Goal   float64 // ratio to no agent
	open   func(dir string) (Load, error)
}

// Kinds lists the loads, cheapest operation first.
func Kinds() []Kind {
	return []Kind{
		{"syscalls", "getppid, read of /dev/zero, write to /dev/null, getuid", 300_000, 1.005, openSyscalls},
		{"file", "open, read, close of 256 files", 12_000, 1.10, openFiles},
		{"http", "static file over a kept connection", 2_500, 1.02, openHTTP},
		{"tcp", "connect, accept, reset", 2_500, 1.03, openTCP},
		{"exec", "fork, exec, wait of " + executable, 300, 1.05, openExec},
	}
}

// Open gets a load ready. dir is what Prepare filled.
func Open(name, dir string) (Load, error) {
	for _, k := range Kinds() {
		if k.Name == name {
			l, err := k.open(dir)
			if err != nil {
				return l, fmt.Errorf("open load %s: %w", name, err)
			}
			return l, nil
		}
	}
	return Load{}, fmt.Errorf("open load %q: there is none", name)
}

const (
	files      = 256
	fileBytes  = 4096
	executable = "/bin/true"
)

// fileName spreads the files over directories and gives them names that have nothing in common, as those
// of a real program: a baseline must not be able to say them in one word.
func fileName(dir string, i int) string {
	return filepath.Join(dir, string(rune('a'+i%16))+"dir", fmt.Sprintf("%c%c%c", 'a'+i*7%26, 'a'+i*11/26%26, 'a'+i/16))
}

// Prepare makes the files that loads read. It is done outside of the scope, once.
func Prepare(dir string) error {
	for i := range files {
		name := fileName(dir, i)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return fmt.Errorf("prepare loads: %w", err)
		}
		if err := os.WriteFile(name, make([]byte, fileBytes), 0o644); err != nil {
			return fmt.Errorf("prepare loads: %w", err)
		}
	}
	return nil
}

func nothing() error { return nil }

func openSyscalls(string) (Load, error) {
	zero, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Load{}, err
	}
	null, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Load{}, err
	}
	run := func(n int) error {
		var b [1]byte
		for range n {
			unix.Getppid()
			if _, err := RawRead(zero, b[:]); err != nil {
				return err
			}
			if err := rawWrite(null, b[:]); err != nil {
				return err
			}
			unix.Getuid()
		}
		return nil
	}
	return Load{run, func() error { return errors.Join(unix.Close(zero), unix.Close(null)) }}, nil
}

func openFiles(dir string) (Load, error) {
	names := make([]*byte, files)
	for i := range names {
		name, err := unix.BytePtrFromString(fileName(dir, i))
		if err != nil {
			return Load{}, err
		}
		names[i] = name
	}
	buffer := make([]byte, 512)
	run := func(n int) error {
		for i := range n {
			fd, err := rawOpen(names[i%files])
			if err != nil {
				return err
			}
			if _, err := RawRead(fd, buffer); err != nil {
				return err
			}
			if err := rawClose(fd); err != nil {
				return err
			}
		}
		return nil
	}
	return Load{run, nothing}, nil
}

func openExec(string) (Load, error) {
	run := func(n int) error {
		for range n {
			pid, err := syscall.ForkExec(executable, []string{executable}, &syscall.ProcAttr{})
			if err != nil {
				return err
			}
			var status unix.WaitStatus
			if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
				return err
			}
			if status != 0 {
				return fmt.Errorf("%s ended with %#x", executable, status)
			}
		}
		return nil
	}
	return Load{run, nothing}, nil
}
