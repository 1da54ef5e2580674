package rule_test

import (
	"fmt"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

func Example() {
	set, problems := rule.Load(rule.File{Name: "mine.yaml", Data: []byte(`
- list: shells
  items: [sh, bash]
- rule: Web server spawned a shell
  desc: A shell below nginx
  condition: evt.type = execve and proc.pname = nginx and proc.name in (shells)
  output: "%proc.name by %proc.pname"
  priority: warning
`)})
	fmt.Println(problems)

	ev := event.Event{Kind: event.Exec}
	ev.Exec = event.ExecInfo{Path: "/usr/bin/dash", Comm: "sh"}
	ev.Process = event.Process{Parent: "/usr/sbin/nginx"}
	env := rule.Env{Event: &ev}
	for _, r := range set.Match(&env, rule.First, nil) {
		fmt.Printf("%s: %s\n", r.Severity, r.AppendOutput(nil, &env))
	}
	// Output:
	// []
	// Warning: sh by nginx
}
