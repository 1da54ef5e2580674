package enforce_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// The kinds of namespaces that deeds are about, as keys have them.
const (
	madeUTS, madeIPC, madeNet          = 26, 27, 30
	enteredUTS, enteredIPC, enteredAny = madeUTS | event.NamespaceEntered, madeIPC | event.NamespaceEntered, event.NamespaceEntered
)

// namespaceDeeds make or enter namespaces. All take CAP_SYS_ADMIN, which their baselines hold.
func namespaceDeeds() map[string]deed {
	admin := capability(unix.CAP_SYS_ADMIN)
	uts := func(nstype int) func(string) error {
		return func(string) error {
			return withFile("/proc/self/ns/uts", unix.O_RDONLY, func(fd int) error { return unix.Setns(fd, nstype) })
		}
	}
	all := map[string]deed{
		"unshare":         {do: func(string) error { return unix.Unshare(unix.CLONE_NEWNET) }, key: number(event.OpNamespace, madeNet), needs: admin, alone: true},
		"unshare of many": {do: func(string) error { return unix.Unshare(unix.CLONE_NEWUTS | unix.CLONE_NEWIPC) }, key: number(event.OpNamespace, madeUTS), also: number(event.OpNamespace, madeIPC), needs: admin, alone: true},
		"clone":           {do: cloned(&syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWIPC}), key: number(event.OpNamespace, madeIPC), needs: admin},
		"clone3":          {do: cloned3(syscall.CLONE_NEWIPC), key: number(event.OpNamespace, madeIPC), needs: admin},
		"setns":           {do: uts(unix.CLONE_NEWUTS), key: number(event.OpNamespace, enteredUTS), needs: admin},
		// Another thread may change the descriptor while the kernel works, so that what stands there says nothing.
		"setns of any": {do: uts(0), key: number(event.OpNamespace, enteredAny), needs: append(number2(event.OpNamespace, enteredUTS), admin...)},
		"setns of a descriptor": {do: func(dir string) error {
			runtime.LockOSThread()
			return errors.Join(unix.Unshare(unix.CLONE_FILES), uts(0)(dir))
		}, key: number(event.OpNamespace, enteredUTS), needs: admin, alone: true},
		"setns of a process": {do: func(string) error {
			fd, err := unix.PidfdOpen(os.Getpid(), 0)
			if err != nil {
				return err
			}
			return errors.Join(unix.Setns(fd, unix.CLONE_NEWUTS|unix.CLONE_NEWIPC), unix.Close(fd))
		}, key: number(event.OpNamespace, enteredIPC), also: number(event.OpNamespace, enteredUTS), needs: admin},
		// In a user namespace of its own a process has the capability.
		"unshare in a user namespace": {
			do:  cloned(&syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWUTS}),
			key: number(event.OpNamespace, madeUTS), needs: append(number2(event.OpUserns, 0), admin...),
		},
		"clone in a user namespace": {
			do:  cloned(&syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWUTS}),
			key: number(event.OpNamespace, madeUTS), needs: append(number2(event.OpUserns, 0), admin...),
		},
	}
	if runtime.GOARCH == "amd64" {
		all["unshare by a 32-bit program"] = deed{do: run32("unshare32"), key: number(event.OpNamespace, madeNet), needs: admin}
		all["setns by a 32-bit program"] = deed{do: run32("setns32"), key: number(event.OpNamespace, enteredUTS), needs: admin}
	}
	return all
}

// number2 is number as a list, whatever the directory.
func number2(op event.Operation, value uint32) []event.Key {
	return []event.Key{{Op: op, Value: value}}
}

// cloned runs this program in namespaces of its own.
func cloned(attr *syscall.SysProcAttr) func(string) error {
	return func(string) error {
		return spawnWith(&syscall.ProcAttr{Env: []string{deedVariable + "=nothing"}, Files: []uintptr{0, 2, 2}, Sys: attr}, "/proc/self/exe")
	}
}

// cloned3 does so by clone3(2), whose flags are in memory that others may change.
func cloned3(flags uintptr) func(string) error {
	return func(dir string) error {
		text, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			return err
		}
		_, own, _ := strings.Cut(string(text), "0::")
		own, _, _ = strings.Cut(own, "\n")
		return withFile(filepath.Dir(otherCgroup())+own, unix.O_DIRECTORY|unix.O_PATH, func(fd int) error {
			return cloned(&syscall.SysProcAttr{Cloneflags: flags, UseCgroupFD: true, CgroupFD: fd})(dir)
		})
	}
}

