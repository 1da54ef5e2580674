package enforce

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asker is the kernel's end of a gate.
type asker struct {
	*os.File
	gate *gate
}

// newAsker makes a gate whose group is a socket: there are no marks.
func newAsker(t *testing.T, within time.Duration, ask func(file, process int, tells bool) (uint32, error)) asker {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	a := asker{os.NewFile(uintptr(fds[0]), "kernel"), &gate{group: os.NewFile(uintptr(fds[1]), "group"), within: within, ask: ask}}
	t.Cleanup(func() { a.Close(); a.gate.Close() })
	return a
}

// serve answers until the test ends, and returns what Answer does then.
func (a asker) serve(t *testing.T, answerers int) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done, e := make(chan error, answerers), &Enforcer{gate: a.gate}
	for range answerers {
		go func() { done <- e.Answer(ctx) }()
	}
	return func() error {
		cancel()
		var errs []error
		for range answerers {
			errs = append(errs, <-done)
		}
		return errors.Join(errs...)
	}
}

func opened(mask uint64, file, tid int) []byte {
	raw := binary.NativeEndian.AppendUint32(nil, unix.FAN_EVENT_METADATA_LEN)
	raw = append(raw, unix.FANOTIFY_METADATA_VERSION, 0)
	raw = binary.NativeEndian.AppendUint16(raw, unix.FAN_EVENT_METADATA_LEN)
	raw = binary.NativeEndian.AppendUint64(raw, mask)
	raw = binary.NativeEndian.AppendUint32(raw, uint32(file))
	return binary.NativeEndian.AppendUint32(raw, uint32(tid))
}

// open asks about a file with this content, and returns its descriptor.
func (a asker) open(t *testing.T, content []byte, tid int) int {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write(opened(unix.FAN_OPEN_EXEC_PERM, fd, tid)); err != nil {
		t.Fatal(err)
	}
	return fd
}

// wantAnswer waits for an answer about a descriptor.
func (a asker) wantAnswer(t *testing.T, fd int, want uint32) {
	t.Helper()
	response := make([]byte, 64)
	if err := a.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	n, err := a.Read(response)
	if err != nil || n != 8 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if about, got := binary.NativeEndian.Uint32(response), binary.NativeEndian.Uint32(response[4:]); int(about) != fd || got != want {
		t.Errorf("answer %d about %d, want %d about %d", got, about, want, fd)
	}
}

