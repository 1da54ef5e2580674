package agent

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// fakeEnforcer takes what the registry writes.
type fakeEnforcer struct {
	written map[uint32][]event.Key // by generation
	fail    error
}

func (f *fakeEnforcer) Replace(_, generation uint32, keys []event.Key) error {
	if f.fail == nil {
		f.written[generation] = append(f.written[generation], keys...)
	}
	return f.fail
}

func (f *fakeEnforcer) Untold(map[uint32]uint32, func(event.Key) bool) ([]event.Key, error) {
	return nil, nil
}
func (f *fakeEnforcer) Keep(map[uint32]uint32) error { return nil }
func (f *fakeEnforcer) Wait() error                  { return nil }
func (f *fakeEnforcer) Remove(uint32, uint32) error  { return nil }
func (f *fakeEnforcer) WatchSyscalls(bool) error     { return nil }
func (f *fakeEnforcer) Covered() event.Dimensions    { return event.AllDimensions }

func (f *fakeEnforcer) Tally(uint32) (enforce.Tally, error) { return enforce.Tally{}, nil }

// lines is a file of alerts.
type lines struct{ bytes.Buffer }

func (*lines) Close() error { return nil }

// held is an agent without a kernel side whose one workload is enforced.
func held(t *testing.T) (*Agent, *fakeEnforcer, *lines) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	store, err := openBaselineStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	kernel, out := &fakeEnforcer{written: map[uint32][]event.Key{}}, &lines{}
	a := &Agent{
		cfg: Config{Log: log, Node: "n1"}, sink: &sink{log: log, file: out},
		registry: newRegistry(registryConfig{
			Kernel: noKernel{}, Enforcer: kernel, Store: store, Mode: event.Learn,
			Dimensions: event.Dimensions(0).With(event.DimExec), Now: time.Now, Log: log,
		}),
	}
	if err := a.registry.Join(42, detect.Subject{Name: "shop.service", Kind: "unit"}); err != nil {
		t.Fatal(err)
	}
	if err := a.registry.Seen(42, "/bin/shop", time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := a.registry.SetMode("shop.service", event.Enforce, "test"); err != nil {
		t.Fatal(err)
	}
	return a, kernel, out
}

// An entry is added while the workload is enforced: one write, and nothing else changes.
func TestAllow(t *testing.T) {
	a, kernel, out := held(t)
	m := a.registry.byName["shop.service"]
	m.profile.StepDown(event.Dimensions(0).With(event.DimExec))
	generation, before := m.generation, len(kernel.written[m.generation])
	req := allowRequest{Workload: "shop.service", Key: "/usr/bin/gzip", Reason: "ticket OPS-12"}
	got, err := a.allow(req)
	if err != nil || !got.Added {
		t.Fatalf("%+v, %v", got, err)
	}
	want := event.Key{Op: event.OpExec, Path: "/usr/bin/gzip"}
	wrote := kernel.written[generation][before:]
	if m.generation != generation || len(wrote) != 1 || wrote[0] != want {
		t.Errorf("generation %d, wrote %v", m.generation, wrote)
	}
	if m.subject.Mode != event.Enforce || m.profile.Mode() != event.Enforce || !m.profile.SteppedDown().Has(event.DimExec) || !m.profile.Allows(want) {
		t.Errorf("%+v", m)
	}
	stored, mode, err := a.registry.Store.Load("shop.service")
	if err != nil || mode != event.Enforce || !stored.Allows(want) {
		t.Errorf("stored: %v, %v", mode, err)
	}
	told, err := alert.Parse(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if told.Rule != BaselineChangedRule || told.Source != "internal" || told.Detail.Key != "/usr/bin/gzip" || told.Detail.Workload != "shop.service" ||
		told.Detail.Mode != "enforce" || !strings.Contains(told.Output, "ticket OPS-12") || told.Hostname != "n1" {
		t.Errorf("%+v", told)
	}
	out.Reset()
	if got, err := a.allow(req); err != nil || got.Added || out.Len() > 0 {
		t.Errorf("again: %+v, %v, %s", got, err, out)
	}
}

func TestAllowRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		req  allowRequest
		fail error
		want string
	}{
		"no reason":        {allowRequest{"shop.service", "/bin/a", " "}, nil, "no reason"},
		"no key":           {allowRequest{"shop.service", "frobnicate /x", "r"}, nil, "parse key"},
		"unknown workload": {allowRequest{"other", "/bin/a", "r"}, nil, "unknown workload"},
		"not held":         {allowRequest{"shop.service", "read /etc/shadow", "r"}, nil, "dimension is not held: file"},
		"kernel":           {allowRequest{"shop.service", "/bin/a", "r"}, errors.New("map is full"), "map is full"},
	} {
		t.Run(name, func(t *testing.T) {
			a, kernel, out := held(t)
			kernel.fail = tc.fail
			digest := a.registry.byName["shop.service"].profile.Digest()
			got, err := a.allow(tc.req)
			if err == nil || !strings.Contains(err.Error(), tc.want) || got.Added || out.Len() > 0 {
				t.Errorf("%+v, %v, %s", got, err, out)
			}
			if a.registry.byName["shop.service"].profile.Digest() != digest {
				t.Error("the baseline has changed")
			}
		})
	}
}
