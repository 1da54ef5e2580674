package rule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// long is a text that is longer than most.
const long = "/a-name-that-is-longer-than-sixty-four-bytes-as-those-of-containers-are"

// said is a text that programs choose: they may double slashes, and leave them out.
func (g chance) said() string {
	return g.pick("/", "/a", "/a/b", "//a/b", "/a//b", "a/b", "a", "/ab", "./a", "/a/b/c", "/c/b", "b -x", "-x /a", "sh", "", long) + g.pick("", "", "", "/", "/b", " b")
}

// sought is a check of a kind that can be looked up, or of a kind that is like one.
func (g chance) sought() string {
	field := g.pick("proc.name", "proc.cmdline", "proc.exe", "proc.cwd", "proc.args", "proc.pname", "proc.aname", "proc.aname[2]", "proc.acmdline", "proc.aexe",
		"proc.exepath", "fd.name", "fd.directory", "evt.path", "fd.nameraw", "basename(proc.exe)", "toupper(proc.name)", "container.id", "evt.hook")
	value := func() string {
		return `"` + g.pick(g.said(), g.said(), g.said(), "sh", "SH", "nginx", "host", "abc") + `"`
	}
	switch g.IntN(7) {
	case 6:
		return "evt.type " + g.pick("= execveat", "in (open, link)", "in (creat, execve)", "!= openat2", "= rename")
	case 0:
		return field + " pmatch (" + g.pick(value(), value()+", "+value(), `"/*/b"`, `"/a/?"`, `"/a/b*", `+value()) + ")"
	case 1:
		return field + " glob " + g.pick(value(), `"/a*"`, `"/a/[bc]*"`, `"*b"`, `"a?b"`, `"/a\\*"`, `anyof ("/a*", "sh*")`)
	case 2:
		return g.pick("proc.is_exe_unlinked", "proc.stdio_inet", "evt.is_open_write", "evt.in_baseline") + g.pick(" = true", " = false", " != true", " in (true, false)", " in ()", " = allof (true)", " != anyof (true, false)")
	case 3:
		if field == "evt.hook" {
			return field + " = " + g.pick("lsm", "tracepoint")
		}
		return field + g.pick(" in (", " intersects (", " = anyof (", " = oneof (", " startswith anyof (", " endswith oneof (", " contains allof (", " startswith allof (") +
			value() + ", " + value() + ")"
	}
	if field == "evt.hook" {
		return field + " startswith l"
	}
	return field + g.pick(" = ", " = ", " != ", " startswith ", " endswith ", " contains ", " icontains ", " == ") + value()
}

// rules are many, and some macros.
func (g chance) rules(n int) string {
	var text strings.Builder
	leaf := func() string {
		return g.pick(g.sought(), g.sought(), g.check(), "(evt.type = execve and "+g.sought()+")")
	}
	var condition func(depth int) string
	condition = func(depth int) string {
		if depth == 0 {
			return leaf()
		}
		parts := make([]string, 1+g.IntN(3))
		for i := range parts {
			parts[i] = g.pick("", "", "", "not ") + "(" + g.pick(leaf(), condition(depth-1)) + ")"
		}
		return strings.Join(parts, g.pick(" and ", " and ", " or "))
	}
	const macros = 6
	for i := range macros {
		fmt.Fprintf(&text, "- macro: m%d\n  condition: %q\n", i, condition(1))
	}
	for i := range n {
		c := condition(2)
		if g.IntN(2) == 0 {
			c = fmt.Sprintf("%s %s m%d", c, g.pick("and", "and not", "or"), g.IntN(macros))
		}
		fmt.Fprintf(&text, "- rule: r%d\n  condition: %q\n  output: o\n  priority: warning\n  warn_evttypes: false\n", i, c)
		if g.IntN(4) == 0 {
			text.WriteString("  window: {count: 2, within: 1s}\n")
		}
	}
	return text.String()
}

// say fills in what programs choose.
func (g chance) say(ev *event.Event) {
	x, a, p := &ev.Exec, &ev.Access, &ev.Process
	x.Args, x.Cwd, x.Filename, a.Said, p.Args, p.Cwd = g.said(), g.said(), g.said(), g.said(), g.said(), g.said()
	if g.IntN(2) == 0 {
		x.Path, a.Path = g.said(), g.said()
	}
	for range g.IntN(1 + len(p.Lineage)) {
		p.Ancestors = append(p.Ancestors, event.Ancestor{Comm: g.said(), Args: g.said()})
	}
}

// plainly evaluates a condition as it is written: each check for itself, and all of them.
type plainly struct {
	t      *testing.T
	checks map[string]check
}

func (p plainly) holds(n *node, e *Env) bool {
	switch n.kind {
	case macroNode:
		return p.holds(n.kids[0], e)
	case notNode:
		return !p.holds(n.kids[0], e)
	case checkNode:
		text := n.in.text[n.at:n.end]
		if p.checks[text] == nil {
			one, m := compiledCondition(text)
			if m != nil {
				p.t.Fatal(text, m.message)
			}
			p.checks[text] = one.check
		}
		return p.checks[text](e)
	}
	holds := n.kind == andNode
	for _, kid := range n.kids {
		if n.kind == andNode {
			holds = p.holds(kid, e) && holds
		} else {
			holds = p.holds(kid, e) || holds
		}
	}
	return holds
}