func wantClosed(t *testing.T, fd int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); errors.Is(err, unix.EBADF) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("descriptor %d was not closed", fd)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestGateAnswers(t *testing.T) {
	image, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	image = image[:imageHead]
	answers := func(first, second uint32, err error) func(int, int, bool) (uint32, error) {
		return func(_, _ int, tells bool) (uint32, error) {
			if tells {
				return second, err
			}
			return first, err
		}
	}
	self := os.Getpid()
	for name, tc := range map[string]struct {
		content []byte
		tid     int
		ask     func(int, int, bool) (uint32, error)
		want    uint32
		counted GateCounters
	}{
		"known":                   {image, self, answers(answerNamed, 99, nil), unix.FAN_ALLOW, GateCounters{Asked: 1}},
		"unknown":                 {image, self, answers(answerRefused|answerNamed, answerRefused, nil), unix.FAN_DENY, GateCounters{Asked: 1, Refused: 1}},
		"script":                  {[]byte("#!/bin/sh"), self, answers(answerRefused|answerNamed, answerRefused, nil), unix.FAN_ALLOW, GateCounters{Asked: 1}},
		"allowed meanwhile":       {image, self, answers(answerRefused|answerNamed, 0, nil), unix.FAN_ALLOW, GateCounters{Asked: 1}},
		"task that cannot be had": {image, 1 << 30, nil, unix.FAN_ALLOW, GateCounters{Asked: 1, Unseen: 1}},
		"program that fails":      {image, self, answers(0, 0, unix.EINVAL), unix.FAN_ALLOW, GateCounters{Asked: 1, Unseen: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAsker(t, time.Hour, tc.ask)
			stop := a.serve(t, 1)
			fd := a.open(t, tc.content, tc.tid)
			a.wantAnswer(t, fd, tc.want)
			wantClosed(t, fd)
			if err := stop(); err != nil {
				t.Error(err)
			}
			if got := (&Enforcer{gate: a.gate}).Gate(); got != tc.counted {
				t.Errorf("counted %+v, want %+v", got, tc.counted)
			}
			if err := a.gate.Ended(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whoever waits too long is let go, once; and if that is so for all, the kernel is to ask no more.
func TestGateDoesNotHoldUp(t *testing.T) {
	release := make(chan struct{})
	a := newAsker(t, 50*time.Millisecond, func(int, int, bool) (uint32, error) {
		<-release
		return answerRefused, nil
	})
	stop := a.serve(t, Answerers)
	var fds []int
	for range Answerers {
		fd := a.open(t, nil, os.Getpid())
		a.wantAnswer(t, fd, unix.FAN_ALLOW)
		fds = append(fds, fd)
	}
	e := &Enforcer{gate: a.gate}
	for deadline := time.Now().Add(time.Minute); e.gate.Ended() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it goes on")
		}
	}
	close(release)
	if err := stop(); err != nil && !strings.Contains(err.Error(), "all 4 answerers took longer than 50ms") {
		t.Error(err)
	}
	for _, fd := range fds {
		wantClosed(t, fd)
	}
	if n, err := a.Read(make([]byte, 64)); n != 0 {
		t.Errorf("%d more bytes, %v", n, err)
	}
	if got := e.Gate(); got != (GateCounters{Asked: Answerers, Late: Answerers}) {
		t.Errorf("counted %+v", got)
	}
}

// One that hangs is enough for that, some time later.
func TestGateHangs(t *testing.T) {
	release := make(chan struct{})
	a := newAsker(t, time.Millisecond, func(int, int, bool) (uint32, error) {
		<-release
		return 0, nil
	})
	stop := a.serve(t, 1)
	fd := a.open(t, nil, os.Getpid())
	a.wantAnswer(t, fd, unix.FAN_ALLOW)
	if n, err := a.Read(make([]byte, 64)); n != 0 {
		t.Errorf("%d more bytes, %v", n, err)
	}
	if err := a.gate.Ended(); err == nil || !strings.Contains(err.Error(), "an answer took longer than 50ms") {
		t.Errorf("ended: %v", err)
	}
	close(release)
	if err := stop(); err != nil && !strings.Contains(err.Error(), "an answer took longer") {
		t.Error(err)
	}
	wantClosed(t, fd)
}

// What cannot be read is denied by the kernel: if that goes on, it is to ask no more.
func TestGateGivesUp(t *testing.T) {
	for name, tc := range map[string]struct {
		event []byte
		err   error
		want  string
	}{
		"another version": {event: append([]byte{unix.FAN_EVENT_METADATA_LEN, 0, 0, 0, 9}, make([]byte, 19)...), want: "version 9"},
		"short":           {event: make([]byte, 7), want: "7 bytes"},
		"no descriptors":  {err: unix.EMFILE, want: "too many open files"},
		"one file":        {err: unix.ENXIO},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAsker(t, time.Hour, nil)
			var err error
			if tc.event != nil {
				err = a.gate.take(tc.event)
			} else {
				err = a.gate.judgeFailure(&os.PathError{Op: "read", Err: tc.err})
			}
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v", err)
			}
			a.gate.giveUp(err)
			e := &Enforcer{gate: a.gate, covered: 1, strength: Fanotify}
			if got := e.HeldBy(0); got != "signal" {
				t.Errorf("held by %s", got)
			}
			if err := e.Answer(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("answer: %v", err)
			}
			if n, err := a.Read(make([]byte, 64)); n != 0 {
				t.Errorf("the group is not closed: %d, %v", n, err)
			}
		})
	}
	a := newAsker(t, time.Hour, nil)
	if err := a.gate.take(opened(unix.FAN_Q_OVERFLOW, unix.FAN_NOFD, 0)); err != nil || a.gate.overflown.Load() != 1 {
		t.Errorf("overflow: %v, %d", err, a.gate.overflown.Load())
	}
}

// Without a gate there is nothing to do.
func TestNoGate(t *testing.T) {
	e := &Enforcer{}
	if err := errors.Join(e.Answer(t.Context()), e.Mark(os.Stdin), e.gate.Close(), e.gate.Ended()); err != nil || e.Gate() != (GateCounters{}) {
		t.Errorf("%v, %+v", err, e.Gate())
	}
}

func FuzzParseOpening(f *testing.F) {
	f.Add(opened(unix.FAN_OPEN_EXEC_PERM, 7, 4711))
	f.Add(opened(unix.FAN_Q_OVERFLOW, unix.FAN_NOFD, 0))
	f.Add([]byte{255, 255, 255, 255, 3})
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, err := parseOpening(raw)
		if err != nil {
			return
		}
		again, err := parseOpening(opened(o.mask, o.file, o.tid))
		if err != nil || again != o {
			t.Errorf("%+v, and then %+v, %v", o, again, err)
		}
	})
}
