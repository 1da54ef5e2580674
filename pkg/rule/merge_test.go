package rule

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
)

const fine = "- rule: r\n  desc: d\n  condition: evt.type = execve and proc.name = sh\n  output: o\n  priority: error\n  tags: [a]\n"

// What later entries make of earlier ones. Each want is found in the rule, written as one line.
func TestMerge(t *testing.T) {
	describe := func(r *Rule) string {
		return fmt.Sprintf("%s|%s|%s|%s|%v|%v|%t", r.Condition(), r.AppendOutput(nil, shell()), r.Desc, r.Severity, r.Tags, r.Match(shell()), r.Enabled)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"append": {
			fine + "- rule: r\n  condition: and user.uid = 33\n  append: true\n",
			"evt.type = execve and proc.name = sh and user.uid = 33|o|d|Error|[a]|true|true",
		},
		"append twice": {
			fine + "- rule: r\n  append: true\n  condition: and user.uid = 33\n- rule: r\n  append: true\n  condition: and user.uid = 34\n",
			"evt.type = execve and proc.name = sh and user.uid = 33 and user.uid = 34|o|d|Error|[a]|false|true",
		},
		"override append": {
			fine + "- rule: r\n  condition: and not user.uid = 34\n  output: \"%proc.name\"\n  desc: more\n  tags: [b, c]\n  override: {condition: append, output: append, desc: append, tags: append}\n",
			"evt.type = execve and proc.name = sh and not user.uid = 34|o sh|d more|Error|[a b c]|true|true",
		},
		"override replace": {
			fine + "- rule: r\n  condition: evt.type = execve\n  output: p\n  desc: e\n  tags: [b]\n  priority: info\n  enabled: false\n  warn_evttypes: false\n  skip-if-unknown-filter: true\n  capture: false\n  capture_duration: \"false\"\n  override: {condition: replace, output: replace, desc: replace, tags: replace, priority: replace, enabled: replace, warn_evttypes: replace, skip-if-unknown-filter: replace, capture: replace, capture_duration: replace}\n",
			"evt.type = execve|p|e|Informational|[b]|true|false",
		},
		"redefinition after append": {
			fine + "- rule: r\n  append: true\n  condition: and user.uid = 99\n" + strings.Replace(fine, "output: o", "output: again", 1),
			"evt.type = execve and proc.name = sh|again|d|Error|[a]|true|true",
		},
		"wrong append": {
			fine + "- rule: r\n  append: true\n  condition: and and\n", "evt.type = execve and proc.name = sh|o|d|Error|[a]|true|true",
		},
		"macro append": {
			"- macro: m\n  condition: proc.name = x\n- macro: m\n  condition: or proc.name = sh\n  append: true\n" + strings.Replace(fine, "proc.name = sh", "(m)", 1),
			"evt.type = execve and (m)|o|d|Error|[a]|true|true",
		},
		"macro override": {
			"- macro: m\n  condition: proc.name = sh\n- macro: m\n  condition: proc.name = x\n  override: {condition: replace}\n" + strings.Replace(fine, "proc.name = sh", "m", 1),
			"evt.type = execve and m|o|d|Error|[a]|false|true",
		},
		"macro redefined later": {
			"- macro: m\n  condition: proc.name = x\n" + strings.Replace(fine, "proc.name = sh", "m", 1) + "- macro: m\n  condition: proc.name = sh\n",
			"evt.type = execve and m|o|d|Error|[a]|true|true",
		},
		"list append": {
			"- list: l\n  items: [x]\n- list: k\n  items: [l, y]\n- list: l\n  items: [sh]\n  override: {items: append}\n" + strings.Replace(fine, "= sh", "in (k)", 1),
			"evt.type = execve and proc.name in (k)|o|d|Error|[a]|true|true",
		},
		"list override": {
			"- list: l\n  items: [sh]\n- list: l\n  items: [x]\n  override: {items: replace}\n" + strings.Replace(fine, "= sh", "in (l)", 1),
			"evt.type = execve and proc.name in (l)|o|d|Error|[a]|false|true",
		},
		"quotes within a list": {
			"- list: l\n  items: ['\"sh\"', 5]\n" + strings.Replace(fine, "= sh", "in (l)", 1), "evt.type = execve and proc.name in (l)|o|d|Error|[a]|true|true",
		},
		"switch": {fine + "- rule: r\n  enabled: false\n", "evt.type = execve and proc.name = sh|o|d|Error|[a]|true|false"},
	} {
		t.Run(name, func(t *testing.T) {
			set, problems := load(t, tc.text)
			all := append(set.Rules(), set.Disabled()...)
			if len(all) != 1 || describe(all[0]) != tc.want {
				t.Fatalf("got %v %v\nwant %s", problems, describe(all[0]), tc.want)
			}
			if wrong := name == "wrong append"; wrong != (len(problems) > 0) {
				t.Error(problems)
			}
		})
	}
}

