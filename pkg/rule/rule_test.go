package rule

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/event"
)

func shell() *Env {
	return &Env{
		Event: &event.Event{
			Kind: event.Exec, Tgid: 7, Verdict: event.Allow, Hook: event.HookTracepoint,
			Process: event.Process{PPID: 6, Parent: "/usr/sbin/nginx", Lineage: []string{"/usr/sbin/nginx", "/usr/lib/systemd/systemd"}},
			Exec:    event.ExecInfo{Path: "/usr/bin/dash", Filename: "/bin/sh", Comm: "sh", Args: "sh -c id", Cwd: "/", UID: 33},
		},
		Workload: Workload{Name: "nginx.service", Kind: "unit", SPIFFEID: "spiffe://d/x"},
		Wall:     1_000_000_000_000_000_000,
	}
}

func load(t testing.TB, text string) (*Ruleset, []Problem) {
	t.Helper()
	return Load(File{Name: "r.yaml", Data: []byte(text)})
}

// errorsIn leaves out the warnings.
func errorsIn(problems []Problem) []Problem {
	return slices.DeleteFunc(slices.Clone(problems), func(p Problem) bool { return p.Warning })
}

func ruleOf(condition string) string {
	return fmt.Sprintf("- rule: r\n  condition: %q\n  output: o\n  priority: warning\n", condition)
}

// A rule is asked only about kinds of event for which it can hold, and about all of those.
func TestIndex(t *testing.T) {
	syscalls := []event.Kind{event.Fork, event.Exec, event.Exit, event.ExecCheck, event.Cgroup, event.Access}
	notExec := []event.Kind{event.Fork, event.Exit, event.Cgroup, event.Access}
	for name, tc := range map[string]struct {
		source, condition string
		want              []event.Kind
	}{
		"type":           {"syscall", `evt.type = execve and proc.name = a`, []event.Kind{event.Exec, event.ExecCheck}},
		"field":          {"tls", `tls.version = "TLS 1.2"`, []event.Kind{event.Handshake}},
		"source narrows": {"gc", `tls.sni = a or gc.pause_us > 5`, []event.Kind{event.Pause}},
		"two types":      {"syscall", `evt.type in (clone, procexit)`, []event.Kind{event.Fork, event.Exit}},
		"list":           {"syscall", `evt.type != execve and evt.type in (some)`, []event.Kind{event.Fork}},
		"not":            {"syscall", `not evt.type = execve`, notExec},
		"any":            {"syscall", `proc.name = a`, syscalls},
		"not of a field": {"tls", `not tls.ok = true`, []event.Kind{event.Handshake}},
		"none":           {"syscall", `evt.type = execve and tls.sni = a`, nil},
		"not observed":   {"syscall", `evt.type in (pipe, pipe2) and proc.name = a`, nil},
		"not supplied":   {"syscall", `evt.type = execve and evt.arg.fd = x`, nil},
		"access":         {"syscall", `evt.type in (open, openat) and proc.name = a`, []event.Kind{event.Access}},
	} {
		t.Run(name, func(t *testing.T) {
			set, problems := load(t, "- list: some\n  items: [execve, clone]\n"+ruleOf(tc.condition)+"  source: "+tc.source+"\n")
			want := tc.want
			for _, p := range problems {
				if !p.Warning {
					t.Fatal(p)
				}
			}
			for k := event.Fork; k < event.KindCount; k++ {
				wanted := false
				for _, w := range want {
					wanted = wanted || w == k
				}
				if got := len(set.For(k)) == 1; got != wanted {
					t.Errorf("%s: %t", k, got)
				}
			}
		})
	}
}

func TestMacrosAndLists(t *testing.T) {
	set, problems := load(t, `
- list: shells
  items: [sh, dash]
- list: interpreters
  items: [shells, python3]
- macro: spawned
  condition: evt.type = execve
- macro: spawned_shell
  condition: spawned and proc.name in (interpreters)
- rule: a
  condition: spawned_shell and proc.pname = nginx
  output: "%proc.name by %proc.pname, uid %user.uid; sni %tls.sni."
  priority: CRITICAL
  tags: [x, y]
`)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r := set.Rules()[0]
	if !r.Match(shell()) {
		t.Error("does not match")
	}
	if got, want := string(r.AppendOutput(nil, shell())), "sh by nginx, uid 33; sni <NA>."; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	fields := map[string]any{}
	r.AddFields(fields, shell())
	if fields["proc.name"] != "sh" || fields["user.uid"] != int64(33) || fields["tls.sni"] != nil || len(fields) != 4 {
		t.Errorf("fields %v", fields)
	}
}

