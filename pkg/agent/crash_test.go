package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// What happens to a main process: seconds from the beginning.
type life struct {
	start, end float64
	denials    map[event.Dimension]float64 // when
}

func TestCrashLoopStepsDown(t *testing.T) {
	denied := func(d event.Dimension, at float64) map[event.Dimension]float64 {
		return map[event.Dimension]float64{d: at}
	}
	for name, tc := range map[string]struct {
		lives []life
		at    int // of which life steps down, 0: none
		dims  []string
	}{
		"loop":                    {[]life{{0, 1, denied(event.DimExec, 0.5)}, {2, 3, denied(event.DimExec, 2.5)}, {4, 5, denied(event.DimExec, 4.5)}}, 3, []string{"exec"}},
		"the budget is used once": {[]life{{0, 1, denied(event.DimExec, 0.5)}, {2, 3, denied(event.DimExec, 2.5)}, {4, 5, denied(event.DimExec, 4.5)}, {6, 7, denied(event.DimExec, 6.5)}}, 3, []string{"exec"}},
		"two":                     {[]life{{0, 1, denied(event.DimExec, 0.5)}, {2, 3, denied(event.DimExec, 2.5)}}, 0, nil},
		"two dimensions":          {[]life{{0, 1, denied(event.DimExec, 0.5)}, {2, 3, denied(event.DimFile, 2.5)}, {4, 5, denied(event.DimFile, 4.5)}}, 3, []string{"exec", "file"}},
		"an old denial besides":   {[]life{{0, 1, denied(event.DimFile, 0.1)}, {10, 11, denied(event.DimExec, 10.1)}, {700, 701, denied(event.DimExec, 700.1)}, {702, 703, denied(event.DimExec, 702.1)}, {704, 705, denied(event.DimExec, 704.1)}}, 5, []string{"exec"}},
		"no denials":              {[]life{{0, 1, nil}, {2, 3, nil}, {4, 5, nil}, {6, 7, nil}}, 0, nil},
		"denials only at first":   {[]life{{0, 1, denied(event.DimExec, 0.5)}, {5, 6, nil}, {7, 8, nil}, {9, 10, nil}}, 0, nil},
		// An equal denial is told once a second.
		"a fast loop": {[]life{{0, 0.1, denied(event.DimExec, 0.05)}, {0.2, 0.3, nil}, {0.4, 0.5, nil}}, 3, []string{"exec"}},
		"slowly":      {[]life{{0, 1, denied(event.DimExec, 0.5)}, {400, 401, denied(event.DimExec, 400.5)}, {800, 801, denied(event.DimExec, 800.5)}}, 0, nil},
		"all at once": {[]life{{0, 1, denied(event.DimExec, 0.5)}, {0, 1.1, nil}, {0, 1.2, nil}, {0, 1.3, nil}}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, kernel, err := enforced(t, "shop.service")
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Unix(1_800_000_000, 0)
			at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
			var softened event.Dimensions
			for i, l := range tc.lives {
				for d, when := range l.denials {
					if _, over := r.Denied(1, d, at(when), 1); over {
						t.Fatal("the other budget is used up")
					}
				}
				dims, n := r.Crashed(1, crash{at(l.start), at(l.end)})
				if (dims != 0) != (i+1 == tc.at) || dims != 0 && n != 3 {
					t.Errorf("life %d: %v, %d crashes", i+1, names(dims), n)
				}
				softened |= dims
			}
			if got := names(softened); !slices.Equal(got, tc.dims) && len(got)+len(tc.dims) > 0 {
				t.Errorf("softened %v, want %v", got, tc.dims)
			}
			if s := kernel.states[42]; s.Softened != uint32(softened) || s.Mode != uint32(event.Enforce) {
				t.Errorf("kernel: %+v", s)
			}
			if err := r.SetMode("shop.service", event.Enforce, ""); err != nil {
				t.Fatal(err)
			}
			if s := kernel.states[42]; s.Softened != 0 {
				t.Errorf("after the mode was set again: %+v", s)
			}
		})
	}
}

func TestCrashesDoNotCount(t *testing.T) {
	for name, prepare := range map[string]func(*registry) error{
		"audit":     func(r *registry) error { return r.SetMode("shop.service", event.AuditMode, "") },
		"no budget": func(r *registry) error { r.CrashBudget = 0; return nil },
	} {
		t.Run(name, func(t *testing.T) {
			r, _, err := enforced(t, "shop.service")
			if err != nil {
				t.Fatal(err)
			}
			if err := prepare(r); err != nil {
				t.Fatal(err)
			}
			for i := range 10 {
				at := time.Unix(int64(1_800_000_000+20*i), 0)
				r.Denied(1, event.DimExec, at, 1)
				if dims, _ := r.Crashed(1, crash{at, at.Add(time.Second)}); dims != 0 {
					t.Fatalf("softened %v after %d", names(dims), i+1)
				}
			}
			if dims, _ := r.Crashed(9, crash{}); dims != 0 {
				t.Error("a workload that nobody knows")
			}
		})
	}
}

func TestIsCrash(t *testing.T) {
	for name, tc := range map[string]struct {
		exit event.ExitInfo
		want bool
	}{
		"fine":             {event.ExitInfo{Main: true}, false},
		"failed":           {event.ExitInfo{Main: true, Code: 1}, true},
		"not executed":     {event.ExitInfo{Main: true, Code: 203}, true},
		"killed":           {event.ExitInfo{Main: true, Code: -1, Signal: 9}, true},
		"aborted":          {event.ExitInfo{Main: true, Code: -1, Signal: 6}, true},
		"stopped":          {event.ExitInfo{Main: true, Code: -1, Signal: 15}, false},
		"stopped itself":   {event.ExitInfo{Main: true, Code: 143}, false},
		"interrupted":      {event.ExitInfo{Main: true, Code: 130}, false},
		"a worker":         {event.ExitInfo{Code: 1}, false},
		"a worker, killed": {event.ExitInfo{Code: -1, Signal: 11}, false},
	} {
		if got := isCrash(&tc.exit); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}
