package gotls_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/gobin/gobintest"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/gotls"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// stage is a followed specimen in a scope of its own.
type stage struct {
	*gobintest.Process
	scope  *sensortest.Scope
	sensor *gotls.Sensor
	got    *sensortest.Events
	seen   int // handshakes that next has returned
}

func newStage(t testing.TB, s gobintest.Specimen) *stage {
	t.Helper()
	scope := sensortest.NewScope(t)
	g, err := gotls.Open(scope.Shared)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	st := &stage{scope: scope, sensor: g, got: sensortest.Collect(t, scope.Shared, g)}
	st.Process = gobintest.Start(t, scope.Command(t, gobintest.Build(t, s)))
	if mine, err := g.Follow(image(t, st.PID)); !mine || err != nil {
		t.Fatalf("follow: %t, %v", mine, err)
	}
	return st
}

func image(t testing.TB, pid uint32) sensor.Image {
	t.Helper()
	file := fmt.Sprintf("/proc/%d/exe", pid)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := sensor.KeyOf(info)
	return sensor.Image{PID: pid, File: file, Name: "specimen", Key: key}
}

// next waits for n more handshakes, no fewer and no more, and checks what all have in common.
func (st *stage) next(t *testing.T, n int) map[event.Role][]event.HandshakeInfo {
	t.Helper()
	all := st.got.Wait(t, event.Handshake, st.seen+n)
	byRole := map[event.Role][]event.HandshakeInfo{}
	for _, ev := range all[st.seen:] {
		if ev.Tgid != st.PID || ev.CgroupID != st.scope.ID || ev.Workload != st.scope.Workload || ev.Hook != event.HookUprobe {
			t.Errorf("header: %+v", ev)
		}
		byRole[ev.Handshake.Role] = append(byRole[ev.Handshake.Role], ev.Handshake)
	}
	st.seen += n
	if len(byRole[event.Client]) != n/2 || len(byRole[event.Server]) != n/2 {
		t.Fatalf("%d clients and %d servers, want %d of each", len(byRole[event.Client]), len(byRole[event.Server]), n/2)
	}
	return byRole
}

func (st *stage) noLoss(t *testing.T) {
	t.Helper()
	lost, err := st.scope.Shared.LossCounters()
	if err != nil {
		t.Fatal(err)
	}
	for reason, n := range lost {
		if n != 0 {
			t.Errorf("lost %s: %d", reason, n)
		}
	}
}

// expect compares an event with what the end itself says of its handshake.
func expect(t *testing.T, got event.HandshakeInfo, want gobintest.Side, peer string) {
	t.Helper()
	if got.Library != event.LibraryGo || got.OK != (want.Error == "") || got.Version != want.Version || got.Suite != want.Suite ||
		got.ServerName != want.Name || got.ALPN != want.ALPN || got.Resumed != want.Resumed {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got.Duration == 0 {
		t.Error("it took no time")
	}
	if want.PeerFingerprint == "" {
		if got.HasPeer {
			t.Errorf("a peer without a certificate has %x", got.PeerFingerprint)
		}
		return
	}
	if f := hex.EncodeToString(got.PeerFingerprint[:]); !got.HasPeer || f != want.PeerFingerprint || got.PeerNotAfter != want.PeerNotAfter {
		t.Errorf("peer %s until %d, want %s until %d", f, got.PeerNotAfter, want.PeerFingerprint, want.PeerNotAfter)
	}
	if id := "spiffe://example.org/ns/test/sa/" + peer; got.PeerSPIFFEID != id {
		t.Errorf("peer is %q, want %q", got.PeerSPIFFEID, id)
	}
}
