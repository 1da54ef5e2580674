package agent

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// means keeps what the registry writes about one cgroup, in place of a kernel.
type means struct {
	states map[uint64]sensor.WorkloadState
}

func (m means) SetWorkload(cgroup uint64, s sensor.WorkloadState) error {
	m.states[cgroup] = s
	return nil
}

func (m means) RemoveWorkload(cgroup uint64) error                { delete(m.states, cgroup); return nil }
func (m means) ExpectWorkload(string, sensor.WorkloadState) error { return nil }
func (m means) RenewWorkloads(states map[uint32]sensor.WorkloadState) error {
	for cgroup, old := range m.states {
		if s, ok := states[old.ID]; ok {
			m.states[cgroup] = s
		}
	}
	return nil
}

func (means) Wait() error                                                         { return nil }
func (means) Replace(uint32, uint32, []event.Key) error                           { return nil }
func (means) Untold(map[uint32]uint32, func(event.Key) bool) ([]event.Key, error) { return nil, nil }
func (means) Keep(map[uint32]uint32) error                                        { return nil }
func (means) Remove(uint32, uint32) error                                         { return nil }
func (means) WatchSyscalls(bool) error                                            { return nil }
func (means) Covered() event.Dimensions                                           { return event.AllDimensions }

func (means) Tally(uint32) (enforce.Tally, error) { return enforce.Tally{}, nil }

