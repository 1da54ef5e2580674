package rule

import (
	"slices"
	"strings"
)

// Why Falco has a field that no event of ours has.
const (
	whyNoSensor  = "no sensor reads it yet"
	whyRuntime   = "the runtime's files do not tell it"
	whyCluster   = "the cluster's server is not asked about what runs in it"
	whyOpenFile  = "what is done with a file that is open is not observed"
	whyRemembers = "descriptors that a process has open are not kept"
	whyUsage     = "how much a process uses is not measured for events"
	whyOneEvent  = "events are looked at one by one"
	whyServices  = "ports are not looked up in /etc/services: ask for fd.sport and the like"
	whyFormer    = "only earlier versions of Falco, or sysdig, have it"
	whyBefore    = "it is what the system call returns, and the hooks are before that"
	whyNumber    = "the hooks are told the file or the socket, not the number of its descriptor"
	whyRefusedBy = "it is the plaintext of what programs read and write, which is never looked at"
)

// missing are names of one type that are not supplied for one reason. A check on one is false; what is refused by
// policy is never going to change.
type missing struct {
	group byte // of Falco's fields, if its official files use them
	why   string
	kind  missingKind
	names string // apart by spaces; [] behind one: something may stand in brackets, .*: or behind a dot
}

type missingKind uint8

const (
	aText missingKind = iota
	aNumber
	aFlag
	aList
	anyValue // text, number and address by the event: it is compared with whatever is written there
	aRefusal
)

// missingFields are known names of Falco's that no event of ours has: of its system call source, of its plugins for
// containers and for Kubernetes, and of its earlier versions.
func missingFields() []field {
	var all []field
	for _, m := range [][]missing{missingOfEvents(), missingOfProcesses(), missingOfDescriptors(), missingOfContainers(), formerFields()} {
		for _, one := range m {
			all = append(all, one.fields()...)
		}
	}
	return all
}

func missingOfEvents() []missing {
	return []missing{
		{'B', whyNumber, aText, "evt.arg.fd"},
		{'F', whyRefusedBy, aRefusal, "evt.buffer"},
		{0, "arguments have no numbers here: ask by name", aText, "evt.arg.*"},
		{0, "ask for the argument as evt.arg and its name, if that is supplied", anyValue, "evt.rawarg.*"},
		{0, "ask for evt.type", aNumber, "evt.type.is.*"},
		{0, "every alert has it beside its fields", aText, "evt.hostname"},
		{0, whyNoSensor, aText, "evt.category evt.abspath[] evt.abspath.src evt.abspath.dst fs.path.nameraw fs.path.source fs.path.target fs.path.sourceraw fs.path.targetraw"},
		{0, whyNoSensor, aNumber, "evt.cpu"},
		{0, whyOpenFile, aNumber, `evt.buflen evt.buflen.in evt.buflen.out evt.buflen.file evt.buflen.file.in evt.buflen.file.out evt.buflen.net
			evt.buflen.net.in evt.buflen.net.out`},
		{0, whyOpenFile, aFlag, "evt.is_io evt.is_io_read evt.is_io_write evt.is_wait evt.is_syslog"},
		{0, whyOpenFile, aText, "evt.io_dir"},
		{0, whyBefore, aNumber, `evt.latency evt.latency.s evt.latency.ns evt.latency.quantized evt.wait_latency
			evt.count.error evt.count.error.file evt.count.error.net evt.count.error.memory evt.count.error.other`},
		{0, whyBefore, aText, "evt.latency.human"},
		{0, whyOneEvent, aNumber, `evt.reltime evt.reltime.s evt.reltime.ns evt.deltatime evt.deltatime.s evt.deltatime.ns evt.around[]
			evt.count.exit evt.count.procinfo evt.count.threadinfo util.cnt`},
		{0, whyOneEvent, aText, "evt.outputtime"},
		{0, "there are no plugins, and no events of theirs", aText, "evt.pluginname evt.plugininfo evt.asynctype"},
		{0, whyFormer, aText, "evt.infra.docker.name evt.infra.docker.container.id evt.infra.docker.container.name evt.infra.docker.container.image"},
	}
}

