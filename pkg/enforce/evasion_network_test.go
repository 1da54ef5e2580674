package enforce_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/process"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// networkEvasions reach a port of the loopback interface in every way that there is.
func networkEvasions() map[string]evasion {
	all := map[string]evasion{
		"network: multipath TCP": toPort(event.OpConnect, event.ProtocolTCP, func(port int) error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
		}),
		"network: fast open by sendmsg": toPort(event.OpConnect, event.ProtocolTCP, func(port int) error {
			return withSocket(unix.AF_INET, unix.SOCK_STREAM, func(fd int) error {
				return unix.Sendmsg(fd, []byte("x"), nil, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}, unix.MSG_FASTOPEN)
			})
		}),
		"network: send by sendmsg": toPort(event.OpSend, event.ProtocolUDP, func(port int) error {
			return withSocket(unix.AF_INET, unix.SOCK_DGRAM, func(fd int) error {
				return unix.Sendmsg(fd, []byte("x"), nil, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}, 0)
			})
		}),
		"network: io_uring connect": toPort(event.OpConnect, event.ProtocolTCP, uringConnectTo),
		"network: io_uring fast open": toPort(event.OpConnect, event.ProtocolTCP, func(port int) error {
			err := uringSendTo(unix.SOCK_STREAM, unix.MSG_FASTOPEN, port)
			if errors.Is(err, unix.EINPROGRESS) {
				return nil // it is on its way
			}
			return err
		}),
		"network: io_uring send": toPort(event.OpSend, event.ProtocolUDP, func(port int) error {
			return uringSendTo(unix.SOCK_DGRAM, 0, port)
		}),
	}
	for _, name := range []string{"network: io_uring connect", "network: io_uring fast open", "network: io_uring send"} {
		e := all[name]
		e.lacks = lacksUring
		all[name] = e
	}
	for name, d := range networkDeeds() {
		if d.op != event.OpBind {
			e := toPort(d.op, d.protocol, d.do)
			e.about = about(portKey(d.op, d.protocol, d.address))
			all["network: "+name] = e
		}
	}
	return all
}

func portKey(op event.Operation, protocol event.Protocol, address string) func(string) event.Key {
	return func(port string) event.Key {
		n, _ := strconv.Atoi(port)
		ip := netip.MustParseAddr(address)
		return event.Key{Op: op, Protocol: protocol, Port: uint16(n), Address: netip.PrefixFrom(ip, ip.BitLen())}
	}
}

func toPort(op event.Operation, protocol event.Protocol, do func(port int) error) evasion {
	return evasion{about: about(portKey(op, protocol, "127.0.0.1")), do: func(port string) error {
		n, err := strconv.Atoi(port)
		if err != nil {
			return err
		}
		return do(n)
	}}
}

// The cgroup hooks hold the network on every kernel.
func TestEvasionNetwork(t *testing.T) {
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
	scope.Set(t, event.Off, 1)
	w := &trial{scope: scope, enforcer: e, events: sensortest.Collect(t, scope.Shared, p, e), does: newDoer(t, scope)}
	c := &contest{trial: w, marker: evasionPrefix + networkMarker, markerKey: portKey(event.OpConnect, event.ProtocolUDP, "127.0.0.2")}
	port := strconv.Itoa(listenTCP(t))
	for name := range networkEvasions() {
		t.Run(name, func(t *testing.T) { c.test(t, name, port) })
	}
	printTable(t, c.rows, "with its steps unknown too, at")
}

// connectMarked is what a marker of the network does.
func connectMarked(port string) error {
	conn, err := net.Dial("udp4", net.JoinHostPort("127.0.0.2", port))
	if err != nil {
		return err
	}
	return conn.Close()
}

const floods = 50000

// flood sends to many addresses.
func flood(string) error {
	return withSocket(unix.AF_INET, unix.SOCK_DGRAM, func(fd int) error {
		for i := range floods {
			to := &unix.SockaddrInet4{Port: 1 + i, Addr: [4]byte{127, 0, 0, 1}}
			if err := unix.Sendto(fd, []byte("x"), 0, to); err != unix.EPERM {
				return errEmptyHanded
			}
		}
		return unix.EPERM
	})
}

// A ring buffer that is full of denials changes no verdict, and every denial that did not get into it
// is counted.
func TestEvasionByFlood(t *testing.T) {
	scope := sensortest.NewScope(t)
	scope.Held = event.Dimensions(0).With(event.DimNetwork)
	e, err := enforce.Open(scope.Shared, enforce.Config{Dimensions: scope.Held, Cgroups: []string{scope.Dir}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	scope.Set(t, event.Off, 2)
	does, port := newDoer(t, scope), strconv.Itoa(listenTCP(t))
	scope.Set(t, event.Enforce, 2)
	if code := does.run(t, evasionPrefix+flooding, "."); code != int(unix.EPERM) {
		t.Errorf("flood: exit code %d", code)
	}
	for _, name := range []string{"connect4", "connect6"} {
		if code := does.run(t, name, port); code != int(unix.EPERM) {
			t.Errorf("%s after the flood: exit code %d", name, code)
		}
	}
	scope.Set(t, event.Off, 2)
	tally, err := e.Tally(scope.Workload)
	if err != nil {
		t.Fatal(err)
	}
	lost, err := scope.Shared.LossCounters()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d denied, %d lost", tally.Denied, lost["ring_full_access"])
	if tally.Denied != floods+2 || lost["ring_full_access"] == 0 || lost["preempted"] != 0 {
		t.Errorf("denied %d, want %d; lost %v", tally.Denied, floods+2, lost)
	}
	delivered := countUntil(t, scope, e, func() { // one more, when there is room
		scope.Set(t, event.Enforce, 3)
		does.run(t, evasionPrefix+networkMarker, port)
	}, portKey(event.OpConnect, event.ProtocolUDP, "127.0.0.2")(port))
	if delivered != tally.Denied-lost["ring_full_access"] {
		t.Errorf("%d denied, %d lost, %d delivered", tally.Denied, lost["ring_full_access"], delivered)
	}
}

// countUntil reads what is in the ring buffer, lets one more be told, and counts what comes before that.
func countUntil(t *testing.T, scope *sensortest.Scope, e *enforce.Enforcer, more func(), last event.Key) uint64 {
	t.Helper()
	reader, err := sensor.NewReader(scope.Shared, []sensor.Sensor{e}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var n atomic.Uint64
	done := make(chan error)
	go func() {
		done <- reader.Run(ctx, func(ev *event.Event) {
			switch {
			case ev.Kind == event.Access && ev.Access.Key == last:
				cancel()
			case ev.Kind == event.Access:
				n.Add(1)
			}
		})
	}()
	sensortest.Until(t, "room in the ring buffer", func() bool { return n.Load() > 100 })
	more()
	if err := errors.Join(<-done, reader.Close()); err != nil {
		t.Error(err)
	}
	return n.Load()
}
