package detect

import (
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/rule"
)

// whyDenied says why a rule denied what its condition does not say: it denies a file by all its names, and to give it
// another one. "" if it is not so, or another rule did it.
func whyDenied(r *rule.Rule, ev *event.Event) string {
	a := &ev.Access
	switch {
	case ev.RuleID == 0 || r.ID() != ev.RuleID:
		return ""
	case ev.Kind == event.ExecCheck && ev.Exec.OtherName:
		return "executed as " + ev.Exec.Filename
	case ev.Kind != event.Access:
		return ""
	case a.Renames && a.Op == event.OpLink:
		return "would give " + a.Path + " another name"
	case a.Renames:
		return "would give " + a.Path + ", or what is below it, another name"
	case a.Replaces:
		return "would replace " + a.Path
	case a.Reached != "":
		return "reached as " + a.Reached
	}
	return ""
}

func appendWhy(output []byte, why string) []byte {
	if why == "" {
		return output
	}
	return append(append(output, ": "...), why...)
}
