package rule

import (
	"slices"
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
	return shortened(s)
}

// shortened is what the kernel keeps of a name.
func shortened(s string) string {
	const most = 15 // TASK_COMM_LEN without the final NUL
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
func commandLine(e *Env) string { return e.commandLine(name(e), arguments(e)) }

// commandLine writes the arguments with a name in argv[0]'s place; "" if they are not known.
func (e *Env) commandLine(name, all string) string {
	first, rest, more := strings.Cut(all, " ")
	if all == "" || first == name {
		return all
	}
	from := len(e.text)
	e.text = append(e.text, name...)
	if more {
		e.text = append(append(e.text, ' '), rest...)
	}
	return e.since(from)
}

// afterFirst is the arguments without argv[0]. That there are none is known too.
func afterFirst(all string) (rest string, ok bool) {
	_, rest, _ = strings.Cut(all, " ")
	return strings.TrimRight(rest, " "), all != ""
}

func processFields() []field {
	fields := []field{
		number("proc.pid", allClasses, func(e *Env) (int64, bool) { return int64(e.Event.Tgid), true }),
		number("proc.ppid", allClasses, func(e *Env) (int64, bool) { return int64(e.Event.Process.PPID), e.Event.Process.PPID != 0 }),
		number("proc.exe_ino", execs(), func(e *Env) (int64, bool) { return int64(e.Event.Exec.Inode), e.Event.Exec.Inode != 0 }),
		flag("proc.is_exe_unlinked", execs(), func(e *Env) bool { return e.Event.Exec.Unlinked }),
		flag("proc.is_exe_detached", execs(), func(e *Env) bool { return e.Event.Exec.Detached }),
		flag("proc.is_cwd_detached", execs(), func(e *Env) bool { return e.Event.Exec.CwdDetached }),
		flag("proc.stdio_inet", execs(), func(e *Env) bool { return e.Event.Exec.StdioInet }),
		text("proc.exeline", allClasses, arguments),
		{name: "thread.ismain", classes: allClasses, flag: func(e *Env) (bool, bool) { return e.Event.Tid == e.Event.Tgid, e.Event.Tid != 0 }},
		number("thread.tid", allClasses, func(e *Env) (int64, bool) { return int64(e.Event.Tid), e.Event.Tid != 0 }),
		flag("proc.is_script", execs(), func(e *Env) bool { return e.Event.Exec.Script }),
	}
	return slices.Concat(fields, memberFields(), capabilityFields(), executableFields(), startFields(), grouped('A',
		text("proc.name", allClasses, name),
		written(text("proc.cmdline", allClasses, commandLine))[0],
		text("proc.exepath", allClasses, image),
		text("proc.exe", allClasses, executed),
		field{name: "proc.args", classes: allClasses, whyOne: "arguments are kept as one text, in which a space may be one of theirs", text: func(e *Env) (string, bool) {
			return afterFirst(arguments(e))
		}},
		text("proc.cwd", allClasses, func(e *Env) string {
			if e.Event.Kind == event.Exec {
				return e.Event.Exec.Cwd
			}
			return e.Event.Process.Cwd
		}),
		number("proc.duration", allClasses, duration),
		flag("proc.is_exe_from_memfd", execs(), isFromMemory),
		number("user.uid", allClasses, userID),
	))
}

// memory begins the path of an anonymous file in memory. The rest is its name, which may have slashes.
const memory = "/memfd:"

func isFromMemory(e *Env) bool {
	return e.Event.Exec.Detached && strings.HasPrefix(e.Event.Exec.Path, memory)
}

// executed is argv[0], or what execve was called with if that is not known.
func executed(e *Env) string {
	first, _, _ := strings.Cut(arguments(e), " ")
	if first == "" && isExec(e.Event) {
		return e.Event.Exec.Filename
	}
	return first
}

// duration is how long the process has lived, in nanoseconds. Its start is known to a clock tick.
func duration(e *Env) (int64, bool) {
	start := e.Event.Process.Start
	switch {
	case isExec(e.Event) && e.Event.Exec.Start != 0:
		start = e.Event.Exec.Start
	case e.Event.Kind == event.Access && e.Event.Access.Start != 0:
		start = e.Event.Access.Start
	}
	return age(e, start), start != 0 && e.Event.Ktime != 0
}

// age is how long ago, in nanoseconds, something was that began at a clock tick.
func age(e *Env, start uint64) int64 {
	const tick = 10_000_000
	return max(0, int64(e.Event.Ktime)-int64(start)*tick)
}
