package process

import (
	"unsafe"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// entry is one process. Its texts share one buffer, which outlives the process: entries are reused.
type entry struct {
	pid, ppid, uid uint32
	start          uint64
	member         event.Membership
	generation     uint32 // counts the processes that this entry has been
	parentGen      uint32
	parent         *entry
	in             *list
	prev, next     *entry

	text                     []byte
	pathEnd, argsEnd, cwdEnd int // the rest is comm

	exited, partial bool
}

func (e *entry) path() string { return e.slice(0, e.pathEnd) }
func (e *entry) args() string { return e.slice(e.pathEnd, e.argsEnd) }
func (e *entry) cwd() string  { return e.slice(e.argsEnd, e.cwdEnd) }
func (e *entry) comm() string { return e.slice(e.cwdEnd, len(e.text)) }

// slice aliases the entry's buffer; that is what makes Fill free of allocations.
func (e *entry) slice(from, to int) string {
	if from >= to {
		return ""
	}
	return unsafe.String(&e.text[from], to-from)
}

func (e *entry) setImage(path, args, cwd, comm string) {
	e.text = append(e.text[:0], path...)
	e.pathEnd = len(e.text)
	e.text = append(e.text, args...)
	e.argsEnd = len(e.text)
	e.text = append(e.text, cwd...)
	e.cwdEnd = len(e.text)
	e.text = append(e.text, comm...)
}

// copyImage is what fork does: the child runs its parent's image.
func (e *entry) copyImage(parent *entry) {
	e.text = append(e.text[:0], parent.text...)
	e.pathEnd, e.argsEnd, e.cwdEnd = parent.pathEnd, parent.argsEnd, parent.cwdEnd
	e.uid, e.partial, e.member = parent.uid, parent.partial, parent.member
}

func (e *entry) link(parent *entry) {
	if parent == nil || parent == e {
		return
	}
	e.parent, e.parentGen = parent, parent.generation
}

// ancestor is the parent, as long as the table remembers it.
func (e *entry) ancestor() *entry {
	if e.parent == nil || e.parent.generation != e.parentGen {
		return nil
	}
	return e.parent
}

// startedAt says whether the process is the one that started then. 0 is not known.
func (e *entry) startedAt(start uint64) bool {
	return e.start == start || e.start == 0 || start == 0
}

// isProcess is startedAt for a process that is known to run: one that ended is not it, unless both
// start times say so.
func (e *entry) isProcess(start uint64) bool {
	if e.exited && (e.start == 0 || start == 0) {
		return false
	}
	return e.startedAt(start)
}

// adopt takes a start time if none is known.
func (e *entry) adopt(start uint64) {
	if e.start == 0 {
		e.start = start
	}
}

// list is a queue of entries, oldest first, threaded through them.
type list struct {
	first, last *entry
	n           int
}

// oldestBut is the first entry that is not keep, nil if there is none.
func (l *list) oldestBut(keep *entry) *entry {
	if l.first == keep && keep != nil {
		return keep.next
	}
	return l.first
}

func (l *list) push(e *entry) {
	e.in, e.prev, e.next = l, l.last, nil
	if l.last == nil {
		l.first = e
	} else {
		l.last.next = e
	}
	l.last = e
	l.n++
}

// move makes e the newest of l.
func (l *list) move(e *entry) {
	if l.last == e {
		return
	}
	e.in.remove(e)
	l.push(e)
}

func (l *list) remove(e *entry) {
	if e.prev == nil {
		l.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		l.last = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.in, e.prev, e.next = nil, nil, nil
	l.n--
}
