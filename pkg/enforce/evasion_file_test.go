package enforce_test

import (
	"maps"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// evasions by name. Those of the network have a port instead of a directory.
func evasions() map[string]evasion {
	all := map[string]evasion{}
	for _, some := range []map[string]evasion{
		openEvasions(), handedEvasions(), nameEvasions(), mountEvasions(), rememberedEvasions(), changeEvasions(), layerEvasions(),
		execEvasions(), execAliasEvasions(), loaderEvasions(), processEvasions(), socketEvasions(), networkEvasions(),
	} {
		maps.Copy(all, some)
	}
	return all
}

// filed makes evasions of those that read the secret, or do something else to files in their directory.
func filed(some map[string]evasion) map[string]evasion {
	for name, e := range some {
		if e.prepare == nil {
			e.prepare = nothingMore
		}
		if e.about == nil {
			e.about = about(onPath(event.OpRead, vaultFile))
		}
		some[name] = e
	}
	return some
}

// openEvasions name the secret in other ways.
func openEvasions() map[string]evasion {
	in := func(dir string, do func(fd int) error) error {
		fd, err := unix.Open(dir+"/vault", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return do(fd)
	}
	inside := func(path string) func(string) error {
		return func(dir string) error {
			return inOrder(func() error { return unix.Chdir(dir + "/vault") }, func() error { return open(path) })
		}
	}
	return filed(map[string]evasion{
		"open: plain":           {do: func(dir string) error { return open(dir + "/" + vaultFile) }},
		"open: relative":        {do: inside("secret"), alone: true},
		"open: /proc/self/cwd":  {do: inside("/proc/self/cwd/secret"), alone: true},
		"open: /proc/self/root": {do: func(dir string) error { return open("/proc/self/root" + dir + "/" + vaultFile) }},
		"open: dirfd": {do: func(dir string) error {
			return in(dir, func(fd int) error { return take(unix.Openat(fd, "secret", unix.O_CLOEXEC, 0)) })
		}},
		"open: openat2": {do: func(dir string) error {
			return in(dir, func(fd int) error {
				return take(unix.Openat2(fd, "secret", &unix.OpenHow{Flags: unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH}))
			})
		}},
		"open: O_PATH, then /proc/self/fd": {do: func(dir string) error {
			fd, err := unix.Open(dir+"/"+vaultFile, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return open("/proc/self/fd/" + strconv.Itoa(fd))
		}},
		"open: by handle": {do: func(dir string) error {
			handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, dir+"/"+vaultFile, 0)
			if err != nil {
				return err
			}
			return in(dir, func(fd int) error { return take(unix.OpenByHandleAt(fd, handle, unix.O_CLOEXEC)) })
		}, steps: []event.Operation{event.OpCapability}},
		"open: 32-bit system call": {
			prepare: func(t *testing.T, dir string) { putFile(t, dir+"/bin/opens", opening32(dir+"/"+vaultFile)) },
			do:      func(dir string) error { return spawn(dir + "/bin/opens") },
			lacks: func() string {
				if runtime.GOARCH != "amd64" {
					return "it has no 32-bit system calls"
				}
				return ""
			},
		},
		"open: the name changes during the call": {do: raceNames},
		"open: io_uring":                         {do: uringOpen(0), steps: []event.Operation{event.OpIOUring}, lacks: lacksUring},
		"open: io_uring, by its worker":          {do: uringOpen(uringAsync), steps: []event.Operation{event.OpIOUring}, lacks: lacksUring},
	})
}

// raceNames lets one thread change the name that another one opens, many times.
func raceNames(dir string) error {
	const tries = 10000
	if err := peek(dir + "/vault/secres"); err != nil { // it is known, however the race goes
		return err
	}
	name := []byte(dir + "/" + vaultFile + "\x00")
	flip := (*uint8)(unsafe.Pointer(&name[len(name)-2]))
	stop := make(chan struct{})
	var flipping sync.WaitGroup
	flipping.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				*flip ^= 't' ^ 's' // vault/secret, vault/secres
			}
		}
	})
	defer flipping.Wait()
	defer close(stop)
	err, at := error(syscall.EPERM), unix.AT_FDCWD
	for range tries {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(unsafe.SliceData(name))), unix.O_CLOEXEC, 0, 0, 0)
		if errno == 0 && take(int(fd), nil) == nil {
			return nil
		}
		if errno != 0 && errno != unix.EPERM {
			err = errno
		}
	}
	return err
}

// handedEvasions get the open file from another process.
func handedEvasions() map[string]evasion {
	return filed(map[string]evasion{
		"handed over by a process of the workload": {do: func(dir string) error {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(pair[0])
			self, err := os.Executable()
			if err != nil {
				return err
			}
			pid, err := syscall.ForkExec(self, []string{self}, &syscall.ProcAttr{
				Env: []string{deedVariable + "=" + evasionPrefix + handingOver, "PLUMBLINE_DIR=" + dir}, Files: []uintptr{0, 2, 2, uintptr(pair[1])},
			})
			unix.Close(pair[1])
			if err != nil {
				return err
			}
			defer func() { _, _ = unix.Wait4(pid, nil, 0, nil) }()
			return take(receive(pair[0]))
		}},
		"handed over from outside": {prepare: handOver, do: func(dir string) error {
			return withSocket(unix.AF_UNIX, unix.SOCK_STREAM, func(fd int) error {
				if err := unix.Connect(fd, &unix.SockaddrUnix{Name: dir + "/door"}); err != nil {
					return err
				}
				return take(receive(fd))
			})
		}, about: about(), passes: true},
	})
}

// handToFd3 opens the secret and gives it to who started this process.
func handToFd3(dir string) error {
	fd, err := unix.Open(dir+"/"+vaultFile, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Sendmsg(3, []byte("x"), unix.UnixRights(fd), nil, 0)
}

// receive takes a file descriptor.
func receive(socket int) (int, error) {
	var data [1]byte
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, data[:], control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) == 0 {
		return -1, errEmptyHanded
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}

// handOver gives the open secret to whoever connects.
func handOver(t *testing.T, dir string) {
	listener, err := net.Listen("unix", dir+"/door")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		file, err := os.Open(dir + "/" + vaultFile)
		if err != nil {
			return
		}
		defer file.Close()
		_, _, _ = conn.(*net.UnixConn).WriteMsgUnix([]byte("x"), unix.UnixRights(int(file.Fd())), nil)
	}()
}

func putFile(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o755); err != nil {
		t.Fatal(err)
	}
}
