package enforce

import (
	"errors"
	"os"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// What the kernel looks at before it takes our programs is most of the agent's start. Kernels without
// bpf_loop (before 5.17) need several times as much.
func TestVerifierBudget(t *testing.T) {
	sensortest.OnlyOn(t, "6.1", "6.12", "6.12-arm64") // the two ways that loops are written, and the larger registers; 5.10 does not count
	each, all := uint32(20_000), uint32(385_000)      // measured: 375,971 in all on 6.12
	if os.Getenv("PLUMBLINE_KERNEL") == "newest" {
		all = 400_000 // measured: 395,385 on 7.3
	}
	scope := sensortest.NewScope(t)
	e, err := Open(scope.Shared, Config{Strength: LSM, Dimensions: event.AllDimensions, InContainer: true})
	if errors.Is(err, sensor.ErrNotSupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	sum := uint32(0)
	for _, l := range e.links {
		n, ok := verified(t, l)
		if !ok {
			t.Skip("this kernel does not tell how many instructions it has verified")
		}
		if sum += n; n > each {
			t.Errorf("%s: %d instructions verified, want at most %d", l.program, n, each)
		}
	}
	t.Logf("%d programs, %d instructions verified", len(e.links), sum)
	for _, h := range e.Status() { // a program that is refused costs nothing
		if !h.Supported && h.Reason != "this kernel has no such hook" && h.Reason != "another strength was asked for" {
			t.Errorf("%s: %s", h.Hook, h.Reason)
		}
	}
	if sum > all {
		t.Errorf("%d instructions verified in all, want at most %d", sum, all)
	}
}

func verified(t *testing.T, l attached) (uint32, bool) {
	t.Helper()
	link, err := l.link.Info()
	if err != nil {
		t.Fatal(err)
	}
	program, err := ebpf.NewProgramFromID(link.Program)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		t.Fatal(err)
	}
	return info.VerifiedInstructions()
}
