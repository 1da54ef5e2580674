// The machine that builds has all that this needs of a kernel.
//vm:byhand

package agent

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/baseline"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

const manyWorkloads = 4096

// manyBaselines has one for each workload N.service: three programs of its own, and one mode of four in turn.
type manyBaselines struct{ started string }

func (manyBaselines) mode(n int) event.Mode { return event.Off + event.Mode(n%4) }

func (b manyBaselines) Load(name string) (*baseline.Profile, event.Mode, error) {
	n, err := strconv.Atoi(strings.TrimSuffix(name, ".service"))
	if err != nil {
		return nil, 0, err
	}
	p := baseline.New(name, "unit", event.Dimensions(0).With(event.DimExec))
	for _, path := range []string{"/srv/a", "/srv/b", b.started} {
		p.Add(event.Key{Op: event.OpExec, Path: fmt.Sprintf("%s%d", path, n)}, false, time.Unix(1_800_000_000, 0))
	}
	mode := b.mode(n)
	if mode == event.Off || mode == event.Learn {
		p.Demote(mode)
		return p, mode, nil
	}
	return p, mode, p.Promote(mode, "test")
}

func (manyBaselines) Save(_ string, p *baseline.Profile) (string, error) { return p.Digest(), nil }
func (manyBaselines) SetAside(string) error                              { return nil }

// 4,096 workloads have a mode of their own each, under one set of programs.
func TestManyWorkloads(t *testing.T) {
	sensortest.OnlyOn(t, "6.12")
	scope := sensortest.NewScope(t)
	e, err := enforce.Open(scope.Shared, enforce.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	r := newTestRegistry(t, t.TempDir(), scope.Shared, e)
	r.Store = manyBaselines{"/srv/c"}
	named := func(n int) detect.Subject {
		return detect.Subject{Name: strconv.Itoa(n) + ".service", Kind: "unit", Cgroup: "/" + strconv.Itoa(n)}
	}
	begin := time.Now()
	for n := range manyWorkloads {
		if err := r.Find(1<<40+uint64(n), named(n)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d workloads in %s", manyWorkloads, time.Since(begin).Round(time.Millisecond))
	modes := map[string]int{}
	for _, w := range r.List() {
		modes[w.Mode]++
		if len(w.Unfit) > 0 {
			t.Fatalf("%+v", w)
		}
	}
	if len(modes) != 4 || modes["enforce"] != manyWorkloads/4 || modes["off"] != manyWorkloads/4 || r.LeftOut() != (leftOut{}) {
		t.Errorf("modes %v, left out %+v", modes, r.LeftOut())
	}
	for n := manyWorkloads - 8; n < manyWorkloads; n++ {
		if err := r.Join(scope.ID, named(n)); err != nil { // the scope becomes that workload
			t.Fatal(err)
		}
		id, mode := uint32(n+1), r.Store.(manyBaselines).mode(n)
		want, denied := enforce.Tally{}, false
		switch mode {
		case event.Learn:
			want.Learnt = 1
		case event.AuditMode:
			want.Audited = 1
		case event.Enforce:
			want.Denied, denied = 1, true
		}
		if err := scope.Run(t, "/bin/true"); (err != nil) != denied {
			t.Errorf("%d, %s: %v", n, mode, err)
		}
		if got, err := e.Tally(id); err != nil || got != want {
			t.Errorf("%d, %s: %+v, %v, want %+v", n, mode, got, err, want)
		}
		entries, err := e.Entries(id, 1)
		if held := 3 + int(want.Learnt); err != nil || mode != event.Off && len(entries) != held || mode == event.Off && len(entries) != 0 {
			t.Errorf("%d, %s: %d entries, %v", n, mode, len(entries), err)
		}
	}
}
