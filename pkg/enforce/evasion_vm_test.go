package enforce_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// Every way around a baseline is stopped, or docs/limits.md says why not: with the hooks of every rung
// that decides before the operation. Then the same of rules that deny. It takes more than a minute: the matrix does it with
// the hooks of LSM.
func TestEvasion(t *testing.T) {
	eachStrength(t, func(t *testing.T, w *trial) {
		if strings.HasSuffix(t.Name(), "/"+enforce.FmodRet.String()) {
			sensortest.ByHand(t)
		}
		w.scope.Held = event.AllDimensions
		w.scope.Set(t, event.Off, 1)
		listenAbstract(t)
		loadOverlay(t)
		w.does = newDoer(t, w.scope)
		c := &contest{trial: w, marker: evasionPrefix + fileMarker, markerKey: onPath(event.OpRead, "marker")}
		dir := t.TempDir()
		t.Cleanup(func() { renew(t, dir) }) // nothing is mounted in it
		for _, name := range slices.Sorted(maps.Keys(evasions())) {
			if _, network := networkEvasions()[name]; !network {
				t.Run(name, func(t *testing.T) { c.test(t, name, dir) })
			}
		}
		printTable(t, c.rows, "with its steps unknown too, at")
		w.scope.Held = 0
		t.Run("rules", func(t *testing.T) { testEvasionsByRules(t, w) })
	})
}
