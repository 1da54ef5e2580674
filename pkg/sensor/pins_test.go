// Pins are the same on every kernel.
//vm:byhand

package sensor_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// What one agent pins is there for the next one, which reads it and takes it away; nobody takes what a
// running agent holds.
func TestPinsAreHandedOver(t *testing.T) {
	first := sensortest.NewScope(t).Shared
	dir := filepath.Join(t.TempDir(), "pins")
	pins := openPins(t, dir)
	if left, err := pins.Left(); err != nil || len(left) != 0 {
		t.Fatalf("left at first: %v, %v", left, err)
	}
	if err := errors.Join(pins.Begin(time.Unix(1, 0)), pins.PinMaps(first)); err != nil {
		t.Fatal(err)
	}
	if _, err := sensor.OpenPins(dir); !errors.Is(err, sensor.ErrInUse) {
		t.Errorf("a second agent: %v, want %v", err, sensor.ErrInUse)
	}
	if _, err := sensor.Unload(dir); !errors.Is(err, sensor.ErrInUse) {
		t.Errorf("unload beside an agent: %v, want %v", err, sensor.ErrInUse)
	}
	if err := pins.Close(); err != nil {
		t.Fatal(err)
	}

	next := openPins(t, dir)
	if err := next.Begin(time.Unix(2, 0)); err != nil {
		t.Fatal(err)
	}
	left, err := next.Left()
	if err != nil || len(left) != 1 || left[0].Name() != "v8_1000000000" {
		t.Fatalf("left by the first: %+v, %v", left, err)
	}
	maps, err := left[0].Maps()
	if err != nil {
		t.Fatal(err)
	}
	if counters, err := maps.LossCounters(); err != nil || len(counters) == 0 {
		t.Errorf("counters of the first: %v, %v", counters, err)
	}
	if err := errors.Join(maps.Close(), left[0].Remove()); err != nil {
		t.Fatal(err)
	}
	if left, err := next.Left(); err != nil || len(left) != 0 {
		t.Errorf("still left: %v, %v", left, err)
	}
	if err := errors.Join(next.PinMaps(first), next.Close()); err != nil {
		t.Fatal(err)
	}
	removed, err := sensor.Unload(dir)
	want := []string{"v8_2000000000/map_events", "v8_2000000000/map_events_lost", "v8_2000000000/map_workloads"}
	if err != nil || !slices.Equal(removed, want) {
		t.Errorf("unloaded %v, %v, want %v", removed, err, want)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
	if removed, err := sensor.Unload(dir); err != nil || len(removed) != 0 {
		t.Errorf("unloaded again: %v, %v", removed, err)
	}
}

// What another version has left is taken away unread.
func TestPinsOfAnotherVersion(t *testing.T) {
	sensortest.NewScope(t) // skips where nothing can be pinned
	dir := filepath.Join(t.TempDir(), "pins")
	pins := openPins(t, dir)
	if err := os.Mkdir(filepath.Join(dir, "v0_7"), 0o700); err != nil {
		t.Fatal(err)
	}
	left, err := pins.Left()
	if err != nil || len(left) != 1 {
		t.Fatalf("%v, %v", left, err)
	}
	if _, err := left[0].Maps(); !errors.Is(err, sensor.ErrNotSupported) {
		t.Errorf("read: %v, want %v", err, sensor.ErrNotSupported)
	}
	if err := errors.Join(left[0].Remove(), pins.Close()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory without pins is left: %v", err)
	}
}

// What is not an agent's own is neither taken nor removed, nor mounted over.
func TestPinsOfOthers(t *testing.T) {
	maps := sensortest.NewScope(t).Shared
	root := t.TempDir()
	foreign, full := filepath.Join(root, "foreign fs"), filepath.Join(root, "full")
	if err := errors.Join(os.Mkdir(foreign, 0o700), os.Mkdir(full, 0o700), os.WriteFile(filepath.Join(full, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("other", foreign, "bpf", 0, "mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(foreign, 0); err != nil {
			t.Errorf("the foreign file system: %v", err)
		}
	})
	if _, err := sensor.OpenPins(foreign); !errors.Is(err, sensor.ErrNotOwn) {
		t.Errorf("an empty file system of others: %v", err)
	}
	theirs := filepath.Join(foreign, "theirs")
	pin := filepath.Join(theirs, "v1", "map")
	if err := errors.Join(os.MkdirAll(filepath.Dir(pin), 0o700), maps.Lost.Pin(pin)); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"a used file system": foreign, "pins of others": theirs, "a used directory": full} {
		if _, err := sensor.OpenPins(dir); !errors.Is(err, sensor.ErrNotOwn) {
			t.Errorf("%s: %v", name, err)
		}
		if removed, err := sensor.Unload(dir); len(removed) != 0 || err == nil && dir != full {
			t.Errorf("unload %s: removed %v, %v", name, removed, err)
		}
	}
	for _, file := range []string{pin, filepath.Join(full, "file")} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}

	// Beside others, in a directory of its own.
	dir := filepath.Join(foreign, "ours")
	if err := openPins(t, dir).Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) || !sensor.IsBPF(foreign) {
		t.Errorf("its own directory: %v; the foreign file system is there: %t", err, sensor.IsBPF(foreign))
	}
}

func openPins(t *testing.T, dir string) *sensor.Pins {
	t.Helper()
	pins, err := sensor.OpenPins(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = sensor.Unload(dir) })
	return pins
}
