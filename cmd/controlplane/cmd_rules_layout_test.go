package main

import (
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/rules"
)

func TestReformat(t *testing.T) {
	long := strings.Repeat("x", 60)
	for name, tc := range map[string]struct{ in, want string }{
		"nothing":       {"", ""},
		"only comments": {"# a\n\n\n#b  \n", "# a\n\n#b\n"},
		"empty list":    {"[]\n", "[]\n"},
		"order of keys": {
			"- tags: [a]\n  colour: red\n  output: o\n  priority: error\n  condition: c\n  desc: d\n  rule: r\n",
			"- rule: r\n  desc: d\n  condition: c\n  output: o\n  priority: error\n  tags: [a]\n  colour: red\n",
		},
		"indentation": {
			"  - rule:   r\n    tags:\n        - a\n        -   b\n    exceptions:\n    - name: n\n      values: [[a,b],\n        [c, d]]\n",
			"- rule: r\n  tags: [a, b]\n  exceptions:\n    - name: n\n      values: [[a, b], [c, d]]\n",
		},
		"line ends":    {"\ufeff- rule: r\r\n  desc: >\r\n    a\r\n    b\r\n  # c\r\n", "- rule: r\n  desc: >\n    a b\n  # c\n"},
		"short folded": {"- macro: m\n  condition: >\n    a\n     and\n    b\n", "- macro: m\n  condition: a and b\n"},
		"long condition": {
			"- macro: m\n  condition: a = " + long + " and b = " + long + " and not (c or d)\n",
			"- macro: m\n  condition: >\n    a = " + long + "\n    and b = " + long + "\n    and not (c or d)\n",
		},
		"long parentheses": {
			"- macro: m\n  condition: a and (b = " + long + " or c in (d, e) or f = " + long + ")\n",
			"- macro: m\n  condition: >\n    a\n    and (b = " + long + "\n      or c in (d, e)\n      or f = " + long + ")\n",
		},
		"long list in a condition": {
			"- macro: m\n  condition: a in (" + long + ", b, " + long + ")\n",
			"- macro: m\n  condition: >\n    a in (" + long + ", b,\n      " + long + ")\n",
		},
		"quotes in a condition": {
			"- macro: m\n  condition: 'a = \"x  and  (\"   and b = ''y'' '\n",
			"- macro: m\n  condition: a = \"x  and  (\" and b = 'y'\n",
		},
		"a condition that is no plain text": {"- macro: m\n  condition: \"a = b: c\"\n", "- macro: m\n  condition: >\n    a = b: c\n"},
		"an open quote":                     {"- macro: m\n  condition: a =   \"x\n", "- macro: m\n  condition: a =   \"x\n"},
		"texts": {
			"- rule: \"a\\tb\"\n  desc: '5'\n  output: \"%x: # y\"\n  priority: !!str\n",
			"line 4: tags are not supported",
		},
		"quoted": {
			"- rule: \"a\\tb\"\n  desc: '5'\n  output: \"%x: # y\"\n  tags: ['it''s', \"b,c\", \"d\\\n    e\"]\n",
			"- rule: \"a\\tb\"\n  desc: '5'\n  output: \"%x: # y\"\n  tags: ['it''s', \"b,c\", \"de\"]\n",
		},
		"folded text": {
			"- rule: r\n  desc: " + long + "\n    " + long + " " + long + "\n  output: >-\n    short\n    text\n",
			"- rule: r\n  desc: >-\n    " + long + "\n    " + long + "\n    " + long + "\n  output: short text\n",
		},
		"literal text": {"- rule: r\n  desc: |\n    a\n\n      b # no comment\n", "- rule: r\n  desc: |\n    a\n\n      b # no comment\n"},
		"long list": {
			"- list: l\n  items:\n  - " + long + "\n  - b\n  - " + long + "\n",
			"- list: l\n  items: [" + long + ", b,\n          " + long + "]\n",
		},
		"flow mapping": {"- test: t\n  exec: {path: /x,   script: true}\n  at: 2026-01-01\n", "- test: t\n  exec: {path: /x, script: true}\n  at: 2026-01-01\n"},
		"long flow mapping": {
			"- test: t\n  exec: {path: " + long + ", args: " + long + ", tags: [a]}\n",
			"- test: t\n  exec:\n    path: " + long + "\n    args: " + long + "\n    tags: [a]\n",
		},
		"values that are no text": {"- rule: r\n  enabled:   false\n  a:\n  b: ~\n  c: 0x10\n", "- rule: r\n  enabled: false\n  a:\n  b: ~\n  c: 0x10\n"},
		"documents":               {"- list: a\n  items: []\n--- # x\n---\n- list: b\n  items: []\n", "- list: a\n  items: [] # x\n\n---\n- list: b\n  items: []\n"},
		"blank lines": {
			"# head\n\n\n# about a\n- list: a\n  items: []\n- list: b\n  items: []\n\n\n- macro: c\n  condition: d\n- rule: e\n\n  desc: f\n# tail\n\n# end\n",
			"# head\n\n# about a\n- list: a\n  items: []\n- list: b\n  items: []\n\n- macro: c\n  condition: d\n\n- rule: e\n  desc: f\n\n# tail\n\n# end\n",
		},
		"comments beside": {
			"- rule: r # 1\n  tags: [a, b] # 2\n  desc: > # 3\n    x # no comment\n  output: o   #  4\n",
			"- rule: r # 1\n  # 3\n  desc: >\n    x # no comment\n  output: o #  4\n  tags: [a, b] # 2\n",
		},
		"comments above": {
			"# 0\n- # 1\n  rule: r\n  # 2\n  tags: [a]\n  # 3\n  # 4\n  desc: d\n  # 5: x\n\n# 6\n- list: l\n  items: [a]\n",
			"# 0\n# 1\n- rule: r\n  # 3\n  # 4\n  desc: d\n  # 2\n  tags: [a]\n  # 5: x\n\n# 6\n- list: l\n  items: [a]\n",
		},
		"comments of the first key": {"- desc: d # 1\n  # 2\n  rule: r\n", "# 2\n- rule: r\n  desc: d # 1\n"},
		"comments in a list": {
			"- list: l\n  items:\n  - a # 1\n  # 2\n  - b\n  - c\n- list: m\n  items: [a,\n    b, # 3\n    c]\n",
			"- list: l\n  items:\n    - a # 1\n    # 2\n    - b\n    - c\n- list: m\n  items:\n    - a\n    - b # 3\n    - c\n",
		},
		"no comments":     {"- rule: r#1\n  desc: \"a # b\"\n  output: 'c # d'\n", "- rule: r#1\n  desc: \"a # b\"\n  output: 'c # d'\n"},
		"anchor":          {"- list: l\n  items: &a [b]\n", "line 2: anchors and aliases are not supported"},
		"alias":           {"- &a list\n- *a\n", "line 1: anchors and aliases are not supported"},
		"directive":       {"%YAML 1.1\n---\n- rule: r\n", "directives of YAML are not supported"},
		"no list":         {"a: b\n", "line 1: a rule file is a list"},
		"no YAML":         {"- rule: [\n", "yaml: line 1: did not find expected node content"},
		"not UTF-8":       {"- rule: \xff\n", "not UTF-8"},
		"a list as a key": {"- ? [a]\n  : b\n", "line 1: a key is not one word"},
		"too deep":        {"- " + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "\n", "line 1: nested too deeply"},
		"too large":       {strings.Repeat("- a\n", maxTreeNodes), "too large: more than 2097152 bytes or 300000 elements"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := reformat([]byte(tc.in))
			if err != nil {
				got = []byte(err.Error())
			}
			if string(got) != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
			if err == nil {
				sameRules(t, []byte(tc.in), got)
			}
		})
	}
}

