// Package sensortest runs known programs in a cgroup made for one test and collects what the kernel
// side reports about them. It is for tests only and must never observe anything outside that cgroup.
//
//	scope := sensortest.NewScope(t)
//	got := sensortest.Collect(t, scope.Shared, p)
//	scope.Run(t, "/bin/true")
//	got.Wait(t, "an exit", func(evs []event.Event) bool { return len(evs) == 2 })
package sensortest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// Base is what scopes are made in: shared maps that are confined to them, and a version 2 cgroup. Several tests may use
// one base, one after the other, with what they have loaded beside it.
type Base struct {
	Dir    string
	Shared *sensor.Shared
	scopes uint32
}

// Scope is a version 2 cgroup of its own, in the map of workloads.
type Scope struct {
	Dir      string
	ID       uint64 // of the cgroup
	Workload uint32 // its id in the kernel's workload map; no other scope of the base has had it
	Shared   *sensor.Shared
	Held     event.Dimensions // that the mode is about; executions at first
	lost     map[string]uint64
}

// kernelTypes are read once for all tests of a package, which run one after the other.
var kernelTypes = sync.OnceValues(func() (*sensor.Types, error) { return sensor.ReadTypes("") })

// NewBase makes a cgroup and shared maps. The test is skipped where that cannot be had; in the VM matrix that fails it.
func NewBase(t testing.TB) *Base {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "needs root: it loads programs into the kernel")
	}
	root, err := cgroup2Mount()
	if err != nil {
		skip(t, err.Error())
	}
	types, err := kernelTypes()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(root, "plumbline-test-")
	if err != nil {
		t.Fatal(err)
	}
	shared, err := sensor.NewShared(sensor.Config{
		RingBytes: 1 << 22, Hierarchy: sensor.HierarchyV2, Scoped: true, PerProcess: true, Poll: 10 * time.Millisecond, Types: types,
	})
	if err != nil {
		t.Fatal(errors.Join(err, os.Remove(dir)))
	}
	return &Base{Dir: dir, Shared: shared}
}

// Close lets go of the maps and removes the cgroup, in which there is no scope any more.
func (b *Base) Close() error { return errors.Join(b.Shared.Close(), os.Remove(b.Dir)) }

// NewScope makes a cgroup and shared maps that are confined to it, in learn mode, as NewBase does.
func NewScope(t testing.TB) *Scope {
	t.Helper()
	base := NewBase(t)
	t.Cleanup(func() {
		if err := base.Close(); err != nil {
			t.Error(err)
		}
	})
	return base.NewScope(t)
}

// NewScope makes a cgroup for one test, in learn mode.
func (b *Base) NewScope(t testing.TB) *Scope {
	t.Helper()
	dir, err := os.MkdirTemp(b.Dir, "scope-")
	if err != nil {
		t.Fatal(err)
	}
	b.scopes++
	s := &Scope{Dir: dir, Workload: b.scopes, Shared: b.Shared, Held: event.Dimensions(0).With(event.DimExec)}
	t.Cleanup(func() { s.remove(t) })
	s.ID = s.cgroupID(t)
	s.lost = s.counters(t)
	s.Set(t, event.Learn, 1)
	return s
}

// Remake removes the scope's cgroup and makes another one at its place, which is nobody's.
func (s *Scope) Remake(t testing.TB) {
	t.Helper()
	s.remove(t)
	if err := os.Mkdir(s.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.ID = s.cgroupID(t)
}

// cgroupID of the scope's directory.
func (s *Scope) cgroupID(t testing.TB) uint64 {
	t.Helper()
	info, err := os.Stat(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino // kernfs: the inode number is the cgroup id
}

// Lost are the loss counters that grew since the scope was made, and by how much.
func (s *Scope) Lost(t testing.TB) map[string]uint64 {
	t.Helper()
	lost := s.counters(t)
	for reason, before := range s.lost {
		if lost[reason] -= before; lost[reason] == 0 {
			delete(lost, reason)
		}
	}
	return lost
}

func (s *Scope) counters(t testing.TB) map[string]uint64 {
	t.Helper()
	counters, err := s.Shared.LossCounters()
	if err != nil {
		t.Fatal(err)
	}
	return counters
}

// InVM says whether the test has a kernel for itself.
func InVM() bool { return os.Getenv("PLUMBLINE_VM") != "" }

// ByHand skips, in the guests of the matrix, what takes minutes under emulation. vmrun runs it on any kernel.
func ByHand(t testing.TB) {
	t.Helper()
	if os.Getenv("PLUMBLINE_KERNEL") != "" {
		t.Skip("it takes too long for the matrix: vmrun runs it")
	}
}

// OnlyOn skips in the guests of the matrix that have other kernels than these: what takes long under emulation, and
// does not depend on more of the kernel than other tests. vmrun runs it on any kernel, and the matrix with -every on all.
func OnlyOn(t testing.TB, kernels ...string) {
	t.Helper()
	if kernel := os.Getenv("PLUMBLINE_KERNEL"); kernel != "" && !slices.Contains(kernels, kernel) && os.Getenv("PLUMBLINE_EVERY") == "" {
		t.Skipf("it takes too long for each kernel of the matrix: it runs on %s, and with -every", strings.Join(kernels, ", "))
	}
}

func skip(t testing.TB, why string) {
	t.Helper()
	if InVM() {
		t.Fatal(why)
	}
	t.Skip(why)
}

// Set changes the scope's mode and policy generation.
func (s *Scope) Set(t testing.TB, mode event.Mode, generation uint32) {
	t.Helper()
	if err := s.Shared.SetWorkload(s.ID, sensor.State(s.Workload, mode, generation, s.Held)); err != nil {
		t.Fatal(err)
	}
}

// Command prepares a program that is in the scope from its first instruction.
func (s *Scope) Command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	fd, err := os.Open(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fd.Close() })
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd())}
	return cmd
}

