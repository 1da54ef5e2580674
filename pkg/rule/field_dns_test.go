package rule

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/dns"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// asked is that a name server at 192.0.2.53 is asked for a name.
func asked(t *testing.T, name string, kind dns.Type) *Env {
	t.Helper()
	e := onAddress(event.OpDNSQuery, event.ProtocolUDP, "192.0.2.53", 53)
	var ok bool
	if e.Event.Access.Question, ok = dns.Ask(name, kind); !ok {
		t.Fatal(name)
	}
	return e
}

// Of a question to a name server, the name, its type and numbers about it are known, and the server.
func TestQuestion(t *testing.T) {
	holds(t, asked(t, "WWW.aabb.example.com", 16), map[string]bool{
		`evt.operation = dns_query and evt.type = dns_query`:                                       true,
		`evt.type in (sendto, sendmsg, sendmmsg) or evt.operation = send`:                          false,
		`dns.name = www.aabb.example.com and dns.domain = example.com and dns.type = TXT`:          true,
		`dns.name endswith .example.com and dns.name startswith www and dns.type in (NULL, TXT)`:   true,
		`dns.name_length = 20 and dns.labels = 4 and dns.longest_label = 7`:                        true,
		`dns.name_length > 20 or dns.name_length < 20 or dns.labels != 4 or dns.longest_label > 7`: false,
		`dns.entropy >= 300 and dns.entropy < 400`:                                                 true,
		`fd.sip = 192.0.2.53 and fd.rnet = 192.0.2.0/24 and fd.sport = 53 and fd.rport = 53`:       true,
		`fd.ip = 192.0.2.53 and fd.port = 53 and fd.l4proto = udp and fd.typechar = 4`:             true,
		`fd.name = "192.0.2.53:53"`: true,
		`fd.cip exists or fd.lip exists or fd.connected exists or fd.num exists`: false,
		`evt.in_baseline exists or evt.path exists or evt.value exists`:          false,
	})
	holds(t, asked(t, ".", 2), map[string]bool{`dns.name = . and dns.domain = . and dns.labels = 0 and dns.entropy = 0 and dns.type = NS`: true})
	holds(t, onAddress(event.OpDNSQuery, event.ProtocolUDP, "192.0.2.53", 53), map[string]bool{
		`dns.name exists or dns.type exists or dns.domain exists or dns.name_length exists or dns.labels exists or dns.longest_label exists or dns.entropy exists`: false,
		`dns.name_length >= 0 or dns.name_length < 1`: false,
	})
	holds(t, onAddress(event.OpSend, event.ProtocolUDP, "192.0.2.53", 53), map[string]bool{`dns.name exists or evt.type = dns_query`: false})
}

// The kernel filters by the server, and by the shortest name that a condition holds for.
func TestQuestionPushdown(t *testing.T) {
	any := Interest{Kind: event.Access, Op: event.OpDNSQuery, Where: Anywhere}
	longer := func(n int) Interest { i := any; i.Longer = n; return i }
	server, all := longer(100), any
	server.Networks, all.Exact = []netip.Prefix{netip.MustParsePrefix("192.0.2.53/32")}, true
	for condition, want := range map[string]Interest{
		`dns.name_length >= 100`: longer(100), `dns.name_length > 99`: longer(100), `dns.name_length in (120, 100)`: longer(100),
		`dns.name_length = 100`: longer(100), `dns.name_length <= 100`: any, `dns.name_length != 100`: any, `not dns.name_length >= 100`: any,
		`dns.name_length >= -5`: any, `dns.name_length exists`: any, `dns.labels > 3`: any, `dns.name = a`: any,
		`dns.name_length >= 100 and dns.name_length >= 50`:                        longer(100),
		`(dns.name_length >= 100 or dns.name_length >= 50)`:                       longer(50),
		`(dns.name_length >= 100 or dns.type = TXT)`:                              any,
		`(dns.name_length >= 100 and dns.type = TXT or dns.name_length > 9)`:      longer(10),
		`dns.name_length >= 100 and fd.sip = 192.0.2.53 and not dns.domain = a.b`: server,
		`evt.operation = dns_query`:                                               all,
	} {
		set, problems := load(t, ruleOf("evt.operation = dns_query and "+condition))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if got := set.Plan(); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			t.Errorf("%s: got %+v, want %+v", condition, got, want)
		}
	}
	set, _ := load(t, ruleOf("dns.name_length >= 100 and dns.type = TXT"))
	var where []string
	for _, c := range set.Rules()[0].Checks() {
		where = append(where, c.Where)
	}
	if got := strings.Join(where, ", "); got != AsFilter+", "+InUserSpace {
		t.Errorf("decided in %s", got)
	}
}

func TestQuestionsOfTests(t *testing.T) {
	text := func(old, new string) string {
		return strings.Replace("- test: x\n  event: access\n  access: {op: dns_query, protocol: udp, address: 192.0.2.53, port: 53, query: {name: aaa.example.com, type: TXT}}\n", old, new, 1)
	}
	for name, tc := range map[string]struct{ text, wrong string }{
		"as it is":  {text("", ""), ""},
		"no type":   {text(", type: TXT", ""), ""},
		"no query":  {text(", query: {name: aaa.example.com, type: TXT}", ""), ""},
		"operation": {text("dns_query", "send"), "send has no query"},
		"type":      {text("TXT", "TEXT"), `type "TEXT" is no name of one`},
		"name":      {text("aaa.example", "aaa..example"), `name "aaa..example.com" is none`},
	} {
		tests, err := ParseTests(File{Name: "x_test.yaml", Data: []byte(tc.text)})
		switch {
		case tc.wrong != "" && (err == nil || !strings.Contains(err.Error(), tc.wrong)):
			t.Errorf("%s: %v", name, err)
		case tc.wrong == "" && (err != nil || len(tests[0].Steps) != 1):
			t.Errorf("%s: %v", name, err)
		}
	}
	repeated := func(name string) ([]Test, error) {
		text := "- test: x\n  steps:\n    - event: access\n      access: {op: dns_query, query: {name: " + name + "}}\n      repeat: {times: 12, vary: [query]}\n"
		return ParseTests(File{Name: "x_test.yaml", Data: []byte(text)})
	}
	tests, err := repeated("aaa.example.com")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, s := range tests[0].Steps {
		names[s.Event.Access.Question.Name] = true
	}
	if len(names) != 12 || !names["aaa.example.com"] || !names["1-a.example.com"] || !names["11-.example.com"] {
		t.Errorf("%v", names)
	}
	if _, err := repeated("a.example.com"); err == nil || !strings.Contains(err.Error(), "too short for the number") {
		t.Errorf("%v", err)
	}
}

// Nothing is stopped when somebody asks a name server: to send it is another operation.
func TestQuestionIsNotStopped(t *testing.T) {
	_, problems := load(t, ruleOf("evt.type = dns_query and dns.domain = example.com")+"  action: deny\n")
	if bad := errorsIn(problems); len(bad) != 1 || !strings.Contains(bad[0].Error(), "nothing can be stopped at dns_query") {
		t.Errorf("%v", problems)
	}
}
