package rule

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/rule/ruletest"
)

// What hostile files may cost: of a processor, and in memory that is taken, freed or not.
const (
	mostTime   = time.Second
	mostMemory = 256 << 20
)

// A hostile file gets a clear answer, within these bounds.
func TestBombs(t *testing.T) {
	for _, bombs := range []map[string]bomb{sizeBombs(), aliasBombs(), macroBombs(), conditionBombs(), planBombs(), needBombs()} {
		for name, b := range bombs {
			t.Run(name, func(t *testing.T) {
				problems := bounded(t, File{Name: "r.yaml", Data: []byte(b.text)})
				all := fmt.Sprint(problems)
				if len(problems) == 0 || len(problems) > maxProblems+1 || !strings.Contains(all, b.want) {
					t.Errorf("%d problems: %.300s", len(problems), all)
				}
			})
		}
	}
}

// Many files are no way around the bounds of one.
func TestManyFiles(t *testing.T) {
	var files []File
	for i := range 100 {
		files = append(files, File{Name: fmt.Sprint(i), Data: []byte(strings.Repeat("---\n", 10_000))})
	}
	problems := bounded(t, files...)
	if all := fmt.Sprint(problems); !strings.Contains(all, "7:1:1: it and the files before it have more than 4194304 bytes or 300000 elements") {
		t.Errorf("%.300s", all)
	}
}

// bounded loads files and checks what that takes.
func bounded(t *testing.T, files ...File) (problems []Problem) {
	t.Helper()
	ruletest.Bounded(t, mostTime, mostMemory, func() { _, problems = Load(files...) })
	return problems
}

// bomb is a rule file, and what it is told.
type bomb struct{ text, want string }

func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// sizeBombs are large or deep before anybody understands them.
func sizeBombs() map[string]bomb {
	return map[string]bomb{
		"10 MB":       {strings.Repeat(ruleOf("evt.type = execve"), 150_000), "more than 1048576 bytes"},
		"bytes":       {"- rule: " + strings.Repeat("x", maxFileBytes), "more than 1048576 bytes"},
		"elements":    {strings.Repeat("- a\n", 100_000), "more than 150000 elements"},
		"flow":        {"[" + strings.Repeat("[],", 100_000) + "]", "more than 150000 elements"},
		"deep flow":   {strings.Repeat("[", 100_000), "max depth"},
		"deep dashes": {strings.Repeat("- ", 20_000) + "a", "max depth"},
		"deep maps":   {strings.Repeat("{a: ", 9_990) + "1" + strings.Repeat("}", 9_990), "a rule file is a list"},
		"deep items":  {strings.Repeat("- "+strings.Repeat("[", 4_000)+strings.Repeat("]", 4_000)+"\n", 17), "expected a rule, a macro or a list"},
		"keys":        {"- {" + numbered(60_000, "k%d: 1, ") + "}\n", "expected a rule, a macro or a list"},
		"equal keys":  {"- {" + strings.Repeat("k: 1, ", 60_000) + "}\n", "stands here twice"},
		"not rules":   {strings.Repeat("- a\n", 30_000), "and 29800 more problems"},
		"words":       {strings.Repeat("- a\n", 74_000), "and 73800 more problems"},
		"no values":   {strings.Repeat("- rule: x\n", 50_000), "priority is missing"},
		"anchors":     {numbered(60_000, "- &a%d x\n"), "expected a rule, a macro or a list"},
		"many rules":  {numbered(9_000, "- rule: r%d\n  condition: evt.typ = execve\n  output: o\n  priority: error\n  action: deny\n"), "unknown field"},
		"no calls":    {"- list: l\n  items: [" + numbered(20_000, "opn%d,") + "]\n" + numbered(20, "- rule: q%d\n  condition: evt.type in (execve, l)\n  output: o\n  priority: error\n"), "there is no such call"},
		"equal calls": {"- list: l\n  items: [" + strings.Repeat("opn,", 70_000) + "]\n" + ruleOf("evt.type in (execve, l)"), "there is no such call"},
		"rare calls":  {"- list: l\n  items: [" + strings.Repeat("rmdir,", 70_000) + "unlink]\n" + ruleOf("evt.type in (l) and evt.type = pipe"), "evt.type is never pipe"},
		"no fields":   {"- rule: r\n  condition: evt.type = execve\n  priority: error\n  output: \"" + strings.Repeat("%evt.arg.fd ", 80_000) + "\"\n", "and 79800 more problems"},
		"variables":   {"- rule: r\n  condition: evt.type = execve\n  priority: error\n  output: \"" + numbered(45_000, "%%proc.env[A%d] ") + "\"\n", "and 44800 more problems"},
		"output":      {"- rule: r\n  condition: evt.type = execve\n  priority: error\n  output: \"" + strings.Repeat("%proc.nam ", 90_000) + "\"\n", "unknown field"},
	}
}

