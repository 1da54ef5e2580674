package rule

import (
	"slices"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// Trait is something about who acts, or about the file that is executed, that the kernel can test. Files are known by
// their names, without directories; one that is in none, such as a memfd, by all that the kernel calls it.
type Trait uint8

// The traits. An execution is the deed of the process as it was before: its parent and ancestors are those of that
// process, and what is to run has traits of its own.
const (
	TraitUnspecified Trait = iota
	ActorName              // proc.name: what the process is called; of an execution, what it will be called
	ActorFile              // basename(proc.exepath), of anything but an execution
	ParentName             // proc.pname: of the parent's file, the first 15 bytes
	ParentFile             // basename(proc.pexepath)
	AncestorName           // proc.aname: of the files of the parent, its parent and so on, the first 15 bytes; any of them
	ExecMemory             // proc.is_exe_from_memfd = true
	ExecUnlinked           // proc.is_exe_unlinked = true
	ExecDetached           // proc.is_exe_detached = true
	ExecUpper              // proc.is_exe_upper_layer = true
	ExecSocket             // proc.stdio_inet = true
	OutsideBaseline        // evt.verdict in (audit, deny)
	InBaseline             // evt.in_baseline = true: of a workload that still learns, neither this nor OutsideBaseline is so
	ExecCwd                // proc.is_cwd_detached = true
	ByAncestor             // evt.by_ancestor = true
	HostNamespace          // evt.is_host_namespace = true
	TraitCount
)

// What the kernel compares of a name.
const (
	MaxName = 15 // bytes of ActorName, ParentName and AncestorName
	MaxFile = 62 // of ActorFile and ParentFile: the kernel reads one more, to know that there is none
)

// TraitTest is about one trait; of those that are names, it is one of Names.
type TraitTest struct {
	Trait Trait
	Names []string // sorted, none twice, each 1 to MaxName or MaxFile bytes; nil for traits that are yes or no
	Not   bool     // the test is that it is not so
}

// Named says whether the trait is a name, and not yes or no.
func (t Trait) Named() bool { return t >= ActorName && t <= AncestorName }

// passes says whether an event passes the test. What nothing is known of has no name.
func (t *TraitTest) passes(e *Env) bool { return t.holds(e) != t.Not }

func (t *TraitTest) holds(e *Env) bool {
	x := &e.Event.Exec
	switch t.Trait {
	case ActorName:
		return t.has(name(e))
	case ActorFile:
		return t.hasFile(image(e))
	case ParentName:
		return t.has(shortened(base(ancestor(e, 1))))
	case ParentFile:
		return t.hasFile(ancestor(e, 1))
	case AncestorName:
		return t.hasAncestor(e)
	case ExecMemory:
		return isFromMemory(e)
	case ExecUnlinked:
		return x.Unlinked
	case ExecDetached:
		return x.Detached
	case ExecUpper:
		return x.Upper
	case ExecSocket:
		return x.StdioInet
	case OutsideBaseline:
		return e.Event.Verdict != event.Allow
	case InBaseline:
		return e.Event.Access.Known
	case ExecCwd:
		return x.CwdDetached
	case ByAncestor:
		return e.Event.Access.ByAncestor
	case HostNamespace:
		return e.Event.Access.HostNamespace
	default:
		return false
	}
}

func (t *TraitTest) has(name string) bool {
	_, ok := slices.BinarySearch(t.Names, name)
	return ok
}

func (t *TraitTest) hasFile(path string) bool {
	return t.has(base(path)) || strings.HasPrefix(path, memory) && t.has(path[1:])
}

func (t *TraitTest) hasAncestor(e *Env) bool {
	for n := 1; ; n++ {
		switch path := ancestor(e, n); {
		case path == "":
			return false
		case t.has(shortened(base(path))):
			return true
		}
	}
}
