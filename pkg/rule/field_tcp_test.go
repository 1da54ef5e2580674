package rule

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Of a connection that begins to carry data, the server is known, and what it begins with.
func TestTCPBegin(t *testing.T) {
	e := onAddress(event.OpTCPBegin, event.ProtocolTCP, "192.0.2.1", 443)
	e.Event.Access.Begins = event.BeginsPlaintext
	holds(t, e, map[string]bool{
		`evt.operation = tcp_begin and evt.type = tcp_begin and tcp.begins = plaintext`: true,
		`tcp.begins in (tls, upgrade)`:                                                                 false,
		`evt.type in (sendto, sendmsg, write) or evt.operation in (send, connect)`:                     false,
		`fd.sip = 192.0.2.1 and fd.rnet = 192.0.2.0/24 and fd.sport = 443 and fd.rport = 443`:          true,
		`fd.ip = 192.0.2.1 and fd.port = 443 and fd.l4proto = tcp and fd.name = "192.0.2.1:443"`:       true,
		`fd.cip exists or fd.lip exists or fd.num exists or evt.in_baseline exists or dns.name exists`: false,
	})
	for kind, name := range map[event.Beginning]string{event.BeginsTLS: "tls", event.BeginsUpgrade: "upgrade"} {
		e.Event.Access.Begins = kind
		holds(t, e, map[string]bool{"tcp.begins = " + name: true, "tcp.begins = plaintext": false})
	}
	e.Event.Access.Begins = event.BeginsUnknown
	holds(t, e, map[string]bool{"tcp.begins exists or tcp.begins != tls": false})
	holds(t, onAddress(event.OpConnect, event.ProtocolTCP, "192.0.2.1", 443), map[string]bool{"tcp.begins exists or evt.type = tcp_begin": false})
}

// The kernel filters by the server. What a connection begins with the agent looks at; nothing is stopped there.
func TestTCPBeginPushdown(t *testing.T) {
	want := Interest{
		Kind: event.Access, Op: event.OpTCPBegin, Where: Anywhere,
		Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}, Ports: []PortRange{{443, 443}},
	}
	set, problems := load(t, ruleOf("evt.operation = tcp_begin and tcp.begins = plaintext and fd.sip = 192.0.2.1 and fd.sport = 443"))
	if got := set.Plan(); len(problems) > 0 || len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("got %+v, want %+v, %v", got, want, problems)
	}
	want.Networks = nil
	set, problems = load(t, "- list: peers\n  items: []\n"+ruleOf("evt.operation = tcp_begin and tcp.begins = plaintext and (fd.sport = 443 or fd.sip in (peers))"))
	if got := set.Plan(); len(problems) > 0 || len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("no peers: got %+v, want %+v, %v", got, want, problems)
	}
	for text, wrong := range map[string]string{
		ruleOf("evt.type = tcp_begin and fd.sport = 443") + "  action: deny\n": "nothing can be stopped at tcp_begin",
		ruleOf("tcp.begins = http"): "http",
	} {
		if _, problems := load(t, text); len(problems) == 0 || !strings.Contains(problems[0].Error(), wrong) {
			t.Errorf("%s: %v", text, problems)
		}
	}
}

func TestBeginsOfTests(t *testing.T) {
	for access, wrong := range map[string]string{
		"op: tcp_begin, begins: tls":       "",
		"op: tcp_begin, begins: plaintext": "",
		"op: tcp_begin":                    "",
		"op: tcp_begin, begins: http":      `unknown begins "http"`,
		"op: connect, begins: tls":         "connect has no begins",
	} {
		tests, err := ParseTests(File{Name: "x_test.yaml", Data: []byte("- test: x\n  event: access\n  access: {" + access + ", protocol: tcp, address: 192.0.2.1, port: 443}\n")})
		switch {
		case wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)):
			t.Errorf("%s: %v", access, err)
		case wrong == "" && (err != nil || !strings.HasSuffix(access, tests[0].Steps[0].Event.Access.Begins.String())):
			t.Errorf("%s: %v, %+v", access, err, tests)
		}
	}
}