// aliasBombs are small, and large with their aliases.
func aliasBombs() map[string]bomb {
	const larger = "aliases make the file larger than 2097152 bytes"
	or := "&o \"evt.type = execve" + strings.Repeat(" or evt.type = execve", 9_000) + "\"\n"
	long := "&o \"" + strings.Repeat("a", 500_000) + "\"\n"
	rest := ", priority: error, condition: evt.type = execve, output: o"
	laughs := "- &l0 [a, a, a, a, a, a, a, a, a, a]\n"
	for i := 1; i < 10; i++ {
		laughs += fmt.Sprintf("- &l%d [%s]\n", i, strings.Repeat(fmt.Sprintf("*l%d, ", i-1), 10))
	}
	return map[string]bomb{
		"laughs":            {laughs, larger},
		"alias of itself":   {"- &a\n  rule: *a\n", "a rule needs a name"},
		"aliased condition": {"- " + or + numbered(7_000, "- {rule: q%d, priority: error, condition: *o, output: o}\n"), larger},
		"aliased macro":     {"- " + or + numbered(7_000, "- {macro: q%d, condition: *o}\n"), larger},
		"aliased text":      {"- " + long + numbered(7_000, "- {rule: q%d, desc: *o, priority: error, condition: *o, output: *o}\n"), larger},
		"aliased items":     {"- &o [" + strings.Repeat("a,", 50_000) + "b]\n" + numbered(2_500, "- {list: q%d, items: *o}\n"), larger},
		"aliased tags":      {"- &o [" + strings.Repeat("a,", 50_000) + "b]\n" + numbered(2_500, "- {rule: q%d"+rest+", tags: *o}\n"), larger},
		"aliased attack":    {"- &o [" + strings.Repeat("T1059,", 50_000) + "b]\n" + numbered(2_500, "- {rule: q%d"+rest+", attack: *o}\n"), larger},
		"aliased rows":      {"- &o [" + strings.Repeat("{name: a},", 20_000) + "{name: b}]\n" + numbered(2_500, "- {rule: q%d"+rest+", exceptions: *o}\n"), larger},
		"appends":           {fine + "- &a\n  rule: r\n  append: true\n  condition: or user.uid = 5\n" + strings.Repeat("- *a\n", 40_000), "more than 10000 checks"},
		"appended lists":    {"- &a\n  list: l\n  items: [a, b, c, d, e]\n- &b\n  list: l\n  append: true\n  items: [a, b, c, d]\n" + strings.Repeat("- *b\n", 60_000), "list l: more than 100000 values"},
		"aliases of words":  {"- &a [x,x,x,x]\n- &b [*a,*a,*a,*a]\n- &c [*b,*b,*b,*b]\n- rule: r\n  tags: *c\n  output: o\n  priority: error\n  condition: evt.type = execve\n", "tags: expected a word"},
	}
}

// macroBombs are macros and lists that grow, or refer to each other.
func macroBombs() map[string]bomb {
	lists := "- list: l0\n  items: [" + strings.Repeat("a,", 1000) + "]\n"
	for i := 1; i < 2000; i++ {
		lists += fmt.Sprintf("- {list: l%d, items: [l%d, l%d]}\n", i, i-1, i-1)
	}
	macros := "- macro: m0\n  condition: evt.type = execve\n"
	for i := 1; i < 60; i++ {
		macros += fmt.Sprintf("- macro: m%d\n  condition: (m%d or m%d)\n", i, i-1, i-1)
	}
	chain := "- macro: c0\n  condition: evt.type = execve\n"
	for i := 1; i < 5000; i++ {
		chain += fmt.Sprintf("- macro: c%d\n  condition: c%d\n", i, i-1)
	}
	ring := "" // each macro is redefined in the end, and so sees all others
	for i := range 2000 {
		ring = fmt.Sprintf("- macro: k%d\n  condition: proc.name = x\n", i) + ring + fmt.Sprintf("- macro: k%d\n  condition: k%d\n", i, (i+1)%2000)
	}
	return map[string]bomb{
		"lists":       {lists, "values"},
		"macros":      {macros + ruleOf("m14"), "more than 10000 checks"},
		"many macros": {macros + strings.Repeat(ruleOf("m10"), 500), "more than 200000 in all rules"},
		"macro chain": {chain + ruleOf("c4999"), "nested deeper than 1000"},
		"macro ring":  {ring + ruleOf("k0"), "refers to itself"},
		"long list often": {
			"- list: l\n  items: [" + strings.Repeat("a,", 50_000) + "b]\n" + strings.Repeat(ruleOf("evt.type = execve and proc.name in (l)"), 20) +
				ruleOf("evt.type = execve and proc.name in (l, l, l, l, l, l, l, l, l, l)"), "more than 500000 values",
		},
	}
}