func TestExceptions(t *testing.T) {
	for name, tc := range map[string]struct {
		exceptions string
		want       bool // the rule still matches: proc.name sh, pname nginx, uid 33
	}{
		"no values":     {"  - {name: a, fields: [proc.name]}", true},
		"one field":     {"  - {name: a, fields: proc.name, values: [x, sh]}", false},
		"another":       {"  - {name: a, fields: proc.name, values: [x, y]}", true},
		"pmatch":        {"  - {name: a, fields: proc.exepath, comps: pmatch, values: [/usr/bin]}", false},
		"modifier":      {"  - {name: a, fields: proc.cmdline, comps: startswith anyof, values: [x, \"sh -\"]}", false},
		"rows":          {"  - {name: a, fields: [proc.name, proc.pname], values: [[x, nginx], [sh, nginx]]}", false},
		"half a row":    {"  - {name: a, fields: [proc.name, proc.pname], values: [[x, nginx], [sh, y]]}", true},
		"comps":         {"  - {name: a, fields: [proc.name, proc.cmdline], comps: [in, startswith], values: [[[x, sh], \"sh -c\"]]}", false},
		"a list":        {"  - {name: a, fields: [proc.name], comps: [in], values: [[shells]]}", false},
		"two":           {"  - {name: a, fields: [proc.name], values: [[x]]}\n  - {name: b, fields: [user.uid], comps: [\">=\"], values: [[33]]}", false},
		"transformer":   {"  - {name: a, fields: [\"toupper(proc.name)\"], values: [[SH]]}", false},
		"quoted":        {"  - {name: a, fields: [proc.name], values: [['\"sh\"']]}", false},
		"values later":  {"  - {name: a, fields: proc.name, values: [x]}\n- rule: r\n  append: true\n  exceptions:\n  - {name: a, values: [sh]}", false},
		"new one later": {"  - {name: a, fields: proc.name}\n- rule: r\n  override: {exceptions: append}\n  exceptions:\n  - {name: b, fields: proc.name, values: [sh]}", false},
		"replaced":      {"  - {name: a, fields: proc.name, values: [sh]}\n- rule: r\n  override: {exceptions: replace}\n  exceptions:\n  - {name: b, fields: proc.name, values: [x]}", true},
	} {
		t.Run(name, func(t *testing.T) {
			set, problems := load(t, "- list: shells\n  items: [sh]\n"+fine+"  exceptions:\n"+tc.exceptions+"\n")
			if len(errorsIn(problems)) > 0 || len(set.Rules()) != 1 {
				t.Fatal(problems)
			}
			if got := set.Rules()[0].Match(shell()); got != tc.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestMergeProblems(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown rule":       {"- rule: r\n  append: true\n  condition: and x\n", `r.yaml:1:3: rule "r": there is no such rule to change`},
		"unknown macro":      {"- macro: m\n  append: true\n  condition: and x\n", `r.yaml:1:3: macro m: there is no such macro to change`},
		"nothing to append":  {fine + "- rule: r\n  append: true\n", "there is nothing to append"},
		"append and more":    {fine + "- rule: r\n  append: true\n  priority: info\n  condition: and user.uid = 1\n", "append: true does not change priority"},
		"both":               {fine + "- rule: r\n  append: true\n  condition: a\n  override: {condition: append}\n", "append and override exclude each other"},
		"append what":        {fine + "- rule: r\n  append: 5\n", "expected true or false"},
		"not a map":          {fine + "- rule: r\n  condition: a\n  override: [condition]\n", "r.yaml:9:13"},
		"not named":          {fine + "- rule: r\n  condition: and a\n  desc: x\n  override: {condition: append}\n", `r.yaml:9:3: rule "r": desc is not named in override`},
		"not there":          {fine + "- rule: r\n  condition: and a\n  override: {condition: append, desc: append}\n", "there is no desc here"},
		"not appendable":     {fine + "- rule: r\n  priority: info\n  override: {priority: append}\n", "priority can be replaced only"},
		"not changeable":     {fine + "- rule: r\n  source: tls\n  override: {source: replace}\n", `"source" cannot be changed`},
		"neither":            {fine + "- rule: r\n  desc: x\n  override: {desc: prepend}\n", `"prepend" is neither append nor replace`},
		"position of append": {fine + "- rule: r\n  append: true\n  condition: and procc.x = 1\n", `r.yaml:9:18: rule "r": condition: unknown field "procc.x"`},
		"exception name":     {fine + "  exceptions:\n  - {fields: proc.name}\n", "r.yaml:8:5: rule \"r\": condition: an exception needs a name"},
		"exception key":      {fine + "  exceptions:\n  - {name: a, fields: proc.name, value: []}\n", `an exception has no key "value"`},
		"exception fields":   {fine + "  exceptions:\n  - {name: a, values: []}\n", "exception a: fields is missing"},
		"exception field":    {fine + "  exceptions:\n  - {name: a, fields: proc.nam, values: [x]}\n", `r.yaml:8:23: rule "r": condition: unknown field "proc.nam"`},
		"exception comps":    {fine + "  exceptions:\n  - {name: a, fields: [proc.name, proc.pid], comps: [in], values: []}\n", "2 fields and 1 comps"},
		"exception forms":    {fine + "  exceptions:\n  - {name: a, fields: [proc.name], comps: in, values: []}\n", "both one word, or both lists"},
		"exception operator": {fine + "  exceptions:\n  - {name: a, fields: proc.name, comps: startswith, values: [a]}\n", "startswith does not take the values of one field"},
		"exception like":     {fine + "  exceptions:\n  - {name: a, fields: [proc.name], comps: [like], values: [[a]]}\n", `has no operator "like"`},
		"exception row":      {fine + "  exceptions:\n  - {name: a, fields: [proc.name, proc.pid], values: [[a]]}\n", "expected a list of 2 values"},
		"exception value":    {fine + "  exceptions:\n  - {name: a, fields: [proc.name], values: [[[a, b]]]}\n", "= takes one value"},
		"exception nothing":  {fine + "  exceptions:\n  - {name: a, fields: [proc.name], values: [[[]]]}\n", "r.yaml:8:46: rule \"r\": condition: exception a: = takes one value"},
		"exception again":    {fine + "  exceptions:\n  - {name: a, fields: proc.name}\n  - {name: a, fields: proc.name}\n", "is there already: only values can be added"},
		"macro too early":    {"- macro: a\n  condition: b\n- macro: b\n  condition: proc.name = x\n" + strings.Replace(fine, "proc.name = sh", "a and b", 1), "r.yaml:2:14: rule \"r\": macro a: macro b is defined later"},
		"macro cycle":        {"- macro: b\n  condition: proc.name = x\n- macro: a\n  condition: b\n- macro: b\n  condition: a\n" + strings.Replace(fine, "proc.name = sh", "a", 1), "refers to itself"},
		"list cycle":         {"- list: b\n  items: [x]\n- list: a\n  items: [b]\n- list: b\n  items: [a]\n" + strings.Replace(fine, "= sh", "in (a, b)", 1), "refers to itself"},
		"unused wrong macro": {"- macro: a\n  condition: procc.x = 1\n" + fine, "r.yaml:2:14: macro a: unknown field"},
		"macro key":          {"- macro: a\n  condition: evt.type = execve\n  items: [x]\n" + strings.Replace(fine, "proc.name = sh", "a", 1), `r.yaml:3:3: unknown key "items"`},
		"unused macro":       {"- macro: a\n  condition: evt.type = execve\n" + fine, "r.yaml:2:14: macro a is not used"},
		"unused list":        {"- list: a\n  items: [x]\n" + fine, "r.yaml:2:10: list a is not used"},
		"list of maps":       {"- list: a\n  items: [{x: y}]\n" + fine, "r.yaml:2:11: list a: expected a value"},
		"old engine":         {"- required_engine_version: 64\n" + fine, "r.yaml:1:28: the file requires engine version 0.64.0, and nothing of it is loaded; this is 0.63.0"},
		"engine major":       {"- required_engine_version: 1.0.0\n" + fine, "requires engine version 1.0.0"},
		"engine text":        {"- required_engine_version: new\n" + fine, "required_engine_version is a number, or a version"},
		"plugin":             {"- required_plugin_versions:\n  - {name: json, version: 0.1.0}\n" + fine, "requires plugin json 0.1.0"},
		"plugin version":     {"- required_plugin_versions:\n  - {name: container, version: 0.999.0}\n" + fine, "requires plugin container 0.999.0"},
		"plugin text":        {"- required_plugin_versions:\n  - {name: container, version: new}\n" + fine, `"new" is no version`},
		"plugin list":        {"- required_plugin_versions: container\n" + fine, "is a list of names and versions"},
		"idle mode":          {fine + "  mode: enforce\n", `r.yaml:7:9: rule "r": mode enforce has no effect: the action is alert`},
		"capture":            {fine + "  capture: true\n", `r.yaml:7:12: rule "r": capture has no effect: nothing is captured`},
		"capture length":     {fine + "  capture_duration: 5\n", `r.yaml:7:21: rule "r": capture_duration has no effect`},
		"mode":               {fine + "  mode: learn\n", `r.yaml:7:9: rule "r": unknown mode "learn": want off, audit or enforce`},
		"attack":             {fine + "  attack: [T1059, T15]\n", `r.yaml:7:19: rule "r": attack: "T15" is not of the form`},
		"attack tactic":      {fine + "  attack: TA0003\n", "is not of the form"},
		"window":             {fine + "  window: 5\n", "window: expected count, within, by and distinct"},
		"window count":       {fine + "  window: {count: 1, within: 1s}\n", "count is a number from 2"},
		"window within":      {fine + "  window: {count: 2, within: 1}\n", "within is a duration"},
		"window half":        {fine + "  window: {count: 2}\n", "count and within are needed"},
		"window by":          {fine + "  window: {count: 2, within: 1s, by: [proc.nam]}\n", `window: by: unknown field "proc.nam"`},
		"window key":         {fine + "  window: {count: 2, within: 1s, per: [proc.name]}\n", `"per" is unknown`},
		"no sensor yet":      {fine + "  source: posture\n", "no sensor supplies the source posture yet"},
		"refused":            {strings.Replace(fine, "proc.name = sh", "evt.buffer contains x", 1), "evt.buffer is refused: it is the plaintext"},
		"refused in output":  {strings.Replace(fine, "output: o", `output: "%evt.buffer"`, 1), "evt.buffer is refused"},
		"never":              {strings.Replace(fine, "proc.name = sh", "not proc.vpgid = 1 and evt.arg.fd = 2", 1), "holds for no event that is observed (not supplied: evt.arg.fd)"},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := load(t, tc.text)
			if len(problems) == 0 || !strings.Contains(problems[0].Error(), tc.want) {
				t.Errorf("got %v, want %q", problems, tc.want)
			}
		})
	}
}

func TestRequirements(t *testing.T) {
	if want := fmt.Sprintf("0.%d.0", EngineVersion()); engineVersion != want {
		t.Errorf("engine %s, want %s", engineVersion, want)
	}
	if sum := FieldsChecksum(); len(sum) != 64 || sum != FieldsChecksum() {
		t.Errorf("checksum %q", sum)
	}
	for _, text := range []string{
		"- required_engine_version: 63\n", "- required_engine_version: 0.57.0\n", "- required_engine_version: 0.62.1-rc1\n",
		"- required_plugin_versions:\n  - {name: container, version: 0.4.0}\n",
		"- required_plugin_versions:\n  - {name: other, version: 0.4.0, alternatives: [{name: container, version: 0.4.1}]}\n",
	} {
		if set, problems := load(t, text+fine); len(problems) > 0 || len(set.Rules()) != 1 {
			t.Errorf("%s: %v", text, problems)
		}
	}
}

// A file that was written for another version is left alone, wherever it says so. The others are loaded.
func TestUnmetRequirements(t *testing.T) {
	const other = "- rule: other\n  condition: evt.type = execve\n  output: o\n  priority: error\n"
	for _, text := range []string{
		"- required_engine_version: 64\n" + fine,
		fine + "- required_engine_version: 64\n",
		fine + "---\n- required_engine_version: 0.64.0\n",
		"- required_plugin_versions:\n  - {name: json, version: 0.1.0}\n" + fine,
	} {
		set, problems := Load(File{Name: "r.yaml", Data: []byte(text)}, File{Name: "other.yaml", Data: []byte(other)})
		if len(problems) != 1 || problems[0].ID != unmetRequirement || problems[0].Warning {
			t.Errorf("%s: %v", text, problems)
		}
		if all := set.Rules(); len(all) != 1 || all[0].Name != "other" {
			t.Errorf("%s: %d rules", text, len(all))
		}
	}
}

// A rule in mode off is disabled, whatever it would do.
func TestModeOff(t *testing.T) {
	for _, action := range []string{"", "  action: deny\n"} {
		set, problems := load(t, ruleOf("evt.type = execve")+action+"  mode: off\n")
		if len(problems) > 0 || len(set.Rules()) != 0 || len(set.Disabled()) != 1 || set.ByID(set.Disabled()[0].ID()) != nil {
			t.Errorf("%q: %d rules, %d disabled, %v", action, len(set.Rules()), len(set.Disabled()), problems)
		}
		if got := set.Match(shell(), All, nil); len(got) > 0 {
			t.Errorf("%q: it matches", action)
		}
	}
	const drift = "- rule: " + DriftRule + "\n  output: o\n  priority: error\n"
	if _, problems := load(t, drift+"  mode: off\n"); len(problems) != 1 || !strings.Contains(problems[0].Error(), "r.yaml:4:9: ") || !strings.Contains(problems[0].Message, "cannot be disabled") {
		t.Errorf("%v", problems)
	}
}

func TestOwnKeys(t *testing.T) {
	set, problems := load(t, fine+"  action: evict\n  mode: enforce\n  attack: [T1059.004, T1611]\n  window: {count: 5, within: 10s, by: [\"proc.aname[1]\", user.uid]}\n"+
		"- rule: r\n  attack: T1100\n  action: drain\n  override: {attack: append, action: replace}\n")
	if len(problems) != 0 {
		t.Fatalf("%v", problems)
	}
	r := set.Rules()[0]
	w := r.Window
	if r.Action != Drain || r.Mode != event.Enforce || !slices.Equal(r.Attack, []string{"T1059.004", "T1611", "T1505.003"}) ||
		w.Count != 5 || w.Within != 10*time.Second || !slices.Equal(w.By, []string{"proc.aname[1]", "user.uid"}) {
		t.Errorf("%+v", r)
	}
	if key := string(w.AppendKey(nil, shell())); key != "nginx\x0033\x00" {
		t.Errorf("key %q", key)
	}
	for a := Alert; a < actionCount; a++ {
		if got, err := ParseAction(a.String()); err != nil || got != a {
			t.Errorf("%s: %v, %v", a, got, err)
		}
	}
	if r.Line != 1 || r.Column != 3 || actionCount.String() != "unknown(7)" {
		t.Errorf("%d:%d %s", r.Line, r.Column, actionCount)
	}
}

func TestInfos(t *testing.T) {
	set, problems := load(t, "- list: l\n  items: [a, sh]\n- macro: m\n  condition: proc.name in (l)\n"+
		strings.Replace(fine, "proc.name = sh", "m and not container.ip != true and len(proc.name) = anyof (2)", 1))
	if len(problems) != 1 || problems[0].ID != notSupplied {
		t.Fatal(problems)
	}
	if got, want := set.Macros(), []MacroInfo{{"m", "proc.name in (l)", "r.yaml", 4, 14, true}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if got, want := set.Lists(), []ListInfo{{"l", []string{"a", "sh"}, "r.yaml", 2, 10, true}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	const why = "the runtime's files do not tell it"
	if got, want := set.Rules()[0].Checks(), []CheckInfo{
		{"evt.type = execve", "evt.type", "=", "", "r.yaml", 7, 14, true, "", InKernel},
		{"proc.name in (l)", "proc.name", "in", "m", "r.yaml", 4, 14, true, "", InUserSpace},
		{"container.ip != true", "container.ip", "!=", "", "r.yaml", 7, 46, false, why, InKernel},
		{"len(proc.name) = anyof (2)", "proc.name", "= anyof", "", "r.yaml", 7, 71, true, "", InUserSpace},
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

// The first rule in load order, or all of them.
func TestMatching(t *testing.T) {
	set, _ := load(t, fine+strings.Replace(fine, "rule: r", "rule: s", 1)+strings.Replace(strings.Replace(fine, "rule: r", "rule: t", 1), "= sh", "= x", 1))
	for m, want := range map[Matching]string{First: "r", All: "r s"} {
		var names []string
		for _, r := range set.Match(shell(), m, nil) {
			names = append(names, r.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%d: %s", m, got)
		}
	}
	if got := set.Match(access(event.Key{Op: event.OpRead}), All, nil); got != nil {
		t.Error(got)
	}
}
