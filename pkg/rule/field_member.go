package rule

import (
	"github.com/plumbline-io/plumbline/pkg/event"
)

// membership is what the process belongs to; false: it is not known.
func membership(e *Env) (*event.Membership, bool) {
	m := &e.Event.Process.Membership
	if isExec(e.Event) {
		m = &e.Event.Exec.Membership
	}
	return m, m.VPID != 0
}

// memberFields are of the process's session, process group and pid namespace.
func memberFields() []field {
	ofMember := func(name string, get func(*event.Membership) uint32) field {
		return number(name, allClasses, func(e *Env) (int64, bool) {
			m, ok := membership(e)
			return int64(get(m)), ok
		})
	}
	leads := func(name string, get func(*event.Membership) uint32) field {
		return field{name: name, classes: allClasses, flag: func(e *Env) (bool, bool) {
			m, ok := membership(e)
			return get(m) == e.Event.Tgid, ok
		}}
	}
	group := func(m *event.Membership) uint32 { return m.Group }
	session := func(m *event.Membership) uint32 { return m.Session }
	fields := []field{ofMember("proc.pgid", group), leads("proc.is_pgid_leader", group), leads("proc.is_sid_leader", session)}
	return append(fields, grouped('A',
		ofMember("proc.tty", func(m *event.Membership) uint32 { return m.TTY }),
		ofMember("proc.vpid", func(m *event.Membership) uint32 { return m.VPID }),
		leads("proc.is_vpgid_leader", group), // who leads a group does so in every namespace
		text("proc.sname", allClasses, func(e *Env) string { return e.Event.Process.Leader }),
	)...)
}

// namespaceAge is how long ago the first process of the pid namespace was started; that of the host is not asked
// about.
func namespaceAge(e *Env) (int64, bool) {
	m, ok := membership(e)
	ok = ok && m.VPID != e.Event.Tgid && m.Namespace != 0 && e.Event.Ktime != 0
	return age(e, m.Namespace), ok
}

// startFields tell, as in Falco, when a container was started by its pid namespace.
func startFields() []field {
	duration := number("container.duration", allClasses, func(e *Env) (int64, bool) {
		since, ok := namespaceAge(e)
		return since, ok && e.Workload.ContainerID != ""
	})
	start := number("container.start_ts", allClasses, func(e *Env) (int64, bool) {
		since, ok := namespaceAge(e)
		return e.Wall - since, ok && e.Workload.ContainerID != ""
	})
	start.group = 'E'
	namespace := number("proc.pidns_init_start_ts", allClasses, func(e *Env) (int64, bool) {
		since, ok := namespaceAge(e)
		return e.Wall - since, ok
	})
	// As in Falco, a file that was changed before has none.
	changed := number("proc.exe_ino.ctime_duration_pidns_start", execs(), func(e *Env) (int64, bool) {
		since, ok := namespaceAge(e)
		after := int64(e.Event.Exec.Changed) - (e.Wall - since)
		return after, ok && after > 0
	})
	return []field{duration, start, namespace, changed}
}

// capabilityFields are in Falco's form: names with spaces between them.
func capabilityFields() []field {
	ofThread := func(name string, get func(*event.Capabilities) uint64) field {
		return field{name: name, classes: results(), writes: true, text: func(e *Env) (string, bool) {
			c := &e.Event.Access.Capabilities
			if isExec(e.Event) {
				c = &e.Event.Exec.Capabilities
			}
			from := len(e.text)
			e.text = event.AppendCapabilities(e.text, get(c))
			return e.since(from), c.Known
		}}
	}
	fields := grouped('A',
		ofThread("thread.cap_permitted", func(c *event.Capabilities) uint64 { return c.Permitted }),
		ofThread("thread.cap_effective", func(c *event.Capabilities) uint64 { return c.Effective }),
	)
	return append(fields, ofThread("thread.cap_inheritable", func(c *event.Capabilities) uint64 { return c.Inheritable }))
}

// executableFields are of the file that is executed.
func executableFields() []field {
	return grouped('A',
		number("proc.exe_ino.ctime", execs(), func(e *Env) (int64, bool) {
			return int64(e.Event.Exec.Changed), e.Event.Exec.Changed != 0
		}),
		number("proc.exe_ino.mtime", execs(), func(e *Env) (int64, bool) {
			return int64(e.Event.Exec.Modified), e.Event.Exec.Modified != 0
		}),
		// As in Falco, a file that was changed after the process began has none.
		number("proc.exe_ino.ctime_duration_proc_start", execs(), func(e *Env) (int64, bool) {
			since, ok := duration(e)
			before := e.Wall - since - int64(e.Event.Exec.Changed)
			return before, ok && before > 0 && e.Event.Exec.Changed != 0
		}),
		flag("proc.is_exe_upper_layer", execs(), func(e *Env) bool { return e.Event.Exec.Upper }),
	)
}
