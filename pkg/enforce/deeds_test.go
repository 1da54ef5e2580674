package enforce_test

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// deed is one thing that a process does, so small that it is one operation.
type deed struct {
	prior func(dir string) error // by somebody else, before it is done for the first time
	do    func(dir string) error
	key   func(dir string) event.Key
	needs []event.Key                // what else of the same dimension it takes
	also  func(dir string) event.Key // the same, below dir
	after func(dir string) error     // undoes it where it was allowed
	hook  string                     // that not every kernel has
	alone bool                       // changes the process that does it
	code  int                        // error number when it is denied; 0: EPERM
	lsm   bool                       // with fmod_ret nobody sees it
}

func onPath(op event.Operation, name string) func(string) event.Key {
	return func(dir string) event.Key { return event.Key{Op: op, Path: dir + "/" + name} }
}

func number(op event.Operation, value uint32) func(string) event.Key {
	return func(string) event.Key { return event.Key{Op: op, Value: value} }
}

func capability(n uint32) []event.Key { return []event.Key{{Op: event.OpCapability, Value: n}} }

// fill puts into dir what the deeds need.
func fill(dir string) error {
	return errors.Join(
		os.WriteFile(dir+"/file", []byte("x"), 0o644),
		os.WriteFile(dir+"/victim", nil, 0o644),
		os.WriteFile(dir+"/name", nil, 0o644),
		os.Mkdir(dir+"/empty", 0o755),
		os.Mkdir(dir+"/mountpoint", 0o755),
		fillRights(dir),
	)
}

// skipUnseen skips a test of a deed that this kernel has no hook for, or not with this strength.
func (d deed) skipUnseen(t *testing.T, e *enforce.Enforcer) {
	t.Helper()
	for _, s := range e.Status() {
		if _, name, _ := strings.Cut(s.Hook, "/"); d.hook != "" && strings.Contains(name, d.hook) && !s.Supported {
			t.Skip(s.Reason)
		}
	}
	if d.lsm && e.Strength() != enforce.LSM {
		t.Skip("seen by LSM programs only")
	}
}

func deeds() map[string]deed {
	all := fileDeeds()
	maps.Copy(all, mountDeeds())
	maps.Copy(all, moduleDeeds())
	maps.Copy(all, nameDeeds())
	maps.Copy(all, mappingDeeds())
	maps.Copy(all, privilegeDeeds())
	maps.Copy(all, identityDeeds())
	maps.Copy(all, processDeeds())
	maps.Copy(all, unixDeeds())
	maps.Copy(all, namespaceDeeds())
	maps.Copy(all, rightsDeeds())
	return all
}

func fileDeeds() map[string]deed {
	open := func(flags int) func(string) error {
		return func(dir string) error { return closing(unix.Open(dir+"/file", flags|unix.O_CLOEXEC, 0o600)) }
	}
	return map[string]deed{
		"read":     {do: open(unix.O_RDONLY), key: onPath(event.OpRead, "file")},
		"write":    {do: open(unix.O_WRONLY), key: onPath(event.OpWrite, "file")},
		"truncate": {do: func(dir string) error { return unix.Truncate(dir+"/file", 0) }, key: onPath(event.OpWrite, "file")},
		"chmod":    {do: func(dir string) error { return unix.Chmod(dir+"/file", 0o600) }, key: onPath(event.OpAttributes, "file")},
		"chown":    {do: func(dir string) error { return unix.Chown(dir+"/file", 0, 0) }, key: onPath(event.OpAttributes, "file"), hook: "path_chown"},
	}
}

// mountDeeds change the tree.
func mountDeeds() map[string]deed {
	mount := func(dir string) error { return unix.Mount("none", dir+"/mountpoint", "tmpfs", 0, "") }
	unmount := func(dir string) error { return unix.Unmount(dir+"/mountpoint", 0) }
	at := onPath(event.OpMount, "mountpoint")
	return map[string]deed{
		"chroot": {do: func(dir string) error { return unix.Chroot(dir + "/empty") }, key: onPath(event.OpMount, "empty"), alone: true},
		"mount":  {do: mount, key: at, after: unmount},
		"umount": {prior: mount, do: unmount, key: at, after: mount},
		"move_mount": {do: func(dir string) error {
			return inTree("empty", func(fd int) error {
				return unix.MoveMount(fd, "", unix.AT_FDCWD, dir+"/mountpoint", unix.MOVE_MOUNT_F_EMPTY_PATH)
			})(dir)
		}, key: at, after: unmount},
		// Where it is allowed, it fails for what comes behind the question: this is no root.
		"pivot_root": {do: func(dir string) error {
			if err := unix.PivotRoot(dir+"/empty", dir+"/empty"); !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EBUSY) {
				return err
			}
			return nil
		}, key: onPath(event.OpMount, "empty")},
	}
}

