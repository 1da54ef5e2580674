package rule

import (
	"unsafe"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Env is what a rule is matched against. It is for one goroutine.
type Env struct {
	Event     *event.Event
	Workload  Workload
	Wall      int64     // Unix nanoseconds of the event
	Number    int64     // of the event, counted from 1; 0: not known
	Facts     Facts     // nil: none are known
	Names     Names     // of hosts; nil: none are known
	Variables Variables // nil: none are known
	Alert     *Rule     // not nil: asked about is the alert that this rule raised for the event
	Count     int       // of a rule with a window, once it is reached: see the field window.count

	text  []byte   // values that have to be written out; each comparison begins anew
	items []string // lists likewise
	marks marks    // of the rules that the event may match

	rest, turns int // which of several values the variables have that are yet to be read, and of how many choices: see anyTurn
}

// Workload is who acted.
type Workload struct {
	Name, Kind, ContainerID, SPIFFEID string
}

// renew forgets the values that were written out.
func (e *Env) renew() { e.text, e.items = e.text[:0], e.items[:0] }

// since is what was written out from a position on. It is valid until renew.
func (e *Env) since(from int) string {
	b := e.text[from:]
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}
