package enforce_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/sensor"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// servePrefix begins the deed of taking a connection from the port behind, whose client is this process too.
const servePrefix = "take "

func serveOne(kind string, port int) error {
	v4 := func(port int) unix.Sockaddr { return &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}} }
	v6 := func(port int) unix.Sockaddr { return &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}} }
	family, client, at, of := unix.AF_INET, unix.AF_INET, v4(port), v4
	protocol := 0
	switch kind {
	case "6":
		family, client, at, of = unix.AF_INET6, unix.AF_INET6, v6(port), v6
	case "mapped": // the server is IPv6's, and its client is not
		family, at = unix.AF_INET6, &unix.SockaddrInet6{Port: port}
	case "paths":
		protocol = unix.IPPROTO_MPTCP
	case "unix":
		family, client = unix.AF_UNIX, unix.AF_UNIX
		of = func(port int) unix.Sockaddr { return &unix.SockaddrUnix{Name: "@take" + strconv.Itoa(port)} }
		at = of(port)
	}
	server, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(server)
	if err := errors.Join(unix.Bind(server, at), unix.Listen(server, 1)); err != nil {
		return err
	}
	return withSocket(client, unix.SOCK_STREAM, func(fd int) error {
		if kind != "unix" {
			if err := unix.Bind(fd, of(port+1)); err != nil {
				return err
			}
		}
		if err := unix.Connect(fd, of(port)); err != nil {
			return err
		}
		taken, _, err := unix.Accept4(server, unix.SOCK_CLOEXEC)
		return errors.Join(err, unix.Close(taken))
	})
}

// A connection that a server takes is told with both ends while a rule asks, as far as the rule asks, and never
// learnt; while none asks, the hook is not there.
func TestAccept(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "newest", "6.12-arm64")
	if !sensortest.InVM() {
		t.Skip("the hook is the whole machine's")
	}
	w := newWatched(t)
	scope, e, events, does := w.scope, w.enforcer, w.events, w.does
	accepts := func() (list []event.Event) {
		for _, ev := range events.Of(event.Access) {
			if ev.Access.Op == event.OpAccept {
				list = append(list, ev)
			}
		}
		return list
	}
	hook := func() (is, supported bool) {
		i := slices.IndexFunc(e.Status(), func(s sensor.Status) bool { return strings.HasSuffix(s.Hook, "/security_sock_graft") })
		return i >= 0, i >= 0 && e.Status()[i].Supported
	}
	use := func(condition string) {
		set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(ruleText("r", condition, ""))})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		asks := strings.Contains(condition, "accept")
		if in, err := e.LoadRules(set); err != nil || len(in.Blind) > 0 || slices.Contains(in.Operations, event.OpAccept) != asks {
			t.Fatalf("%+v, %v, %+v", in, err, e.Status())
		}
		if is, supported := hook(); is != asks || supported != asks {
			t.Errorf("%s: hooked %t, supported %t: %+v", condition, is, supported, e.Status())
		}
	}
	run := func(kind string, port int) {
		if code := does.run(t, servePrefix+kind, strconv.Itoa(port)); code != 0 {
			t.Errorf("take %s: error number %d", kind, code)
		}
	}
	const from, below = 20_000, 19_000
	asked := fmt.Sprintf("evt.type = accept and fd.cnet in (127.0.0.0/8, ::1/128) and fd.sport in (%d, %d, %d, %d, %d, %d, %d)",
		from, from+10, from+12, from+14, from+16, from+18, from+32)

	if is, _ := hook(); is {
		t.Error("hooked without need")
	}
	use("evt.operation = connect and fd.sip = 192.0.2.1")
	run("4", from)
	use(asked)
	want := []string{}
	kinds := []string{"4", "6", "mapped", "paths", "unix"}
	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP); err != nil {
		kinds = slices.DeleteFunc(kinds, func(kind string) bool { return kind == "paths" })
	} else if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	for i, kind := range kinds {
		port, address := from+10+2*i, "127.0.0.1"
		if kind == "6" {
			address = "::1"
		}
		run(kind, below+2*i) // not asked for
		run(kind, port)
		if kind != "unix" {
			want = append(want, fmt.Sprintf("accept tcp %s port %d from %d at %s", address, port, port+1, address))
		}
	}
	use("evt.operation = connect and fd.sip = 192.0.2.1")
	run("4", from+30)
	use(asked)
	run("4", from+32)
	want = append(want, fmt.Sprintf("accept tcp 127.0.0.1 port %d from %d at 127.0.0.1", from+32, from+33))
	sensortest.Until(t, "connections are told", func() bool { return len(accepts()) >= len(want) })
	got := []string{}
	for _, ev := range accepts() {
		a := &ev.Access
		got = append(got, fmt.Sprintf("%s from %d at %s", a.Key, a.ClientPort, a.Local))
		if ev.Hook != event.HookFentry || ev.Verdict != event.Allow || ev.Tgid == 0 || a.Comm == "" || a.Start == 0 || ev.Workload != scope.Workload || a.Known {
			t.Errorf("%+v", ev)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	known, err := e.Entries(scope.Workload, 1)
	if err != nil || len(known) == 0 || slices.ContainsFunc(known, func(k enforce.Entry) bool { return k.Key.Op == event.OpAccept }) {
		t.Errorf("learnt: %+v, %v", known, err)
	}
}
