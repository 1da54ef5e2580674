package enforce_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	bpflink "github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// byNumber does something with the number that it is given.
func byNumber(do func(n uint32) error) func(string) error {
	return func(arg string) error {
		n, err := strconv.ParseUint(arg, 10, 32)
		if err != nil {
			return err
		}
		return do(uint32(n))
	}
}

// agentAttacks are done to the agent, by its pid, a number of the kernel, or the path of a pin.
func agentAttacks() map[string]func(string) error {
	return map[string]func(string) error{
		"agent: end": func(string) error {
			var unattached enforce.Enforcer
			if why := unattached.Unseen(); why != "its pid namespace is not the host's" {
				return errors.New(why)
			}
			return nil
		},
		"agent: signal": byNumber(func(pid uint32) error { return unix.Kill(int(pid), unix.SIGCONT) }),
		"agent: memory": byNumber(func(pid uint32) error {
			return closing(unix.Open(fmt.Sprintf("/proc/%d/mem", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0))
		}),
		"agent: map by number": byNumber(func(id uint32) error {
			m, err := ebpf.NewMapFromID(ebpf.MapID(id))
			return errors.Join(err, m.Close())
		}),
		"agent: program by number": byNumber(func(id uint32) error {
			p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
			return errors.Join(err, p.Close())
		}),
		"agent: link by number": byNumber(func(id uint32) error {
			l, err := bpflink.NewFromID(bpflink.ID(id))
			if err != nil {
				return err
			}
			return l.Close()
		}),
		"agent: map by pin": func(pin string) error {
			m, err := ebpf.LoadPinnedMap(pin, nil)
			return errors.Join(err, m.Close())
		},
		"agent: detach": func(pin string) error {
			l, err := bpflink.LoadPinnedLink(pin, nil)
			if err != nil {
				return err
			}
			return errors.Join(l.Detach(), l.Close())
		},
		"agent: remove pin":        func(pin string) error { return unix.Unlink(pin) },
		"agent: rename pin":        func(pin string) error { return unix.Rename(pin, pin+"_away") },
		"agent: rename directory":  func(dir string) error { return unix.Rename(dir, dir+"_away") },
		"agent: make in directory": func(dir string) error { return unix.Mkdir(dir+"/more", 0o700) },
		"agent: mount over":        func(dir string) error { return unix.Mount("tmpfs", dir, "tmpfs", 0, "") },
	}
}

// ours is what an agent has in the kernel, as a container would look for it.
type ours struct{ pins, mapID, program, link, cgroupLink string }

func pinAll(t *testing.T, scope *sensortest.Scope, e *enforce.Enforcer) ours {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pins")
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // what is pinned goes with it
	pins, err := sensor.OpenPins(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pins.Close() })
	if err := errors.Join(pins.Begin(time.Unix(1, 0)), pins.PinMaps(scope.Shared), e.Pin(pins)); err != nil {
		t.Fatal(err)
	}
	o := ours{pins: filepath.Join(dir, pins.Name())}
	links, err := filepath.Glob(o.pins + "/link_enforce_cgroup_connect4_*")
	if err != nil || len(links) != 1 {
		t.Fatalf("pinned %v, %v", links, err)
	}
	o.cgroupLink = links[0]
	l, err := bpflink.LoadPinnedLink(o.cgroupLink, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		t.Fatal(err)
	}
	about, err := scope.Shared.Workloads.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := about.ID()
	o.mapID, o.program, o.link = fmt.Sprint(id), fmt.Sprint(info.Program), fmt.Sprint(info.ID)
	return o
}

// protectionEnds says of a time until when the agent is protected, and of its own container, which attacks are denied, and
// counts these.
func protectionEnds(t *testing.T, scope *sensortest.Scope, e *enforce.Enforcer, does *doer, o ours) (denied uint64) {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	self, away := strconv.Itoa(os.Getpid()), uint64(now.Nano())
	for _, stage := range []struct {
		name            string
		flags           uint32
		until           uint64
		objects, signal int
	}{
		{"a while yet", sensor.Container, away + uint64(time.Hour), int(unix.EPERM), int(unix.EPERM)},
		{"the agent's own container", sensor.Container | sensor.Own, away + uint64(time.Hour), 0, 0},
		{"over", sensor.Container, away, 0, int(unix.EPERM)},
		{"never", sensor.Container, 0, 0, int(unix.EPERM)},
		{"for ever", sensor.Container, enforce.ForEver, int(unix.EPERM), int(unix.EPERM)},
	} {
		state := sensor.State(scope.Workload, event.Off, 1, 0)
		state.Flags = stage.flags
		if err := errors.Join(scope.Shared.SetWorkload(scope.ID, state), e.ProtectUntil(stage.until)); err != nil {
			t.Fatal(err)
		}
		for _, a := range []struct {
			name, arg string
			want      int
		}{
			{"agent: map by number", o.mapID, stage.objects},
			{"agent: program by number", o.program, stage.objects},
			{"agent: link by number", o.link, stage.objects},
			{"agent: make in directory", o.pins, stage.objects},
			{"agent: signal", self, stage.signal},
		} {
			if code := does.run(t, evasionPrefix+a.name, a.arg); code != a.want {
				t.Errorf("%s, %s: error number %d, want %d", stage.name, a.name, code, a.want)
			}
			if a.want != 0 {
				denied++
			}
		}
		if err := os.Remove(o.pins + "/more"); err != nil && stage.objects == 0 {
			t.Error(err)
		}
	}
	return denied
}

