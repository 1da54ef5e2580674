package workload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// processDir is the directory of one process below /proc, held open: it never becomes another process's.
type processDir struct {
	fd  int
	pid uint32
}

// open opens a process's directory. With a start time other than 0, it is ErrGone if it is another process.
func (p Proc) open(pid uint32, start uint64) (processDir, error) {
	fd, err := unix.Open(p.path(pid, ""), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return processDir{}, procError(pid, err)
	}
	dir := processDir{fd, pid}
	if start == 0 {
		return dir, nil
	}
	stat, err := dir.read("stat", maxStat)
	if err == nil {
		var is Process
		if is, err = parseStat(stat); err == nil && is.Start != start {
			err = fmt.Errorf("read process %d: %w", pid, ErrGone)
		}
	}
	if err != nil {
		return processDir{}, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// Close closes the directory.
func (d processDir) Close() error { return unix.Close(d.fd) }

// read reads one of the kernel's files about the process.
func (d processDir) read(name string, limit int64) ([]byte, error) {
	fd, err := unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, procError(d.pid, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, procError(d.pid, err)
	}
	return data, nil
}

// root opens the root of the process to look names up in it, if that can be done without waiting for another
// process or machine that answers for the file system.
func (d processDir) root() (int, error) {
	mounts, err := d.read("mountinfo", maxMountInfo)
	if err != nil {
		return -1, err
	}
	if kind := rootType(mounts); !isLocal(kind) {
		return -1, fmt.Errorf("open root of process %d: it is on %q", d.pid, kind)
	}
	fd, err := unix.Openat(d.fd, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, procError(d.pid, err)
	}
	return fd, nil
}

func (d processDir) idMap(name string) ([]idRange, error) {
	data, err := d.read(name, maxIDMap)
	if err != nil {
		return nil, err
	}
	return parseIDMap(data)
}

// rootType is the type of the file system at /, see proc_pid_mountinfo(5); "" if there is no such mount. Of
// several, the last lies on top.
func rootType(mounts []byte) (kind string) {
	for line := range bytes.Lines(mounts) {
		before, after, ok := bytes.Cut(line, []byte(" - "))
		if fields := bytes.Fields(before); ok && len(fields) > 4 && string(fields[4]) == "/" {
			name, _, _ := bytes.Cut(after, []byte{' '})
			kind = string(name)
		}
	}
	return kind
}

// isLocal knows the file systems that answer by themselves.
func isLocal(kind string) bool {
	switch kind {
	case "ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "f2fs", "zfs", "overlay", "tmpfs", "ramfs", "rootfs", "squashfs", "erofs":
		return true
	}
	return false
}

// fileVersion tells whether a file has changed.
type fileVersion struct {
	device, inode uint64
	size          int64
	mtime, ctime  unix.Timespec
}

// read calls parse with a file's content if that is not what it was; no file has no content. The name is resolved as if root were the
// root, links too, without leaving its mount; only a regular file is opened.
func (v *fileVersion) read(root int, name string, parse func([]byte)) error {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	fd, err := unix.Openat2(root, name, &how)
	if errors.Is(err, unix.ENOENT) { // as in an image that holds one program
		*v = fileVersion{}
		parse(nil)
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at %s: %w", name, err)
	}
	now := fileVersion{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("open %s: it is no regular file", name)
	case st.Size > maxAccountBytes:
		return fmt.Errorf("read %s: more than %d bytes", name, maxAccountBytes)
	case now == *v:
		return nil
	}
	// The same file, whatever its name leads to by now.
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxAccountBytes))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	*v = now
	parse(data)
	return nil
}

// Session is who a process works for, beyond its user id.
type Session struct {
	GID      uint32 // real
	LoginUID uint32 // who logged in, as the audit system knows it
	Audited  bool   // there is a LoginUID: this kernel has one, and somebody logged in
}

// Session reads whose a process is. It is ErrGone if it runs no more, or is another one.
func (p Proc) Session(pid uint32, start uint64) (Session, error) {
	dir, err := p.open(pid, start)
	if err != nil {
		return Session{}, err
	}
	defer dir.Close()
	status, err := dir.read("status", maxStatus)
	if err != nil {
		return Session{}, err
	}
	var s Session
	if s.GID, err = parseID(status, "Gid"); err != nil {
		return Session{}, fmt.Errorf("read process %d: %w", pid, err)
	}
	const nobody = 1<<32 - 1
	login, err := dir.read("loginuid", 32)
	if err == nil {
		id, parseErr := strconv.ParseUint(string(bytes.TrimSpace(login)), 10, 32)
		s.LoginUID, s.Audited = uint32(id), parseErr == nil && id != nobody
	}
	return s, nil
}
