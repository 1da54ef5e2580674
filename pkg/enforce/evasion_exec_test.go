package enforce_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
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

// otherCgroup is not of the workload.
func otherCgroup() string {
	const root, inHybrid = "/sys/fs/cgroup", "/sys/fs/cgroup/unified"
	if _, err := os.Stat(inHybrid); err == nil {
		return inHybrid + "/plumbline-evasion"
	}
	return root + "/plumbline-evasion"
}

// spawn runs a program to its end; nil: it did.
func spawn(path string, args ...string) error {
	return spawnWith(&syscall.ProcAttr{Files: []uintptr{0, 2, 2}}, path, args...)
}

func spawnWith(attr *syscall.ProcAttr, path string, args ...string) error {
	pid, err := syscall.ForkExec(path, append([]string{path}, args...), attr)
	if err != nil {
		return err
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	if code := status.ExitStatus(); code > 0 && code < emptyHanded {
		return syscall.Errno(code)
	}
	if status != 0 {
		return errEmptyHanded
	}
	return nil
}

func spawning(dir, name string) func() error {
	return func() error { return spawn(dir + "/" + name) }
}

// become replaces this process.
func become(path string) error { return syscall.Exec(path, []string{path}, nil) }

// becomeAt does so with execveat(2).
func becomeAt(fd int, name string, flags int) error {
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	args := [2]*byte{path}
	var env [1]*byte
	_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&args)), uintptr(unsafe.Pointer(&env)), uintptr(flags), 0)
	return errno
}

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func withFile(path string, flags int, do func(fd int) error) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return do(fd)
}

// program is an executable without libraries.
func program(class elf.Class, machine elf.Machine, base uint32, code []byte) []byte {
	var b bytes.Buffer
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(class), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}
	all := elf.PF_R | elf.PF_W | elf.PF_X
	var parts []any
	if class == elf.ELFCLASS32 {
		size := uint32(head32 + len(code))
		parts = []any{
			elf.Header32{Ident: ident, Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Entry: base + head32, Phoff: 52, Ehsize: 52, Phentsize: 32, Phnum: 1},
			elf.Prog32{Type: uint32(elf.PT_LOAD), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Flags: uint32(all), Align: 4096},
		}
	} else {
		size := uint64(64 + 56 + len(code))
		parts = []any{
			elf.Header64{Ident: ident, Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Entry: uint64(base) + 64 + 56, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1},
			elf.Prog64{Type: uint32(elf.PT_LOAD), Vaddr: uint64(base), Paddr: uint64(base), Filesz: size, Memsz: size, Flags: uint32(all), Align: 4096},
		}
	}
	for _, part := range append(parts, code) {
		_ = binary.Write(&b, binary.LittleEndian, part) // to a buffer
	}
	return b.Bytes()
}

const (
	head32 = 52 + 32
	base   = 0x8048000
)

// exiting is a program that ends at once.
func exiting() []byte {
	if runtime.GOARCH == "arm64" { // exit(0)
		return program(elf.ELFCLASS64, elf.EM_AARCH64, base, []byte{0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4})
	}
	return program(elf.ELFCLASS64, elf.EM_X86_64, base, []byte{0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05})
}

// calling32 is a 32-bit program that makes a system call and ends with the error number. data stands behind it; a negative
// first argument is the address of that.
func calling32(number uint32, first int64, second uint32, data []byte) []byte {
	code := []byte{
		0xb8, 0, 0, 0, 0, // mov eax, number
		0xbb, 0, 0, 0, 0, // mov ebx, first
		0xb9, 0, 0, 0, 0, // mov ecx, second
		0x31, 0xd2, // xor edx, edx
		0xcd, 0x80, // int 0x80
		0x31, 0xdb, // xor ebx, ebx
		0x85, 0xc0, // test eax, eax
		0x79, 4, // jns +4
		0xf7, 0xd8, // neg eax
		0x89, 0xc3, // mov ebx, eax
		0xb8, 1, 0, 0, 0, // mov eax, exit
		0xcd, 0x80, // int 0x80
	}
	if first < 0 {
		first = int64(base + head32 + len(code))
	}
	binary.LittleEndian.PutUint32(code[1:], number)
	binary.LittleEndian.PutUint32(code[6:], uint32(first))
	binary.LittleEndian.PutUint32(code[11:], second)
	return program(elf.ELFCLASS32, elf.EM_386, base, append(code, data...))
}

