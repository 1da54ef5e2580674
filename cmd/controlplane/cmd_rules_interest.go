package main

import (
	"fmt"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// interestText is what the kernel asks of a kind of event. Of executions and what it knows no operation for, it
// tells every one; an execution it decides about before.
func interestText(i *rule.Interest, decides bool) string {
	if i.Kind != event.Access && i.Kind != event.ExecCheck {
		return i.Kind.String() + everyOne
	}
	if decides {
		return testsText(i) + " (this decides)"
	}
	return testsText(i)
}

const everyOne = "; every one"

// testsText lists what has to be so of an operation.
func testsText(i *rule.Interest) string {
	what := i.Kind.String()
	if i.Kind == event.Access {
		what = i.Op.String()
	}
	kind := what
	text := func(kind string, n int, nth func(int) string) {
		if n > 0 {
			what += "; " + kind + " " + some(n, nth)
		}
	}
	text("path", len(i.Paths), func(k int) string {
		switch t := i.Paths[k]; {
		case t.Prefix:
			return t.Text + "*"
		case t.Suffix:
			return "*" + t.Text
		default:
			return t.Text
		}
	})
	text("address", len(i.Networks), func(k int) string { return i.Networks[k].String() })
	text("port", len(i.Ports), func(k int) string {
		if p := i.Ports[k]; p.Low != p.High {
			return fmt.Sprintf("%d-%d", p.Low, p.High)
		}
		return fmt.Sprint(i.Ports[k].Low)
	})
	text("protocol", len(i.Protocols), func(k int) string { return i.Protocols[k].String() })
	text("number", len(i.Values), func(k int) string {
		if v := i.Values[k]; v.Bits < 32 {
			return fmt.Sprintf("%d/%d", v.Value, v.Bits)
		}
		return event.ValueName(i.Op, i.Values[k].Value)
	})
	if i.Longer > 0 {
		what += fmt.Sprintf("; name of %d bytes or more", i.Longer)
	}
	switch i.Where {
	case rule.OnHost:
		what += "; not in a container"
	case rule.InContainers:
		what += "; in a container"
	}
	for k := range i.Traits {
		what += "; " + traitText(&i.Traits[k])
	}
	if what == kind {
		what += everyOne
	}
	return what
}

// some of many, in words.
func some(n int, nth func(int) string) string {
	const shown = 5
	var names []string
	for k := range min(n, shown) {
		names = append(names, nth(k))
	}
	if n > shown {
		names = append(names, fmt.Sprintf("and %d more", n-shown))
	}
	return strings.Join(names, ", ")
}

// traitText is a test of who acts, or of the file that is executed.
func traitText(t *rule.TraitTest) string {
	words := map[rule.Trait][2]string{ // if it is so, and if not
		rule.ActorName:       {"by a process called", "by no process called"},
		rule.ActorFile:       {"by the program", "by no program"},
		rule.ParentName:      {"by a child of", "by no child of"},
		rule.ParentFile:      {"by a child of the program", "by no child of the program"},
		rule.AncestorName:    {"by a descendant of", "by no descendant of"},
		rule.ExecMemory:      {"of a file in memory", "of no file in memory"},
		rule.ExecUnlinked:    {"of a file that has no name", "of a file that has a name"},
		rule.ExecDetached:    {"of a file outside of the root", "of a file below the root"},
		rule.ExecUpper:       {"of a file that the container made", "of a file that the container did not make"},
		rule.ExecSocket:      {"with Internet sockets for input and output", "without Internet sockets for both input and output"},
		rule.OutsideBaseline: {"outside of the baseline", "not outside of a baseline"},
		rule.InBaseline:      {"in the baseline", "not in a baseline"},
		rule.ExecCwd:         {"from beyond the root", "from below the root"},
		rule.ByAncestor:      {"by an ancestor", "by no ancestor"},
		rule.HostNamespace:   {"into a namespace of the host", "into no other namespace of the host"},
	}[t.Trait]
	text := words[0]
	if t.Not {
		text = words[1]
	}
	if t.Trait.Named() {
		text += " " + some(len(t.Names), func(k int) string { return t.Names[k] })
	}
	return text
}
