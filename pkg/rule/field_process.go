package rule

import (
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// image is the executable in question: the new one of an exec, else the process's own.
func image(e *Env) string {
	if isExec(e.Event) {
		return e.Event.Exec.Path
	}
	return e.Event.Process.Path
}

// name is what the kernel calls the process, or will call it: the file that was executed, at most 15
// bytes of it. That need not be the executable's own name: links and scripts have theirs.
func name(e *Env) string {
	const most = 15 // TASK_COMM_LEN without the final NUL
	s := e.Event.Process.Comm
	switch e.Event.Kind {
	case event.Exec:
		s = e.Event.Exec.Comm
	case event.ExecCheck:
		s = base(e.Event.Exec.Filename)
	case event.Access:
		if e.Event.Access.Comm != "" {
			s = e.Event.Access.Comm
		}
	}
	if s == "" {
		s = base(image(e))
	}
	return s[:min(len(s), most)]
}

// arguments is the command line, argv[0] included. For an ExecCheck the new one is not known yet.
func arguments(e *Env) string {
	if isExec(e.Event) {
		return e.Event.Exec.Args
	}
	return e.Event.Process.Args
}

// commandLine is Falco's: the name and the arguments, whatever argv[0] is.
func commandLine(e *Env) string {
	all := arguments(e)
	first, rest, more := strings.Cut(all, " ")
	n := name(e)
	if all == "" || first == n {
		return all
	}
	from := len(e.text)
	e.text = append(e.text, n...)
	if more {
		e.text = append(append(e.text, ' '), rest...)
	}
	return e.since(from)
}

func processFields() []field {
	fields := []field{
		number("proc.pid", allClasses, func(e *Env) (int64, bool) { return int64(e.Event.Tgid), true }),
		number("proc.ppid", allClasses, func(e *Env) (int64, bool) { return int64(e.Event.Process.PPID), e.Event.Process.PPID != 0 }),
		number("proc.exe_ino", execs(), func(e *Env) (int64, bool) { return int64(e.Event.Exec.Inode), e.Event.Exec.Inode != 0 }),
		flag("proc.is_exe_unlinked", execs(), func(e *Env) bool { return e.Event.Exec.Unlinked }),
		flag("proc.is_exe_detached", execs(), func(e *Env) bool { return e.Event.Exec.Detached }),
		text("proc.exeline", allClasses, arguments),
		number("thread.tid", allClasses, func(e *Env) (int64, bool) { return int64(e.Event.Tid), e.Event.Tid != 0 }),
		flag("proc.is_script", execs(), func(e *Env) bool { return e.Event.Exec.Script }),
	}
	return append(fields, grouped('A',
		text("proc.name", allClasses, name),
		written(text("proc.cmdline", allClasses, commandLine))[0],
		text("proc.exepath", allClasses, image),
		text("proc.exe", allClasses, func(e *Env) string {
			first, _, _ := strings.Cut(arguments(e), " ")
			if first == "" && isExec(e.Event) {
				return e.Event.Exec.Filename
			}
			return first
		}),
		field{name: "proc.args", classes: allClasses, text: func(e *Env) (string, bool) {
			all := arguments(e)
			_, rest, _ := strings.Cut(all, " ")
			return strings.TrimRight(rest, " "), all != "" // none is known too
		}},
		text("proc.cwd", allClasses, func(e *Env) string {
			if e.Event.Kind == event.Exec {
				return e.Event.Exec.Cwd
			}
			return e.Event.Process.Cwd
		}),
		number("proc.duration", allClasses, duration),
		flag("proc.is_exe_from_memfd", execs(), func(e *Env) bool {
			return e.Event.Exec.Detached && strings.HasPrefix(e.Event.Exec.Path, "/memfd:")
		}),
		number("user.uid", allClasses, userID),
	)...)
}

// duration is how long the process has lived, in nanoseconds. Its start is known to a clock tick.
func duration(e *Env) (int64, bool) {
	const tick = 10_000_000
	start := e.Event.Process.Start
	switch {
	case isExec(e.Event) && e.Event.Exec.Start != 0:
		start = e.Event.Exec.Start
	case e.Event.Kind == event.Access && e.Event.Access.Start != 0:
		start = e.Event.Access.Start
	}
	return max(0, int64(e.Event.Ktime)-int64(start)*tick), start != 0 && e.Event.Ktime != 0
}

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

// ancestorFields name ancestors by their executables; what they call themselves is not kept.
func ancestorFields() []field {
	many := func(name string, at func(e *Env, n int) (string, bool)) field {
		return field{name: name, classes: allClasses, takes: anIndex, at: at}
	}
	return grouped('A',
		text("proc.pname", allClasses, func(e *Env) string { return base(ancestor(e, 1)) }),
		text("proc.pexepath", allClasses, func(e *Env) string { return ancestor(e, 1) }),
		many("proc.aname", func(e *Env, n int) (string, bool) {
			if n == 0 {
				s := name(e)
				return s, s != ""
			}
			s := base(ancestor(e, n))
			return s, s != ""
		}),
		many("proc.aexepath", func(e *Env, n int) (string, bool) { s := ancestor(e, n); return s, s != "" }),
	)
}