// enforced is a registry with one workload in enforce, cgroup 42.
func enforced(t *testing.T, name string, unguarded ...string) (*registry, means, error) {
	t.Helper()
	store, err := openBaselineStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := means{map[uint64]sensor.WorkloadState{}}
	r := newRegistry(registryConfig{
		Kernel: m, Enforcer: m, Store: store, Mode: event.Learn, Dimensions: event.AllDimensions, Budget: 3, CrashBudget: 3,
		Own: "0123456789ab", Unguarded: unguarded, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err := r.Join(42, detect.Subject{Name: name, Kind: "unit"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Seen(42, "/usr/bin/shop", time.Now()); err != nil {
		t.Fatal(err)
	}
	return r, m, r.SetMode(name, event.Enforce, "test")
}

// One denial more than the budget within a minute softens the dimension, in the kernel too, and only that
// one; setting the mode again gives a new budget.
func TestBudgetSoftensADimension(t *testing.T) {
	r, kernel, err := enforced(t, "shop.service")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_800_000_000, 0)
	for i := range 3 {
		if _, softened := r.Denied(1, event.DimFile, at.Add(time.Duration(i)*time.Second), 1); softened {
			t.Fatalf("softened after %d denials", i+1)
		}
	}
	if _, softened := r.Denied(1, event.DimExec, at, 1); softened {
		t.Error("another dimension's denials were counted")
	}
	if n, softened := r.Denied(1, event.DimFile, at.Add(4*time.Second), 1); !softened || n != 4 {
		t.Errorf("the fourth denial: %d, %t", n, softened)
	}
	if _, softened := r.Denied(1, event.DimFile, at.Add(5*time.Second), 1); softened {
		t.Error("softened twice")
	}
	if s := kernel.states[42]; s.Softened != 1<<event.DimFile || s.Mode != uint32(event.Enforce) {
		t.Errorf("kernel: %+v", s)
	}
	if w := r.List()[0]; !slices.Equal(w.Softened, []string{"file"}) {
		t.Errorf("status: %+v", w)
	}
	if err := r.SetMode("shop.service", event.Enforce, ""); err != nil {
		t.Fatal(err)
	}
	if s := kernel.states[42]; s.Softened != 0 {
		t.Errorf("after the mode was set again: %+v", s)
	}
}

// A program that tries one thing again and again is told once a second: what the kernel has counted meanwhile
// is spent too. With the signal strength each is told.
func TestBudgetOfARetryLoop(t *testing.T) {
	for name, tc := range map[string]struct {
		ev       event.Event
		softened bool // by the third event
	}{
		"access": {event.Event{Kind: event.Access, Hook: event.HookLSM, Access: event.AccessInfo{
			Key: event.Key{Op: event.OpRead, Path: "/etc/shop.conf"}, Repeated: 1,
		}}, true},
		"access that is told each time": {event.Event{Kind: event.Access, Hook: event.HookLSM, Access: event.AccessInfo{
			Key: event.Key{Op: event.OpRead, Path: "/etc/shop.conf"},
		}}, false},
		"execution":        {event.Event{Kind: event.ExecCheck, Hook: event.HookFmodRet, Exec: event.ExecInfo{Path: "/bin/sh", Repeated: 1}}, true},
		"killed by signal": {event.Event{Kind: event.ExecCheck, Hook: event.HookSignal, Exec: event.ExecInfo{Path: "/bin/sh", Repeated: 1}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, _, err := enforced(t, "shop.service") // its budget is 3
			if err != nil {
				t.Fatal(err)
			}
			a := &Agent{host: &host{}, registry: r, sink: &sink{log: r.Log}, detector: detect.New(detect.Config{Wall: func(uint64) time.Time { return time.Unix(1, 0) }})}
			ev := tc.ev
			ev.Workload, ev.Verdict = 1, event.Deny
			a.spend(&ev) // 2 of 3
			if n := a.sink.raised.Load(); n != 0 {
				t.Fatalf("stepped down at once: %d alerts", n)
			}
			a.spend(&ev)
			a.spend(&ev)
			if got := a.sink.raised.Load(); (got == 1) != tc.softened || got > 1 {
				t.Errorf("%d alerts about stepping down", got)
			}
		})
	}
}

// refusing is a kernel side that has no room for a while.
type refusing struct {
	means
	refuses bool
}

func (k *refusing) SetWorkload(cgroup uint64, s sensor.WorkloadState) error {
	if k.refuses {
		return errors.New("update map: argument list too long")
	}
	return k.means.SetWorkload(cgroup, s)
}

// A step down that the kernel did not take is not said to be done, and is tried again.
func TestBudgetTriesAgain(t *testing.T) {
	kernel := &refusing{means: means{map[uint64]sensor.WorkloadState{}}}
	r := newTestRegistry(t, t.TempDir(), kernel, kernel)
	if err := r.Join(42, detect.Subject{Name: "shop.service", Kind: "unit"}); err != nil {
		t.Fatal(err)
	}
	learnPrograms(r, 1, "/bin/shop")
	if err := r.SetMode("shop.service", event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_800_000_000, 0)
	kernel.refuses = true
	for i := range 5 {
		if _, softened := r.Denied(1, event.DimFile, at, 1); softened {
			t.Errorf("denial %d: said to be softened", i+1)
		}
	}
	if w := r.List()[0]; len(w.Softened) != 0 {
		t.Errorf("status: %+v", w)
	}
	kernel.refuses = false
	if n, softened := r.Denied(1, event.DimFile, at, 1); !softened || n != 6 {
		t.Errorf("the sixth denial: %d, %t", n, softened)
	}
	if s := kernel.states[42]; s.Softened != 1<<event.DimFile {
		t.Errorf("kernel: %+v", s)
	}
}

// Denials that come slowly are what enforcement is for.
func TestBudgetIsPerMinute(t *testing.T) {
	r, kernel, err := enforced(t, "shop.service")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_800_000_000, 0)
	for i := range 100 {
		if _, softened := r.Denied(1, event.DimNetwork, at.Add(time.Duration(i)*30*time.Second), 1); softened {
			t.Fatalf("softened after %d slow denials", i+1)
		}
	}
	if s := kernel.states[42]; s.Softened != 0 {
		t.Errorf("%+v", s)
	}
}

// What a kernel cannot hold, or may not, is audited after a restart, with an alert, and is not shown as held.
func TestEnforceThatIsNotPossible(t *testing.T) {
	for name, tc := range map[string]struct {
		workload    string
		without     bool // means
		mode        string
		held, blind []string
		alerts      uint64
	}{
		"possible":     {"shop.service", false, "enforce", names(event.AllDimensions), nil, 0},
		"no means":     {"shop.service", true, "audit", nil, names(event.AllDimensions), 1},
		"guarded now":  {"sshd.service", false, "audit", names(event.AllDimensions), nil, 1},
		"both reasons": {"sshd.service", true, "audit", nil, names(event.AllDimensions), 1},
	} {
		t.Run(name, func(t *testing.T) {
			before, kernel, err := enforced(t, tc.workload, tc.workload)
			if err != nil {
				t.Fatal(err)
			}
			a := &Agent{cfg: Config{Log: before.Log}, sink: &sink{log: before.Log}}
			cfg := before.registryConfig
			cfg.Unguarded, cfg.Audited = nil, a.tellAudited
			if tc.without {
				cfg.Enforcer = nil
			}
			after := newRegistry(cfg)
			if err := after.Join(42, detect.Subject{Name: tc.workload, Kind: "unit"}); err != nil {
				t.Fatal(err)
			}
			w := after.List()[0]
			if w.Mode != tc.mode || !slices.Equal(w.Held, tc.held) || !slices.Equal(w.Blind, tc.blind) || a.sink.raised.Load() != tc.alerts {
				t.Errorf("status %+v, %d alerts", w, a.sink.raised.Load())
			}
			if s := kernel.states[42]; (s.Held != 0) != (len(tc.held) > 0) || (s.Mode == uint32(event.Enforce)) != (tc.mode == "enforce") {
				t.Errorf("kernel: %+v", s)
			}
		})
	}
}

// Without means, what is executed is still learnt.
func TestLearnWithoutMeans(t *testing.T) {
	store, err := openBaselineStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := newRegistry(registryConfig{
		Kernel: noKernel{}, Store: store, Mode: event.Learn, Dimensions: event.AllDimensions, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err := r.Join(42, detect.Subject{Name: "shop.service", Kind: "unit"}); err != nil {
		t.Fatal(err)
	}
	if err := r.SetMode("shop.service", event.Enforce, "test"); !errors.Is(err, sensor.ErrNotSupported) {
		t.Errorf("enforce: %v", err)
	}
	if w := r.List()[0]; w.Mode != "learn" || !slices.Equal(w.Held, []string{"exec"}) || len(w.Blind) != 0 {
		t.Errorf("%+v", w)
	}
}