// A container that is held to nothing may not touch the agent; whoever is none may.
func TestSelfProtection(t *testing.T) {
	sensortest.OnlyOn(t, "6.12") // scenario protect runs on 6.1
	for _, strength := range []enforce.Strength{enforce.LSM, enforce.FmodRet} {
		t.Run(strength.String(), func(t *testing.T) {
			scope := sensortest.NewScope(t) // and programs of its own: who may detaches one
			e, err := enforce.Open(scope.Shared, enforce.Config{Strength: strength, Dimensions: event.AllDimensions, Cgroups: []string{scope.Dir}, InContainer: true})
			if errors.Is(err, sensor.ErrNotSupported) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { e.Close() })
			if why := e.Unseen(); why != "" {
				t.Error("the test's end would not be seen:", why)
			}
			o := pinAll(t, scope, e)
			dir := filepath.Dir(o.pins)
			if err := e.Protect(dir, enforce.ForEver); err != nil {
				t.Fatal(err)
			}
			scope.Set(t, event.Off, 1)
			events, does, self := sensortest.Collect(t, scope.Shared, e), newDoer(t, scope), strconv.Itoa(os.Getpid())
			on := func(op event.Operation, path string) event.Key { return event.Key{Op: op, Path: path} }
			bpf := func(command uint32) event.Key { return event.Key{Op: event.OpBPF, Value: command} }
			early := protectionEnds(t, scope, e, does, o)
			attacks := []struct {
				name, arg string
				key       event.Key
				code      unix.Errno
			}{
				{"agent: signal", self, event.Key{Op: event.OpSignal, Value: uint32(unix.SIGCONT)}, unix.EPERM},
				{"agent: memory", self, event.Key{Op: event.OpPtrace, Value: event.PtraceAttach | event.PtraceOther}, unix.EACCES},
				{"agent: map by number", o.mapID, bpf(unix.BPF_MAP_GET_FD_BY_ID), unix.EPERM},
				{"agent: map by pin", o.pins + "/map_workloads", bpf(unix.BPF_MAP_GET_FD_BY_ID), unix.EPERM},
				{"agent: program by number", o.program, bpf(unix.BPF_PROG_GET_FD_BY_ID), unix.EPERM},
				{"agent: link by number", o.link, bpf(unix.BPF_LINK_GET_FD_BY_ID), unix.EPERM},
				{"agent: detach", o.cgroupLink, bpf(unix.BPF_LINK_DETACH), unix.EPERM},
				{"agent: rename pin", o.pins + "/map_events", on(event.OpRename, o.pins+"/map_events"), unix.EPERM},
				{"agent: remove pin", o.pins + "/map_events_lost", on(event.OpDelete, o.pins+"/map_events_lost"), unix.EPERM},
				{"agent: make in directory", o.pins, on(event.OpCreate, o.pins+"/more"), unix.EPERM},
				{"agent: rename directory", o.pins, on(event.OpRename, o.pins), unix.EPERM},
				{"agent: mount over", dir, on(event.OpMount, dir), unix.EPERM},
			}
			for _, flags := range []uint32{sensor.Container, 0} {
				state := sensor.State(scope.Workload, event.Off, 1, 0)
				state.Flags = flags
				if err := scope.Shared.SetWorkload(scope.ID, state); err != nil {
					t.Fatal(err)
				}
				for _, a := range attacks {
					want := a.code
					if flags == 0 {
						want = 0
					}
					if code := does.run(t, evasionPrefix+a.name, a.arg); code != int(want) {
						t.Errorf("%s, flags %d: error number %d, want %d", a.name, flags, code, want)
					}
				}
				tally, err := e.Tally(scope.Workload)
				if err != nil || tally.Denied != early+uint64(len(attacks)) {
					t.Errorf("flags %d: %+v, %v, want %d denied", flags, tally, err, early+uint64(len(attacks)))
				}
			}
			if err := unix.Unmount(dir, 0); err != nil { // the last of it succeeded
				t.Error(err)
			}
			for _, a := range attacks {
				sensortest.Until(t, a.name+" is told", func() bool {
					for _, ev := range events.Of(event.Access) {
						if ev.Access.Key == a.key && ev.Verdict == event.Deny {
							return true
						}
					}
					return false
				})
			}
		})
	}
}

// Who has another pid on the host than it knows cannot be seen to end.
func TestUnseenEnd(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes a pid namespace")
	}
	var unattached enforce.Enforcer
	child := exec.Command(selfPath(t))
	child.Env = append(os.Environ(), deedVariable+"="+evasionPrefix+"agent: end")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if err := child.Run(); err != nil {
		t.Error("in another pid namespace:", err)
	}
	if unattached.Unseen() == "" {
		t.Error("seen without a hook")
	}
}
