package rule

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/event"
)

func table(t testing.TB, names map[string][]string) *NameTable {
	t.Helper()
	table, err := ParseNames(names)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// A name stands for the addresses that are known of it, and for nothing else.
func TestHostNames(t *testing.T) {
	known := table(t, map[string][]string{
		"api.example.org": {"10.0.0.1", "::ffff:10.0.0.2", "fd00::1"}, "WWW.example.org.": {"10.0.0.1"}, "gone.example.org": {},
	})
	on := func(op event.Operation, address string) *Env {
		e := onAddress(op, event.ProtocolTCP, address, 443)
		e.Names = known
		return e
	}
	for name, tc := range map[string]struct {
		env  *Env
		want map[string]bool
	}{
		"both names": {on(event.OpConnect, "10.0.0.1"), map[string]bool{
			`fd.sip.name = api.example.org and fd.rip.name = api.example.org`:     true,
			`fd.sip.name = "API.Example.org." and fd.sip.name == www.example.org`: true,
			`fd.sip.name != api.example.org`:                                      false,
			`fd.sip.name in (a.b, www.example.org) and fd.sip.name exists`:        true,
			`fd.sip.name = anyof (a.b, www.example.org)`:                          true,
			`fd.sip.name = allof (api.example.org, www.example.org)`:              true,
			`fd.sip.name = oneof (api.example.org, www.example.org)`:              false,
			`val(fd.sip.name) = api.example.org`:                                  true,
			`fd.lip.name exists or fd.lip.name != api.example.org`:                false,
		}},
		"one of them": {on(event.OpConnect, "10.0.0.2"), map[string]bool{`fd.sip.name = api.example.org and fd.sip.name != www.example.org`: true}},
		"IPv6":        {on(event.OpSend, "fd00::1"), map[string]bool{`fd.rip.name = api.example.org`: true}},
		"another": {on(event.OpConnect, "10.0.0.3"), map[string]bool{
			`fd.sip.name = api.example.org or fd.sip.name in (gone.example.org) or fd.sip.name exists`: false,
			`fd.sip.name != api.example.org and not fd.sip.name = api.example.org`:                     true,
		}},
		"a server's": {on(event.OpListen, "10.0.0.1"), map[string]bool{
			`fd.lip.name = api.example.org and fd.sip.name = api.example.org`: true,
			`fd.rip.name exists`: false,
		}},
		"nothing is known": {onAddress(event.OpConnect, event.ProtocolTCP, "10.0.0.1", 443), map[string]bool{
			`fd.sip.name = api.example.org or fd.sip.name exists`: false, `fd.sip.name != api.example.org`: true,
		}},
		"a file": {access(event.Key{Op: event.OpRead, Path: "/x"}), map[string]bool{
			`fd.sip.name = api.example.org or fd.sip.name != api.example.org or fd.sip.name exists`: false,
		}},
	} {
		t.Run(name, func(t *testing.T) { holds(t, tc.env, tc.want) })
	}
}

// What can be asked of a name is whether it is one of some.
func TestHostNameMistakes(t *testing.T) {
	const operators = "has only the operators exists, =, != and in"
	for condition, want := range map[string]string{
		`fd.sip.name endswith example.org`:                 operators,
		`fd.sip.name startswith anyof (a, b)`:              operators,
		`fd.sip.name pmatch (a)`:                           operators,
		`fd.sip.name > a`:                                  operators,
		`fd.sip.name = *.example.org`:                      `fd.sip.name is the name of a host, "*.example.org" is none`,
		`fd.sip.name = ""`:                                 `"" is none`,
		`fd.sip.name = a..b`:                               `"a..b" is none`,
		`fd.sip.name = ` + strings.Repeat("a", 64):         "is none",
		`fd.sip.name = ` + strings.Repeat("a.", 127) + "a": "is none",
		`tolower(fd.sip.name) = a`:                         "fd.sip.name is compared as it is",
		`len(fd.sip.name) = 1`:                             "fd.sip.name is compared as it is",
		`join(",", (fd.sip.name)) = a`:                     "fd.sip.name is compared as it is",
		`fd.sip.name = val(fd.rip.name)`:                   "fd.sip.name cannot be compared with val(fd.rip.name)",
		`proc.name = val(fd.sip.name)`:                     "cannot be compared",
		`fd.sip.name[1] = a`:                               "fd.sip.name has no index",
		`fd.sip.name in (10.0.0.1, ::1, a.b., x_y.z, ` + "http://a.b" + `/x)`: `"http://a.b/x" is none`,
	} {
		_, m := compiledCondition(condition)
		if m == nil || !strings.Contains(m.message, want) {
			t.Errorf("%.60s: got %+v, want %q", condition, m, want)
		}
	}
	if _, m := compiledCondition(`fd.sip.name in (10.0.0.1, ::1, a.b., x_y.z, host)`); m != nil {
		t.Error(m.message)
	}
}

// Asked for is what rules in force name, through lists, macros and exceptions, and each name once.
func TestHosts(t *testing.T) {
	const rules = `
- list: miners
  items: [pool.example.org, "Stratum.example.org"]
- macro: to_miner
  condition: fd.sip.name in (miners)
- macro: unused
  condition: fd.sip.name = unused.example.org
- rule: mining
  condition: evt.type = connect and to_miner and not fd.rip.name = Pool.example.org.
  output: to %fd.sip.name
  priority: warning
  exceptions:
    - {name: ours, fields: [fd.sip.name, proc.name], comps: [=, =], values: [[own.example.org, curl]]}
- rule: disabled
  condition: evt.type = connect and fd.sip.name = disabled.example.org
  output: o
  priority: warning
  enabled: false
- rule: quiet
  condition: evt.type = connect and fd.sip.name = quiet.example.org
  output: o
  priority: debug
`
	set, problems := load(t, rules)
	if bad := errorsIn(problems); len(bad) > 0 {
		t.Fatal(bad)
	}
	want := []string{"own.example.org", "pool.example.org", "quiet.example.org", "stratum.example.org"}
	if got := set.Hosts(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := set.AtLeast(set.Rules()[0].Severity).Hosts(); len(got) != 3 {
		t.Errorf("without rules that are less severe: %q", got)
	}
	if none, _ := load(t, ruleOf("evt.type = connect and fd.sip.name exists")); len(none.Hosts()) != 0 {
		t.Errorf("%q", none.Hosts())
	}
}

// An output shows those names that rules ask for, and that the address has.
func TestHostNameOutput(t *testing.T) {
	set, problems := load(t, ruleOf("evt.type = connect and fd.sip.name = b.org")+
		"- rule: s\n  condition: evt.type = connect\n  output: \"%fd.sip.name %fd.lip.name\"\n  priority: warning\n")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r := set.Rules()[1]
	e := onAddress(event.OpConnect, event.ProtocolTCP, "10.0.0.1", 1)
	for _, tc := range []struct {
		names map[string][]string
		text  string
		value any
	}{
		{map[string][]string{"b.org": {"10.0.0.1"}, "a.org": {"10.0.0.1"}, "c.org": {"10.0.0.2"}}, "a.org b.org <NA>", "a.org b.org"},
		{nil, "<NA> <NA>", nil},
	} {
		e.Names = table(t, tc.names)
		if got := string(r.AppendOutput(nil, e)); got != tc.text {
			t.Errorf("got %q, want %q", got, tc.text)
		}
		fields := map[string]any{}
		if r.AddFields(fields, e); fields["fd.sip.name"] != tc.value {
			t.Errorf("got %v, want %v", fields, tc.value)
		}
	}
}

// The kernel knows no names: it passes every address, and denies none by its name.
func TestHostNamePushdown(t *testing.T) {
	set, _ := load(t, ruleOf("evt.type = connect and fd.sport = 443 and (fd.sip.name = a.org or fd.sip = 10.0.0.1)"))
	plan := set.Plan()
	if len(plan) != 1 || plan[0].Networks != nil || len(plan[0].Ports) != 1 || plan[0].Exact {
		t.Errorf("%+v", plan)
	}
	for _, action := range []string{"deny", "kill"} {
		set, problems := load(t, ruleOf("evt.type = connect and fd.sip.name = a.org")+"  action: "+action+"\n")
		bad := errorsIn(problems)
		if len(bad) != 1 || len(set.Rules()) != 0 || !strings.Contains(bad[0].Error(),
			`the kernel cannot decide "fd.sip.name = a.org": which addresses a name has is asked in user space`) {
			t.Errorf("%v", bad)
		}
	}
}

// However many names there are, a comparison allocates nothing.
func TestHostNamesAllocateNothing(t *testing.T) {
	c, m := compiledCondition(`fd.sip.name in (a.org, b.org, c.org, d.org, e.org, f.org) or fd.sip.name = g.org or fd.sip.name != a.org`)
	if m != nil {
		t.Fatal(m.message)
	}
	e := onAddress(event.OpConnect, event.ProtocolTCP, "10.0.0.1", 1)
	e.Names = table(t, map[string][]string{"a.org": {"10.0.0.1"}, "x.org": {"10.0.0.1"}})
	if n := testing.AllocsPerRun(100, func() { c.check(e) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestParseNames(t *testing.T) {
	for want, names := range map[string]map[string][]string{
		`names: "a b" is no name of a host`: {"a b": nil},
		`"10.0.0.0/8"`:                      {"a.b": {"10.0.0.0/8"}},
	} {
		if _, err := ParseNames(names); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v", names, err)
		}
	}
	known := table(t, map[string][]string{"a": {"fe80::1%eth0"}})
	if got := known.Of(netip.MustParseAddr("fe80::1")); !slices.Equal(got, []string{"a"}) {
		t.Errorf("%q", got)
	}
	var none *NameTable
	if got := none.Of(netip.MustParseAddr("::1")); got != nil {
		t.Errorf("%q", got)
	}
}
