package workload

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrGone means that the process ended before it was read.
var ErrGone = errors.New("process is gone")

// Process is what /proc says of a running process.
type Process struct {
	PID, PPID uint32
	Start     uint64 // clock ticks since boot, field 22 of stat
	UID       uint32 // real
	Comm      string
	Exe       string // as the process's root sees it; " (deleted)" is cut and Deleted set
	Deleted   bool
	Args      string // arguments joined by spaces, at most maxArgs bytes
	Cwd       string

	VPID    uint32 // in its innermost pid namespace
	Group   uint32 // process ids of the leaders of its process group and of its session
	Session uint32
	TTY     uint32 // device number of its controlling terminal, 0: none
}

// Bounds of what is read of one process.
const (
	maxStat   = 4096
	maxStatus = 16 << 10
	maxArgs   = 1023
	maxMaps   = 16 << 20
	maxFiles  = 4096
)

// Proc reads a mounted proc file system.
type Proc struct{ root string }

// NewProc reads below root; default /proc.
func NewProc(root string) Proc {
	if root == "" {
		root = "/proc"
	}
	return Proc{root: root}
}

func (p Proc) path(pid uint32, name string) string {
	return filepath.Join(p.root, strconv.FormatUint(uint64(pid), 10), name)
}

func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// Read reads one process. It returns an error that wraps ErrGone if there is none any more.
func (p Proc) Read(pid uint32) (Process, error) {
	stat, err := readBounded(p.path(pid, "stat"), maxStat)
	if err != nil {
		return Process{}, procError(pid, err)
	}
	proc, err := parseStat(stat)
	if err != nil {
		return Process{}, fmt.Errorf("read process %d: %w", pid, err)
	}
	proc.PID = pid
	status, err := readBounded(p.path(pid, "status"), maxStatus)
	if err != nil {
		return Process{}, procError(pid, err)
	}
	if proc.UID, err = parseID(status, "Uid"); err != nil {
		return Process{}, fmt.Errorf("read process %d: %w", pid, err)
	}
	if proc.VPID, err = parseInnermost(status, pid); err != nil {
		return Process{}, fmt.Errorf("read process %d: %w", pid, err)
	}
	// A kernel thread has neither root, executable nor arguments; that is no error.
	root, _ := os.Readlink(p.path(pid, "root"))
	proc.Exe, _ = os.Readlink(p.path(pid, "exe"))
	proc.Exe, proc.Deleted = strings.CutSuffix(inside(root, proc.Exe), " (deleted)")
	proc.Cwd, _ = os.Readlink(p.path(pid, "cwd"))
	proc.Cwd = inside(root, proc.Cwd)
	args, err := readBounded(p.path(pid, "cmdline"), maxArgs)
	if err != nil {
		return Process{}, procError(pid, err)
	}
	proc.Args = strings.TrimRight(string(bytes.ReplaceAll(args, []byte{0}, []byte{' '})), " ")
	// If the number was given to another process meanwhile, we have read a mixture.
	again, err := readBounded(p.path(pid, "stat"), maxStat)
	if err != nil {
		return Process{}, procError(pid, err)
	}
	if now, err := parseStat(again); err != nil || now.Start != proc.Start {
		return Process{}, procError(pid, fs.ErrNotExist)
	}
	return proc, nil
}

// inside makes a path that we see one that a process with another root (chroot) sees.
func inside(root, path string) string {
	if root == "" || root == "/" {
		return path
	}
	if rest, ok := strings.CutPrefix(path, root); ok && (rest == "" || rest[0] == '/') {
		return "/" + strings.TrimPrefix(rest, "/")
	}
	return path
}

// parseID finds a real id, Uid or Gid, in /proc/PID/status. A newline in the name above it is escaped.
func parseID(status []byte, which string) (uint32, error) {
	_, rest, ok := bytes.Cut(status, []byte("\n"+which+":\t"))
	if !ok {
		return 0, fmt.Errorf("parse status: no %s", which)
	}
	real, _, _ := bytes.Cut(rest, []byte{'\t'})
	id, err := strconv.ParseUint(string(real), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("parse status: %s: %w", which, err)
	}
	return uint32(id), nil
}

// parseInnermost finds the process id in the innermost pid namespace in /proc/PID/status: the last of NStgid. A
// kernel without pid namespaces has none, and pid is it.
func parseInnermost(status []byte, pid uint32) (uint32, error) {
	_, rest, ok := bytes.Cut(status, []byte("\nNStgid:\t"))
	if !ok {
		return pid, nil
	}
	line, _, _ := bytes.Cut(rest, []byte{'\n'})
	last := line[bytes.LastIndexByte(line, '\t')+1:]
	id, err := strconv.ParseUint(string(last), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("parse status: NStgid: %w", err)
	}
	return uint32(id), nil
}

