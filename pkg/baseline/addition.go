package baseline

import (
	"bytes"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// learntHead begins the comment that names the additions which a baseline was learnt with. It is a comment because earlier
// agents refuse a field that they do not know, and hold the workload to nothing. Without it the file is an earlier version's, or
// somebody's who has thought of none of them.
const learntHead = "# Learnt with: "

// additionsHead says what was learnt with, and what was not.
func (p *Profile) additionsHead() (text string) {
	if !p.held.Has(event.DimPrivilege) {
		return ""
	}
	if with := event.AllAdditions &^ p.lacks; with != 0 {
		text = learntHead + strings.Join(with.Names(), ", ") + "\n"
	}
	if p.lacks != 0 {
		text += "# An earlier version has learnt it, without " + strings.Join(p.lacks.Names(), ", ") + ": audited, and not enforced.\n"
	}
	return text
}

// learntWith reads that comment, of those that a file begins with. What only a later version knows does not count.
func learntWith(data []byte) (with event.Additions) {
	for line := range bytes.Lines(data) {
		if line[0] != '#' {
			break
		}
		list, ok := strings.CutPrefix(string(bytes.TrimRight(line, "\r\n")), learntHead)
		if !ok {
			continue
		}
		for name := range strings.SplitSeq(list, ", ") {
			if a, err := event.ParseAddition(name); err == nil {
				with = with.With(a)
			}
		}
	}
	return with
}
