// Pins are the same on every kernel.
//vm:byhand

package agent

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/process"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// An agent that cannot pin leaves no half of its hooks behind, takes the earlier one's away all the same, and
// says that enforcement ends with it.
func TestTakeOverThatCannotPin(t *testing.T) {
	shared, theirs := sensortest.NewScope(t).Shared, sensortest.NewScope(t).Shared
	dir := filepath.Join(t.TempDir(), "pins")
	t.Cleanup(func() { _, _ = sensor.Unload(dir) })
	earlier, err := sensor.OpenPins(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(earlier.Begin(time.Unix(1, 0)), earlier.PinMaps(theirs), earlier.Pin("link_enforce", theirs.Expected), earlier.Close()); err != nil {
		t.Fatal(err)
	}

	broken, err := process.Open(shared)
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.Close(); err != nil { // what is closed cannot be pinned
		t.Fatal(err)
	}
	a := &Agent{cfg: Config{PinDir: dir, StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}, kernel: &kernelSide{shared: shared, process: broken}, successor: &successor{}, registry: newRegistry(registryConfig{})}
	if err := errors.Join(a.lockPins(), a.takeOver()); err != nil {
		t.Fatal(err)
	}
	if a.unpinned == "" || a.keeps() {
		t.Errorf("unpinned %q, keeps %t", a.unpinned, a.keeps())
	}
	left, err := a.pins.Left()
	if err != nil || len(left) != 1 || !strings.HasSuffix(left[0].Name(), "_1000000000") {
		t.Fatalf("pinned: %+v, %v", left, err)
	}
	if err := a.pins.Close(); err != nil {
		t.Fatal(err)
	}
	removed, err := sensor.Unload(dir)
	if err != nil || len(removed) != 3 {
		t.Errorf("left of the earlier agent: %v, %v, want its 3 maps", removed, err)
	}
}
