package enforce_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// observing opens what reports accesses of the dimension of files, which the scope learns.
func observing(t *testing.T) (*sensortest.Scope, *sensortest.Events) {
	t.Helper()
	scope := sensortest.NewScope(t)
	e, err := enforce.Open(scope.Shared, enforce.Config{Dimensions: event.AllDimensions, Cgroups: []string{scope.Dir}})
	if errors.Is(err, sensor.ErrNotSupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if e.Strength() == enforce.Signal {
		t.Skip("this kernel shows no files to us")
	}
	scope.Held = event.Dimensions(0).With(event.DimFile)
	scope.Set(t, event.Learn, 1)
	return scope, sensortest.Collect(t, scope.Shared, e)
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
