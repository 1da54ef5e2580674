package enforce_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// execAliasEvasions execute it by another name, or a copy of it.
func execAliasEvasions() map[string]evasion {
	alias := about(onPath(event.OpExec, aliasFile))
	return executed(map[string]evasion{
		"exec: hard link": {do: func(dir string) error {
			return inOrder(link(dir, toolFile, aliasFile), spawning(dir, aliasFile))
		}, about: alias, steps: []event.Operation{event.OpLink}},
		"exec: renamed": {do: func(dir string) error {
			return inOrder(rename(dir, toolFile, aliasFile), spawning(dir, aliasFile))
		}, about: alias, steps: []event.Operation{event.OpRename}},
		"exec: copied": {do: func(dir string) error {
			content, err := os.ReadFile(dir + "/" + toolFile)
			if err != nil {
				return err
			}
			return inOrder(func() error { return os.WriteFile(dir+"/"+aliasFile, content, 0o700) }, spawning(dir, aliasFile))
		}, about: alias, steps: []event.Operation{event.OpCreate}},
		"exec: bind mount": {do: func(dir string) error {
			return inOrder(bind(dir, "bin", "mnt"), spawning(dir, "mnt/tool"))
		}, about: about(onPath(event.OpExec, "mnt/tool")), steps: []event.Operation{event.OpMount}},
		"exec: open_tree": {
			do:    inTree("bin", func(fd int) error { return becomeAt(fd, "tool", 0) }),
			about: about(at(event.OpExec, "/tool")), steps: []event.Operation{event.OpCapability}, alone: true,
		},
		"exec: chroot": {do: func(dir string) error {
			return inOrder(func() error { return unix.Chroot(dir + "/bin") }, func() error { return become("/tool") })
		}, about: about(at(event.OpExec, "/tool")), steps: []event.Operation{event.OpMount}, alone: true},
		"exec: anonymous file": {do: func(dir string) error {
			content, err := os.ReadFile(dir + "/" + toolFile)
			if err != nil {
				return err
			}
			fd, err := unix.MemfdCreate("tool", unix.MFD_CLOEXEC)
			if err != nil {
				return err
			}
			if _, err := unix.Write(fd, content); err != nil {
				return err
			}
			return becomeAt(fd, "", unix.AT_EMPTY_PATH)
		}, about: about(at(event.OpExec, "/memfd:tool")), steps: []event.Operation{event.OpRead}, alone: true},
		"exec: unlinked file": {do: func(dir string) error {
			return withFile(dir+"/"+toolFile, unix.O_PATH, func(fd int) error {
				return inOrder(func() error { return unix.Unlink(dir + "/" + toolFile) }, func() error { return becomeAt(fd, "", unix.AT_EMPTY_PATH) })
			})
		}, steps: []event.Operation{event.OpDelete}, alone: true},
	})
}

// mapFile maps a file and does something with the mapping.
func mapFile(name string, protection int, then func([]byte) error) func(string) error {
	return func(dir string) error {
		return withFile(dir+"/"+name, unix.O_RDONLY, func(fd int) error {
			memory, err := unix.Mmap(fd, 0, 1, protection, unix.MAP_PRIVATE)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Munmap(memory) }()
			return then(memory)
		})
	}
}

// readingIsExecuting maps a file to be read after this process asked that what can be read can be executed. remapped: it was
// mapped before, and is mapped once more, which the kernel does to mappings that could be written to.
func readingIsExecuting(remapped bool) func(dir string) error {
	return func(dir string) error {
		runtime.LockOSThread()
		ask := func() error {
			if _, _, errno := unix.Syscall(unix.SYS_PERSONALITY, readImpliesExec, 0, 0); errno != 0 {
				return errno
			}
			return nil
		}
		flags := unix.O_RDONLY
		if remapped {
			flags = unix.O_RDWR
		}
		return withFile(dir+"/"+toolFile, flags, func(fd int) error {
			if !remapped {
				if err := ask(); err != nil {
					return err
				}
			}
			memory, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Munmap(memory) }()
			address := uintptr(unsafe.Pointer(unsafe.SliceData(memory)))
			if remapped {
				if err := ask(); err != nil {
					return err
				}
				if _, _, errno := unix.Syscall6(unix.SYS_REMAP_FILE_PAGES, address, uintptr(len(memory)), 0, 0, 0, 0); errno != 0 {
					return errno
				}
			}
			return isExecutable(address)
		})
	}
}

const readImpliesExec = 0x0400000 // include/uapi/linux/personality.h

// isExecutable says whether this process may execute what is mapped there.
func isExecutable(address uintptr) error {
	mapped, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mapped)) {
		if fields := strings.Fields(line); strings.HasPrefix(line, fmt.Sprintf("%08x-", address)) && fields[1][2] == 'x' {
			return nil
		}
	}
	return errEmptyHanded
}