// run32 runs a program of fill's, with a namespace of its own as descriptor 3.
func run32(name string) func(string) error {
	return func(dir string) error {
		return withFile("/proc/self/ns/uts", unix.O_RDONLY, func(fd int) error {
			return spawnWith(&syscall.ProcAttr{Files: []uintptr{0, 2, 2, uintptr(fd)}}, dir+"/"+name)
		})
	}
}

// keysOf some accesses.
func keysOf(told []event.Event) (keys []event.Key) {
	for _, ev := range told {
		keys = append(keys, ev.Access.Key)
	}
	return keys
}

const unprivileged = 4711

// fillRights makes programs that give rights, and those that call by the numbers of 32-bit programs.
func fillRights(dir string) error {
	const netBindService = 10
	capabilities := make([]byte, 20) // struct vfs_cap_data: revision 2 and effective, permitted, inheritable, and again of those from 32 on
	binary.LittleEndian.PutUint32(capabilities, 0x02000001)
	binary.LittleEndian.PutUint32(capabilities[4:], 1<<netBindService)
	write := func(name string, uid, gid int, mode uint32) error {
		file := dir + "/" + name
		return inOrder(
			func() error { return os.WriteFile(file, exiting(), 0o755) },
			func() error { return unix.Chown(file, uid, gid) },
			func() error { return unix.Chmod(file, mode) },
		)
	}
	return errors.Join(
		os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755),
		write("rooted", 0, 0, 0o4755),
		write("owned", unprivileged+1, 0, 0o4755),
		write("grouped", 0, unprivileged+1, 0o2755),
		write("capable", 0, 0, 0o755),
		unix.Setxattr(dir+"/capable", "security.capability", capabilities, 0),
		os.WriteFile(dir+"/unshare32", calling32(310, unix.CLONE_NEWNET, 0, nil), 0o755),
		os.WriteFile(dir+"/setns32", calling32(346, 3, 0, nil), 0o755),
	)
}

// unprivilegedRun executes a file of fill's as a user without rights.
func unprivilegedRun(name string) func(string) error {
	return func(dir string) error {
		user := &syscall.Credential{Uid: unprivileged, Gid: unprivileged, NoSetGroups: true}
		return spawnWith(&syscall.ProcAttr{Files: []uintptr{0, 2, 2}, Sys: &syscall.SysProcAttr{Credential: user}}, dir+"/"+name)
	}
}

// becoming is what it takes to become that user.
func becoming() []event.Key {
	return []event.Key{
		{Op: event.OpSetuid, Value: unprivileged},
		{Op: event.OpSetgid, Value: unprivileged},
		{Op: event.OpCapability, Value: unix.CAP_SETUID},
		{Op: event.OpCapability, Value: unix.CAP_SETGID},
	}
}

// rightsDeeds execute files that give rights.
func rightsDeeds() map[string]deed {
	return map[string]deed{
		"set-uid root":      {do: unprivilegedRun("rooted"), key: onPath(event.OpExecAsRoot, "rooted"), needs: becoming()},
		"set-uid":           {do: unprivilegedRun("owned"), key: onPath(event.OpExecAsUser, "owned"), needs: becoming()},
		"set-gid":           {do: unprivilegedRun("grouped"), key: onPath(event.OpExecAsGroup, "grouped"), needs: becoming()},
		"file capabilities": {do: unprivilegedRun("capable"), key: onPath(event.OpExecWithCapabilities, "capable"), needs: becoming(), lsm: true},
	}
}

// Where a file gives nothing, nothing is asked: it runs in a workload that may become the user and no more.
func withoutRights() map[string]func(string) error {
	spawning := func(attr *syscall.SysProcAttr, name string) func(string) error {
		return func(dir string) error {
			return spawnWith(&syscall.ProcAttr{Files: []uintptr{0, 2, 2}, Sys: attr}, dir+"/"+name)
		}
	}
	return map[string]func(string) error{
		"no rights: root":         spawning(nil, "rooted"),
		"no rights: capable root": spawning(nil, "capable"),
		"no rights: nosuid":       unprivilegedRun("nosuid/rooted"),
		"no rights: no_new_privs": func(dir string) error {
			runtime.LockOSThread()
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				return err
			}
			return errors.Join(unprivilegedRun("rooted")(dir), unprivilegedRun("capable")(dir))
		},
	}
}