// opening32 opens a file.
func opening32(path string) []byte { return calling32(5, -1, unix.O_RDONLY, []byte(path+"\x00")) }

// execEvasions execute a program that the baseline does not hold.
func execEvasions() map[string]evasion {
	return executed(map[string]evasion{
		"exec: plain": {do: func(dir string) error { return become(dir + "/" + toolFile) }, alone: true},
		"exec: vfork": {do: func(dir string) error { return spawn(dir + "/" + toolFile) }},
		"exec: symbolic link": {do: func(dir string) error {
			return inOrder(func() error { return unix.Symlink(dir+"/"+toolFile, dir+"/"+aliasFile) }, spawning(dir, aliasFile))
		}, steps: []event.Operation{event.OpCreate}},
		"exec: execveat of a file descriptor": {do: func(dir string) error {
			return withFile(dir+"/"+toolFile, unix.O_PATH, func(fd int) error { return becomeAt(fd, "", unix.AT_EMPTY_PATH) })
		}, alone: true},
		"exec: /proc/self/fd": {do: func(dir string) error {
			return withFile(dir+"/"+toolFile, unix.O_PATH, func(fd int) error { return become(fdPath(fd)) })
		}, alone: true},
		"exec: by a thread": {do: func(dir string) error {
			failed := make(chan error)
			go func() {
				runtime.LockOSThread()
				failed <- become(dir + "/" + toolFile)
			}()
			return <-failed
		}, alone: true},
		"exec: many clones at once": {do: manyAtOnce},
		"exec: clone3 into another cgroup": {
			prepare: makeCgroup, about: about(at(event.OpWrite, "[cgroup]")),
			do: func(dir string) error {
				return withFile(otherCgroup(), unix.O_DIRECTORY|unix.O_PATH, func(fd int) error {
					return spawnWith(&syscall.ProcAttr{Files: []uintptr{0, 2, 2}, Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}}, dir+"/"+toolFile)
				})
			},
		},
		"exec: after a move to another cgroup": {
			prepare: makeCgroup, about: about(at(event.OpWrite, otherCgroup()+"/cgroup.procs")), alone: true,
			do: func(dir string) error {
				return inOrder(func() error { return os.WriteFile(otherCgroup()+"/cgroup.procs", []byte("0"), 0) },
					func() error { return become(dir + "/" + toolFile) })
			},
		},
		"exec: script": {
			prepare: func(t *testing.T, dir string) { putFile(t, dir+"/bin/script", []byte("#!/bin/true\n")) },
			do:      func(dir string) error { return spawn(dir + "/bin/script") }, about: about(onPath(event.OpExec, "bin/script")),
		},
		"exec: interpreter of a known script": {
			prepare: func(t *testing.T, dir string) { putFile(t, dir+"/bin/script", []byte("#!"+dir+"/"+toolFile+"\n")) },
			do:      func(dir string) error { return spawn(dir + "/bin/script") },
		},
	})
}

// executed makes evasions of those that execute something in their directory.
func executed(some map[string]evasion) map[string]evasion {
	for name, e := range some {
		if e.about == nil {
			e.about = about(onPath(event.OpExec, toolFile))
		}
		some[name] = e
	}
	return filed(some)
}

// manyAtOnce starts a program again and again from several threads.
func manyAtOnce(dir string) error {
	var started, other sync.Map
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 10 {
				if err := spawn(dir + "/" + toolFile); err == nil {
					started.Store(i, err)
				} else if !errors.Is(err, unix.EPERM) {
					other.Store(i, err)
				}
			}
		})
	}
	all.Wait()
	result := error(unix.EPERM)
	other.Range(func(_, err any) bool { result = err.(error); return false })
	started.Range(func(any, any) bool { result = nil; return false })
	return result
}

func makeCgroup(t *testing.T, _ string) {
	if err := os.Mkdir(otherCgroup(), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(otherCgroup()) })
}
