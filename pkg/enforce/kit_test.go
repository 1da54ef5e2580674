package enforce_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/process"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// kit is what tests use one after the other: a kernel takes a second to verify all programs, and an emulated one
// ten.
type kit struct {
	base     *sensortest.Base
	process  *process.Sensor
	enforcer *enforce.Enforcer
	err      error // of loading
}

type kitKey struct {
	strength   enforce.Strength
	dimensions event.Dimensions
}

// kits are made when the first test asks for one, and closed by TestMain.
var kits = map[kitKey]*kit{}

// use gives a test the programs of a strength for some dimensions, and a scope of its own. The test is skipped where
// this kernel does not have them, but for a guest of which it is known that it has.
func use(t *testing.T, strength enforce.Strength, dimensions event.Dimensions) (*kit, *sensortest.Scope) {
	t.Helper()
	if strength == enforce.FmodRet && dimensions == event.AllDimensions {
		sensortest.OnlyOn(t, "6.1") // to load it beside the one of LSM; TestLearnAuditEnforce has each strength on each kernel
	}
	key := kitKey{strength, dimensions}
	k := kits[key]
	if k == nil {
		k = loadKit(t, key)
		kits[key] = k
	}
	if errors.Is(k.err, sensor.ErrNotSupported) && !has(strength) {
		t.Skip(k.err)
	}
	if k.err != nil {
		t.Fatal(k.err)
	}
	_, err := k.enforcer.LoadRules(&rule.Ruleset{})
	if err := errors.Join(err, k.enforcer.Pause(0)); err != nil {
		t.Fatal(err)
	}
	return k, k.base.NewScope(t)
}

// has says whether this guest is known to have a strength.
func has(strength enforce.Strength) bool {
	switch strength {
	case enforce.LSM:
		return os.Getenv("PLUMBLINE_LSM") == "true"
	case enforce.FmodRet:
		return sensortest.InVM() && os.Getenv("PLUMBLINE_KERNEL") != "6.12-arm64"
	}
	return false
}

// strongest is Auto, or what that is where it is known: tests of that strength use the same programs then.
func strongest() enforce.Strength {
	if has(enforce.LSM) {
		return enforce.LSM
	}
	return enforce.Auto
}

func loadKit(t *testing.T, key kitKey) *kit {
	k := &kit{base: sensortest.NewBase(t)}
	if k.process, k.err = process.Open(k.base.Shared); k.err != nil {
		return k
	}
	k.enforcer, k.err = enforce.Open(k.base.Shared, enforce.Config{
		Strength: key.strength, Dimensions: key.dimensions, Cgroups: []string{k.base.Dir},
	})
	return k
}

// closeKits says whether all could be let go of.
func closeKits() bool {
	var errs []error
	for _, k := range kits {
		if k.enforcer != nil {
			errs = append(errs, k.enforcer.Close())
		}
		if k.process != nil {
			errs = append(errs, k.process.Close())
		}
		errs = append(errs, k.base.Close())
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "close what tests have loaded:", err)
		return false
	}
	return true
}

// trial of the kit's programs, with what they tell of the scope.
func (k *kit) trial(t *testing.T, scope *sensortest.Scope) *trial {
	t.Helper()
	return &trial{scope: scope, enforcer: k.enforcer, events: scope.Collect(t, k.process, k.enforcer)}
}
