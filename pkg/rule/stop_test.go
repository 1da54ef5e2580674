package rule

import (
	"fmt"
	"strings"
	"testing"
)

// A rule that stops something is decided in the kernel, or it is an error that says in its place which part
// of it cannot be.
func TestStops(t *testing.T) {
	for name, tc := range map[string]struct{ text, problem string }{
		"decided":         {ruleOf("evt.operation = link and evt.path = /a and container.id != host") + "  action: deny\n", ""},
		"kill":            {ruleOf("evt.type = execve and proc.exepath startswith /dev/shm/") + "  action: kill\n", ""},
		"only alerts":     {ruleOf("evt.operation = link and proc.name = x") + "  action: alert\n", ""},
		"who acts":        {ruleOf("evt.operation = link and not proc.name = x") + "  action: deny\n", ""},
		"who acts how":    {ruleOf("evt.operation = link and not proc.args = x") + "  action: deny\n", `r.yaml:2:44: rule "r": action deny: the kernel cannot decide "proc.args = x"`},
		"in a macro":      {"- macro: shell\n  condition: proc.args = x\n" + ruleOf("evt.operation = link and shell") + "  action: kill\n", `r.yaml:2:14: rule "r": action kill: the kernel cannot decide "proc.args = x"`},
		"alternatives":    {ruleOf("evt.operation = link and ("+unlike(65)+")") + "  action: deny\n", `r.yaml:2:14: rule "r": action deny: the condition has more than 64 alternatives`},
		"as many":         {ruleOf("evt.operation = link and ("+unlike(64)+")") + "  action: deny\n", ""},
		"not at once":     {ruleOf("evt.operation = link and evt.path startswith /a and evt.path endswith b") + "  action: deny\n", `r.yaml:2:14: rule "r": action deny: the kernel can test each part of the condition, and not all of them at once`},
		"too many ports":  {ruleOf("evt.operation = connect and fd.sport > 1023") + "  action: deny\n", `the kernel cannot decide "fd.sport > 1023"`},
		"too long an end": {ruleOf("evt.operation = link and evt.path endswith /12345678901234567") + "  action: deny\n", `the kernel cannot decide "evt.path endswith /12345678901234567"`},
		"nothing to stop": {ruleOf("evt.type = procexit") + "  action: deny\n", "action deny: nothing can be stopped at procexit"},
		"handshake":       {ruleOf("evt.type = tls_handshake") + "  source: tls\n  action: deny\n", "action deny: nothing can be stopped at tls_handshake"},
		"window":          {ruleOf("evt.operation = link") + "  action: deny\n  window: {count: 2, within: 1s}\n", "the kernel counts nothing"},
		"system call":     {ruleOf("evt.operation = syscall") + "  action: deny\n", "action deny: nothing can be stopped at syscall"},
		"alert":           {ruleOf("evt.type = alert") + "  source: internal\n  action: deny\n", "action deny: nothing can be stopped at alert"},
		"and accept":      {ruleOf("evt.type in (connect, accept) and fd.sport = 4444") + "  action: deny\n", `r.yaml:2:15: rule "r": action deny: nothing can be stopped at accept4, and "evt.type in (connect, accept)" is about it`},
		"and accept4":     {"- macro: take\n  condition: evt.operation = accept\n" + ruleOf("(evt.type = connect or take) and fd.sport = 4444") + "  action: deny\n", `r.yaml:2:14: rule "r": action deny: nothing can be stopped at accept4, and "evt.operation = accept" is about it`},
		"and a client":    {ruleOf("fd.sip = 10.0.0.1 or fd.cport = 22") + "  action: deny\n", `r.yaml:2:36: rule "r": action deny: nothing can be stopped at accept4, and "fd.cport = 22" is about it`},
		"and dup":         {ruleOf("evt.type in (connect, dup2) and fd.rport = 4444") + "  action: deny\n", `nothing can be stopped at dup2, and "evt.type in (connect, dup2)" is about it`},
		"dup":             {ruleOf("evt.operation = dup and fd.rport = 4444") + "  action: deny\n", "action deny: nothing can be stopped at dup"},
		"not accept":      {ruleOf("not evt.type in (accept, accept4) and evt.type != accept and fd.sport = 4444") + "  action: deny\n", ""},
		"and a query":     {ruleOf("evt.operation in (send, dns_query) and fd.sport = 53") + "  action: deny\n", `nothing can be stopped at dns_query, and "evt.operation in (send, dns_query)" is about it`},
		"and a beginning": {ruleOf("evt.operation in (send, tcp_begin) and fd.sport = 53") + "  action: deny\n", `nothing can be stopped at tcp_begin, and "evt.operation in (send, tcp_begin)" is about it`},
		"a name server":   {ruleOf("fd.sip = 192.0.2.53 and fd.sport = 53") + "  action: deny\n", ""},
		"either end":      {ruleOf("fd.port = 4444 and not fd.cip = 10.0.0.1") + "  action: deny\n", ""},
		"one container":   {ruleOf("evt.operation = link and container.id = abc") + "  action: deny\n", `the kernel cannot decide "container.id = abc"`},
	} {
		t.Run(name, func(t *testing.T) {
			set, problems := load(t, tc.text)
			bad := errorsIn(problems)
			if tc.problem == "" {
				if len(bad) > 0 || len(set.Rules()) != 1 {
					t.Fatal(bad)
				}
				r := set.Rules()[0]
				if want := map[bool]*Rule{true: r}[r.Stops()]; set.ByID(r.ID()) != want {
					t.Errorf("by its id it is %v", set.ByID(r.ID()))
				}
				return
			}
			if len(bad) != 1 || !strings.Contains(bad[0].Error(), tc.problem) || len(set.Rules()) != 0 {
				t.Errorf("%v", bad)
			}
		})
	}
}

// unlike are products of which no two can be one.
func unlike(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("(evt.path = /%d and proc.name = x%d)", i, i)
	}
	return strings.Join(all, " or ")
}

// An ID is the same in every ruleset, and two rules that stop something never share one.
func TestIDs(t *testing.T) {
	deny := func(name string) string {
		return strings.Replace(ruleOf("evt.operation = link"), "rule: r", "rule: "+name, 1) + "  action: deny\n"
	}
	one, _ := load(t, deny("a"))
	two, _ := load(t, deny("b")+deny("a"))
	if id := one.Rules()[0].ID(); id != two.Rules()[1].ID() || two.ByID(id).Name != "a" || two.ByID(id+1) != nil {
		t.Errorf("id %d", id)
	}
	const name, twin = "costarring", "liquid" // of the same checksum
	set, problems := load(t, deny(name)+deny(twin))
	if bad := errorsIn(problems); len(bad) != 1 || !strings.Contains(bad[0].Error(), `the checksum of that of rule "costarring"`) || len(set.Rules()) != 1 {
		t.Errorf("%v", bad)
	}
}
