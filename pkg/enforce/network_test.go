package enforce_test

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/process"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// networkDeed is done to a port of the loopback interface, where somebody listens.
type networkDeed struct {
	do       func(port int) error
	op       event.Operation
	protocol event.Protocol
	address  string
}

func withSocket(family, kind int, do func(fd int) error) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return do(fd)
}

func networkDeeds() map[string]networkDeed {
	v4 := func(port int) unix.Sockaddr { return &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}} }
	v6 := func(port int) unix.Sockaddr { return &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}} }
	mapped := func(port int) unix.Sockaddr {
		return &unix.SockaddrInet6{Port: port, Addr: [16]byte{10: 255, 11: 255, 12: 127, 15: 1}}
	}
	none4 := func(port int) unix.Sockaddr { return &unix.SockaddrInet4{Port: port} }
	none6 := func(port int) unix.Sockaddr { return &unix.SockaddrInet6{Port: port} }
	noneMapped := func(port int) unix.Sockaddr {
		return &unix.SockaddrInet6{Port: port, Addr: [16]byte{10: 255, 11: 255}}
	}
	connect := func(family, kind int, to func(int) unix.Sockaddr) func(int) error {
		return func(port int) error {
			return withSocket(family, kind, func(fd int) error { return unix.Connect(fd, to(port)) })
		}
	}
	send := func(family, kind, flags int, to func(int) unix.Sockaddr) func(int) error {
		return func(port int) error {
			return withSocket(family, kind, func(fd int) error { return unix.Sendto(fd, []byte("x"), flags, to(port)) })
		}
	}
	bind := func(family, kind int, to func(int) unix.Sockaddr) func(int) error {
		return func(port int) error {
			return withSocket(family, kind, func(fd int) error { return unix.Bind(fd, to(port+1)) })
		}
	}
	bound := func(port int) error {
		return withSocket(unix.AF_INET, unix.SOCK_DGRAM, func(fd int) error {
			if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 2}}); err != nil {
				return err
			}
			return unix.Connect(fd, none4(port))
		})
	}
	return map[string]networkDeed{
		"none4":       {connect(unix.AF_INET, unix.SOCK_STREAM, none4), event.OpConnect, event.ProtocolTCP, "0.0.0.0"},
		"none6":       {connect(unix.AF_INET6, unix.SOCK_STREAM, none6), event.OpConnect, event.ProtocolTCP, "::"},
		"nonemapped":  {connect(unix.AF_INET6, unix.SOCK_STREAM, noneMapped), event.OpConnect, event.ProtocolTCP, "0.0.0.0"},
		"noneudp":     {connect(unix.AF_INET, unix.SOCK_DGRAM, none4), event.OpConnect, event.ProtocolUDP, "0.0.0.0"},
		"nonebound":   {bound, event.OpConnect, event.ProtocolUDP, "0.0.0.0"},
		"nonesend":    {send(unix.AF_INET, unix.SOCK_DGRAM, 0, none4), event.OpSend, event.ProtocolUDP, "0.0.0.0"},
		"nonesend6":   {send(unix.AF_INET6, unix.SOCK_DGRAM, 0, none6), event.OpSend, event.ProtocolUDP, "::"},
		"connect4":    {connect(unix.AF_INET, unix.SOCK_STREAM, v4), event.OpConnect, event.ProtocolTCP, "127.0.0.1"},
		"connect6":    {connect(unix.AF_INET6, unix.SOCK_STREAM, v6), event.OpConnect, event.ProtocolTCP, "::1"},
		"mapped":      {connect(unix.AF_INET6, unix.SOCK_STREAM, mapped), event.OpConnect, event.ProtocolTCP, "127.0.0.1"},
		"connect udp": {connect(unix.AF_INET, unix.SOCK_DGRAM, v4), event.OpConnect, event.ProtocolUDP, "127.0.0.1"},
		"fast open":   {send(unix.AF_INET, unix.SOCK_STREAM, unix.MSG_FASTOPEN, v4), event.OpConnect, event.ProtocolTCP, "127.0.0.1"},
		"send":        {send(unix.AF_INET, unix.SOCK_DGRAM, 0, v4), event.OpSend, event.ProtocolUDP, "127.0.0.1"},
		"send6":       {send(unix.AF_INET6, unix.SOCK_DGRAM, 0, v6), event.OpSend, event.ProtocolUDP, "::1"},
		"bind":        {bind(unix.AF_INET, unix.SOCK_STREAM, v4), event.OpBind, event.ProtocolTCP, "127.0.0.1"},
		"bind6 udp":   {bind(unix.AF_INET6, unix.SOCK_DGRAM, v6), event.OpBind, event.ProtocolUDP, "::1"},
	}
}

