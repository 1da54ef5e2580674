package sensor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// wireVersion changes with the form of records and of the shared maps. What an agent of another version
// has left is taken away and not read.
const wireVersion = 8

// Pins keep hooks and maps in the kernel while no agent runs: files of a BPF file system in a directory
// that one agent owns at a time. Each agent pins what is its own beside what an earlier one has left, and
// removes that once its own works. Not safe for concurrent use.
type Pins struct {
	dir  string
	own  string // directory of this agent's pins
	lock *os.File
}

// OwnPins is where pins are kept on machines without a BPF file system.
const OwnPins = "/run/plumbline-bpf"

// Why a directory cannot be had for pins.
var (
	ErrInUse  = errors.New("another agent holds the pins")
	ErrNotOwn = errors.New("it is not the agent's own directory")
)

// mountedBy is the source of a BPF file system that an agent has mounted.
const mountedBy = "plumbline"

// OpenPins takes possession of a directory. If it is not in a BPF file system, one is mounted there. It is
// refused if anything but pins of agents is in it, or if it is the BPF file system that others use too.
func OpenPins(dir string) (*Pins, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make pin directory: %w", err)
	}
	is, err := isBPF(dir)
	if err != nil {
		return nil, err
	}
	if err := checkOwn(dir, is); err != nil {
		return nil, fmt.Errorf("check pin directory %s: %w", dir, err)
	}
	if !is {
		if err := unix.Mount(mountedBy, dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
			_ = os.Remove(dir) // it is empty
			return nil, fmt.Errorf("mount BPF file system at %s: %w", dir, err)
		}
	}
	p := &Pins{dir: dir}
	if p.lock, err = os.Open(dir); err != nil {
		return nil, fmt.Errorf("lock pin directory: %w", err)
	}
	if err := unix.Flock(int(p.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, errors.Join(fmt.Errorf("lock pin directory %s: %w", dir, err), p.lock.Close())
	}
	return p, nil
}

// checkOwn refuses a directory that holds what no agent has put there, or that is somebody else's mount.
func checkOwn(dir string, inBPF bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		// In a BPF file system, nobody but the kernel makes names with a dot.
		if !inBPF || !isPinName(e.Name()) && !strings.Contains(e.Name(), ".") {
			return fmt.Errorf("%w: %s is in it", ErrNotOwn, e.Name())
		}
	}
	if source, err := mountSource(dir); err != nil {
		return err
	} else if inBPF && source != "" && source != mountedBy {
		return fmt.Errorf("%w: a BPF file system is mounted there by %s", ErrNotOwn, source)
	}
	return nil
}

// systemBPF is where service managers mount the BPF file system that everybody uses.
const systemBPF = "/sys/fs/bpf"

// mountSource tells by whose name a BPF file system is mounted at a directory; empty if none is. Linux 5.10
// forgets the name: what is not the system's is taken to be an agent's then.
func mountSource(dir string) (string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("read mounts: %w", err)
	}
	source := ""
	for line := range strings.Lines(string(mounts)) {
		left, right, _ := strings.Cut(line, " - ") // see proc_pid_mountinfo(5)
		before, after := strings.Fields(left), strings.Fields(right)
		if len(before) > 4 && len(after) > 1 && before[4] == escapeMount(real) && after[0] == "bpf" {
			source = after[1] // the last one hides the others
		}
	}
	if source == "none" && real != systemBPF {
		source = mountedBy
	}
	return source, nil
}

// escapeMount writes a path as mountinfo does.
func escapeMount(path string) string {
	return strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(path)
}

// IsBPF says whether a directory is there and in a BPF file system.
func IsBPF(dir string) bool {
	is, err := isBPF(dir)
	return err == nil && is
}

// isBPF says whether a directory is in a BPF file system.
func isBPF(dir string) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return false, fmt.Errorf("look at pin directory %s: %w", dir, err)
	}
	return fs.Type == unix.BPF_FS_MAGIC, nil
}

// Begin makes the directory of this agent's pins. Its name has the wire version and the time.
func (p *Pins) Begin(now time.Time) error {
	own := filepath.Join(p.dir, fmt.Sprintf("v%d_%d", wireVersion, now.UnixNano()))
	if err := os.Mkdir(own, 0o700); err != nil {
		return fmt.Errorf("make pin directory: %w", err)
	}
	p.own = own
	return nil
}

// Name of the directory that Begin made.
func (p *Pins) Name() string { return filepath.Base(p.own) }

// isPinName says whether an agent of any version has named a directory so.
func isPinName(name string) bool {
	name, isVersion := strings.CutPrefix(name, "v")
	version, at, isPair := strings.Cut(name, "_")
	_, wrongVersion := strconv.ParseUint(version, 10, 32)
	_, wrongTime := strconv.ParseUint(at, 10, 64)
	return isVersion && isPair && wrongVersion == nil && wrongTime == nil
}

// pinnable is a map or a link.
type pinnable interface{ Pin(path string) error }

// Pin keeps a map or link in the kernel. A BPF file system allows no dots in names.
func (p *Pins) Pin(name string, object pinnable) error {
	if err := object.Pin(filepath.Join(p.own, strings.ReplaceAll(name, ".", "_"))); err != nil {
		return fmt.Errorf("pin %s: %w", name, err)
	}
	return nil
}

// PinMaps keeps the shared maps.
func (p *Pins) PinMaps(s *Shared) error {
	return errors.Join(p.Pin("map_events", s.Events), p.Pin("map_events_lost", s.Lost), p.Pin("map_workloads", s.Workloads))
}

// Abandon removes what this agent has pinned since Begin.
func (p *Pins) Abandon() error {
	own := Left{p.own}
	p.own = ""
	return own.Remove()
}