// conditionBombs are texts that are hard to read.
func conditionBombs() map[string]bomb {
	return map[string]bomb{
		"exceptions":          {fine + "  exceptions:\n" + strings.Repeat("  - {name: a, values: [x]}\n", 20_000), "fields is missing"},
		"exception rows":      {fine + "  exceptions:\n  - name: a\n    fields: [proc.name]\n    values: [" + strings.Repeat("[x],", 40_000) + "]\n", "more than 10000 checks"},
		"regular expressions": {ruleOf("evt.type = execve" + strings.Repeat(` or proc.name regex ".{1000}.{1000}.{1000}.{1000}.{1000}.{1000}"`, 1000)), "all regular expressions together are too large"},
		"repeated expression": {ruleOf(`proc.name regex "((a{1000}){1000}){1000}"`), "the regular expression is wrong"},
		"transformers":        {ruleOf("evt.type = execve and " + strings.Repeat("tolower(", 50_000)), "nested deeper than 1000"},
		"lists of terms":      {ruleOf("evt.type = execve and join(\",\", " + strings.Repeat("(", 50_000)), "nested deeper than 1000"},
		"parentheses":         {ruleOf(strings.Repeat("(", 50_000)), "nested deeper than 1000"},
		"nots":                {ruleOf(strings.Repeat("not ", 50_000)), "expected a field, a macro, not or ("},
		"checks":              {ruleOf("evt.type = execve" + strings.Repeat(" or evt.type = execve", 20_000)), "more than 10000 checks"},
		"folded":              {"- rule: r\n  output: o\n  priority: error\n  condition: >\n" + strings.Repeat("    a\n", 140_000), "expected and, or, or the end"},
	}
}

// planBombs ask the kernel for much.
func planBombs() map[string]bomb {
	const (
		operations = "evt.operation in (read, write, create, link, rename, delete, library, attributes, mount)"
		numbers    = "evt.operation in (socket, capability, bpf, setuid, setgid)"
		more       = "all rules together compare events with more than 1000000 values"
	)
	rules := func(n int, condition, keys string) string {
		return numbered(n, "- rule: r%d\n  condition: "+condition+"\n  output: o\n  priority: error\n"+keys)
	}
	or := func(check string) string {
		return "- macro: m\n  condition: " + strings.TrimSuffix(numbered(4000, check+"%d or "), " or ") + "\n"
	}
	list := "- list: l\n  items: [" + numbered(70_000, "1%06d,") + "1]\n"
	names := "- list: l\n  items: [" + numbered(300, "x%d,") + "x]\n"
	const many = "the condition has more than 64 alternatives, or more names than can be combined"
	const deny = "  action: deny\n"
	return map[string]bomb{
		"denied paths":       {or("evt.path = /x") + rules(49, operations+" and m", deny), more},
		"undecidable rules":  {or("evt.path = /x") + rules(49, operations+" and m and proc.args = x", deny), `cannot decide "proc.args = x"`},
		"undecidable checks": {or("proc.args = x") + rules(49, operations+" and m", deny), `cannot decide "proc.args = x0"`},
		"denied names":       {or("proc.name = x") + rules(49, operations+" and m", deny), many},
		"denied ancestors":   {or("not proc.aname = x") + rules(49, operations+" and m", deny), many},
		"denied products":    {rules(400, "evt.operation = link"+strings.Repeat(" and (proc.name = a or not proc.pname = b or proc.aname = c)", 30), deny), many},
		"denied twice":       {list + rules(3, "evt.operation = link and proc.name in (l) and not proc.pname in (l)", deny), `cannot decide "proc.name in (l)"`},
		"many names":         {names + rules(150, operations+" and proc.name in (l) and not proc.pname in (l)", deny), "all rules together combine more than 1048576 tests and names"},
		"denied numbers":     {list + rules(6, numbers+" and evt.value in (l)", deny), `cannot decide "evt.value in (l)"`},
		"denied list":        {list + rules(6, operations+" and evt.path in (l)", deny), more},
		"watched list":       {list + rules(6, "evt.path in (l)", ""), more},
	}
}

// needBombs are right, but for a macro, and it takes much to find such rules by the values of an event.
func needBombs() map[string]bomb {
	nested := func(levels int, before, or, after string) string {
		text := "- macro: idle\n  condition: evt.type = execve\n- macro: n0\n  condition: proc.name = y\n"
		for i := range levels {
			text += fmt.Sprintf("- macro: n%d\n  condition: %s%sn%d%s\n", i+1, before, strings.Repeat("proc.name = x"+or, 9_000/levels), i, after)
		}
		return text + numbered(19, fmt.Sprintf("- rule: r%%d\n  condition: evt.type = execve and n%d\n  output: o\n  priority: error\n", levels))
	}
	const alone = "[r.yaml:2:14: macro idle is not used]"
	return map[string]bomb{
		"nested or":        {nested(490, "", " or ", ""), alone},
		"nested or in and": {nested(320, "proc.is_exe_unlinked = true and (", " or ", ")"), alone},
		"nested and in or": {nested(190, "not (proc.cmdline startswith abc and not (", " or ", "))"), alone},
	}
}
