package baseline

import (
	"iter"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// entry is what is known about one key. A node may have hundreds of thousands, so it is kept small.
type entry struct {
	count       uint64
	changed     moment // of an executable: ctime of its file on this node
	first, last second
	partial     bool // seen running, its start was not observed
}

// fold adds what is known about the same key, or one that this one stands for.
func (e *entry) fold(other *entry) {
	e.count += other.count
	e.partial = e.partial && other.partial
	e.first, e.last = min(e.first, other.first), max(e.last, other.last)
	if e.changed != other.changed {
		e.changed = 0 // of another node
	}
}

// entries are those of a profile by their keys. Most keys are paths, which need no room for an address.
type entries struct {
	paths  map[pathKey]*entry
	others map[event.Key]*entry
}

type pathKey struct {
	op   event.Operation
	path string
}

func newEntries(paths, others int) entries {
	return entries{make(map[pathKey]*entry, paths), make(map[event.Key]*entry, others)}
}

// get returns nil if there is none.
func (s entries) get(k event.Key) *entry {
	if k.Op.OnPath() {
		return s.paths[pathKey{k.Op, k.Path}]
	}
	return s.others[k]
}

func (s entries) set(k event.Key, e *entry) {
	if k.Op.OnPath() {
		s.paths[pathKey{k.Op, k.Path}] = e
		return
	}
	s.others[k] = e
}

func (s entries) remove(k event.Key) {
	if k.Op.OnPath() {
		delete(s.paths, pathKey{k.Op, k.Path})
		return
	}
	delete(s.others, k)
}

func (s entries) len() int { return len(s.paths) + len(s.others) }

// all lists them in no order. What is removed meanwhile is not listed any more.
func (s entries) all() iter.Seq2[event.Key, *entry] {
	return func(yield func(event.Key, *entry) bool) {
		for k, e := range s.paths {
			if !yield(event.Key{Op: k.op, Path: k.path}, e) {
				return
			}
		}
		for k, e := range s.others {
			if !yield(k, e) {
				return
			}
		}
	}
}

func (s entries) clone() entries {
	c := newEntries(len(s.paths), len(s.others))
	for k, e := range s.all() {
		copied := *e
		c.set(k, &copied)
	}
	return c
}
