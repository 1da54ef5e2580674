package rule

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Action is what a rule asks for.
type Action uint8

// The actions, weakest first. Deny and Kill stop the operation, Kill its process too, where Mode is enforce. With the
// others, the agent acts on the whole workload after the alert, where Mode is enforce.
const (
	Alert Action = iota
	Deny
	Kill
	Quarantine
	Drain
	Restart
	Evict
	actionCount
)

var actionNames = [...]string{"alert", "deny", "kill", "quarantine", "drain", "restart", "evict"}

func (a Action) String() string {
	if a < actionCount {
		return actionNames[a]
	}
	return fmt.Sprintf("unknown(%d)", uint8(a))
}

// Responds says whether the action is about the whole workload, and follows an alert.
func (a Action) Responds() bool { return a >= Quarantine && a < actionCount }

// ParseAction reads an action's name.
func ParseAction(s string) (Action, error) {
	for i, n := range actionNames {
		if n == s {
			return Action(i), nil
		}
	}
	return Alert, fmt.Errorf("unknown action %.40q: want %s", s, strings.Join(actionNames[:], ", "))
}

// Window makes a rule speak up only when Count matches fall within a time: those of one workload, with
// equal values of By. With Distinct, not the matches are counted but the different values of these fields.
// Count 0: there is no window.
type Window struct {
	Count        int
	Within       time.Duration
	By, Distinct []string

	by, distinct []*field
}

// Bounds of a window: what is counted is remembered one by one.
const (
	maxCount        = 10_000
	maxDistinct     = 1000
	maxWindowFields = 8
)

// Equal says whether two windows count the same.
func (w *Window) Equal(other *Window) bool {
	return w.Count == other.Count && w.Within == other.Within && slices.Equal(w.By, other.By) && slices.Equal(w.Distinct, other.Distinct)
}

// AppendKey writes the values of By: events with equal keys are counted together.
func (w *Window) AppendKey(dst []byte, e *Env) []byte { return appendValues(dst, w.by, e) }

// AppendDistinct writes the values of Distinct.
func (w *Window) AppendDistinct(dst []byte, e *Env) []byte { return appendValues(dst, w.distinct, e) }

func appendValues(dst []byte, fields []*field, e *Env) []byte {
	for _, f := range fields {
		dst = append(f.appendTo(dst, e), 0)
	}
	return dst
}

// Describe names the values of By, for people.
func (w *Window) Describe(e *Env) string {
	var text []byte
	for i, f := range w.by {
		if i > 0 {
			text = append(text, ' ')
		}
		text = f.appendTo(append(append(text, f.name...), '='), e)
	}
	return string(text)
}