func TestRightsThatAreNotGiven(t *testing.T) {
	for _, strength := range []enforce.Strength{enforce.LSM, enforce.FmodRet} {
		t.Run(strength.String(), func(t *testing.T) {
			k, scope := use(t, strength, event.AllDimensions)
			w, dir := k.trial(t, scope), t.TempDir()
			if err := errors.Join(fill(dir), os.Mkdir(dir+"/nosuid", 0o755), unix.Mount("none", dir+"/nosuid", "tmpfs", unix.MS_NOSUID, "mode=755")); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir+"/nosuid", 0) })
			rooted := dir + "/nosuid/rooted"
			if err := errors.Join(os.WriteFile(rooted, exiting(), 0o755), unix.Chmod(rooted, 0o4755)); err != nil {
				t.Fatal(err)
			}
			scope.Held = event.Dimensions(0).With(event.DimPrivilege)
			if err := k.enforcer.Replace(scope.Workload, 1, becoming()); err != nil {
				t.Fatal(err)
			}
			for name := range withoutRights() {
				scope.Set(t, event.Off, 1)
				does := newDoer(t, scope)
				scope.Set(t, event.Enforce, 1)
				if code := does.run(t, name, dir); code != 0 {
					t.Errorf("%s: error number %d", name, code)
				}
			}
			if told := w.events.Of(event.Access); len(told) != 0 {
				t.Errorf("told %v", keysOf(told))
			}
		})
	}
}

// One deed is denied once: for the capability where that is not known, for the namespace where it is.
func TestNamespaceIsDeniedOnce(t *testing.T) {
	for _, strength := range []enforce.Strength{enforce.LSM, enforce.FmodRet} {
		t.Run(strength.String(), func(t *testing.T) {
			k, scope := use(t, strength, event.AllDimensions)
			w := k.trial(t, scope)
			w.does = newDoer(t, scope)
			scope.Held = event.Dimensions(0).With(event.DimPrivilege)
			admin := event.Key{Op: event.OpCapability, Value: unix.CAP_SYS_ADMIN}
			made := func(kind uint32) event.Key { return event.Key{Op: event.OpNamespace, Value: kind} }
			for generation, tc := range []struct {
				deed   string
				known  []event.Key
				denied event.Key
			}{
				{"unshare", nil, admin},
				{"unshare", []event.Key{admin}, made(madeNet)},
				{"unshare", []event.Key{admin, made(enteredAny), made(madeNet | event.NamespaceEntered)}, made(madeNet)},
				{"unshare of many", []event.Key{admin}, made(madeUTS)},
				{"unshare of many", []event.Key{admin, made(madeUTS)}, made(madeIPC)},
				{"clone", nil, made(madeIPC)}, // it is asked about before the capability
				{"clone", []event.Key{made(madeIPC)}, admin},
				{"setns of a process", []event.Key{admin, made(enteredUTS)}, made(enteredIPC)},
			} {
				tally, err := k.enforcer.Tally(scope.Workload)
				if err != nil {
					t.Fatal(err)
				}
				before := len(w.events.Of(event.Access))
				number := uint32(generation + 1)
				if err := k.enforcer.Replace(scope.Workload, number, tc.known); err != nil {
					t.Fatal(err)
				}
				scope.Set(t, event.Enforce, number)
				if code := w.does.run(t, tc.deed, t.TempDir()); code != int(unix.EPERM) {
					t.Errorf("%s, known %v: error number %d", tc.deed, tc.known, code)
				}
				sensortest.Until(t, tc.deed, func() bool { return len(w.events.Of(event.Access)) > before })
				told := w.events.Of(event.Access)[before:]
				if len(told) != 1 || told[0].Access.Key != tc.denied || told[0].Verdict != event.Deny {
					t.Errorf("%s, known %v: told %v, want %s", tc.deed, tc.known, keysOf(told), tc.denied)
				}
				if after, err := k.enforcer.Tally(scope.Workload); err != nil || after.Denied != tally.Denied+1 {
					t.Errorf("%s, known %v: %d denials, %v", tc.deed, tc.known, after.Denied-tally.Denied, err)
				}
			}
		})
	}
}