// moduleDeeds load what is no module: where it is allowed, the kernel finds that out.
func moduleDeeds() map[string]deed {
	loaded := func(err error) error {
		if errors.Is(err, unix.ENOEXEC) {
			return nil
		}
		return err
	}
	none := make([]byte, 4096)
	key, needs := number(event.OpModule, 0), capability(unix.CAP_SYS_MODULE)
	return map[string]deed{
		"init_module": {do: func(string) error { return loaded(unix.InitModule(none, "")) }, key: key, needs: needs},
		"finit_module": {do: func(dir string) error {
			return withFile(dir+"/file", unix.O_RDONLY, func(fd int) error { return loaded(unix.FinitModule(fd, "", 0)) })
		}, key: key, needs: needs},
	}
}

func nameDeeds() map[string]deed {
	remove := func(name string) func(string) error {
		return func(dir string) error { return os.Remove(dir + "/" + name) }
	}
	rename := deed{
		do:    func(dir string) error { return unix.Rename(dir+"/name", dir+"/renamed") },
		key:   onPath(event.OpRename, "name"),
		also:  onPath(event.OpRename, "renamed"),
		after: func(dir string) error { return os.Rename(dir+"/renamed", dir+"/name") },
	}
	renamed := rename
	renamed.key, renamed.also = rename.also, rename.key
	return map[string]deed{
		"mkdir":     {do: func(dir string) error { return unix.Mkdir(dir+"/made", 0o700) }, key: onPath(event.OpCreate, "made"), after: remove("made")},
		"symlink":   {do: func(dir string) error { return unix.Symlink("x", dir+"/made") }, key: onPath(event.OpCreate, "made"), after: remove("made")},
		"fifo":      {do: func(dir string) error { return unix.Mknod(dir+"/made", unix.S_IFIFO|0o600, 0) }, key: onPath(event.OpCreate, "made"), after: remove("made")},
		"rename":    rename,
		"rename to": renamed,
		"link": {
			do:  func(dir string) error { return unix.Link(dir+"/name", dir+"/linked") },
			key: onPath(event.OpLink, "name"), also: onPath(event.OpLink, "linked"), after: remove("linked"),
		},
		"unlink": {
			do: func(dir string) error { return unix.Unlink(dir + "/victim") }, key: onPath(event.OpDelete, "victim"),
			after: func(dir string) error { return os.WriteFile(dir+"/victim", nil, 0o644) },
		},
		"rmdir": {
			do: func(dir string) error { return unix.Rmdir(dir + "/empty") }, key: onPath(event.OpDelete, "empty"),
			after: func(dir string) error { return os.Mkdir(dir+"/empty", 0o755) },
		},
	}
}

func mappingDeeds() map[string]deed {
	mapped := func(protection int, then func([]byte) error) func(string) error {
		return func(dir string) error {
			fd, err := unix.Open(dir+"/file", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			memory, err := unix.Mmap(fd, 0, 1, protection, unix.MAP_PRIVATE)
			if err != nil {
				return err
			}
			return errors.Join(then(memory), unix.Munmap(memory))
		}
	}
	const executable = unix.PROT_READ | unix.PROT_EXEC
	return map[string]deed{
		"library":  {do: mapped(executable, func([]byte) error { return nil }), key: onPath(event.OpLibrary, "file")},
		"mprotect": {do: mapped(unix.PROT_READ, func(m []byte) error { return unix.Mprotect(m, executable) }), key: onPath(event.OpLibrary, "file")},
	}
}

// closing closes what was opened.
func closing(fd int, err error) error {
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

func syscallOf(nr, a, b, c uintptr) error {
	fd, _, errno := unix.Syscall(nr, a, b, c)
	if errno != 0 {
		return errno
	}
	return closing(int(fd), nil)
}

func privilegeDeeds() map[string]deed {
	socket := func(family, kind, protocol int) func(string) error {
		return func(string) error { return closing(unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)) }
	}
	return map[string]deed{
		"netlink": {do: socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_SOCK_DIAG), key: number(event.OpSocket, 16<<16|3<<8|4)},
		"raw":     {do: socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP), key: number(event.OpSocket, 2<<16|3<<8|1), needs: capability(unix.CAP_NET_RAW)},
		"hostname": {do: func(string) error {
			name, err := os.Hostname()
			if err != nil {
				return err
			}
			return unix.Sethostname([]byte(name))
		}, key: number(event.OpCapability, unix.CAP_SYS_ADMIN)},
		"bpf": {do: func(string) error {
			attr := [4]uint32{2, 4, 4, 1} // an array
			return syscallOf(unix.SYS_BPF, unix.BPF_MAP_CREATE, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		}, key: number(event.OpBPF, unix.BPF_MAP_CREATE), needs: capability(unix.CAP_BPF)},
		"perf": {do: func(string) error {
			attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: unix.PERF_ATTR_SIZE_VER0, Config: unix.PERF_COUNT_SW_CPU_CLOCK}
			return closing(unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC))
		}, key: number(event.OpPerf, 0), needs: append(capability(unix.CAP_PERFMON), capability(unix.CAP_SYS_ADMIN)...)},
		"io_uring": {do: func(string) error {
			var params [120]byte
			return syscallOf(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
		}, key: number(event.OpIOUring, 0), hook: "inode_init_security_anon", needs: capability(unix.CAP_IPC_LOCK)},
		"userfaultfd": {
			do:  func(string) error { return syscallOf(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0) },
			key: number(event.OpUserfault, 0), hook: "inode_init_security_anon", needs: capability(unix.CAP_SYS_PTRACE),
		},
		"key": {do: func(string) error {
			_, err := unix.AddKey("user", "plumbline", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
			return err
		}, key: number(event.OpKeyctl, 0)},
		// The keyring of this user is there after the first time. To who may not look it is not.
		"key looked for": {do: func(string) error {
			if err := syscall.Setreuid(4711, 4711); err != nil {
				return err
			}
			_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true)
			return err
		}, key: number(event.OpKeyctl, 0), alone: true, code: int(unix.ENOKEY), needs: append(capability(unix.CAP_SETUID), event.Key{Op: event.OpSetuid, Value: 4711})},
	}
}

