package rule

// missingFields are known names of Falco's that no event of ours has. A check on one is false; what is
// refused by policy is never going to change.
func missingFields() []field {
	texts := field{text: func(*Env) (string, bool) { return "", false }}
	numbers := field{number: func(*Env) (int64, bool) { return 0, false }}
	flags := field{flag: func(*Env) (bool, bool) { return false, false }}
	indexed, keyed, refused := texts, texts, texts
	indexed.takes, keyed.takes, refused.refused = anIndex, aKey, true

	var all []field
	add := func(group byte, why string, like field, names ...string) {
		for _, n := range names {
			like.name, like.group, like.why = n, group, why
			all = append(all, like)
		}
	}
	const (
		noSensor  = "no sensor reads it yet"
		noRuntime = "the runtime's files do not tell it"
	)
	add('B', "it is what the system call returns, and the hooks are before that", texts, "evt.arg.fd")
	add('F', "it is the plaintext of what programs read and write, which is never looked at", refused, "evt.buffer")
	// Others of Falco's, which its official files do not use and other people's do.
	const none = 0
	add(none, "numbers of processes are not kept for ancestors beyond the parent: ask for proc.ppid", indexed, "proc.apid")
	add(none, noSensor, numbers, "proc.sid", "proc.vpgid", "proc.pvpid", "proc.loginshellid",
		"fd.ino", "fd.dev")
	add(none, noSensor, flags, "proc.is_exe_writable", "proc.is_exe_lower_layer",
		"fd.is_server", "fd.is_upper_layer", "fd.is_lower_layer")
	add(none, noSensor, texts, "proc.sid.exe", "proc.sid.exepath", "proc.vpgid.name", "proc.vpgid.exe", "proc.vpgid.exepath",
		"proc.pgid.name", "proc.pgid.exe", "proc.pgid.exepath", "evt.category", "evt.info", "evt.hostname",
		"evt.time.s", "evt.time.iso8601", "evt.datetime", "evt.datetime.s", "fs.path.nameraw", "fs.path.source", "fs.path.target")
	add(none, noRuntime, texts, "container.info", "container.ip", "k8s.pod.ip", "k8s.pod.labels", "k8s.rc.name", "k8s.svc.name", "k8s.deployment.name")
	add(none, noRuntime, keyed, "k8s.pod.label", "k8s.ns.label")
	return all
}
