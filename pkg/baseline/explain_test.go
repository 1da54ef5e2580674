package baseline

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

func TestExplain(t *testing.T) {
	p := list(
		t, binary("/usr/sbin/nginx"), binary("/bin/sh"), binary("/usr/bin/date"), binary("/usr/bin/dash"),
		on(event.OpRead, "/etc/passwd"), on(event.OpRead, "/etc/ssl/a.pem"), on(event.OpRead, "/srv/x"), on(event.OpWrite, "/var/log/**"),
		to(event.OpConnect, tcp, "10.0.0.0/8", 443), to(event.OpConnect, tcp, "192.0.2.1", 443), to(event.OpConnect, tcp, "192.0.2.1", 80),
		to(event.OpBind, tcp, "192.0.2.1", 81), use(event.OpCapability, 10), use(event.OpSetuid, 33),
	)
	for name, tc := range map[string]struct {
		key     event.Key
		by      string
		nearest []string
		add     string
	}{
		"listed":    {key: binary("/bin/sh"), by: "/bin/sh"},
		"pattern":   {key: on(event.OpWrite, "/var/log/a/b"), by: "write /var/log/**"},
		"in prefix": {key: to(event.OpConnect, tcp, "10.2.3.4", 443), by: "connect tcp 10.0.0.0/8 port 443"},
		"same name": {
			key: binary("/usr/bin/sh"), nearest: []string{
				"/usr/bin/dash: the same access, a path nearby", "/usr/bin/date: the same access, a path nearby",
				"/bin/sh: the same name in another directory", "/usr/sbin/nginx: the same access, a path nearby",
			},
			add: "exec:\n  - path: /usr/bin/sh\n",
		},
		"other access": {
			key: on(event.OpWrite, "/etc/passwd"), nearest: []string{"read /etc/passwd: the same path, another access"},
			add: "file:\n  - path: /etc/passwd\n    access: [write]\n",
		},
		"executable that is read": {
			key: on(event.OpRead, "/bin/sh"), nearest: []string{"/bin/sh: the same path, another access"},
			add: "file:\n  - path: /bin/sh\n    access: [read]\n",
		},
		"socket": {key: on(event.OpUnixConnect, "@bus"), add: "unix:\n  - path: '@bus'\n    access: [connect]\n"},
		"other port": {
			key: to(event.OpConnect, tcp, "192.0.2.1", 81), nearest: []string{
				"connect tcp 192.0.2.1 port 80: the same address, another port", "connect tcp 192.0.2.1 port 443: the same address, another port",
				"bind tcp 192.0.2.1 port 81: the same address and port, another access",
			},
			add: "network:\n  - access: connect\n    protocol: tcp\n    address: 192.0.2.1\n    port: 81\n",
		},
		"other address": {
			key: to(event.OpConnect, tcp, "198.51.100.1", 80), nearest: []string{"connect tcp 192.0.2.1 port 80: the same port, another address"},
			add: "network:\n  - access: connect\n    protocol: tcp\n    address: 198.51.100.1\n    port: 80\n",
		},
		"other protocol": {
			key: to(event.OpConnect, udp, "10.1.1.1", 443), nearest: []string{"connect tcp 10.0.0.0/8 port 443: the same address and port, another protocol"},
			add: "network:\n  - access: connect\n    protocol: udp\n    address: 10.1.1.1\n    port: 443\n",
		},
		"other capability": {
			key: use(event.OpCapability, 21), nearest: []string{"capability CAP_NET_BIND_SERVICE: the same use, another value"},
			add: "privilege:\n  - use: capability\n    value: CAP_SYS_ADMIN\n",
		},
		"set-uid": {
			key: on(event.OpExecAsRoot, "/bin/sh"), nearest: []string{"/bin/sh: the same path, another access"},
			add: "privilege:\n  - use: exec_as_root\n    path: /bin/sh\n",
		},
		"namespace":    {key: use(event.OpNamespace, 30), add: "privilege:\n  - use: namespace\n    value: new net\n"},
		"nothing near": {key: use(event.OpUserns, 0), add: "privilege:\n  - use: userns\n"},
		"root":         {key: use(event.OpSetuid, 0), nearest: []string{"setuid 33: the same use, another value"}, add: "privilege:\n  - use: setuid\n    value: 0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			x := Explain(p, tc.key)
			var nearest []string
			for _, n := range x.Nearest {
				nearest = append(nearest, fmt.Sprintf("%s: %s", n.Key, n.Why))
			}
			by := ""
			if x.Allowed {
				by = x.By.String()
			}
			if !x.Held || by != tc.by || !slices.Equal(nearest, tc.nearest) || x.Add != tc.add {
				t.Errorf("by %q, nearest %q, add\n%s", by, nearest, x.Add)
			}
			if tc.by != "" {
				return
			}
			// The lines do what they say.
			only, err := Parse("f", []byte("apiVersion: plumbline.io/v1\nkind: Baseline\nworkload: w\nmode: learn\n"+x.Add))
			if err != nil || !only.Has(tc.key) || only.Len() != 1 {
				t.Errorf("%v: the lines add %v", err, only)
			}
		})
	}
	if x := Explain(New("w", "unit", execOnly), use(event.OpUserns, 0)); !x.Allowed || x.Held || x.Add != "" {
		t.Errorf("not held: %+v", x)
	}
}

