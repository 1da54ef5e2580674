package rule

import "github.com/plumbline-io/plumbline/pkg/event"

// tcpFields are of connections that begin to carry data.
func tcpFields() []field {
	begins := text("tcp.begins", opsOf(event.OpTCPBegin), func(e *Env) string { return e.Event.Access.Begins.String() })
	for _, b := range event.Beginnings() {
		begins.words = append(begins.words, b.String())
	}
	return []field{begins}
}
