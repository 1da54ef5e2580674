package enforce

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor"
)

// hook is one program and where it is attached.
type hook struct {
	section   string // as the kernel and users name it
	program   string // in the object
	target    string // the kernel's function; empty: always there
	dimension event.Dimension
	carries   bool // without it the dimension is not held at all
	cgroup    ebpf.AttachType
	onDemand  bool // attached at first only to see whether it can be
	run       bool // not attached: we run it
}

// securityHook is an LSM hook, by the name of its LSM program.
type securityHook struct {
	lsm, fmod string // the hook's name, and its security_ function's where that differs
	program   string // behind the rung's prefix, where it is not called like the hook
	dimension event.Dimension
	carries   bool
	onlyLSM   bool
	byCgroup  bool // cgroup hooks take its place where there are some
}

func securityHooks() []securityHook {
	return []securityHook{
		{lsm: "bprm_check_security", fmod: "bprm_check", dimension: event.DimExec, carries: true},
		{lsm: "mmap_file", dimension: event.DimLibrary, carries: true},
		{lsm: "file_mprotect", dimension: event.DimLibrary},
		{lsm: "file_open", dimension: event.DimFile, carries: true},
		{lsm: "path_mknod", dimension: event.DimFile},
		{lsm: "path_mkdir", dimension: event.DimFile},
		{lsm: "path_symlink", dimension: event.DimFile},
		{lsm: "path_unlink", dimension: event.DimFile},
		{lsm: "path_rmdir", dimension: event.DimFile},
		{lsm: "path_truncate", dimension: event.DimFile},
		{lsm: "path_chmod", dimension: event.DimFile},
		{lsm: "path_chown", dimension: event.DimFile},
		{lsm: "path_chroot", dimension: event.DimFile},
		{lsm: "path_link", dimension: event.DimFile},
		{lsm: "path_rename", dimension: event.DimFile},
		{lsm: "sb_mount", dimension: event.DimFile},
		{lsm: "move_mount", dimension: event.DimFile},
		{lsm: "sb_pivotroot", dimension: event.DimFile},
		{lsm: "sb_umount", dimension: event.DimFile},
		{lsm: "task_alloc", dimension: event.DimFile},
		{lsm: "inode_rename", dimension: event.DimFile, onlyLSM: true},
		{lsm: "inode_link", dimension: event.DimFile, onlyLSM: true},
		{lsm: "unix_stream_connect", dimension: event.DimUnix, carries: true},
		{lsm: "unix_may_send", dimension: event.DimUnix},
		{lsm: "socket_bind", program: "unix_bind", dimension: event.DimUnix},
		{lsm: "socket_connect", dimension: event.DimNetwork, carries: true, byCgroup: true},
		{lsm: "socket_bind", dimension: event.DimNetwork, byCgroup: true},
		{lsm: "socket_listen", dimension: event.DimNetwork},
		{lsm: "capable", dimension: event.DimPrivilege, carries: true},
		{lsm: "task_alloc", program: "clone", dimension: event.DimPrivilege},
		{lsm: "bprm_creds_from_file", dimension: event.DimPrivilege},
		{lsm: "socket_create", dimension: event.DimPrivilege},
		{lsm: "ptrace_access_check", dimension: event.DimPrivilege},
		{lsm: "ptrace_traceme", dimension: event.DimPrivilege},
		{lsm: "task_kill", dimension: event.DimPrivilege},
		{lsm: "file_send_sigiotask", dimension: event.DimPrivilege},
		{lsm: "userns_create", fmod: "create_user_ns", dimension: event.DimPrivilege},
		{lsm: "kernel_read_file", dimension: event.DimPrivilege},
		{lsm: "kernel_load_data", dimension: event.DimPrivilege},
		{lsm: "bpf", dimension: event.DimPrivilege},
		{lsm: "bpf_map", dimension: event.DimPrivilege},
		{lsm: "bpf_prog", dimension: event.DimPrivilege},
		{lsm: "perf_event_open", dimension: event.DimPrivilege},
		{lsm: "inode_init_security_anon", dimension: event.DimPrivilege},
		{lsm: "task_fix_setuid", dimension: event.DimPrivilege},
		{lsm: "task_fix_setgid", dimension: event.DimPrivilege},
		{lsm: "key_alloc", dimension: event.DimPrivilege},
		{lsm: "key_permission", dimension: event.DimPrivilege},
	}
}

func cgroupHooks() []hook {
	return []hook{
		{section: "cgroup/connect4", program: "cgroup_connect4", cgroup: ebpf.AttachCGroupInet4Connect, carries: true, dimension: event.DimNetwork},
		{section: "cgroup/connect6", program: "cgroup_connect6", cgroup: ebpf.AttachCGroupInet6Connect, dimension: event.DimNetwork},
		{section: "cgroup/sendmsg4", program: "cgroup_sendmsg4", cgroup: ebpf.AttachCGroupUDP4Sendmsg, dimension: event.DimNetwork},
		{section: "cgroup/sendmsg6", program: "cgroup_sendmsg6", cgroup: ebpf.AttachCGroupUDP6Sendmsg, dimension: event.DimNetwork},
		{section: "cgroup/bind4", program: "cgroup_bind4", cgroup: ebpf.AttachCGroupInet4Bind, dimension: event.DimNetwork},
		{section: "cgroup/bind6", program: "cgroup_bind6", cgroup: ebpf.AttachCGroupInet6Bind, dimension: event.DimNetwork},
	}
}

// attachHook is the hook that knows runtimes before they are in a container; its tracepoint is a moment later.
const attachHook = "fentry/cgroup_attach_task"

