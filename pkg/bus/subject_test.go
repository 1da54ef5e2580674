package bus

import (
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

func TestAlertSubject(t *testing.T) {
	o := origin{"acme", "eu-1", "node.1"}
	for name, tc := range map[string]struct {
		alert alert.Alert
		want  string
	}{
		"SPIFFE path": {
			alert.Alert{Severity: alert.Critical, Source: "syscall", Detail: alert.Detail{SPIFFEID: "spiffe://example.org/prod/pay_ment/v1.2", Workload: "x"}},
			"alert.v1.acme.eu-1.node_d1.critical.syscall.w.prod.pay__ment.v1_d2",
		},
		"unit": {
			alert.Alert{Severity: alert.Debug, Source: "tls", Detail: alert.Detail{Workload: "nginx.service", WorkloadKind: "unit"}},
			"alert.v1.acme.eu-1.node_d1.debug.tls.w.unit.nginx_dservice",
		},
		"nothing known": {alert.Alert{}, "alert.v1.acme.eu-1.node_d1.emergency.none.w._e._e"},
		"trust domain only": {
			alert.Alert{Source: "gc", Detail: alert.Detail{SPIFFEID: "spiffe://example.org", Workload: "w", WorkloadKind: "cgroup"}},
			"alert.v1.acme.eu-1.node_d1.emergency.gc.w.cgroup.w",
		},
		"wildcards and controls": {
			alert.Alert{Source: "a b", Detail: alert.Detail{Workload: "*>\r\n", WorkloadKind: "é"}},
			"alert.v1.acme.eu-1.node_d1.emergency.a_x20b.w._xc3_xa9._x2a_x3e_x0d_x0a",
		},
		"too many segments": {
			alert.Alert{Source: "s", Detail: alert.Detail{SPIFFEID: "spiffe://t/" + strings.Repeat("a/", 30)}},
			"alert.v1.acme.eu-1.node_d1.emergency.s.w.a.a.a.a.a.a.a.a.a.h.",
		},
		"too long a segment": {
			alert.Alert{Source: "s", Detail: alert.Detail{SPIFFEID: "spiffe://t/a/" + strings.Repeat("b", 300)}},
			"alert.v1.acme.eu-1.node_d1.emergency.s.w.a.h.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := alertSubject(o, tc.alert)
			if strings.HasSuffix(tc.want, ".h.") && strings.HasPrefix(got, tc.want) {
				got = tc.want
			}
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if back, err := parseOrigin(alertSubjects, got); err != nil || back != o {
				t.Errorf("origin %+v %v", back, err)
			}
		})
	}
}

func TestParseOrigin(t *testing.T) {
	for name, subject := range map[string]string{
		"other root": "agent.v1.a.b.c", "too short": "alert.v1.a.b", "bad escape": "alert.v1.a._q.c",
		"cut escape": "alert.v1.a._x2.c", "not canonical": "alert.v1.a._x61.c", "lone underscore": "alert.v1.a.b._",
	} {
		t.Run(name, func(t *testing.T) {
			if o, err := parseOrigin(alertSubjects, subject); err == nil {
				t.Errorf("%s was read as %+v", subject, o)
			}
		})
	}
}

func FuzzToken(f *testing.F) {
	for _, s := range []string{"", "a", "_", ".", "a.b_c", "\x00é *>", "_e", "_d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tok := token(s)
		if tok == "" || strings.ContainsAny(tok, ". *>\t\r\n\x00") {
			t.Fatalf("token %q of %q", tok, s)
		}
		if back, err := untoken(tok); err != nil || back != s {
			t.Fatalf("%q became %q and then %q, %v", s, tok, back, err)
		}
		if back, err := untoken(s); err == nil && token(back) != s { // as a receiver meets it
			t.Fatalf("%q was read as %q, whose token is %q", s, back, token(back))
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add("n1.00ff.7")
	f.Add("a.b.c.00ff.18446744073709551615")
	f.Add("...")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			return
		}
		if again, err := ParseID(id.String()); err != nil || again != id {
			t.Fatalf("%q is %+v, then %+v %v", s, id, again, err)
		}
	})
}

func BenchmarkAlertSubject(b *testing.B) {
	o := origin{"acme", "eu-1", "node.1"}
	a := alert.Alert{Source: "syscall", Detail: alert.Detail{SPIFFEID: "spiffe://example.org/prod/payment/v1"}}
	b.ReportAllocs()
	for b.Loop() {
		alertSubject(o, a)
	}
}
