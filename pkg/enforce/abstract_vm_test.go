package enforce_test

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// withName does something with a socket and a quoted name.
func withName(do func(fd int, to unix.Sockaddr) error) func(string) error {
	return func(quoted string) error {
		name, err := strconv.Unquote(quoted)
		if err != nil {
			return err
		}
		return withSocket(unix.AF_UNIX, unix.SOCK_STREAM, func(fd int) error { return do(fd, &unix.SockaddrUnix{Name: name}) })
	}
}

// Abstract names may have zeroes in them and at their ends: each is another name, that is learnt as a whole.
func TestAbstractNames(t *testing.T) {
	eachStrength(t, func(t *testing.T, w *trial) {
		w.scope.Held = event.Dimensions(0).With(event.DimUnix)
		w.scope.Set(t, event.Off, 1)
		w.does = newDoer(t, w.scope)
		const name = "@plumbline-name"
		padded := name + strings.Repeat("\x00", 107-len(name))
		listener, err := net.Listen("unix", name+"\x00")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
		for i, tc := range []struct {
			deed, name string
			key        event.Key
			others     []string // keys that do not stand for it
		}{
			{bindingName, name, event.Key{Op: event.OpUnixBind, Path: name}, []string{name + "\x01"}},
			{bindingName, name + "\x00\x00", event.Key{Op: event.OpUnixBind, Path: name + "\x01\x01"}, []string{name, name + "\x01"}},
			{bindingName, name + "\x00b", event.Key{Op: event.OpUnixBind, Path: name + "\x01b"}, []string{name, name + "b"}},
			{bindingName, padded, event.Key{Op: event.OpUnixBind, Path: strings.ReplaceAll(padded, "\x00", "\x01")}, []string{name}},
			{connectingName, name + "\x00", event.Key{Op: event.OpUnixConnect, Path: name + "\x01"}, []string{name}},
		} {
			run := func(mode event.Mode, generation int, keys ...event.Key) int {
				t.Helper()
				if err := w.enforcer.Replace(w.scope.Workload, uint32(generation), keys); err != nil {
					t.Fatal(err)
				}
				w.scope.Set(t, mode, uint32(generation))
				defer w.scope.Set(t, event.Off, uint32(generation))
				return w.does.run(t, evasionPrefix+tc.deed, strconv.Quote(tc.name))
			}
			for n, other := range tc.others {
				if code := run(event.Enforce, 100*i+200+n, event.Key{Op: tc.key.Op, Path: other}); code != int(unix.EPERM) {
					t.Errorf("%q, where %q is known: error number %d", tc.name, other, code)
				}
			}
			if code := run(event.Learn, 100*i+210); code != 0 {
				t.Errorf("learn %q: error number %d", tc.name, code)
			}
			sensortest.Until(t, "what is learnt is told", func() bool { return w.told(tc.key) > len(tc.others) })
			learnt, err := w.enforcer.Entries(w.scope.Workload, uint32(100*i+210))
			if err != nil || len(learnt) != 1 || learnt[0].Key != tc.key {
				t.Errorf("learnt %+v, %v, want %q", learnt, err, tc.key.Path)
			}
			if code := run(event.Enforce, 100*i+220, tc.key); code != 0 {
				t.Errorf("%q, which is known: error number %d", tc.name, code)
			}
		}
		testUnclearName(t, w)
	})
}

// A name that could be taken for another one is not learnt, and never known.
func testUnclearName(t *testing.T, w *trial) {
	const name = "@plumbline\x01name"
	key := event.Key{Op: event.OpUnixBind, Path: name}
	for i, mode := range []event.Mode{event.Learn, event.Enforce} {
		generation := uint32(1000 + i)
		if err := w.enforcer.Replace(w.scope.Workload, generation, []event.Key{key}); err != nil {
			t.Fatal(err)
		}
		w.scope.Set(t, mode, generation)
		code := w.does.run(t, evasionPrefix+bindingName, strconv.Quote(name))
		w.scope.Set(t, event.Off, generation)
		if want := i * int(unix.EPERM); code != want {
			t.Errorf("%s: error number %d, want %d", mode, code, want)
		}
		sensortest.Until(t, mode.String()+": it is told", func() bool { return w.told(key) > i })
		if !w.last(key).Access.Partial {
			t.Errorf("%s: told as a whole name", mode)
		}
	}
}

// namingDeeds are done with a quoted abstract name.
func namingDeeds() map[string]func(string) error {
	return map[string]func(string) error{
		bindingName: withName(unix.Bind),
		connectingName: withName(func(fd int, to unix.Sockaddr) error {
			err := unix.Connect(fd, to)
			if errors.Is(err, unix.ECONNREFUSED) { // nobody of that name listens
				return errEmptyHanded
			}
			return err
		}),
	}
}