// identityDeeds make the process another user or group's, each in one way. Of files alone, the system call does not tell whether
// it was allowed.
func identityDeeds() map[string]deed {
	user := func(do func() error) deed {
		return deed{do: func(string) error { return do() }, key: number(event.OpSetuid, 4711), alone: true, needs: capability(unix.CAP_SETUID)}
	}
	group := func(do func() error) deed {
		return deed{do: func(string) error { return do() }, key: number(event.OpSetgid, 4711), alone: true, needs: capability(unix.CAP_SETGID)}
	}
	ofFiles := func(call uintptr) func() error {
		return func() error {
			runtime.LockOSThread()
			_, _, _ = unix.RawSyscall(call, 4711, 0, 0)
			if now, _, _ := unix.RawSyscall(call, ^uintptr(0), 0, 0); now != 4711 {
				return unix.EPERM
			}
			return nil
		}
	}
	return map[string]deed{
		"setuid":    user(func() error { return syscall.Setreuid(4711, -1) }),
		"setgid":    group(func() error { return syscall.Setregid(4711, -1) }),
		"seteuid":   user(func() error { return syscall.Setresuid(-1, 4711, -1) }),
		"setegid":   group(func() error { return syscall.Setresgid(-1, 4711, -1) }),
		"setfsuid":  user(ofFiles(unix.SYS_SETFSUID)),
		"setfsgid":  group(ofFiles(unix.SYS_SETFSGID)),
		"setresuid": user(func() error { return syscall.Setresuid(4711, 4711, 4711) }),
	}
}

// unixDeeds bind a socket to a name. That of the tree is a file that is made.
func unixDeeds() map[string]deed {
	bind := func(kind int, name func(dir string) string) func(string) error {
		return func(dir string) error {
			fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			return errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: name(dir)}), unix.Close(fd))
		}
	}
	abstract := func(string) string { return "@plumbline-deed" }
	key := func(string) event.Key { return event.Key{Op: event.OpUnixBind, Path: abstract("")} }
	return map[string]deed{
		"bind abstract stream":   {do: bind(unix.SOCK_STREAM, abstract), key: key},
		"bind abstract datagram": {do: bind(unix.SOCK_DGRAM, abstract), key: key},
		"bind in the tree": {
			do: bind(unix.SOCK_STREAM, func(dir string) string { return dir + "/made" }), key: onPath(event.OpCreate, "made"),
			after: func(dir string) error { return os.Remove(dir + "/made") },
		},
	}
}

func processDeeds() map[string]deed {
	parent := strconv.Itoa(os.Getppid())
	return map[string]deed{
		"userns": {do: func(string) error {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = []string{deedVariable + "=nothing"}
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
			return cmd.Run()
		}, key: number(event.OpUserns, 0), hook: "user", needs: capability(unix.CAP_SYS_ADMIN)},
		// Another process's memory is opened as if to trace it; the refusal is named EACCES.
		"ptrace": {
			do:  func(string) error { return closing(unix.Open("/proc/"+parent+"/mem", unix.O_RDONLY|unix.O_CLOEXEC, 0)) },
			key: number(event.OpPtrace, event.PtraceAttach|event.PtraceOther), code: int(unix.EACCES),
		},
		"be traced": {do: beTraced, key: number(event.OpPtrace, event.PtraceAttach)},
		"signal": {
			do:  func(string) error { return unix.Kill(os.Getppid(), unix.SIGCONT) },
			key: number(event.OpSignal, uint32(unix.SIGCONT)),
		},
	}
}