// runtimeHooks are those by which container runtimes are known at work in containers. They decide nothing.
func runtimeHooks(r Strength) []hook {
	var hooks []hook
	switch r {
	case Cgroup: // runtimes connect to nobody there
		return nil
	case LSM, FmodRet: // a kernel with these has fentry
		hooks = append(hooks, hook{section: attachHook, program: "runtime_attach", target: "cgroup_attach_task"})
	}
	return append(hooks,
		hook{section: "tp_btf/cgroup_attach_task", program: "runtime_attached"},
		hook{section: "tp_btf/sched_process_fork", program: "runtime_fork"},
	)
}

// signalHooks know whose signals about files are. They decide nothing.
func signalHooks(r Strength) []hook {
	if r != LSM && r != FmodRet {
		return nil
	}
	return []hook{{
		section: "fentry/security_file_set_fowner", program: "signal_set_fowner", target: "security_file_set_fowner",
		dimension: event.DimPrivilege,
	}}
}

// exitHook sees the end of the agent.
const exitHook, exitProgram = "tp_btf/sched_process_exit", "protect_exit"

// endHooks end what Protect began. They decide nothing.
func endHooks(r Strength) []hook {
	if r != LSM && r != FmodRet { // nothing is protected there
		return nil
	}
	return []hook{{section: exitHook, program: exitProgram}}
}

// hook of this rung; false if the rung has none.
func (s securityHook) hook(r Strength) (hook, bool) {
	h := hook{dimension: s.dimension, carries: s.carries}
	name, program := s.lsm, cmp.Or(s.program, s.lsm)
	switch {
	case r == LSM:
		h.section, h.program, h.target = "lsm/"+name, "lsm_"+program, "bpf_lsm_"+name
		return h, true
	case r == FmodRet && !s.onlyLSM:
		function := cmp.Or(s.fmod, name)
		h.section, h.target = "fmod_ret/security_"+function, "security_"+function
		h.program = "fmod_" + program
		return h, true
	case (r == Signal || r == Fanotify) && s.dimension == event.DimExec:
		h.section, h.program = signalHook, "signal_sched_process_exec"
		return h, true
	}
	return h, false
}

// wanted lists the hooks of a rung, the indispensable one first.
func wanted(r rung, cfg Config) []hook {
	byCgroup := len(cfg.Cgroups) > 0
	var hooks []hook
	for _, s := range securityHooks() {
		h, ok := s.hook(r.strength)
		if !ok || !cfg.Dimensions.Has(s.dimension) || byCgroup && s.byCgroup {
			continue
		}
		hooks = append(hooks, h)
	}
	hooks = append(hooks, runtimeHooks(r.strength)...)
	if cfg.Dimensions.Has(event.DimPrivilege) {
		hooks = append(hooks, signalHooks(r.strength)...)
	}
	if cfg.InContainer {
		hooks = append(hooks, endHooks(r.strength)...)
	}
	if r.strength == Fanotify {
		hooks = append(hooks, hook{section: gateHook, program: gateProgram, dimension: event.DimExec, run: true})
	}
	if byCgroup && cfg.Dimensions.Has(event.DimNetwork) {
		hooks = append(hooks, cgroupHooks()...)
	}
	if cfg.Dimensions.Has(event.DimSyscalls) {
		hooks = append(hooks, hook{
			section: "tp_btf/sys_enter", program: syscallProgram, dimension: event.DimSyscalls, carries: true, onDemand: true,
		})
	}
	return hooks
}

// present splits off the hooks that this kernel does not have at all.
func present(shared *sensor.Shared, hooks []hook) (there, absent []hook) {
	for _, h := range hooks {
		if h.target == "" || shared.HasFunction(h.target) {
			there = append(there, h)
		} else {
			absent = append(absent, h)
		}
	}
	return there, absent
}

// attached is a program that is attached.
type attached struct {
	program string
	link    link.Link
	to      link.CgroupOptions // without its program; the zero value: no hook of a cgroup
}

// attachAll attaches every hook. It fails if the first one cannot be; why others
// are missing is told by program.
func attachAll(collection *ebpf.Collection, cfg Config, hooks []hook) (links []attached, missing map[string]error, err error) {
	missing = map[string]error{}
	for i, h := range hooks {
		if h.run {
			continue
		}
		more, err := attach(collection.Programs[h.program], h, cfg.Cgroups)
		if h.onDemand {
			for _, l := range more {
				err = errors.Join(err, l.link.Close())
			}
			more = nil
		}
		links = append(links, more...)
		if err == nil {
			continue
		}
		if i == 0 || !unsupported(err) {
			return nil, nil, errors.Join(fmt.Errorf("attach %s: %w", h.section, err), closeAll(links))
		}
		missing[h.program] = err
	}
	return links, missing, nil
}

func attach(program *ebpf.Program, h hook, cgroups []string) (links []attached, err error) {
	if h.cgroup != ebpf.AttachNone {
		for _, dir := range cgroups {
			to := link.CgroupOptions{Path: dir, Attach: h.cgroup}
			l, err := attachCgroup(program, to)
			if err != nil {
				return links, err
			}
			links = append(links, attached{h.program, l, to})
		}
		return links, nil
	}
	var l link.Link
	if program.Type() == ebpf.LSM {
		l, err = link.AttachLSM(link.LSMOptions{Program: program})
	} else {
		l, err = link.AttachTracing(link.TracingOptions{Program: program})
	}
	if err != nil {
		return nil, err
	}
	return []attached{{program: h.program, link: l}}, nil
}

func attachCgroup(program *ebpf.Program, to link.CgroupOptions) (link.Link, error) {
	to.Program = program
	l, err := link.AttachCgroup(to)
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", to.Path, err)
	}
	return l, nil
}
