package enforce

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

func TestZZ(t *testing.T) {
	scope := sensortest.NewScope(t)
	e, err := Open(scope.Shared, Config{Strength: LSM, Dimensions: event.AllDimensions})
	var v *ebpf.VerifierError
	if errors.As(err, &v) {
		t.Fatalf("%+v", v)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range e.Status() {
		if !st.Supported {
			t.Log(st.Hook, st.Reason)
		}
	}
	t.Log(len(e.links))
	e.Close()
}