func missingOfProcesses() []missing {
	return []missing{
		{0, "numbers of processes are not kept for ancestors beyond the parent: ask for proc.ppid", aNumber, "proc.apid[]"},
		{0, "environments are read of the acting process alone: ask for proc.env", aText, "proc.aenv[]"},
		{0, "arguments are kept as one text, in which a space may be one of theirs", aNumber, "proc.cmdnargs proc.cmdlenargs"},
		{0, whyNoSensor, aNumber, "proc.sid proc.vpgid proc.pvpid proc.loginshellid thread.vtid"},
		{0, whyNoSensor, aFlag, "proc.is_exe_writable proc.is_exe_lower_layer"},
		{0, whyNoSensor, aText, `proc.sid.exe proc.sid.exepath proc.vpgid.name proc.vpgid.exe proc.vpgid.exepath proc.pgid.name proc.pgid.exe proc.pgid.exepath
			thread.nametid`},
		{0, "a workload has one cgroup: ask for workload.name", aText, "thread.cgroups thread.cgroup.*"},
		{0, whyRemembers, aText, "proc.stdin.type proc.stdout.type proc.stderr.type proc.stdin.name proc.stdout.name proc.stderr.name"},
		{0, whyRemembers, aNumber, "proc.fdopencount proc.fdlimit"},
		{0, whyRemembers, anyValue, "proc.fdusage"},
		{0, whyUsage, aNumber, `proc.vmsize proc.vmrss proc.vmswap proc.nthreads proc.nchilds thread.pfmajor thread.pfminor thread.exectime thread.totexectime
			thread.vmsize thread.vmrss thread.vmsize.b thread.vmrss.b`},
		{0, whyUsage, anyValue, "thread.cpu thread.cpu.user thread.cpu.system"},
	}
}

func missingOfDescriptors() []missing {
	return []missing{
		{0, whyNoSensor, aNumber, "fd.ino fd.dev fd.dev.major fd.dev.minor"},
		{0, whyNoSensor, aFlag, "fd.is_server fd.is_upper_layer fd.is_lower_layer"},
		{0, whyRemembers, aList, "fd.types[]"},
		{0, whyRemembers, aText, "fd.uid fdlist.nums fdlist.names fdlist.cips fdlist.sips fdlist.cports fdlist.sports"},
		{0, "ask for container.id, and fd.name or fd.directory", aText, "fd.containername fd.containerdirectory"},
		{0, whyServices, anyValue, "fd.proto"},
		{0, whyServices, aText, "fd.cproto fd.sproto fd.lproto fd.rproto"},
	}
}

func missingOfContainers() []missing {
	const plugin = "k8smeta.pod.name k8smeta.pod.uid k8smeta.pod.ip k8smeta.pod.label.* k8smeta.pod.labels "
	var objects strings.Builder
	for _, object := range []string{"ns", "deployment", "svc", "rs", "rc"} {
		for _, of := range []string{"k8smeta." + object + ".name", "k8smeta." + object + ".uid", "k8smeta." + object + ".label.*", "k8smeta." + object + ".labels"} {
			objects.WriteString(of + " ")
		}
	}
	return []missing{
		{0, whyRuntime, aText, `container.info container.ip container.cni.json container.label.* container.labels container.healthcheck
			container.liveness_probe container.readiness_probe k8s.pod.sandbox_id k8s.pod.full_sandbox_id k8s.pod.cni.json k8s.pod.ip
			k8s.pod.label.* k8s.pod.labels`},
		{0, whyRuntime, aFlag, `container.host_pid container.host_network container.host_ipc
			proc.is_container_healthcheck proc.is_container_liveness_probe proc.is_container_readiness_probe`},
		{0, whyCluster, aText, `k8s.ns.id k8s.ns.label.* k8s.ns.labels k8s.rc.name k8s.rc.id k8s.rc.label.* k8s.rc.labels
			k8s.svc.name k8s.svc.id k8s.svc.label.* k8s.svc.labels k8s.rs.name k8s.rs.id k8s.rs.label.* k8s.rs.labels
			k8s.deployment.name k8s.deployment.id k8s.deployment.label.* k8s.deployment.labels`},
		{0, whyCluster, aText, plugin + objects.String()},
	}
}

// formerFields are of sources that Falco has given up: its tracers, Mesos, Marathon and the system log.
func formerFields() []missing {
	var tracers strings.Builder
	for _, span := range []string{"evtin.span.", "evtin.span.p.", "evtin.span.s.", "evtin.span.m.", "span."} {
		tracers.WriteString(span + "tags " + span + "tag.* " + span + "args " + span + "arg.* ")
	}
	return []missing{
		{0, whyFormer, aText, tracers.String()},
		{0, whyFormer, aNumber, `evtin.span.id evtin.span.ntags evtin.span.nargs evtin.span.p.id evtin.span.p.ntags evtin.span.p.nargs
			evtin.span.s.id evtin.span.s.ntags evtin.span.s.nargs evtin.span.m.id evtin.span.m.ntags evtin.span.m.nargs
			span.id span.ntags span.nargs span.count span.count.fortag.* span.childcount.fortag.* span.duration span.duration.fortag.*
			span.duration.quantized syslog.facility syslog.severity`},
		{0, whyFormer, aText, `span.enterargs span.enterarg.* span.idtag.* span.time span.rawtime span.rawparenttime span.duration.human
			syslog.facility.str syslog.severity.str syslog.message mesos.task.name mesos.task.id mesos.task.label.* mesos.task.labels
			mesos.framework.name mesos.framework.id marathon.app.name marathon.app.id marathon.app.label.* marathon.app.labels
			marathon.group.name marathon.group.id`},
	}
}