// What a baseline of an earlier version lacks is audited, and nothing else is.
func TestAdditionsAreAudited(t *testing.T) {
	k, scope := use(t, enforce.LSM, event.AllDimensions)
	w, dir := k.trial(t, scope), t.TempDir()
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	w.does = newDoer(t, scope)
	scope.Held = event.Dimensions(0).With(event.DimPrivilege)
	known := append(capability(unix.CAP_SYS_ADMIN), becoming()...)
	for number, tc := range []struct {
		lacks event.Additions
		codes map[string]int
	}{
		{0, map[string]int{"unshare": 1, "set-uid root": 1, "key": 1, "netlink": 1}},
		{1 << event.AddedNamespaces, map[string]int{"unshare": 0, "set-uid root": 1, "key": 1, "netlink": 1}},
		{1 << event.AddedFileRights, map[string]int{"unshare": 1, "set-uid root": 0, "key": 1, "netlink": 1}},
		{1 << event.AddedKeys, map[string]int{"unshare": 1, "set-uid root": 1, "key": 0, "netlink": 1}},
		{event.AllAdditions, map[string]int{"unshare": 0, "set-uid root": 0, "key": 0, "netlink": 1}},
	} {
		generation := uint32(number + 1)
		if err := k.enforcer.Replace(scope.Workload, generation, known); err != nil {
			t.Fatal(err)
		}
		state := sensor.State(scope.Workload, event.Enforce, generation, scope.Held)
		state.Softened = uint32(tc.lacks) << sensor.AddedShift
		if err := scope.Shared.SetWorkload(scope.ID, state); err != nil {
			t.Fatal(err)
		}
		before := len(w.events.Of(event.Access))
		for name, want := range tc.codes {
			if code := w.does.run(t, name, dir); code != want {
				t.Errorf("without %v: %s: error number %d, want %d", tc.lacks.Names(), name, code, want)
			}
		}
		sensortest.Until(t, "all four", func() bool { return len(w.events.Of(event.Access)) >= before+len(tc.codes) })
		audited := 0
		for _, ev := range w.events.Of(event.Access)[before:] {
			if ev.Verdict == event.Audit {
				audited++
			}
		}
		if want := len(tc.lacks.Names()); audited != want {
			t.Errorf("without %v: %d audited", tc.lacks.Names(), audited)
		}
	}
}

// A program that the baseline holds becomes set-uid later: it is executed as ever by root, and by nobody else.
func TestProgramBecomesSetUID(t *testing.T) {
	for _, strength := range []enforce.Strength{enforce.LSM, enforce.FmodRet} {
		t.Run(strength.String(), func(t *testing.T) {
			k, scope := use(t, strength, event.AllDimensions)
			w, dir := k.trial(t, scope), t.TempDir()
			if err := errors.Join(fill(dir), unix.Chmod(dir+"/rooted", 0o755)); err != nil {
				t.Fatal(err)
			}
			w.does = newDoer(t, scope)
			scope.Held = event.Dimensions(0).With(event.DimPrivilege).With(event.DimExec)
			if err := k.enforcer.Replace(scope.Workload, 1, becoming()); err != nil {
				t.Fatal(err)
			}
			scope.Set(t, event.Learn, 1)
			if code := w.does.run(t, "set-uid root", dir); code != 0 {
				t.Fatalf("error number %d", code)
			}
			scope.Set(t, event.Enforce, 1)
			if code := w.does.run(t, "set-uid root", dir); code != 0 {
				t.Errorf("as it was learnt: error number %d", code)
			}
			if err := unix.Chmod(dir+"/rooted", 0o4755); err != nil {
				t.Fatal(err)
			}
			want := event.Key{Op: event.OpExecAsRoot, Path: dir + "/rooted"}
			if code := w.does.run(t, "set-uid root", dir); code != int(unix.EPERM) {
				t.Errorf("set-uid: error number %d", code)
			}
			sensortest.Until(t, "a denial", func() bool { return w.told(want) == 1 })
			if denied := slices.DeleteFunc(w.events.Of(event.Access), func(ev event.Event) bool { return ev.Verdict != event.Deny }); len(denied) != 1 {
				t.Errorf("denied %v", keysOf(denied))
			}
		})
	}
}
