package workload

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFileSystems is how many are looked at in one mount namespace.
const maxFileSystems = 1024

// MountNamespace names the mount namespace of a process. It returns an error that wraps ErrGone if there is none any
// more.
func (p Proc) MountNamespace(pid uint32) (string, error) {
	name, err := os.Readlink(p.path(pid, "ns/mnt"))
	if err != nil {
		return "", procError(pid, err)
	}
	return name, nil
}

// FileSystems calls visit with the root of each file system that a process sees and that answers without another
// process or machine; of one that is mounted several times, once. It opens nothing for reading, and passes the errors on.
func (p Proc) FileSystems(pid uint32, visit func(root *os.File) error) error {
	dir, err := p.open(pid, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	mounts, err := dir.read("mountinfo", maxMountInfo)
	if err != nil {
		return err
	}
	root, err := dir.root()
	if err != nil {
		return err
	}
	defer unix.Close(root)
	var errs []error
	visited := map[string]bool{}
	for _, m := range parseFileSystems(mounts) {
		if visited[m.device] {
			continue
		}
		f, err := m.open(root)
		if err != nil {
			continue // it is gone, or hidden by another mount, and then nobody gets there either
		}
		visited[m.device] = true
		errs = append(errs, visit(f), f.Close())
	}
	return errors.Join(errs...)
}

// fileSystem is a mount of one that answers by itself.
type fileSystem struct {
	mount  string // its number
	device string
	point  string
}

// parseFileSystems reads proc_pid_mountinfo(5). What lies behind a file system that another process or machine answers
// for is left out: the way there would wait for it.
func parseFileSystems(mounts []byte) []fileSystem {
	var found []fileSystem
	beyond := map[string]bool{} // numbers of mounts that cannot be walked into
	for line := range bytes.Lines(mounts) {
		before, after, ok := strings.Cut(string(line), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 6 {
			continue
		}
		kind, _, _ := strings.Cut(after, " ")
		number, parent := fields[0], fields[1]
		if number != parent && beyond[parent] || !isLocal(kind) && !isKernels(kind) {
			beyond[number] = true
			continue
		}
		if isKernels(kind) && kind != "devtmpfs" {
			continue // nothing in it can be executed
		}
		if len(found) == maxFileSystems {
			break
		}
		found = append(found, fileSystem{mount: number, device: fields[2], point: unescape(fields[4])})
	}
	return found
}

// isKernels knows the file systems that the kernel itself makes up.
func isKernels(kind string) bool {
	switch kind {
	case "proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "securityfs", "selinuxfs", "debugfs", "tracefs", "bpf", "pstore",
		"mqueue", "hugetlbfs", "configfs", "efivarfs", "fusectl", "binfmt_misc", "nsfs":
		return true
	}
	return false
}

// open opens the root of a file system as seen from a process's root, if that mount is what lies there.
func (m fileSystem) open(root int) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS,
	}
	fd, err := unix.Openat2(root, m.point, &how)
	if err != nil {
		return nil, fmt.Errorf("open mount %s: %w", m.point, err)
	}
	f := os.NewFile(uintptr(fd), m.point)
	info, err := readBounded("/proc/self/fdinfo/"+strconv.Itoa(fd), maxStat)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, number, ok := bytes.Cut(info, []byte("mnt_id:\t")); !ok || !bytes.HasPrefix(number, []byte(m.mount+"\n")) {
		return nil, errors.Join(fmt.Errorf("open mount %s: another one lies there", m.point), f.Close())
	}
	return f, nil
}
