package scenario

import (
	"strings"
	"testing"
)

func TestHeader(t *testing.T) {
	var (
		plain  = Guest{"6.1", "v2", true}
		old    = Guest{"5.10", "v2", true}
		hybrid = Guest{"5.10", "hybrid", true}
		noLSM  = Guest{"6.1", "v2", false}
	)
	for name, tc := range map[string]struct {
		text       string
		want, wont []Guest
		err        string
	}{
		"none":           {"# a scenario\nexec true\n", []Guest{plain, old}, []Guest{hybrid, noLSM}, ""},
		"cgroups":        {"#vm: cgroups=v2,hybrid\n", []Guest{plain, old, hybrid}, []Guest{noLSM}, ""},
		"without LSM":    {"# why\n#vm: lsm=off\n", []Guest{noLSM}, []Guest{plain, old, hybrid}, ""},
		"kernels":        {"#vm: kernels=5.10 cgroups=v2,hybrid\nexec x", []Guest{old, hybrid}, []Guest{plain, noLSM}, ""},
		"two lines":      {"#vm: kernels=6.1\n#vm: lsm=on,off", []Guest{plain, noLSM}, []Guest{old}, ""},
		"nothing to set": {"#vm:\n", []Guest{plain}, []Guest{hybrid}, ""},
		"in a file":      {"exec true\n-- x --\n#vm: nonsense=1\n", []Guest{plain}, nil, ""},
		"unknown key":    {"# a\n#vm: cgroup=v2\n", nil, nil, `line 2: unknown setting "cgroup"`},
		"unknown value":  {"#vm: cgroups=v1\n", nil, nil, `line 1: value "v1" of cgroups`},
		"empty value":    {"#vm: kernels=\n", nil, nil, `value "" of kernels`},
		"no value":       {"#vm: lsm\n", nil, nil, `value "" of lsm`},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := ParseHeader(tc.text)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("got %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range tc.want {
				if !h.Wants(g, false) {
					t.Errorf("does not want %+v", g)
				}
			}
			for _, g := range tc.wont {
				if h.Wants(g, false) {
					t.Errorf("wants %+v", g)
				}
			}
		})
	}
}

func TestHeaderForEveryKernel(t *testing.T) {
	h, err := ParseHeader("#vm: kernels=5.10 also=6.1 lsm=on\n")
	if err != nil {
		t.Fatal(err)
	}
	for kernel, want := range map[string][2]bool{"5.10": {true, true}, "6.1": {false, true}, "6.12": {false, false}} {
		g := Guest{kernel, "v2", true}
		if got := [2]bool{h.Wants(g, false), h.Wants(g, true)}; got != want {
			t.Errorf("%s: %v, want %v", kernel, got, want)
		}
	}
	if h.Wants(Guest{"6.1", "v2", false}, true) {
		t.Error("wants a guest without BPF LSM")
	}
}

func FuzzHeader(f *testing.F) {
	f.Add("#vm: kernels=5.10,6.1 cgroups=v2,hybrid,legacy lsm=on,off\nexec true\n-- a --\n")
	f.Add("#vm: kernels=,\n")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := ParseHeader(text)
		if err != nil {
			return
		}
		if len(h.cgroups) == 0 || len(h.lsm) == 0 {
			t.Errorf("%q is wanted nowhere: %+v", text, h)
		}
	})
}
