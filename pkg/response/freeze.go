package response

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/workload"
)

// Frozen is a cgroup that can be stopped with all that is in it. As JSON it tells the next agent.
type Frozen struct {
	Dir     string `json:"dir"`
	Inode   uint64 `json:"inode"` // another cgroup of the same name is another one
	Freezer bool   `json:"freezer,omitempty"`
}

const (
	freezePoll  = 10 * time.Millisecond
	freezeTime  = 5 * time.Second // until the last process has stopped
	lookAgain   = 3               // processes come and go while they are compared
	maxFileText = 256
)

// Freezers finds what stops all of a target, and nothing else.
func Freezers(t Target) ([]Frozen, error) {
	var all []Frozen
	for _, top := range t.Tops {
		f, err := freezerOf(t, top)
		if err != nil {
			return nil, err
		}
		stopped, err := f.isStopped()
		if err != nil {
			return nil, err
		}
		if stopped {
			return nil, fmt.Errorf("%s is stopped already, and not by us", f.Dir)
		}
		all = append(all, f)
	}
	return all, nil
}

func freezerOf(t Target, top workload.Node) (Frozen, error) {
	candidates, err := t.Hierarchy.Freezers("", top)
	if err != nil {
		return Frozen{}, err
	}
	err = errors.New("nowhere can it be stopped: neither the freezer controller nor a version 2 tree has a cgroup with its processes and no others")
	for _, c := range candidates {
		f := Frozen{Dir: c.Dir, Inode: c.ID, Freezer: c.Version1}
		if f.has(f.control()) != nil {
			err = fmt.Errorf("%s is missing: Linux 5.2 has it", f.control())
			continue
		}
		if c.Dir == top.Dir || sameProcesses(top.Dir, c.Dir) {
			return f, nil
		}
	}
	return Frozen{}, err
}

// sameProcesses says whether the same processes are in two cgroup directories of different hierarchies.
func sameProcesses(one, other string) bool {
	for range lookAgain {
		first, second := map[uint32]bool{}, map[uint32]bool{}
		for dir, pids := range map[string]map[uint32]bool{one: first, other: second} {
			if addProcesses(pids, dir) != nil {
				return false
			}
		}
		if len(first) > 0 && maps.Equal(first, second) {
			return true
		}
	}
	return false
}

func (f Frozen) control() string {
	if f.Freezer {
		return "freezer.state"
	}
	return "cgroup.freeze"
}

// has says why there is no file of that name.
func (f Frozen) has(name string) error {
	file, err := f.open(name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	return file.Close()
}

// open opens a file of this very cgroup; ErrNotExist if that is gone.
func (f Frozen) open(name string, flags int) (*os.File, error) {
	dir, err := unix.Open(f.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", f.Dir, err)
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return nil, fmt.Errorf("look at %s: %w", f.Dir, err)
	}
	if st.Ino != f.Inode {
		return nil, fmt.Errorf("open %s: it is another cgroup by now: %w", f.Dir, os.ErrNotExist)
	}
	fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s/%s: %w", f.Dir, name, err)
	}
	return os.NewFile(uintptr(fd), f.Dir+"/"+name), nil
}

func (f Frozen) read(name string) (string, error) {
	file, err := f.open(name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFileText))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file.Name(), err)
	}
	return string(text), nil
}

func (f Frozen) write(name, text string) error {
	file, err := f.open(name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", file.Name(), err)
	}
	return nil
}

// isStopped says whether every process in it has stopped.
func (f Frozen) isStopped() (bool, error) {
	if f.Freezer {
		text, err := f.read("freezer.state")
		return strings.TrimSpace(text) == "FROZEN", err
	}
	text, err := f.read("cgroup.events")
	return strings.Contains(text, "frozen 1"), err
}

// ErrStopping means that some process is still at work in the kernel: it stops when it comes back from there.
var ErrStopping = errors.New("some processes are in the kernel yet, and stop when they come back")

// Freeze stops every process in it, and what they start. With ErrStopping it was done, too.
func (f Frozen) Freeze(ctx context.Context) error {
	text := "1"
	if f.Freezer {
		text = "FROZEN"
	}
	if err := f.write(f.control(), text); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, freezeTime)
	defer cancel()
	ticker := time.NewTicker(freezePoll)
	defer ticker.Stop()
	for {
		if stopped, err := f.isStopped(); stopped || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ErrStopping
		case <-ticker.C:
		}
	}
}

// Thaw lets them go on. Of a cgroup that is gone there is nothing to let go.
func (f Frozen) Thaw() error {
	text := "0"
	if f.Freezer {
		text = "THAWED"
	}
	err := f.write(f.control(), text)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// Exists says whether the cgroup is still there.
func (f Frozen) Exists() bool { return !errors.Is(f.has(f.control()), os.ErrNotExist) }
