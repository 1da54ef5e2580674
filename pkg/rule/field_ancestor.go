package rule

import (
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// ancestor is the executable of the nth ancestor: 0 is the process itself, 1 its parent.
func ancestor(e *Env, n int) string {
	switch lineage := e.Event.Process.Lineage; {
	case n == 0:
		return image(e)
	case n <= len(lineage):
		return lineage[n-1]
	case n == 1:
		return e.Event.Process.Parent
	}
	return ""
}

// ancestorArguments is the command line of the nth ancestor, "" if it is not known.
func ancestorArguments(e *Env, n int) string {
	switch {
	case n == 0:
		return arguments(e)
	case n <= len(e.Event.Process.Ancestors):
		return e.Event.Process.Ancestors[n-1].Args
	}
	return ""
}

// ancestorLine is Falco's command line of the nth ancestor, which begins with what it is called.
func ancestorLine(e *Env, n int) string {
	if n == 0 {
		return commandLine(e)
	}
	all := ancestorArguments(e, n)
	if all == "" {
		return ""
	}
	comm := e.Event.Process.Ancestors[n-1].Comm
	if comm == "" {
		comm = shortened(base(ancestor(e, n)))
	}
	return e.commandLine(comm, all)
}

// ancestorExe is argv[0] of the nth ancestor.
func ancestorExe(e *Env, n int) string {
	first, _, _ := strings.Cut(ancestorArguments(e, n), " ")
	return first
}

// ancestorFields name ancestors by their executables, as long as Falco's names are; their arguments are those of their last exec, or of
// when they were found running.
func ancestorFields() []field {
	many := func(name string, at func(e *Env, n int) (string, bool)) field {
		return field{name: name, classes: allClasses, takes: anIndex, at: at}
	}
	manyTexts := func(name string, get func(e *Env, n int) string) field {
		return many(name, func(e *Env, n int) (string, bool) { s := get(e, n); return s, s != "" })
	}
	fields := []field{
		written(manyTexts("proc.acmdline", ancestorLine))[0],
		many("proc.aargs", func(e *Env, n int) (string, bool) { return afterFirst(ancestorArguments(e, n)) }),
		number("proc.ppid.duration", allClasses, func(e *Env) (int64, bool) {
			parent := parentOf(e)
			return age(e, parent.Start), parent.Start != 0 && e.Event.Ktime != 0
		}),
		number("proc.pid.ts", allClasses, func(e *Env) (int64, bool) {
			since, ok := duration(e)
			return e.Wall - since, ok
		}),
		number("proc.ppid.ts", allClasses, func(e *Env) (int64, bool) {
			parent := parentOf(e)
			return e.Wall - age(e, parent.Start), parent.Start != 0 && e.Event.Ktime != 0
		}),
	}
	return append(fields, grouped('A',
		text("proc.pname", allClasses, func(e *Env) string { return shortened(base(ancestor(e, 1))) }),
		text("proc.pexepath", allClasses, func(e *Env) string { return ancestor(e, 1) }),
		text("proc.pexe", allClasses, func(e *Env) string { return ancestorExe(e, 1) }),
		written(text("proc.pcmdline", allClasses, func(e *Env) string { return ancestorLine(e, 1) }))[0],
		manyTexts("proc.aname", func(e *Env, n int) string {
			if n == 0 {
				return name(e)
			}
			return shortened(base(ancestor(e, n)))
		}),
		manyTexts("proc.aexepath", ancestor),
		manyTexts("proc.aexe", func(e *Env, n int) string {
			if n == 0 {
				return executed(e)
			}
			return ancestorExe(e, n)
		}),
	)...)
}

func parentOf(e *Env) event.Ancestor {
	if len(e.Event.Process.Ancestors) == 0 {
		return event.Ancestor{}
	}
	return e.Event.Process.Ancestors[0]
}