// listenTCP listens on both loopback addresses with one port.
func listenTCP(t *testing.T) int {
	t.Helper()
	four, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { four.Close() })
	port := four.Addr().(*net.TCPAddr).Port
	six, err := net.Listen("tcp6", net.JoinHostPort("::1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { six.Close() })
	return port
}

// networkTrial enforces the network dimension on a doer, and listens on a port.
func networkTrial(t *testing.T) (*sensortest.Scope, *enforce.Enforcer, *doer, int) {
	t.Helper()
	scope := sensortest.NewScope(t)
	scope.Held = event.Dimensions(0).With(event.DimNetwork)
	e, err := enforce.Open(scope.Shared, enforce.Config{Dimensions: scope.Held, Cgroups: []string{scope.Dir}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return scope, e, newDoer(t, scope), listenTCP(t)
}

// The hooks of cgroups alone hold the network and nothing else, if that is asked for.
func TestStrengthCgroup(t *testing.T) {
	scope := sensortest.NewScope(t)
	e, err := enforce.Open(scope.Shared, enforce.Config{Strength: enforce.Cgroup, Dimensions: event.AllDimensions, Cgroups: []string{scope.Dir}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	network := event.Dimensions(0).With(event.DimNetwork)
	stopped := []event.Operation{event.OpConnect, event.OpBind, event.OpSend}
	for op := event.OpExec; op < event.OpSyscall; op++ {
		if slices.Contains(e.Unstopped(), op) == slices.Contains(stopped, op) {
			t.Errorf("%s: not stopped are %v", op, e.Unstopped())
		}
	}
	if e.Covered() != network || e.Strength() != enforce.Cgroup || e.HeldBy(event.DimNetwork) != "cgroup" || e.HeldBy(event.DimExec) != "" {
		t.Errorf("covered %b by %s", e.Covered(), e.Strength())
	}
	scope.Held = event.AllDimensions
	scope.Set(t, event.Off, 1)
	does, port := newDoer(t, scope), strconv.Itoa(listenTCP(t))
	scope.Set(t, event.Enforce, 2)
	if code := does.run(t, "connect4", port); code != int(unix.EPERM) {
		t.Errorf("connect: error number %d", code)
	}
	if err := scope.Run(t, "/bin/true"); err != nil {
		t.Errorf("execution: %v", err)
	}
	if tally, err := e.Tally(scope.Workload); err != nil || tally.Denied != 1 {
		t.Errorf("%+v, %v", tally, err)
	}
	for name, cfg := range map[string]enforce.Config{
		"no cgroups": {Dimensions: network}, "no network": {Dimensions: event.Dimensions(0).With(event.DimFile), Cgroups: []string{scope.Dir}},
	} {
		cfg.Strength = enforce.Cgroup
		if _, err := enforce.Open(scope.Shared, cfg); !errors.Is(err, sensor.ErrNotSupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The hooks of the network go with the cgroup that they are attached to; the next one of its name gets them again, as often as it
// is made.
func TestScopeThatIsMadeAnew(t *testing.T) {
	scope, port := sensortest.NewScope(t), strconv.Itoa(listenTCP(t))
	scope.Held = event.Dimensions(0).With(event.DimNetwork)
	pins := newPins(t)
	e, err := enforce.Open(scope.Shared, enforce.Config{Strength: enforce.Cgroup, Dimensions: scope.Held, Cgroups: []string{scope.Dir}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if err := e.Pin(pins); err != nil {
		t.Fatal(err)
	}
	connect := func() int {
		cmd := scope.Command(t, selfPath(t))
		cmd.Env = deedEnv("connect4", port)
		_ = cmd.Run()
		return cmd.ProcessState.ExitCode()
	}
	scope.Set(t, event.Enforce, 2)
	if code := connect(); code != int(unix.EPERM) {
		t.Errorf("at first: error number %d", code)
	}
	for range 2 {
		scope.Remake(t)
		scope.Set(t, event.Enforce, 2)
		if code := connect(); code != 0 {
			t.Errorf("without hooks: error number %d", code)
		}
		if err := errors.Join(e.Renew(scope.Dir+"/other", pins), e.Renew(scope.Dir, pins)); err != nil {
			t.Fatal(err)
		}
		if code := connect(); code != int(unix.EPERM) {
			t.Errorf("made anew: error number %d", code)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if code := connect(); code != int(unix.EPERM) {
		t.Errorf("pinned, and closed: error number %d", code)
	}
}

// newPins is a pin directory of the test's own.
func newPins(t *testing.T) *sensor.Pins {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pins")
	pins, err := sensor.OpenPins(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(pins.Abandon(), pins.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := pins.Begin(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	return pins
}

// A policy update is one write: while a denied operation is tried without end, 1,000 updates do not let
// one through.
func TestUpdatesLeaveNoGap(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "6.12")
	scope, e, does, port := networkTrial(t)
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	allowed := []event.Key{
		{Op: event.OpConnect, Protocol: event.ProtocolTCP, Address: loopback, Port: uint16(port) + 1},
		{Op: event.OpConnect, Protocol: event.ProtocolUDP, Address: loopback, Port: uint16(port)},
	}
	generation := uint32(1)
	update := func() {
		generation++
		if err := e.Replace(scope.Workload, generation, allowed); err != nil {
			t.Fatal(err)
		}
		scope.Set(t, event.Enforce, generation)
		if generation%10 != 0 { // a removal looks through the tables, which takes long in a guest
			return
		}
		if err := e.Remove(scope.Workload, generation); err != nil {
			t.Fatal(err)
		}
	}
	update()
	var stop atomic.Bool
	done := make(chan [2]int)
	go func() {
		rounds, reached := 0, 0
		for ; !stop.Load(); rounds++ {
			reached += does.run(t, "hammer", strconv.Itoa(port))
		}
		done <- [2]int{rounds, reached}
	}()
	for range 1000 {
		update()
	}
	stop.Store(true)
	got := <-done
	if got[1] != 0 {
		t.Errorf("%d of %d connections were made", got[1], got[0]*hammerTries)
	}
	if tally, err := e.Tally(scope.Workload); err != nil || tally.Denied != uint64(got[0]*hammerTries) {
		t.Errorf("%+v, %v, want %d denied", tally, err, got[0]*hammerTries)
	}
}

// A pause lets through what would be denied, and ends by itself.
func TestPause(t *testing.T) {
	scope, e, does, port := networkTrial(t)
	scope.Set(t, event.Enforce, 2)
	try := func() int { return does.run(t, "connect4", strconv.Itoa(port)) }
	if code := try(); code != int(unix.EPERM) {
		t.Errorf("enforced: %d", code)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	if err := e.Pause(uint64(now.Nano()) + 1e9); err != nil {
		t.Fatal(err)
	}
	if code := try(); code != 0 {
		t.Errorf("paused: %d", code)
	}
	sensortest.Until(t, "the end of the pause", func() bool { return try() == int(unix.EPERM) })
	if err := e.Pause(uint64(now.Nano()) + 3600e9); err != nil {
		t.Fatal(err)
	}
	if code := try(); code != 0 {
		t.Errorf("paused again: %d", code)
	}
	if err := e.Pause(0); err != nil {
		t.Fatal(err)
	}
	if code := try(); code != int(unix.EPERM) {
		t.Errorf("resumed: %d", code)
	}
}

// What is softened is audited although the mode is enforce.
func TestSoftened(t *testing.T) {
	scope, _, does, port := networkTrial(t)
	state := sensor.State(scope.Workload, event.Enforce, 2, scope.Held)
	state.Softened = uint32(scope.Held)
	if err := scope.Shared.SetWorkload(scope.ID, state); err != nil {
		t.Fatal(err)
	}
	if code := does.run(t, "connect4", strconv.Itoa(port)); code != 0 {
		t.Errorf("softened: %d", code)
	}
}

// BenchmarkReplace writes a profile of 10,000 entries beside another, as an update does.
func BenchmarkReplace(b *testing.B) {
	scope := sensortest.NewScope(b)
	e, err := enforce.Open(scope.Shared, enforce.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	var keys []event.Key
	for i := range 10000 {
		keys = append(keys, event.Key{Op: event.OpRead, Path: "/usr/share/plumbline/some/file/" + strconv.Itoa(i)})
	}
	generation := uint32(1)
	for b.Loop() {
		generation++
		if err := e.Replace(scope.Workload, generation, keys); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := e.Remove(scope.Workload, generation); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// The cgroup hooks work on every kernel and see every way to reach an address.
func TestNetwork(t *testing.T) {
	scope := sensortest.NewScope(t)
	scope.Held = event.Dimensions(0).With(event.DimNetwork)
	p, err := process.Open(scope.Shared)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	e, err := enforce.Open(scope.Shared, enforce.Config{Dimensions: scope.Held, Cgroups: []string{scope.Dir}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if !e.Covered().Has(event.DimNetwork) {
		t.Fatalf("not covered: %+v", e.Status())
	}
	events := sensortest.Collect(t, scope.Shared, p, e)
	port := listenTCP(t)
	does := newDoer(t, scope)
	generation, seen := uint32(1), 0
	for name, d := range networkDeeds() {
		t.Run(name, func(t *testing.T) {
			run := func() int { return does.run(t, name, strconv.Itoa(port)) }
			want := event.Key{
				Op: d.op, Protocol: d.protocol, Port: uint16(port),
				Address: netip.PrefixFrom(netip.MustParseAddr(d.address), len(netip.MustParseAddr(d.address).AsSlice())*8),
			}
			if d.op == event.OpBind {
				want.Port++
			}
			for _, step := range []struct {
				mode    event.Mode
				verdict event.Verdict
				code    int
			}{{event.AuditMode, event.Audit, 0}, {event.Enforce, event.Deny, int(unix.EPERM)}, {event.Learn, event.Allow, 0}} {
				generation++ // nothing is known, and nothing was told
				scope.Set(t, step.mode, generation)
				if code := run(); code != step.code {
					t.Errorf("%s: exit code %d, want %d", step.mode, code, step.code)
				}
				seen++
				got := events.Wait(t, event.Access, seen)[seen-1]
				if got.Access.Key != want || got.Verdict != step.verdict || got.Hook != event.HookCgroup {
					t.Errorf("%s: %s %s %s, want %s %s", step.mode, got.Verdict, got.Access.Key, got.Hook, step.verdict, want)
				}
			}
			scope.Set(t, event.Enforce, generation) // what was just learnt
			if code := run(); code != 0 {
				t.Errorf("what was learnt is denied: %d", code)
			}
			for _, pattern := range []event.Key{
				{Op: want.Op, Protocol: want.Protocol},
				{Op: want.Op, Protocol: want.Protocol, Port: want.Port},
				{Op: want.Op, Protocol: want.Protocol, Address: want.Address},
				{Op: want.Op, Protocol: want.Protocol, Address: netip.PrefixFrom(want.Address.Addr(), 8), Port: want.Port},
			} {
				generation++
				if err := e.Replace(scope.Workload, generation, []event.Key{pattern}); err != nil {
					t.Fatal(err)
				}
				scope.Set(t, event.Enforce, generation)
				if code := run(); code != 0 {
					t.Errorf("%s is denied by %s: %d", want, pattern, code)
				}
			}
			generation++
			other := event.Key{Op: want.Op, Protocol: want.Protocol, Address: netip.MustParsePrefix("10.0.0.0/8")}
			if err := e.Replace(scope.Workload, generation, []event.Key{other}); err != nil {
				t.Fatal(err)
			}
			scope.Set(t, event.Enforce, generation)
			if code := run(); code != int(unix.EPERM) {
				t.Errorf("allowed by %s: %d", other, code)
			}
			seen++
			events.Wait(t, event.Access, seen)
		})
	}
}

const multipath = "listen with multipath TCP"

func listenMultipath(port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	return unix.Listen(fd, 1)
}

// A baseline does not tell multipath TCP from TCP: Go programs ask for the one and take the other.
func TestMultipathTCPIsTCP(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err != nil {
		t.Skip("this kernel has no multipath TCP:", err)
	}
	unix.Close(fd)
	scope := sensortest.NewScope(t)
	scope.Held = event.Dimensions(0).With(event.DimNetwork)
	e, err := enforce.Open(scope.Shared, enforce.Config{Dimensions: scope.Held, Cgroups: []string{scope.Dir}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if e.Strength() == enforce.Signal {
		t.Skip("nothing is asked about listen")
	}
	const port = 20113
	key := event.Key{Op: event.OpBind, Protocol: event.ProtocolTCP, Address: netip.MustParsePrefix("127.0.0.1/32"), Port: port}
	listen := key
	listen.Op = event.OpListen
	does := newDoer(t, scope)
	for generation, tc := range []struct {
		keys []event.Key
		code int
	}{
		{[]event.Key{key, listen}, 0},
		{[]event.Key{key}, int(unix.EPERM)},
		{[]event.Key{listen}, int(unix.EPERM)},
	} {
		if err := e.Replace(scope.Workload, uint32(generation+1), tc.keys); err != nil {
			t.Fatal(err)
		}
		scope.Set(t, event.Enforce, uint32(generation+1))
		if code := does.run(t, multipath, strconv.Itoa(port)); code != tc.code {
			t.Errorf("%s: exit code %d, want %d", tc.keys, code, tc.code)
		}
	}
}
