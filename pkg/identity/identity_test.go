package identity

import (
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestID(t *testing.T) {
	tmpl, err := NewTemplate("Bank.Example", DefaultTemplate, "n1.dc", "prod")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ kind, name, want string }{
		"unit":        {"unit", "nginx.service", "spiffe://bank.example/node/n1.dc/unit/nginx.service"},
		"instance":    {"unit", "getty@tty1.service", "spiffe://bank.example/node/n1.dc/unit/getty_40tty1.service"},
		"underscore":  {"unit", "a_b", "spiffe://bank.example/node/n1.dc/unit/a_5fb"},
		"cgroup":      {"cgroup", "/demo/shop", "spiffe://bank.example/node/n1.dc/cgroup/demo/shop"},
		"dots":        {"cgroup", "/../x", "spiffe://bank.example/node/n1.dc/cgroup/_2e_2e/x"},
		"not ASCII":   {"unit", "é", "spiffe://bank.example/node/n1.dc/unit/_c3_a9"},
		"hidden path": {"unit", "a//b/", "spiffe://bank.example/node/n1.dc/unit/a/b"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tmpl.ID(tc.kind, tc.name)
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestBadTemplates(t *testing.T) {
	for name, tc := range map[string]struct{ domain, template string }{
		"no domain":      {"", DefaultTemplate},
		"bad domain":     {"bank example", DefaultTemplate},
		"unknown word":   {"bank.example", "node/{host}/{name}"},
		"empty segment":  {"bank.example", "node//{name}"},
		"trailing slash": {"bank.example", "node/{name}/"},
		"an ID":          {"spiffe://bank.example/x", DefaultTemplate},
		"a scheme":       {"spiffe://bank.example", DefaultTemplate},
		"a port":         {"bank.example:80", DefaultTemplate},
		"long domain":    {strings.Repeat("a", 256), DefaultTemplate},
		"one for all":    {"bank.example", "node/{node}/{kind}"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewTemplate(tc.domain, tc.template, "n", "c"); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestLimits(t *testing.T) {
	tmpl, err := NewTemplate(strings.Repeat("a", maxDomainBytes), DefaultTemplate, "n", "c")
	if err != nil {
		t.Fatal(err)
	}
	frame, err := tmpl.ID("unit", "x")
	if err != nil {
		t.Fatal(err)
	}
	room := maxIDBytes - len(frame) + 1
	if id, err := tmpl.ID("unit", strings.Repeat("x", room)); err != nil || len(id) != maxIDBytes {
		t.Errorf("%d bytes, %v", len(id), err)
	}
	if id, err := tmpl.ID("unit", strings.Repeat("x", room+1)); err == nil {
		t.Errorf("%d bytes", len(id))
	}
	if id, err := tmpl.ID("unit", ""); err == nil {
		t.Errorf("without a name: %s", id)
	}
}

// Different workloads never share an ID, whatever their names are.
func FuzzDifferent(f *testing.F) {
	f.Add("unit", "a_b", "unit", "a_5fb")
	f.Add("unit", "a/b", "unit", "a_2fb")
	f.Add("unit", "x", "cgroup", "/x")
	f.Add("unit", ".", "unit", "_2e")
	tmpl, err := NewTemplate("bank.example", DefaultTemplate, "n", "c")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, kind1, name1, kind2, name2 string) {
		one, err1 := tmpl.ID(kind1, name1)
		other, err2 := tmpl.ID(kind2, name2)
		same := kind1 == kind2 && slashes(name1) == slashes(name2)
		if err1 == nil && err2 == nil && (one == other) != same {
			t.Errorf("%q %q and %q %q: %s, %s", kind1, name1, kind2, name2, one, other)
		}
	})
}

// slashes drops the empty segments of a name, which an ID cannot have.
func slashes(name string) string {
	return strings.Join(strings.FieldsFunc(name, func(r rune) bool { return r == '/' }), "/")
}

func BenchmarkID(b *testing.B) {
	tmpl, err := NewTemplate("bank.example", DefaultTemplate, "n1.dc", "prod")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tmpl.ID("unit", "getty@tty1.service"); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzID(f *testing.F) {
	f.Add("unit", "nginx.service")
	f.Add("cgroup", "/a/../b c")
	tmpl, err := NewTemplate("bank.example", DefaultTemplate, "n", "c")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, kind, name string) {
		id, err := tmpl.ID(kind, name)
		if err != nil {
			return
		}
		if _, err := spiffeid.FromString(id); err != nil || strings.ContainsAny(id, " \n") {
			t.Errorf("%q: %v", id, err)
		}
	})
}