// loaderEvasions run code without executing its file, or let a known program run it.
func loaderEvasions() map[string]evasion {
	const executable = unix.PROT_READ | unix.PROT_EXEC
	library := about(onPath(event.OpLibrary, toolFile))
	reading := []event.Operation{event.OpRead}
	byLoader := func(dir string) error { return spawn(loader(), dir+"/bin/true") }
	putTrue := func(t *testing.T, dir string) { copyTo(t, resolved(t, "/bin/true"), dir+"/bin/true") }
	// Without the copy of libc the program has none.
	preload := evasion{code: 127, prepare: func(t *testing.T, dir string) { copyTo(t, libc(t), dir+"/bin/library.so") }, do: preloaded, lacks: lacksLoader}
	preload.about, preload.steps = about(onPath(event.OpLibrary, "bin/library.so")), reading
	return filed(map[string]evasion{
		"map executable":                      {do: mapFile(toolFile, executable, func([]byte) error { return nil }), about: library, steps: reading},
		"map, then mprotect":                  {do: mapFile(toolFile, unix.PROT_READ, func(m []byte) error { return unix.Mprotect(m, executable) }), about: library, steps: reading},
		"map readable, which is executable":   {do: readingIsExecuting(false), about: library, steps: reading, alone: true},
		"remap readable, which is executable": {do: readingIsExecuting(true), about: library, steps: []event.Operation{event.OpRead, event.OpWrite}, alone: true, lacks: lacksRemap},
		"ld.so":                               {prepare: putTrue, do: byLoader, about: about(at(event.OpExec, loader())), lacks: lacksLoader},
		"ld.so, which is known":               {prepare: putTrue, do: byLoader, about: about(onPath(event.OpLibrary, "bin/true")), lacks: lacksLoader, steps: reading, code: 127},
		"LD_PRELOAD":                          preload,
		"interpreter":                         {do: func(string) error { return spawn("/bin/sh", "-c", ":") }, about: about(at(event.OpExec, shell()))},
		"interpreter, which is known": {do: func(dir string) error {
			return spawn("/bin/sh", "-c", ": < "+dir+"/"+vaultFile)
		}, code: 2},
		"code in anonymous memory": {do: func(dir string) error {
			content, err := os.ReadFile(dir + "/" + toolFile)
			if err != nil {
				return err
			}
			memory, err := unix.Mmap(-1, 0, len(content), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Munmap(memory) }()
			copy(memory, content)
			return unix.Mprotect(memory, executable)
		}, about: about(), steps: reading, passes: true},
	})
}

// preloaded lets a program load a library and say what it has mapped.
func preloaded(dir string) error {
	var out [2]int
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	maps := os.NewFile(uintptr(out[0]), "maps")
	defer maps.Close()
	lines := make(chan []string)
	go func() {
		var all []byte
		for chunk := make([]byte, 4096); ; {
			n, err := maps.Read(chunk)
			if all = append(all, chunk[:n]...); err != nil {
				lines <- strings.Split(string(all), "\n")
				return
			}
		}
	}()
	err := spawnWith(&syscall.ProcAttr{
		Env: []string{"LD_PRELOAD=" + dir + "/bin/library.so"}, Files: []uintptr{0, uintptr(out[1]), 2},
	}, "/bin/cat", "/proc/self/maps")
	unix.Close(out[1])
	loaded := slices.ContainsFunc(<-lines, func(line string) bool {
		return strings.Contains(line, "r-xp") && strings.HasSuffix(line, dir+"/bin/library.so")
	})
	if err == nil && !loaded {
		return errEmptyHanded
	}
	return err
}

// lacksRemap is about ea7e2d5e49c0 ("mm: call the security_mmap_file() LSM hook in remap_file_pages()", 6.12), which Debian's 6.1
// has and its 5.10 has not.
func lacksRemap() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil || name.Release[0] == '5' {
		return "this kernel asks nobody"
	}
	return ""
}

func lacksLoader() string {
	if _, err := os.Stat(loader()); err != nil {
		return "no loader of libraries here"
	}
	return ""
}

func loader() string {
	path := "/lib64/ld-linux-x86-64.so.2"
	if runtime.GOARCH == "arm64" {
		path = "/lib/ld-linux-aarch64.so.1"
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

func shell() string {
	real, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		return "/bin/sh"
	}
	return real
}

// libc is the library that every program here has.
func libc(t *testing.T) string {
	t.Helper()
	mapped, err := exec.Command("/bin/cat", "/proc/self/maps").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mapped)) {
		if path := strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]); strings.Contains(path, "/libc.so") {
			return path
		}
	}
	t.Fatalf("find libc in %s", mapped)
	return ""
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	putFile(t, to, content)
}
