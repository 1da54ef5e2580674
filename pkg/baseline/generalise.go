package baseline

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Widening is one entry that came to stand for several.
type Widening struct {
	Op     event.Operation
	From   []event.Key // sorted
	To     event.Key
	Reason string
}

func (w Widening) String() string {
	more := ""
	if n := len(w.From) - 1; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%s%s became %s: %s", w.From[0], more, w.To, w.Reason)
}

// The ports that Linux gives to who asks for any, ip_local_port_range.
const (
	firstEphemeral = 32768
	lastEphemeral  = 60999
)

// Generalise replaces what differs from run to run: a path with a segment that is random or a number
// becomes all that is below the segment's directory, ephemeral ports become any port. It tells each
// replacement, sorted; doing it again changes nothing. Executables and libraries stay as they are, and
// so do the directories that a system consists of. A profile that does not learn any more is not widened.
func (p *Profile) Generalise() []Widening {
	if !p.learning() {
		return nil
	}
	keys := p.Keys()
	seen := gather(keys)
	reasons := map[event.Key]string{}
	for _, k := range keys {
		to, reason := seen.wider(k)
		if _, twice := reasons[to]; reason != "" && !twice {
			reasons[to] = reason
		}
	}
	patterns := p.patterns(reasons)
	from := map[event.Key][]event.Key{}
	for _, k := range keys {
		if to, e := patterns.find(k); e != nil && to != k {
			from[to] = append(from[to], k)
		}
	}
	var done []Widening
	for _, to := range patterns.Keys() {
		if len(from[to]) > 0 && p.replace(from[to], to) {
			done = append(done, Widening{to.Op, from[to], to, reasons[to]})
		}
	}
	return done
}

// patterns is a profile of the new patterns alone, without those that a wider one stands for.
func (p *Profile) patterns(reasons map[event.Key]string) *Profile {
	patterns := New(p.workload, p.kind, p.held)
	for to := range reasons {
		if _, wider := p.wider(to); wider == nil {
			patterns.insert(to, entry{})
		}
	}
	patterns.settle()
	return patterns
}

// replace lets one entry stand for others, if there is room.
func (p *Profile) replace(from []event.Key, to event.Key) bool {
	into := p.entries.get(to)
	if into == nil {
		// The new entry takes the place of the first one.
		first := *p.entries.get(from[0])
		p.remove(from[0])
		if !p.insert(to, first) {
			p.insert(from[0], first)
			return false
		}
		into, from = p.entries.get(to), from[1:]
	}
	for _, k := range from {
		into.fold(p.entries.get(k))
		p.remove(k)
	}
	return true
}

// seen is what the keys of a profile tell about what varies.
type seen struct {
	names map[slot]string // the name in a slot, several if there are more
	ports map[event.Key]int
}

// slot is a directory's names that are equal but for what may vary.
type slot struct {
	op        event.Operation
	dir, stem string
}

// several is no name.
const several = "/"

func gather(keys []event.Key) seen {
	s := seen{names: map[slot]string{}, ports: map[event.Key]int{}}
	for _, k := range keys {
		if hasEphemeralPort(k) {
			s.ports[anyPort(k)]++
		}
		for dir, name := range names(k) {
			if stem := stemOf(dir, name); stem != "" {
				at := slot{k.Op, dir, stem}
				if first, ok := s.names[at]; ok && first != name {
					name = several
				}
				s.names[at] = name
			}
		}
	}
	return s
}

// wider is the key that is to stand for k, and why; no reason: k stays.
func (s seen) wider(k event.Key) (to event.Key, reason string) {
	if n := s.ports[anyPort(k)]; n > 1 && hasEphemeralPort(k) {
		return anyPort(k), fmt.Sprintf("%d ephemeral ports were seen", n)
	}
	for dir, name := range names(k) {
		reason := random(name)
		switch {
		case reason != "":
		case dir == "/proc/" && isNumber(name):
			reason = "process ids differ from run to run"
		case s.names[slot{k.Op, dir, stemOf(dir, name)}] == several:
			reason = "names that differ in a number or in random letters were seen"
		}
		if reason != "" && mayWiden(k.Op, dir) {
			return event.Key{Op: k.Op, Path: dir + "**"}, reason
		}
	}
	return event.Key{}, ""
}

func hasEphemeralPort(k event.Key) bool {
	return k.Op.OnAddress() && k.Op != event.OpListen && k.Port >= firstEphemeral && k.Port <= lastEphemeral
}

func anyPort(k event.Key) event.Key {
	k.Port = 0
	return k
}

// names yields what a key's path consists of, each with the directory that it is in, if the path may
// become a pattern at all.
func names(k event.Key) iter.Seq2[string, string] {
	return func(yield func(dir, name string) bool) {
		if d := k.Op.Dimension(); d != event.DimFile && d != event.DimUnix || !strings.HasPrefix(k.Path, "/") {
			return
		}
		for start := 1; ; {
			name, _, more := strings.Cut(k.Path[start:], "/")
			if !yield(k.Path[:start], name) || !more {
				return
			}
			start += len(name) + 1
		}
	}
}

// mayWiden says whether a directory, which ends in a slash, may be allowed as a whole. What a system
// consists of may at most be read, and that not at the first level.
func mayWiden(op event.Operation, dir string) bool {
	top, rest, _ := strings.Cut(strings.TrimPrefix(dir, "/"), "/")
	depth := strings.Count(dir, "/") - 1
	switch {
	case depth == 0 || len(dir) > maxPrefix:
		return false
	case top == "proc": // who writes there configures the kernel
		return op == event.OpRead
	case strings.HasPrefix(dir, "/dev/shm/"):
		return true
	case strings.HasPrefix(top, "lib") || slices.Contains([]string{"bin", "boot", "dev", "etc", "root", "sbin", "sys", "usr"}, top):
		return op == event.OpRead && depth > 1
	case top == "home": // nor a user's home directory
		return depth > 2
	case top == "var":
		return depth > 1 && !slices.Contains([]string{"cache/", "lib/", "log/", "spool/"}, rest)
	}
	return depth > 1 || !slices.Contains([]string{"media", "mnt", "opt", "run", "srv"}, top)
}