// Run runs a program in the scope to its end and returns its error.
func (s *Scope) Run(t testing.TB, name string, args ...string) error {
	t.Helper()
	return s.Command(t, name, args...).Run()
}

func (s *Scope) remove(t testing.TB) {
	// The test may have closed the maps.
	if err := s.Shared.RemoveWorkload(s.ID); err != nil && !errors.Is(err, syscall.EBADF) {
		t.Error(err)
	}
	// The kernel lets go of a cgroup a moment after its last process was waited for.
	Until(t, "remove cgroup", func() bool {
		err := filepath.WalkDir(s.Dir, func(path string, d os.DirEntry, err error) error { return err })
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false
		}
		err = os.Remove(s.Dir)
		return err == nil || errors.Is(err, os.ErrNotExist)
	})
}

func cgroup2Mount() (string, error) {
	f, err := os.Open("/proc/mounts")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1], nil
		}
	}
	return "", errors.New("needs a mounted cgroup2 hierarchy")
}

// Until waits for a condition and fails the test after a minute.
func Until(t testing.TB, what string, done func() bool) {
	t.Helper()
	pause := time.Millisecond
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting: %s", what)
		}
		pause = min(pause*3/2, 20*time.Millisecond)
	}
}

// Events is what the ring buffer delivered so far.
type Events struct {
	mu   sync.Mutex
	list []event.Event
}

// Collect reads the ring buffer until the test ends, and keeps what is not of other scopes: of earlier ones, whose processes end
// a moment after their test.
func (s *Scope) Collect(t testing.TB, sensors ...sensor.Sensor) *Events {
	t.Helper()
	return collect(t, s.Shared, func(ev *event.Event) bool { return ev.Workload == 0 || ev.Workload == s.Workload }, sensors)
}

// Collect reads the ring buffer until the test ends.
func Collect(t testing.TB, shared *sensor.Shared, sensors ...sensor.Sensor) *Events {
	t.Helper()
	return collect(t, shared, func(*event.Event) bool { return true }, sensors)
}

func collect(t testing.TB, shared *sensor.Shared, keep func(*event.Event) bool, sensors []sensor.Sensor) *Events {
	t.Helper()
	reader, err := sensor.NewReader(shared, sensors, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	var (
		got         Events
		ctx, cancel = context.WithCancel(context.Background())
		done        = make(chan error, 1)
	)
	go func() {
		done <- reader.Run(ctx, func(ev *event.Event) {
			if !keep(ev) {
				return
			}
			got.mu.Lock()
			defer got.mu.Unlock()
			got.list = append(got.list, Clone(ev))
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, reader.Close()); err != nil {
			t.Error(err)
		}
	})
	return &got
}

// Clone copies an event with its strings.
func Clone(ev *event.Event) event.Event {
	c := *ev
	for _, s := range []*string{
		&c.Exec.Path, &c.Exec.Filename, &c.Exec.Args, &c.Exec.Cwd, &c.Exec.Comm,
		&c.Handshake.ServerName, &c.Handshake.ALPN, &c.Handshake.PeerSPIFFEID, &c.Cgroup.Path,
		&c.Access.Path, &c.Access.Comm, &c.Access.Said, &c.Access.Question.Name,
	} {
		*s = strings.Clone(*s)
	}
	return c
}

// All returns the events so far.
func (e *Events) All() []event.Event { return e.From(0) }

// From returns those behind the first n.
func (e *Events) From(n int) []event.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.list[n:])
}

// Len is how many there are so far.
func (e *Events) Len() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.list)
}

// Of returns the events of one kind so far.
func (e *Events) Of(kind event.Kind) []event.Event {
	return e.Where(func(ev *event.Event) bool { return ev.Kind == kind })
}

// Where returns those that are wanted. An event is large: the others are not copied.
func (e *Events) Where(wanted func(*event.Event) bool) []event.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []event.Event
	for i := range e.list {
		if wanted(&e.list[i]) {
			found = append(found, e.list[i])
		}
	}
	return found
}

// Count is how many those are.
func (e *Events) Count(wanted func(*event.Event) bool) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.list {
		if wanted(&e.list[i]) {
			n++
		}
	}
	return n
}

// Wait waits until there are n events of a kind and returns them; more than n fail the test.
func (e *Events) Wait(t testing.TB, kind event.Kind, n int) []event.Event {
	t.Helper()
	var got []event.Event
	Until(t, fmt.Sprintf("%d %s events", n, kind), func() bool {
		got = e.Of(kind)
		return len(got) >= n
	})
	if len(got) > n {
		t.Fatalf("%d %s events, want %d: %+v", len(got), kind, n, got)
	}
	return got
}
