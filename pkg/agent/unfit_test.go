// The machine that builds has all that this needs of a kernel.
//vm:byhand

package agent

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// reachVariable lets TestReach of a process in a scope connect to these ports: to the first, and in vain to the second.
const reachVariable = "PLUMBLINE_TEST_REACH"

func TestReach(t *testing.T) {
	ports := strings.Fields(os.Getenv(reachVariable))
	if len(ports) != 2 {
		t.Skip("only for a scope")
	}
	conn, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", ports[0]))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err = net.Dial("tcp4", net.JoinHostPort("127.0.0.1", ports[1])); !errors.Is(err, unix.EPERM) {
		t.Errorf("connect to what the baseline does not hold: %v", err)
	}
}

func portOf(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// An agent that starts where the kernel has no room for all of a promoted baseline runs on: the dimension of which
// something is missing is audited, not denied; the other is enforced; and it is told.
func TestPromotedBaselineThatDoesNotFit(t *testing.T) {
	scope, dir, port, other := sensortest.NewScope(t), t.TempDir(), portOf(t), portOf(t)
	shop := detect.Subject{Name: "shop.service", Kind: "unit"}
	dims := event.Dimensions(0).With(event.DimExec).With(event.DimNetwork)
	before := newTestRegistry(t, dir, means{map[uint64]sensor.WorkloadState{}}, newEntryMaps(100))
	before.Dimensions = dims
	if err := before.Join(scope.ID, shop); err != nil {
		t.Fatal(err)
	}
	learnPrograms(before, 1, "/bin/a", "/bin/b", "/bin/c", "/bin/d", "/bin/e")
	before.Learn(1, &event.Event{Kind: event.Access, Access: event.AccessInfo{Key: event.Key{
		Op: event.OpConnect, Protocol: event.ProtocolTCP, Port: port, Address: netip.MustParsePrefix("127.0.0.1/32"),
	}}}, time.Unix(1_800_000_000, 0))
	if err := before.SetMode(shop.Name, event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}

	e, err := enforce.Open(scope.Shared, enforce.Config{Dimensions: dims, Cgroups: []string{scope.Dir}, PathEntries: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	out := &lines{}
	log := slog.New(slog.DiscardHandler)
	a := &Agent{cfg: Config{Log: log, Node: "n1"}, sink: &sink{log: log, file: out}}
	after := newTestRegistry(t, dir, scope.Shared, e)
	after.Unfit = a.tellUnfit
	if err := after.Find(scope.ID, shop); err != nil {
		t.Fatal(err)
	}
	w := after.List()[0]
	if exec := []string{"exec"}; w.Mode != "enforce" || !slices.Equal(w.Unfit, exec) || !slices.Equal(w.Softened, exec) || !slices.Equal(w.Held, []string{"exec", "network"}) {
		t.Errorf("status: %+v", w)
	}
	lost := map[string]uint64{"map_full": 1, "path_too_long": 0}
	after.LeftOut().addTo(lost)
	if want := map[string]uint64{"map_full": 3, "path_too_long": 0, "entry_refused": 0, "cgroup_left_out": 0, "container_held_late": 0}; !reflect.DeepEqual(lost, want) {
		t.Errorf("lost: %v", lost)
	}
	told, err := alert.Parse(out.Bytes())
	if err != nil || told.Rule != unfitRule || told.Severity != alert.Critical || told.Detail.Workload != shop.Name || a.sink.raised.Load() != 1 {
		t.Errorf("told %+v, %v", told, err)
	}

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := scope.Command(t, self, "-test.run=^TestReach$")
	cmd.Env = append(os.Environ(), reachVariable+"="+strconv.Itoa(int(port))+" "+strconv.Itoa(int(other)))
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	if tally, err := e.Tally(1); err != nil || tally.Audited != 1 || tally.Denied != 1 {
		t.Errorf("%+v, %v: want the execution audited, the connection denied", tally, err)
	}
	if err := after.SetMode(shop.Name, event.AuditMode, ""); err != nil {
		t.Errorf("audit, without room: %v", err)
	}
	if err := after.SetMode(shop.Name, event.Enforce, ""); err != nil || !slices.Equal(after.List()[0].Softened, []string{"exec"}) {
		t.Errorf("enforce, without room: %v, %+v", err, after.List()[0])
	}
}

// Once there is room again, setting the mode makes the workload held as a whole.
func TestBaselineThatFitsAgain(t *testing.T) {
	dir, maps := t.TempDir(), newEntryMaps(10)
	r := newTestRegistry(t, dir, maps, maps)
	shop := detect.Subject{Name: "shop.service", Kind: "unit"}
	if err := r.Join(42, shop); err != nil {
		t.Fatal(err)
	}
	learnPrograms(r, 1, "/bin/a", "/bin/b")
	if err := r.SetMode(shop.Name, event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	maps = newEntryMaps(1)
	r = newTestRegistry(t, dir, maps, maps)
	if err := r.Join(42, shop); err != nil {
		t.Fatal(err)
	}
	if s := maps.states[42]; s.Mode != uint32(event.Enforce) || s.Softened != uint32(event.AllDimensions) {
		t.Errorf("without room: %+v", s)
	}
	maps.room = 10
	if err := r.SetMode(shop.Name, event.Enforce, ""); err != nil {
		t.Fatal(err)
	}
	if s := maps.states[42]; s.Mode != uint32(event.Enforce) || s.Softened != 0 || !maps.allows(42, program("/bin/b")) || len(r.List()[0].Unfit) != 0 {
		t.Errorf("with room: %+v, %v", s, maps.entries)
	}
}

// A cgroup that the kernel has no room for ends nothing; it is counted, and told if it had to be held.
func TestCgroupThatDoesNotFit(t *testing.T) {
	a, _, out := held(t)
	h, err := openHost(Config{Node: "n1", TrustDomain: "example.org"})
	if err != nil {
		t.Fatal(err)
	}
	a.host = h
	a.registry.Kernel = &refusing{refuses: true}
	out.Reset()
	a.take(cgroup{ID: 43, Path: "/system.slice/shop.service"}, a.registry.Join)
	a.take(cgroup{ID: 44, Path: "/system.slice/other.service"}, a.registry.Join)
	if n := a.registry.LeftOut().cgroups; n != 2 || a.sink.raised.Load() != 1 || !strings.Contains(out.String(), "neither held nor seen") || !strings.Contains(out.String(), "cgroup=/system.slice/shop.service workload=shop.service") {
		t.Errorf("%d cgroups left out, %d alerts: %s", n, a.sink.raised.Load(), out)
	}
}
