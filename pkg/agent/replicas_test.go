// The machine that builds has all that this needs of a kernel.
//vm:byhand

package agent

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// countedDisk is a store that counts what it writes.
type countedDisk struct {
	*baselineStore
	saved int
}

func (d *countedDisk) Save(workload string, p *baseline.Profile) (string, error) {
	d.saved++
	return d.baselineStore.Save(workload, p)
}

// replica is one of the containers that have a baseline in common.
func replica(n int) detect.Subject {
	id := fmt.Sprintf("%012x%052x", n, n)
	return detect.Subject{Name: id[:shortID], Kind: "container", ContainerID: id, Cgroup: "/docker/" + id}
}

// reached is a connection to a port of the same host.
func reached(port uint16) event.Key {
	return event.Key{Op: event.OpConnect, Protocol: event.ProtocolTCP, Port: port, Address: netip.MustParsePrefix("127.0.0.1/32")}
}

// However many containers have a baseline, to set their mode writes its file once, and reads what the kernel holds as often as for one:
// no event is handled meanwhile.
func TestModeOfManyContainers(t *testing.T) {
	costs := map[int][2]int{}
	for _, containers := range []int{1, 40} {
		maps := newEntryMaps(1000)
		r := newTestRegistry(t, t.TempDir(), maps, maps)
		store, ok := r.Store.(*baselineStore)
		if !ok {
			t.Fatal("no store")
		}
		disk := &countedDisk{baselineStore: store}
		r.Store, r.Kin = disk, func(detect.Subject) string { return shopWeb }
		for n := range containers {
			if err := r.Join(uint64(n+1), replica(n)); err != nil {
				t.Fatal(err)
			}
		}
		learnPrograms(r, 1, "/bin/a", "/bin/b")
		for _, mode := range []event.Mode{event.Enforce, event.Learn, event.AuditMode, event.Off} {
			if err := r.SetMode(shopWeb, mode, "test"); err != nil {
				t.Fatal(err)
			}
		}
		costs[containers] = [2]int{maps.reads, disk.saved}
	}
	if costs[1] != costs[40] || costs[1][1] != 4 {
		t.Errorf("reads and writes by the number of containers: %v", costs)
	}
}

// What the kernel holds of each of many is read and removed together: each keeps what is its own.
func TestEntriesOfManyContainers(t *testing.T) {
	scope := sensortest.NewScope(t)
	dims := event.Dimensions(0).With(event.DimExec).With(event.DimNetwork)
	e, err := enforce.Open(scope.Shared, enforce.Config{Dimensions: dims, Cgroups: []string{scope.Dir}, PathEntries: 60_000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	r := newTestRegistry(t, t.TempDir(), newEntryMaps(0), e)
	r.Dimensions, r.Kin = dims, func(detect.Subject) string { return shopWeb }
	const containers, programs = 3, 6000 // more than are removed at once
	for n := range containers {
		if err := r.Join(uint64(n+1), replica(n)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range programs {
		learnPrograms(r, 1, fmt.Sprintf("/bin/%d", i))
	}
	other := detect.Subject{Name: "other.service", Kind: "unit"}
	if err := r.Join(9, other); err != nil {
		t.Fatal(err)
	}
	otherID := r.IDOf(9)
	learnt := []event.Key{program("/bin/of-another"), reached(21)}
	if err := e.Replace(otherID, 1, learnt); err != nil {
		t.Fatal(err)
	}
	for id := uint32(1); id <= containers; id++ { // by the kernel, which has not told it
		if err := e.Replace(id, 1, []event.Key{program(fmt.Sprintf("/bin/of-%d", id)), reached(uint16(id))}); err != nil {
			t.Fatal(err)
		}
	}
	held := func(id, generation uint32) int {
		t.Helper()
		entries, err := e.Entries(id, generation)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	for _, step := range []struct {
		mode       event.Mode
		generation uint32
		want       int
	}{{event.Enforce, 2, programs + 2*containers}, {event.Off, 3, 0}} {
		if err := r.SetMode(shopWeb, step.mode, "test"); err != nil {
			t.Fatal(err)
		}
		for id := uint32(1); id <= containers; id++ {
			if now, before := held(id, step.generation), held(id, step.generation-1); now != step.want || before != 0 {
				t.Errorf("%s: %d has %d entries, want %d, and %d of before", step.mode, id, now, step.want, before)
			}
		}
		if n := held(otherID, 1); n != len(learnt) {
			t.Errorf("%s: another one has %d entries", step.mode, n)
		}
	}
}