func TestExplainAtMostFive(t *testing.T) {
	p := New("w", "unit", event.AllDimensions)
	for i := range 200 {
		p.Add(on(event.OpRead, fmt.Sprintf("/srv/%d/%03d", i%7, i)), false, noon)
	}
	near := Explain(p, on(event.OpRead, "/srv/3/01")).Nearest
	if len(near) != maxNear || near[0].Key.Path != "/srv/3/010" {
		t.Errorf("%v", near)
	}
}

func TestEdits(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"/bin/sh", "/bin/ash", 1}, {"abc", "abc", 0}} {
		if got := edits(tc.a, tc.b); got != tc.want {
			t.Errorf("%q to %q: %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

func TestVerify(t *testing.T) {
	against := func(runs int, partial bool) *Profile {
		p := New("w", "unit", event.AllDimensions)
		p.Add(binary("/bin/a"), partial, noon)
		p.insert(on(event.OpRead, "/srv/**"), entry{})
		for range runs {
			p.BeginRun()
		}
		return p
	}
	seen := func(held event.Dimensions, keys ...event.Key) *Profile {
		p := New("w", "unit", held)
		for _, k := range keys {
			p.Add(k, false, noon)
		}
		return p
	}
	files := []event.Key{binary("/bin/a"), on(event.OpRead, "/srv/x")}
	news := []event.Key{binary("/bin/b"), on(event.OpRead, "/etc/x")}
	for name, tc := range map[string]struct {
		against, seen *Profile
		want          Result
		new           []event.Key
	}{
		"same":                {against(2, false), seen(event.AllDimensions, files...), Same, nil},
		"less":                {against(2, false), seen(event.AllDimensions), Same, nil},
		"new":                 {against(2, false), seen(event.AllDimensions, append(news, files...)...), NewBehaviour, news},
		"new, little covered": {against(0, true), seen(event.AllDimensions, news...), NewBehaviour, news},
		"too few runs":        {against(1, false), seen(event.AllDimensions, files...), CoverageTooSmall, nil},
		"partial":             {against(2, true), seen(event.AllDimensions, files...), CoverageTooSmall, nil},
		"not looked at":       {against(2, false), seen(execOnly, files...), CoverageTooSmall, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := Verify(tc.against, tc.seen, 2)
			if r.Result != tc.want || !slices.Equal(r.New, tc.new) {
				t.Errorf("%+v", r)
			}
		})
	}
	only := against(2, false)
	if err := only.Hold(execOnly); err != nil {
		t.Fatal(err)
	}
	if r := Verify(only, seen(event.AllDimensions, on(event.OpRead, "/etc/x")), 2); r.Result != Same {
		t.Errorf("judged by what the baseline does not hold: %+v", r)
	}
}

// Twice the same behaviour is twice the same file, generalised or not, and verifies.
func TestRecordTwice(t *testing.T) {
	record := func(run int) *Profile {
		p := New("w", "unit", event.AllDimensions)
		p.BeginRun()
		p.Add(binary("/bin/a"), false, noon)
		p.Add(on(event.OpRead, fmt.Sprintf("/proc/%d/maps", 1000+run)), false, noon)
		p.Add(on(event.OpCreate, "/tmp/tmp.Ab3dEfGhI"+strings.Repeat("9", run)), false, noon)
		p.Generalise()
		return p
	}
	first, second := record(1), record(2)
	if first.Digest() != second.Digest() {
		t.Errorf("differ:\n%s\n%s", first.Canonical(), second.Canonical())
	}
	if r := Verify(first, second, 1); r.Result != Same {
		t.Errorf("%+v", r)
	}
}
