package enforce_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
	"github.com/plumbline-io/plumbline/pkg/syscalls"
)

// dupPrefix begins the deed of making a descriptor of a socket, or of something else.
const dupPrefix = "descriptor of "

// dupOne does it by a call, and closes it: "dup2 10" makes descriptor 10.
func dupOne(kind, how string) error {
	call, to, _ := strings.Cut(how, " ")
	number, err := strconv.Atoi(to)
	if err != nil {
		return err
	}
	make := func(fd int) (err error) {
		switch call {
		case "dup":
			number, err = unix.Dup(fd)
		case "dup2":
			call, _ := dup2Number()
			if _, _, errno := unix.Syscall(uintptr(call), uintptr(fd), uintptr(number), 0); errno != 0 {
				err = errno
			}
		default:
			err = unix.Dup3(fd, number, 0)
		}
		if err == nil {
			err = unix.Close(number)
		}
		return err
	}
	switch kind {
	case "file":
		f, err := os.Open("/dev/null")
		if err != nil {
			return err
		}
		defer f.Close()
		return make(int(f.Fd()))
	case "nothing":
		if err := make(1000); !errors.Is(err, unix.EBADF) {
			return fmt.Errorf("a descriptor of nothing was made: %w", err)
		}
		return nil
	case "unix":
		return withSocket(unix.AF_UNIX, unix.SOCK_STREAM, make)
	case "4":
		return dupConnected(unix.AF_INET, &unix.SockaddrInet4{Port: dupLocal, Addr: [4]byte{127, 0, 0, 1}}, &unix.SockaddrInet4{Port: dupPort, Addr: [4]byte{127, 0, 0, 2}}, make)
	default:
		return dupConnected(unix.AF_INET6, &unix.SockaddrInet6{Port: dupLocal, Addr: [16]byte{15: 1}}, &unix.SockaddrInet6{Port: dupPort, Addr: [16]byte{15: 1}}, make)
	}
}

// dup2Number is that of the call; false: this architecture has none.
func dup2Number() (uint16, bool) {
	call, err := syscalls.Parse("dup2")
	if err != nil {
		return 0, false
	}
	return call.Number(runtime.GOARCH)
}

const dupLocal, dupPort = 18_001, 18_002

// dupConnected uses a datagram socket, which is connected without another end.
func dupConnected(family int, from, to unix.Sockaddr, do func(fd int) error) error {
	return withSocket(family, unix.SOCK_DGRAM, func(fd int) error {
		if err := errors.Join(unix.Bind(fd, from), unix.Connect(fd, to)); err != nil {
			return err
		}
		return do(fd)
	})
}

// A descriptor that is made of a socket is told with both ends while a rule asks, each number by itself, and of other
// files none is.
func TestDup(t *testing.T) {
	sensortest.OnlyOn(t, "5.10", "newest", "6.12-arm64")
	if !sensortest.InVM() {
		t.Skip("the hooks are the whole machine's")
	}
	w := newWatched(t)
	scope, e, events, does := w.scope, w.enforcer, w.events, w.does
	hooks := func() (n int) {
		for _, s := range e.Status() {
			if s.Supported && strings.HasPrefix(s.Hook, "fexit/sys_dup") {
				n++
			}
		}
		return n
	}
	use := func(condition string, asks bool) {
		set, problems := rule.Load(rule.File{Name: "r.yaml", Data: []byte(ruleText("r", condition, ""))})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if in, err := e.LoadRules(set); err != nil || len(in.Blind) > 0 || slices.Contains(in.Operations, event.OpDup) != asks {
			t.Fatalf("%+v, %v, %+v", in, err, e.Status())
		}
		if n := hooks(); n != 3*map[bool]int{true: 1}[asks] {
			t.Errorf("%s: %d hooks: %+v", condition, n, e.Status())
		}
	}
	run := func(kind, how string) {
		if code := does.run(t, dupPrefix+kind, how); code != 0 {
			t.Errorf("descriptor of %s by %s: error number %d", kind, how, code)
		}
	}
	if n := hooks(); n != 0 {
		t.Errorf("%d hooks without need", n)
	}
	use("evt.operation = connect and fd.sip = 192.0.2.1", false)
	run("4", "dup3 100")
	use("evt.type in (dup, dup2, dup3)", true)
	var want []string
	calls := []string{"dup3"}
	if _, is := dup2Number(); is {
		calls = append(calls, "dup2")
	}
	for _, call := range calls {
		for _, number := range []int{100, 101} {
			for kind, ends := range map[string]string{"4": "127.0.0.2 127.0.0.1", "6": "::1 ::1", "unix": ""} {
				theirs, ours, _ := strings.Cut(ends, " ")
				what := fmt.Sprintf("dup udp %s port %d at %s %d", theirs, dupPort, ours, dupLocal)
				if kind == "unix" {
					what = "dup unix at invalid IP 0"
				}
				run(kind, fmt.Sprintf("%s %d", call, number))
				want = append(want, fmt.Sprintf("%s: %d by %s", what, number, call))
			}
		}
		run("file", call+" 102")
		run("nothing", call+" 103")
	}
	run("file", "dup 0")
	run("nothing", "dup 0")
	use("evt.operation = connect and fd.sip = 192.0.2.1", false)
	run("4", "dup3 104")
	use("evt.type = dup3 and fd.rport = "+strconv.Itoa(dupPort+1), true)
	run("4", "dup3 105") // another port
	use("evt.type = dup and fd.rport = "+strconv.Itoa(dupPort), true)
	run("4", "dup 0")
	told := func() (list []string) {
		for _, ev := range events.Of(event.Access) {
			a := &ev.Access
			if a.Op != event.OpDup {
				continue
			}
			number := strconv.Itoa(int(a.Descriptor))
			if a.Call == "dup" {
				number = "any"
			}
			list = append(list, fmt.Sprintf("%s at %s %d: %s by %s", a.Key, a.Local, a.LocalPort, number, a.Call))
			if ev.Hook != event.HookFentry || ev.Verdict != event.Allow || a.Comm == "" || a.Start == 0 || ev.Workload != scope.Workload {
				t.Errorf("%+v", ev)
			}
		}
		return list
	}
	want = append(want, fmt.Sprintf("dup udp 127.0.0.2 port %d at 127.0.0.1 %d: any by dup", dupPort, dupLocal))
	sensortest.Until(t, "descriptors are told", func() bool { return len(told()) >= len(want) })
	got := told()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	known, err := e.Entries(scope.Workload, 1)
	if err != nil || slices.ContainsFunc(known, func(k enforce.Entry) bool { return k.Key.Op == event.OpDup }) {
		t.Errorf("learnt: %+v, %v", known, err)
	}
}
