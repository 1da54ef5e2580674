package workload

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

func TestParseFileSystems(t *testing.T) {
	const mounts = `23 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
24 23 0:21 / /proc rw shared:2 - proc proc rw
25 23 0:5 / /dev rw shared:3 - devtmpfs udev rw
26 25 0:22 / /dev/shm rw shared:4 master:7 - tmpfs tmpfs rw
27 24 0:30 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw
28 23 0:31 / /mnt/far rw - nfs4 server:/ rw
29 28 0:32 / /mnt/far/near rw - tmpfs tmpfs rw
30 29 0:33 / /mnt/far/near/er rw - tmpfs tmpfs rw
31 23 0:34 / /run/user/1000/doc rw - fuse.portal portal rw
32 23 8:1 /srv /srv/with\040space rw - ext4 /dev/sda1 rw
nonsense - ext4
33 23 0:35 / /no/type rw
`
	var got []string
	for _, f := range parseFileSystems([]byte(mounts)) {
		got = append(got, f.mount+" "+f.device+" "+f.point)
	}
	want := []string{"23 8:1 /", "25 0:5 /dev", "26 0:22 /dev/shm", "32 8:1 /srv/with space"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzParseFileSystems(f *testing.F) {
	f.Add([]byte("23 23 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"))
	f.Add([]byte("23 1 8:1 / \\04 rw - tmpfs"))
	f.Fuzz(func(t *testing.T, mounts []byte) {
		if n := len(parseFileSystems(mounts)); n > maxFileSystems {
			t.Errorf("%d file systems", n)
		}
	})
}

// What it opens is the file system that is mounted there, each one once, and it passes on what goes wrong.
func TestFileSystems(t *testing.T) {
	self, wrong := uint32(os.Getpid()), errors.New("wrong")
	seen := map[string]bool{}
	err := NewProc("").FileSystems(self, func(root *os.File) error {
		info, err := root.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if !filepath.IsAbs(root.Name()) {
			t.Errorf("%q is no mount point", root.Name())
		}
		there, err := os.Lstat(root.Name())
		if err != nil || !os.SameFile(info, there) {
			t.Errorf("%s: opened something else: %v", root.Name(), err)
		}
		seen[root.Name()] = true
		return wrong
	})
	if len(seen) == 0 {
		t.Skip("there is no local file system here")
	}
	if !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
	if name, err := NewProc("").MountNamespace(self); err != nil || name == "" {
		t.Errorf("mount namespace %q, %v", name, err)
	}
	if err := NewProc("").FileSystems(1<<22+1, nil); !errors.Is(err, ErrGone) {
		t.Errorf("a process that is not: %v", err)
	}
	if _, err := NewProc("").MountNamespace(1<<22 + 1); !errors.Is(err, ErrGone) {
		t.Errorf("its namespace: %v", err)
	}
}

// Of a process with mounts of its own, these are found.
func TestFileSystemsOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts something, in a mount namespace of its own")
	}
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", `mount -t tmpfs -o size=4k plumbline "$0" && echo up && read end`, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip("no mount namespace is to be had: ", err)
	}
	defer cmd.Wait()
	defer in.Close()
	if !bufio.NewScanner(out).Scan() {
		t.Skip("nothing can be mounted here")
	}
	there, found := uint32(cmd.Process.Pid), false
	err = NewProc("").FileSystems(there, func(root *os.File) error {
		if root.Name() != dir {
			return nil
		}
		info, err := root.Stat()
		if ours, missing := os.Stat(dir); missing != nil || err != nil || os.SameFile(info, ours) {
			t.Errorf("it is our directory: %v, %v", err, missing)
		}
		found = true
		return nil
	})
	if err != nil || !found {
		t.Errorf("found %t, %v", found, err)
	}
	theirs, err := NewProc("").MountNamespace(there)
	if ours, missing := NewProc("").MountNamespace(uint32(os.Getpid())); err != nil || missing != nil || ours == theirs {
		t.Errorf("mount namespaces %q and %q, %v, %v", ours, theirs, err, missing)
	}
}