// fields makes them.
func (m missing) fields() []field {
	like := field{group: m.group, why: m.why}
	switch m.kind {
	case aNumber:
		like.number = func(*Env) (int64, bool) { return 0, false }
	case aFlag:
		like.flag = func(*Env) (bool, bool) { return false, false }
	case aList:
		like.list = func(*Env) ([]string, bool) { return nil, false }
	default:
		like.text = func(*Env) (string, bool) { return "", false }
		like.anything, like.refused = m.kind == anyValue, m.kind == aRefusal
	}
	var all []field
	for name := range strings.FieldsSeq(m.names) {
		one := like
		one.name, one.dotted = strings.CutSuffix(name, ".*")
		if one.name = strings.TrimSuffix(one.name, "[]"); one.name != name {
			one.takes = aKey
		}
		all = append(all, one)
	}
	return all
}

// named finds a field by its name, or by that of one and what may stand behind a dot: evt.arg.fd1, container.label.app.
func (s *scope) named(name string) (*field, bool) {
	if f, ok := s.fields[name]; ok {
		return f, true
	}
	if s.knowAll(); s.fields[name] != nil {
		return s.fields[name], true
	}
	for at := strings.LastIndexByte(name, '.'); at > 0; at = strings.LastIndexByte(name[:at], '.') {
		f, ok := s.fields[name[:at]]
		if !ok || !f.dotted || at == len(name)-1 {
			continue
		}
		if (f.name == "evt.arg" || f.name == "evt.rawarg") && !s.isArgument(name[at+1:]) {
			return nil, false
		}
		one := *f
		if one.name = name; f.name == "evt.arg" {
			one.why = "no hook tells this argument"
		}
		s.fields[name] = &one
		return &one, true
	}
	return nil, false
}

// isArgument says whether a call that Falco knows has such an argument.
func (s *scope) isArgument(name string) bool {
	_, supplied := s.fields["evt.arg."+name]
	return supplied || slices.Contains(strings.Fields(otherArguments), name)
}

// otherArguments are those of Falco's event table that no event of ours has.
const otherArguments = `
	ID action addr arg arg2 arg2_int arg2_str arg3 arg4 arg5 args argument argv aux backlog cap_effective cap_inheritable
	cap_permitted cgroups clockid comm container_id core cpu cpu_sys cpu_usr cq_entries creat_flags cur cwd data desc
	description dev dir dirfd dpid dqb_bhardlimit dqb_bsoftlimit dqb_btime dqb_curspace dqb_ihardlimit dqb_isoftlimit dqb_itime
	dqi_bgrace dqi_flags dqi_igrace egid entries env error euid event_data event_type exe exe_ino exe_ino_ctime exe_ino_mtime
	exe_ino_num exepath fd1 fd2 fd_in fd_out fd_type fdin fdlimit fdout fds features first gid home how id image img in_fd
	initval ino ino_num interval ip json key last len length level linkdirfd local_ip local_port loginuid mask max maxevents
	min_complete mnt_id mountfd msgcontrol nativeID newcur newdir newdirfd newfd newmax next nr_args nsems nsops nstype offin
	offout offset oldcur olddir olddirfd oldfd oldmax op opcode operation option optlen optname out_fd pathname peer pgft_maj
	pgft_min pgid pgoffset pid pid_fd pidns_init_start_ts plugin_id pos ppid prot proto ptid queuelen queuemax queuepct quota_fmt
	quota_fmt_out quotafilepath ratio reaper_tid remote_ip remote_port res res_or_fd resolve resource ret rgid root ruid scope
	sem_flg_0 sem_flg_1 sem_num_0 sem_num_1 sem_op_0 sem_op_1 semflg semid semnum sgid shell sid sig sigmask size sk_pointer
	sk_proto sk_type source special spid sq_entries sq_thread_cpu sq_thread_idle start_time status suid sun_path tags target_fd
	tid timeout to_submit trusted_exepath tty tuple type uargs val value_bytebuf value_charbuf vm_rss vm_size vm_swap vpgid vpid
	vtgid vtid whence`