// An event matches the rules that it would match if each were asked, check by check, in their order.
func TestMatchIsPlain(t *testing.T) {
	g := chance{rand.New(rand.NewPCG(11, 12)), table(t, map[string][]string{"a.org": {"10.0.0.1", "::1"}, "b.org": {"192.0.2.1"}})}
	asked, possible, matches := 0, 0, 0
	for range 60 {
		set, problems := load(t, g.rules(40))
		if bad := errorsIn(problems); len(bad) > 0 {
			t.Fatal(bad)
		}
		plain := plainly{t, map[string]check{}}
		for range 200 {
			e := g.event(set.rules[g.IntN(len(set.rules))])
			g.say(e.Event)
			var all, first []*Rule
			found := false
			for _, r := range set.rules {
				if !r.classes.has(classOf(e.Event)) || !plain.holds(r.tree, e) {
					continue
				}
				all = append(all, r)
				if counts := r.Window.Count > 0; counts || !found {
					first = append(first, r)
					found = found || !counts
				}
			}
			for m, want := range map[Matching][]*Rule{All: all, First: first} {
				if got := set.Match(e, m, nil); !slices.Equal(got, want) {
					t.Fatalf("%s: got %s, want %s\nof %s %+v", m, conditions(got), conditions(want), describe(e), e.Event.Process)
				}
			}
			may := set.finder.find(e, classOf(e.Event))
			for i := may.next(0); i >= 0; i = may.next(i + 1) {
				asked++
			}
			possible += len(set.ForEvent(e.Event))
			matches += len(all)
		}
	}
	t.Logf("%d rules matched of %d that were asked of %d", matches, asked, possible)
	if matches < 1000 || asked > possible*9/10 {
		t.Errorf("%d rules matched of %d that were asked of %d: that tests little", matches, asked, possible)
	}
}

func conditions(rules []*Rule) string {
	var b strings.Builder
	for _, r := range rules {
		fmt.Fprintf(&b, "%s: %s\n", r.Name, r.Condition())
	}
	return b.String()
}

// Each set of the same rules finds its own.
func TestMatchOfSets(t *testing.T) {
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintf(&text, "- rule: r%d\n  condition: evt.type = execve and proc.name = %s\n  output: o\n  priority: %s\n  enabled: %t\n",
			i, []string{"sh", "dash"}[i%2], []string{"error", "notice"}[i/2%2], i%8 != 0)
	}
	set, problems := load(t, text.String())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for name, tc := range map[string]struct {
		set  *Ruleset
		want func(i int) bool
	}{
		"in force":      {set, func(i int) bool { return i%2 == 0 && i%8 != 0 }},
		"with disabled": {set.WithDisabled(), func(i int) bool { return i%2 == 0 }},
		"severe":        {set.AtLeast(alert.Error), func(i int) bool { return i%4 == 0 && i%8 != 0 }},
	} {
		var got, want []string
		for _, r := range tc.set.Match(shell(), All, nil) {
			got = append(got, r.Name)
		}
		for i := range 100 {
			if tc.want(i) {
				want = append(want, fmt.Sprintf("r%d", i))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add(`proc.exepath pmatch (/a, /b/*/c?) or proc.cmdline contains "b" and proc.name in (a, "b c")`, "/a//b", "x b")
	f.Add(`not (proc.name != a or proc.exe glob "/a/[b]*") and proc.args endswith anyof ("b", 'cd')`, "/usr/bin/a", "/a/b cd")
	f.Add(`evt.type = open and fd.name startswith /a or proc.aname = nginx and proc.is_exe_upper_layer != true`, "/ab", "")
	f.Add(`basename(fd.name) = "" and evt.type in (creat, execveat) or fd.typechar = f and proc.cwd endswith "/"`, "/", "a")
	f.Fuzz(func(t *testing.T, condition, path, args string) {
		set, _ := load(t, ruleOf(condition)+"  warn_evttypes: false\n")
		if len(set.rules) == 0 {
			return
		}
		r := set.rules[0]
		set.finder = newFinder(set.rules, 0)
		e := shell()
		e.Event.Exec.Path, e.Event.Access.Path, e.Event.Access.Said = path, path, args
		e.Event.Exec.Args, e.Event.Process.Args, e.Event.Exec.Cwd = args, args, path
		(allClasses &^ 1).each(func(class int) {
			setClass(e.Event, class)
			class = classOf(e.Event)
			want := r.Match(e) && r.classes.has(class)
			if got := len(set.Match(e, All, nil)) == 1; got != want {
				t.Fatalf("%q: %t for %s, and %t by itself", condition, got, classType(class), want)
			}
		})
	})
}