func TestProblems(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown field":    {ruleOf("proc.nam = a"), `r.yaml:2:15: rule "r": condition: unknown field "proc.nam" (did you mean proc.name?)`},
		"unknown macro":    {ruleOf("spawned"), `unknown macro "spawned"`},
		"no value":         {ruleOf("proc.name ="), "expected a value"},
		"no operator":      {ruleOf("proc.name"), "expected an operator"},
		"open parenthesis": {ruleOf("(proc.name = a"), "expected )"},
		"open string":      {ruleOf("proc.name = \"a"), "not closed"},
		"left over":        {ruleOf("proc.name = a b"), "expected and, or, or the end"},
		"not a number":     {ruleOf("proc.pid = a"), "is a number"},
		"wrong operator":   {ruleOf("proc.name < a"), `is text and has no operator "<"`},
		"no condition":     {"- rule: r\n  output: o\n  priority: warning\n", "condition is missing"},
		"bad priority":     {"- rule: r\n  condition: proc.name = a\n  output: o\n  priority: huge\n", `r.yaml:4:13: rule "r": unknown priority "huge"`},
		"refused key":      {ruleOf("proc.name = a") + "  exceptions: {}\n", `r.yaml:5:15: rule "r": condition: exceptions is a list`},
		"bad output":       {"- rule: r\n  condition: proc.name = a\n  output: \"%proc.x\"\n  priority: warning\n", `unknown field "%proc.x"`},
		"recursion":        {"- macro: m\n  condition: m\n" + ruleOf("m"), "refers to itself"},
		"too deep":         {ruleOf(strings.Repeat("(", 200) + "proc.name = a" + strings.Repeat(")", 200)), "nested deeper"},
		"not a list":       {"rule: r\n", "a rule file is a list"},
		"not yaml":         {"- [\n", "r.yaml:1:1"},
		"stray item":       {"- colour: red\n", "r.yaml:1:3: expected a rule, a macro"},
	} {
		t.Run(name, func(t *testing.T) {
			set, problems := load(t, tc.text)
			if problems = errorsIn(problems); len(problems) != 1 || !strings.Contains(problems[0].Error(), tc.want) || len(set.Rules()) != 0 {
				t.Errorf("got %v and %d rules, want %q", problems, len(set.Rules()), tc.want)
			}
		})
	}
}

// One bad rule does not take the good ones with it; a later rule replaces an earlier one.
func TestGoodRulesSurvive(t *testing.T) {
	good := strings.ReplaceAll(ruleOf("proc.name = a"), "rule: r", "rule: good")
	set, problems := load(t, good+ruleOf("nonsense")+good+good+"  enabled: true\n")
	if len(errorsIn(problems)) != 1 || len(set.Rules()) != 1 || set.Rules()[0].Name != "good" {
		t.Errorf("%v, %d rules", problems, len(set.Rules()))
	}
	set, _ = load(t, good+good+"  enabled: false\n")
	if len(set.Rules()) != 0 {
		t.Error("the disabled rule is still there")
	}
}

func TestBuiltInDrift(t *testing.T) {
	set, _ := Load()
	if out := string(set.Drift(event.DimExec).AppendOutput(nil, shell())); !strings.Contains(out, "/usr/bin/dash") || !strings.Contains(out, "spiffe://d/x") {
		t.Error(out)
	}
	set, problems := load(t, "- rule: Exec outside baseline\n  output: \"mine %proc.name\"\n  priority: error\n")
	if out := string(set.Drift(event.DimExec).AppendOutput(nil, shell())); out != "mine sh" || len(problems) > 0 {
		t.Errorf("%q, %v", out, problems)
	}
}

// A name with control characters must not forge a line of a log.
func TestOutputEscapes(t *testing.T) {
	set, _ := load(t, "- rule: r\n  condition: proc.name exists\n  output: \"<%proc.exepath>\"\n  priority: error\n")
	e := shell()
	e.Event.Exec.Path = "/tmp/a\nb\x1b[2J\xff"
	if out := string(set.Rules()[0].AppendOutput(nil, e)); strings.ContainsAny(out, "\n\x1b") {
		t.Errorf("%q", out)
	}
}

func BenchmarkMatch(b *testing.B) {
	set, _ := load(b, ruleOf(`evt.type = execve and proc.pname in (nginx, httpd) and proc.name in (sh, bash)`))
	r, e := set.Rules()[0], shell()
	b.ReportAllocs()
	for b.Loop() {
		r.Match(e)
	}
}

// Rules that are not severe enough are as if they were disabled, but for those that deny.
func TestAtLeast(t *testing.T) {
	of := func(name, priority, more string) string {
		return "- rule: " + name + "\n  condition: evt.operation = link\n  output: o\n  priority: " + priority + "\n" + more
	}
	set, problems := load(t, of("a", "critical", "")+of("b", "warning", "")+of("c", "notice", "")+of("d", "debug", "  action: deny\n")+of("e", "alert", "  enabled: false\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	names := func(rules []*Rule) string {
		var all []string
		for _, r := range rules {
			all = append(all, r.Name)
		}
		return strings.Join(all, " ")
	}
	some := set.AtLeast(alert.Warning)
	if got := names(some.Rules()) + "|" + names(some.Disabled()); got != "a b d|e c" {
		t.Errorf("got %s", got)
	}
	if got := names(some.Match(access(event.Key{Op: event.OpLink, Path: "/x"}), All, nil)); got != "a b d" {
		t.Errorf("matches %s", got)
	}
	if got := names(set.AtLeast(alert.Debug).Rules()); got != "a b c d" || some.ByID(idOf("d")) == nil || some.Drift(event.DimExec) == nil {
		t.Errorf("got %s", got)
	}
}