// Left is what an earlier agent has pinned.
type Left struct {
	dir string
}

// Left lists what earlier agents have pinned, the oldest first.
func (p *Pins) Left() ([]Left, error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, fmt.Errorf("read pin directory: %w", err)
	}
	var all []Left
	for _, e := range entries {
		if dir := filepath.Join(p.dir, e.Name()); isPinName(e.Name()) && dir != p.own {
			all = append(all, Left{dir})
		}
	}
	return all, nil
}

// Name of the earlier agent's directory.
func (l Left) Name() string { return filepath.Base(l.dir) }

// readable says whether this agent knows the form of the records.
func (l Left) readable() bool {
	version, _, _ := strings.Cut(l.Name(), "_")
	return version == "v"+strconv.Itoa(wireVersion)
}

// Maps opens the shared maps of the earlier agent, to read what it did not: events and counters.
func (l Left) Maps() (*Shared, error) {
	if !l.readable() {
		return nil, fmt.Errorf("read what %s left: %w: another version wrote it", l.Name(), ErrNotSupported)
	}
	s := &Shared{}
	for name, to := range map[string]**ebpf.Map{"map_events": &s.Events, "map_events_lost": &s.Lost, "map_workloads": &s.Workloads} {
		m, err := ebpf.LoadPinnedMap(filepath.Join(l.dir, name), nil)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open what %s left: %w", l.Name(), err), s.Close())
		}
		*to = m
	}
	return s, nil
}

// Detach takes the earlier agent's hooks out of the kernel; its maps stay.
func (l Left) Detach() error { return removePins(l.dir, "link_") }

// Remove takes everything of the earlier agent out of the kernel.
func (l Left) Remove() error {
	return errors.Join(l.Detach(), removePins(l.dir, ""), os.Remove(l.dir))
}

// hooks are the programs of the earlier agent's links.
func (l Left) hooks() (programs []ebpf.ProgramID) {
	files, _ := filepath.Glob(filepath.Join(l.dir, "link_*"))
	for _, file := range files {
		pinned, err := link.LoadPinnedLink(file, nil)
		if err != nil {
			continue // what is no link ends with its file
		}
		if info, err := pinned.Info(); err == nil {
			programs = append(programs, info.Program)
		}
		_ = pinned.Close()
	}
	return programs
}

// maxEnd is how long a hook may take to end after the files were removed and the one before it has ended: a grace period, and
// more on a busy machine. The kernel ends one after the other, and may need a tenth of a second for each.
const maxEnd = 10 * time.Second

// waitForEnd waits until the kernel has taken the hooks out, which it does some time after their files are gone:
// the last thing that goes is the program.
func waitForEnd(programs []ebpf.ProgramID) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for _, id := range programs {
		for late := time.After(maxEnd); ; {
			program, err := ebpf.NewProgramFromID(id)
			if err != nil {
				break // it is gone
			}
			_ = program.Close()
			select {
			case <-late:
				return fmt.Errorf("wait for the end of hooks: program %d is still there after %s", id, maxEnd)
			case <-tick.C:
			}
		}
	}
	return nil
}

// removePins removes the files whose names begin so, in order of their names.
func removePins(dir, prefix string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Close gives up possession; what is pinned stays.
func (p *Pins) Close() error {
	if left, err := p.Left(); err == nil && len(left) == 0 && p.own == "" {
		_, err := p.Clear() // nobody has pinned anything
		return err
	}
	return p.unlock()
}

func (p *Pins) unlock() error {
	if err := p.lock.Close(); err != nil {
		return fmt.Errorf("unlock pin directory: %w", err)
	}
	return nil
}

// Clear removes all pins and the directory, gives up possession, and tells what was pinned.
func (p *Pins) Clear() ([]string, error) {
	p.own = ""
	left, err := p.Left()
	if err != nil {
		return nil, err
	}
	var removed []string
	errs := make([]error, 0, len(left))
	for _, l := range left {
		entries, err := os.ReadDir(l.dir)
		errs = append(errs, err)
		for _, e := range entries {
			removed = append(removed, l.Name()+"/"+e.Name())
		}
		errs = append(errs, l.Remove())
	}
	slices.Sort(removed)
	errs = append(errs, p.unlock()) // else it is busy
	source, err := mountSource(p.dir)
	errs = append(errs, err)
	if source == mountedBy {
		errs = append(errs, unix.Unmount(p.dir, 0))
	}
	if err := errors.Join(append(errs, os.Remove(p.dir))...); err != nil {
		return removed, fmt.Errorf("remove pins in %s: %w", p.dir, err)
	}
	if filepath.Dir(p.dir) == OwnPins {
		_ = os.Remove(OwnPins) // another agent's may be there
	}
	return removed, nil
}

// FindPins takes possession of a directory in which agents may have pinned; nil if they have not, or not since
// the machine was started.
func FindPins(dir string) (*Pins, error) {
	is, err := isBPF(dir)
	switch {
	case errors.Is(err, os.ErrNotExist) || err == nil && !is:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return OpenPins(dir)
}

// Unload removes all that agents have left under dir, and returns when it is gone. It is refused while one runs.
func Unload(dir string) ([]string, error) {
	p, err := FindPins(dir)
	if err != nil || p == nil {
		return nil, err
	}
	left, err := p.Left()
	if err != nil {
		return nil, errors.Join(err, p.unlock())
	}
	var hooks []ebpf.ProgramID
	for _, l := range left {
		hooks = append(hooks, l.hooks()...)
	}
	removed, err := p.Clear()
	return removed, errors.Join(err, waitForEnd(hooks))
}
