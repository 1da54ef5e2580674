package enforce_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// Every way around a baseline is stopped, or docs/limits.md says why not: with the hooks of every rung
// that decides before the operation. Then the same of rules that deny. On a kernel each, as they take a minute.
func TestEvasion(t *testing.T) {
	for strength, kernel := range map[enforce.Strength]string{enforce.LSM: "6.12", enforce.FmodRet: "6.1"} {
		t.Run(strength.String(), func(t *testing.T) {
			sensortest.OnlyOn(t, kernel)
			k, scope := use(t, strength, event.AllDimensions)
			scope.Held = event.AllDimensions
			scope.Set(t, event.Off, 1)
			listenAbstract(t)
			loadOverlay(t)
			w := k.trial(t, scope)
			w.does = newDoer(t, scope)
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
}