func procError(pid uint32, err error) error {
	if gone(err) {
		return fmt.Errorf("read process %d: %w", pid, ErrGone)
	}
	return fmt.Errorf("read process %d: %w", pid, err)
}

// parseStat reads /proc/PID/stat, see proc_pid_stat(5). The name is in parentheses and may hold
// anything, parentheses and newlines too; the last closing one ends it.
func parseStat(stat []byte) (Process, error) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return Process{}, fmt.Errorf("parse stat: no name in %.64q", stat)
	}
	fields := strings.Fields(string(stat[end+1:])) // from field 3 on
	if len(fields) < 20 {
		return Process{}, fmt.Errorf("parse stat: %d fields after the name, want 20", len(fields))
	}
	p := Process{Comm: string(stat[open+1 : end])}
	for i, number := range []*uint32{&p.PPID, &p.Group, &p.Session, &p.TTY} {
		n, err := strconv.ParseInt(fields[1+i], 10, 64)
		if err != nil || n < math.MinInt32 || n > math.MaxUint32 {
			return Process{}, fmt.Errorf("parse stat: field %d: %.20q is no number of 32 bits", 4+i, fields[1+i])
		}
		*number = uint32(n)
	}
	var err error
	if p.Start, err = strconv.ParseUint(fields[19], 10, 64); err != nil {
		return Process{}, fmt.Errorf("parse stat: start time: %w", err)
	}
	return p, nil
}

func readBounded(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// Image is one file that a process has mapped to execute.
type Image struct {
	Name  string // as the process sees it
	File  string // opens it from here
	Inode uint64
	Size  int64
	Mtime int64 // nanoseconds
}

// Images lists the executable mappings of a process, its own executable first, each file once.
func (p Proc) Images(pid uint32) ([]Image, error) {
	exe, err := p.image(p.path(pid, "exe"))
	if err != nil {
		return nil, procError(pid, err)
	}
	exe.Name, err = os.Readlink(p.path(pid, "exe"))
	if err != nil {
		return nil, procError(pid, err)
	}
	images := []Image{exe}
	f, err := os.Open(p.path(pid, "maps"))
	if err != nil {
		return nil, procError(pid, err)
	}
	defer f.Close()
	seen, listed := map[uint64]bool{}, map[uint64]bool{exe.Inode: true}
	lines := bufio.NewScanner(io.LimitReader(f, maxMaps))
	lines.Buffer(nil, 64<<10)
	for lines.Scan() && len(images) < maxFiles {
		m, ok := parseMapping(lines.Text())
		if !ok || seen[m.inode] {
			continue
		}
		seen[m.inode] = true
		img, err := p.mapped(pid, m)
		if err != nil || listed[img.Inode] {
			continue // unmapped meanwhile
		}
		listed[img.Inode] = true
		img.Name = m.name
		images = append(images, img)
	}
	if err := lines.Err(); err != nil {
		return nil, procError(pid, err)
	}
	return images, nil
}

// mapped opens a mapping's file. Its inode is not compared with the one in maps: on an overlay of
// several file systems the kernel tells two different numbers.
func (p Proc) mapped(pid uint32, m mapping) (Image, error) {
	img, err := p.image(p.path(pid, "map_files/"+m.addresses))
	if err == nil || gone(err) {
		return img, err
	}
	// Who may not read map_files (CAP_CHECKPOINT_RESTORE, before Linux 5.9 CAP_SYS_ADMIN) takes the
	// path, if the same file is still there.
	img, err = p.image(p.path(pid, "root"+m.name))
	if err == nil && img.Inode != m.inode {
		return Image{}, fs.ErrNotExist
	}
	return img, err
}

func (p Proc) image(file string) (Image, error) {
	info, err := os.Stat(file)
	if err != nil {
		return Image{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return Image{}, fs.ErrNotExist
	}
	return Image{File: file, Inode: st.Ino, Size: st.Size, Mtime: info.ModTime().UnixNano()}, nil
}

type mapping struct {
	addresses, name string
	inode           uint64
}

// parseMapping reads one line of /proc/PID/maps, see proc_pid_maps(5); false if it is not a file that
// is mapped to execute.
func parseMapping(line string) (mapping, bool) {
	fields := strings.SplitN(line, " ", 6)
	if len(fields) != 6 || len(fields[1]) < 3 || fields[1][2] != 'x' {
		return mapping{}, false
	}
	inode, err := strconv.ParseUint(fields[4], 10, 64)
	name := strings.TrimLeft(fields[5], " ")
	if err != nil || inode == 0 || !strings.HasPrefix(name, "/") {
		return mapping{}, false
	}
	return mapping{addresses: fields[0], name: name, inode: inode}, true
}

// RSS is the resident memory of this process in bytes.
func (p Proc) RSS() uint64 {
	data, err := readBounded(filepath.Join(p.root, "self/statm"), 256)
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