// sameRules fails if two files do not define the same.
func sameRules(t *testing.T, a, b []byte) {
	t.Helper()
	if x, y := meaning(a), meaning(b); !reflect.DeepEqual(x, y) {
		t.Errorf("\n%s\nmeans %v\n%s\nmeans %v", a, x, b, y)
	}
}

// meaning is what a file defines, without places.
func meaning(data []byte) []string {
	set, problems := rule.Load(rule.File{Name: "x.yaml", Data: data})
	var all []string
	for _, r := range append(set.Rules(), set.Drift(event.DimExec)) {
		e := rule.Env{Event: &event.Event{Kind: event.Exec}}
		all = append(all, fmt.Sprintf("%q %q %s %s %q %q", r.Name, r.Desc, r.Source, r.Severity, r.Tags, r.AppendOutput(nil, &e)))
		for k := event.Fork; k < event.KindCount; k++ {
			if slices.Contains(set.For(k), r) {
				e := rule.Env{Event: &event.Event{Kind: k}}
				all = append(all, fmt.Sprint(k, r.Match(&e)))
			}
		}
	}
	var wrong []string
	for _, p := range problems {
		wrong = append(wrong, fmt.Sprint(p.Rule, p.Message, p.Warning))
	}
	slices.Sort(wrong) // they come in the order of the keys
	return append(all, wrong...)
}

