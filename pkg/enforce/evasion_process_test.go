package enforce_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Of the abstract name space; somebody listens there.
const (
	abstractStream   = "@plumbline-evasion-stream"
	abstractDatagram = "@plumbline-evasion-datagram"
)

func listenAbstract(t *testing.T) {
	t.Helper()
	stream, err := net.Listen("unix", abstractStream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() })
	datagram, err := net.ListenPacket("unixgram", abstractDatagram)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { datagram.Close() })
}

// withVictim does something to another process of the same program, which is up by then: a child that
// has not executed its program yet has the memory of its parent, to which the kernel asks nobody.
func withVictim(do func(pid int) error) func(string) error {
	return func(string) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		talk, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		theirs := uintptr(talk[1])
		pid, err := syscall.ForkExec(self, []string{self}, &syscall.ProcAttr{
			Env: []string{deedVariable + "=serve"}, Files: []uintptr{theirs, theirs, 2},
		})
		unix.Close(talk[1])
		if err != nil {
			unix.Close(talk[0])
			return err
		}
		answer := []byte("nothing\t.\n")
		_, sent := unix.Write(talk[0], answer)
		_, answered := unix.Read(talk[0], answer)
		err = errors.Join(sent, answered)
		if err == nil {
			err = do(pid)
		}
		unix.Close(talk[0]) // it ends
		_, _ = unix.Wait4(pid, nil, 0, nil)
		return err
	}
}

// data is where variables of this program are, and of each that runs it.
func data() (uintptr, error) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 5 && fields[1] == "rw-p" {
			var begin uintptr
			_, err := fmt.Sscanf(fields[0], "%x-", &begin)
			return begin, err
		}
	}
	return 0, errEmptyHanded
}

// processEvasions get at another process, or at a socket that has no file.
func processEvasions() map[string]evasion {
	attach := about(number(event.OpPtrace, event.PtraceAttach))
	return filed(map[string]evasion{
		"memory by process_vm_writev": {do: withVictim(func(pid int) error {
			address, err := data()
			if err != nil {
				return err
			}
			var value byte
			local, remote := []unix.Iovec{{Base: &value, Len: 1}}, []unix.RemoteIovec{{Base: address, Len: 1}}
			if _, err := unix.ProcessVMReadv(os.Getpid(), local, remote, 0); err != nil {
				return err
			}
			_, err = unix.ProcessVMWritev(pid, local, remote, 0) // what it has there already
			return err
		}), about: attach},
		"memory by /proc/PID/mem": {do: withVictim(func(pid int) error {
			return closing(unix.Open(fmt.Sprintf("/proc/%d/mem", pid), unix.O_RDWR|unix.O_CLOEXEC, 0))
		}), about: attach, steps: []event.Operation{event.OpWrite}, code: int(unix.EACCES)},
		"memory by ptrace": {do: withVictim(func(pid int) error {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if err := unix.PtraceAttach(pid); err != nil {
				return err
			}
			_, _ = unix.Wait4(pid, nil, unix.WALL, nil)
			return unix.PtraceDetach(pid)
		}), about: attach},
		"handed over by pidfd_getfd": {do: withVictim(func(pid int) error {
			pidfd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return err
			}
			defer unix.Close(pidfd)
			return closing(unix.PidfdGetfd(pidfd, 0, 0))
		}), about: attach},
		"abstract socket: connect": {do: func(string) error {
			return withSocket(unix.AF_UNIX, unix.SOCK_STREAM, func(fd int) error {
				return unix.Connect(fd, &unix.SockaddrUnix{Name: abstractStream})
			})
		}, about: about(at(event.OpUnixConnect, abstractStream))},
		"abstract socket: send": {do: func(string) error {
			return withSocket(unix.AF_UNIX, unix.SOCK_DGRAM, func(fd int) error {
				return unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrUnix{Name: abstractDatagram})
			})
		}, about: about(at(event.OpUnixConnect, abstractDatagram))},
	})
}
