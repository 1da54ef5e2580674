package rule

import (
	"strings"
	"testing"
)

// What a condition asks, and no hook knows, is remarked on in its place, once; not where it is known.
func TestDoubtfulChecks(t *testing.T) {
	const outcome, both = "before the call is done", "come in an event each"
	for condition, want := range map[string]string{
		"evt.type = openat and evt.res = SUCCESS":                                                       outcome,
		"evt.type = openat and fd.name = /x and evt.rawres >= 0":                                        outcome,
		"evt.type = connect and not evt.failed = true":                                                  outcome,
		"evt.type in (execve, openat) and evt.rawres = 0":                                               outcome,
		"evt.type = execve and evt.rawres = 0":                                                          "",
		"evt.type = execve and not evt.failed = true":                                                   "",
		"(evt.type = execve and evt.res = SUCCESS) or evt.type = openat":                                "",
		"(evt.type = openat and evt.res = SUCCESS) or evt.type = execve":                                outcome,
		"not (evt.type != openat or evt.res = SUCCESS)":                                                 outcome,
		"not (evt.type != execve or evt.res = SUCCESS)":                                                 "",
		"evt.type = rename and evt.arg.oldpath = /a and evt.arg.newpath startswith /b":                  both,
		"evt.type = link and (evt.arg.oldpath = /a and (evt.arg.newpath = /b or evt.arg.newpath = /c))": both,
		"evt.type = rename and evt.arg.newpath = /b and basename(evt.arg.oldpath) = a":                  both,
		"evt.type = rename and (evt.arg.oldpath = /a or evt.arg.newpath = /a)":                          "",
		"evt.type = rename and (evt.arg.oldpath startswith /a or evt.arg.newpath startswith /a) and (evt.arg.oldpath endswith a or evt.arg.newpath endswith a)": "",
		"evt.type = rename and evt.arg.oldpath startswith /a and evt.arg.oldpath endswith b":                                                                    "",
	} {
		_, problems := load(t, ruleOf(condition))
		if want == "" && len(problems) == 0 {
			continue
		}
		if want == "" || len(problems) != 1 || !problems[0].Warning || !strings.Contains(problems[0].Message, want) {
			t.Errorf("%s: %v, want %q", condition, problems, want)
		}
	}
	_, problems := load(t, "- macro: done\n  condition: evt.res = SUCCESS\n"+
		strings.Replace(ruleOf("evt.type = openat and done"), "r\n", "one\n", 1)+ruleOf("evt.type = connect and done"))
	if len(problems) != 1 || problems[0].ID != unknownOutcome || problems[0].Line != 2 || problems[0].Column != 14 {
		t.Errorf("%+v", problems)
	}
}