// Our own files, and Falco's where it is at hand, can be laid out.
func TestReformatWholeFiles(t *testing.T) {
	files := map[string][]byte{}
	names, err := fs.Glob(rules.Files, "*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if files[name], err = rules.Files.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	if path := os.Getenv("FALCO_RULES"); path == "" {
		t.Log("FALCO_RULES does not name Falco's rule file: it is left out")
	} else if files["falco_rules.yaml"], err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		t.Run(name, func(t *testing.T) {
			out, err := reformat(data)
			if err != nil {
				t.Fatal(err)
			}
			sameRules(t, data, out)
			if got, want := strings.Count(string(out), "\n#"), strings.Count(string(data), "\n#"); got != want {
				t.Errorf("%d lines of comments, want %d", got, want)
			}
		})
	}
}

// What is large takes its time, but not its square.
func TestReformatBounds(t *testing.T) {
	for name, text := range map[string]string{
		"many items":       strings.Repeat("- a b\n", 50_000),
		"many words":       "- macro: m\n  condition: " + strings.Repeat("a (b or \"c\") and ", 30_000) + "\n",
		"many parentheses": "- macro: m\n  condition: " + strings.Repeat("(", 500_000) + "\n",
		"many comments":    "- rule: r\n" + strings.Repeat("  # x\n", 100_000),
		"many documents":   strings.Repeat("---\n- a\n", 10_000),
		"one long item":    "- list: l\n  items: [" + strings.Repeat("1 2,", 30_000) + "]\n",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			if _, err := reformat([]byte(text)); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took > 30*time.Second { // quadratic would be minutes
				t.Errorf("took %v", took)
			}
		})
	}
}

func FuzzReformat(f *testing.F) {
	for _, text := range []string{
		"- rule: r # a\n  # b\n  condition: >\n    a and (b or c in (d, \"e f\"))\n  output: x %proc.name\n  priority: error\n  tags: [a, 'b']\n# c\n",
		"# h\n\n- list: l\n  items:\n  - a # x\n  - \"b # c\"\n---\n- macro: m\n  condition: |-\n    x\n     y\n",
		"- rule: r\n  exceptions:\n  - {name: n, values: [[a, b]]}\n  desc: a\n    b\n",
		"- - a\n  - [b, {c: d}]\n- ''\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := reformat(data)
		if err != nil {
			return
		}
		again, err := reformat(out)
		if err != nil || string(again) != string(out) {
			t.Errorf("%q became %q, then %q, %v", data, out, again, err)
		}
		sameRules(t, data, out)
	})
}
