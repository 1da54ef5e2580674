package enforce_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// observing opens what reports accesses of the dimension of files, which the scope learns.
func observing(t *testing.T) (*sensortest.Scope, *sensortest.Events) {
	t.Helper()
	k, scope := use(t, strongest(), event.AllDimensions)
	if k.enforcer.Strength() == enforce.Signal {
		t.Skip("this kernel shows no files to us")
	}
	scope.Held = event.Dimensions(0).With(event.DimFile)
	scope.Set(t, event.Learn, 1)
	return scope, scope.Collect(t, k.process, k.enforcer)
}

// of are the operations on a path.
func of(got *sensortest.Events, op event.Operation, path string) []event.AccessInfo {
	var list []event.AccessInfo
	for _, ev := range got.Of(event.Access) {
		if ev.Access.Op == op && ev.Access.Path == path {
			list = append(list, ev.Access)
		}
	}
	return list
}

// An access tells what the thread may do at that moment.
func TestCapabilitiesOfAccess(t *testing.T) {
	scope, got := observing(t)
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i, uid := range []uint32{0, 65534} {
		file := filepath.Join(dir, []string{"root", "nobody"}[i])
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := scope.Command(t, "/bin/cat", file)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		sensortest.Until(t, "the file is told", func() bool { return len(of(got, event.OpRead, file)) == 1 })
		c := of(got, event.OpRead, file)[0].Capabilities
		const admin = 1 << 21
		if !c.Known || (c.Effective&admin != 0) != (uid == 0) || c.Permitted != c.Effective || uid != 0 && c.Effective != 0 {
			t.Errorf("user %d: %+v", uid, c)
		}
	}
	if slices.ContainsFunc(got.Of(event.Access), func(ev event.Event) bool { return !ev.Access.Capabilities.Known }) {
		t.Error("not all accesses tell")
	}
}

const detailsName = "details"

// detailed makes calls whose details TestDetailsOfAccess knows.
func detailed(dir string) error {
	unix.Umask(0)
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	opens := func(name string, flags int, mode uint32) error {
		fd, err := unix.Openat(at, name, flags|unix.O_CLOEXEC, mode)
		return errors.Join(err, unix.Close(fd))
	}
	return errors.Join(
		opens("./../"+filepath.Base(dir)+"/file", unix.O_WRONLY|unix.O_TRUNC, 0),
		unix.Chmod(dir+"/file", 0o4750),
		unix.Symlink("/etc/shadow", dir+"/link"),
		unix.Mkdir(dir+"/d", 0o777),
		opens("new", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o666),
		opens(dir+"/d/../file", unix.O_RDONLY, 0),
	)
}

// What a call says beside the path is told with it: flags, modes, the target of a link, the path as it was written.
func TestDetailsOfAccess(t *testing.T) {
	scope, got := observing(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if errno := newDoer(t, scope).run(t, detailsName, dir); errno != 0 {
		t.Fatal(syscall.Errno(errno))
	}
	type said struct {
		op          event.Operation
		name        string
		flags, mode uint32
		said        string
	}
	for _, want := range []said{
		{op: event.OpWrite, name: "file", flags: unix.O_WRONLY | unix.O_TRUNC, said: "./../" + filepath.Base(dir) + "/file"},
		{op: event.OpAttributes, name: "file", mode: 0o4750},
		{op: event.OpCreate, name: "link", mode: event.TypeLink | 0o777, said: "/etc/shadow"},
		{op: event.OpCreate, name: "d", mode: event.TypeDirectory | 0o777},
		{op: event.OpCreate, name: "new", mode: event.TypeFile | 0o666},
		{op: event.OpRead, name: "file", said: dir + "/d/../file"},
	} {
		path := filepath.Join(dir, want.name)
		sensortest.Until(t, want.op.String()+" of "+path+" is told", func() bool { return len(of(got, want.op, path)) > 0 })
		a := of(got, want.op, path)[0]
		const flags = unix.O_ACCMODE | unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC | unix.O_APPEND
		if is := (said{a.Op, want.name, a.OpenFlags & flags, a.Mode, a.Said}); is != want || !a.Detailed {
			t.Errorf("got %+v, want %+v", is, want)
		}
	}
	for _, ev := range got.Of(event.Access) {
		if a := ev.Access; a.Said != "" && a.Op != event.OpRead && a.Op != event.OpWrite && a.Mode&event.TypeMask != event.TypeLink {
			t.Errorf("%+v", a)
		}
	}
}
