/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

/*
 * Holds a workload to its baseline. The same code learns, audits and denies (policy.h).
 *
 * Hooks, of which pkg/enforce loads those of the strongest rung that the kernel has:
 *  - lsm/NAME: the operation returns -EPERM;
 *  - fmod_ret/security_NAME: the same, where the list of LSMs lacks bpf;
 *  - raw_tp, which the agent runs itself to answer fanotify: executions only, before the next;
 *  - tp_btf/sched_process_exec: executions only. SIGKILL; the new image does not run an instruction;
 *  - cgroup/connect and its like: network only, beside any of the others;
 *  - tp_btf/sys_enter: system calls, which are learnt only, beside any of the others;
 *  - fentry/security_sock_graft: connections that a server takes, which are told for rules only;
 *  - fexit of dup and its like: descriptors of sockets, likewise;
 *  - fentry/udp_sendmsg and udpv6_sendmsg: questions to name servers, likewise;
 *  - fentry/tcp_sendmsg: what connections begin with, likewise;
 *  - fentry/cgroup_attach_task and tracepoints: nothing is decided there, runtimes are known by them (runtime.h);
 *  - tp_btf/sched_process_exit: the end of an agent in a container (protect.h).
 *
 * An LSM program is not called if one before it denied, so that none looks at the value so far.
 */

#include "kernel.h"
#include "event.h"
#include "emit.h"
#include "workload.h"
#include "path.h"
#include "task.h"
#include "exec.h"
#include "operation.h"

/* What this object writes; the ring buffer's value type carries it to the Go side. */
union enforce_record {
	struct exec_event exec;
	struct access_event access;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
	__type(value, union enforce_record);
} events SEC(".maps");

#include "runtime.h"
#include "policy.h"
#include "protect.h"
#include "namespace.h"

/*
 * Makes both programs of a hook. on_NAME(hook, arguments...) returns 0 or -EPERM. FUNCTION: of the
 * kernel, where it is not called security_NAME.
 */
#define ENFORCE(name, call, args...) ENFORCE_AT(name, security_##name, ARGS(call), args)

#define ENFORCE_AT(name, function, call, args...)						\
	SEC("lsm/" #name)									\
	int BPF_PROG(lsm_##name, args)								\
	{											\
		return on_##name(HOOK_LSM, call);						\
	}											\
	SEC("fmod_ret/" #function)								\
	int BPF_PROG(fmod_##name, args)								\
	{											\
		return on_##name(HOOK_FMOD_RET, call);						\
	}

#define ARGS(args...) args

static __always_inline void tell_exec(struct place *p)
{
	struct exec_event *e = &p->exec;

	describe_beside(e, p->task, p->who >> 32, p->file);
	if (p->answer.why & ACCESS_OTHER_NAME) {
		__builtin_memcpy(e->path, p->names[NAME].path, PATH_BYTES);
		e->path_len = p->name_len[NAME];
		e->path_facts = 0;
		e->flags |= EXEC_OTHER_NAME;
	}
	if (is_cwd_detached(p->number))
		e->flags |= EXEC_CWD_DETACHED;
	e->repeated = p->answer.repeated > 0xffff ? 0xffff : p->answer.repeated;
	e->header = EVENT_HEADER_BY(p->who, EVENT_EXEC_CHECK, p->answer.verdict, p->hook, &p->subject, EXEC_FIXED_BYTES);
	e->header.rule_id = p->answer.rule;
	if (bpf_ringbuf_output(&events, e, EXEC_FIXED_BYTES, BPF_RB_FORCE_WAKEUP))
		count_lost(EVENT_EXEC_CHECK);
}

/* Takes over what was described of an execution's file. */
static __always_inline void ask_exec(struct place *p)
{
	struct exec_event *e = &p->exec;
	struct file *file = p->file;

	p->dentry = BPF_CORE_READ(file, f_path.dentry);
	p->mnt = BPF_CORE_READ(file, f_path.mnt);
	p->inode = e->inode;
	p->device = e->device;
	/* A file without a full name is never in a baseline, whatever its name was. */
	p->nameless = e->path_facts;
	__builtin_memcpy(p->path.path, e->path, PATH_BYTES);
	p->access.path_len = e->path_len;
}

/* Decides about the execution of a place, whose file was described. */
static __always_inline int decide_exec(struct place *p)
{
	ask_exec(p);
	decide_path(p, true);
	if (p->answer.news)
		tell_exec(p);
	return verdict_of(&p->answer);
}

/* Describes the execution of a place, and decides about it. Global, as in deed.h. */
__noinline int check_described(__u32 number)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	struct linux_binprm *bprm;
	int verdict;

	if (!p)
		return VERDICT_UNPROVEN;
	bprm = p->bprm;		/* "p->" inside BPF_CORE_READ would be relocated too */
	p->file = BPF_CORE_READ(bprm, file);
	describe_exec(&p->exec, &p->walk, p->task, bprm);
	verdict = decide_exec(p);
	leave_place(p);
	return verdict;
}

/* Asks about an execution. */
static __always_inline int question_exec(struct linux_binprm *bprm, __u8 hook, struct subject *s)
{
	__u64 who = bpf_get_current_pid_tgid();
	struct place *p;

	if (!is_asked(s, OP_EXEC))
		return VERDICT_ALLOW;	/* allow: not ours to hold */
	p = begin_question(s, OP_EXEC, hook, who);
	if (!p)
		return VERDICT_UNPROVEN;
	p->bprm = bprm;
	return check_described(p->number);
}

/* A runtime that is denied the container's program goes on as a runtime: it has to tell its parent. */
static __always_inline int check_exec(struct linux_binprm *bprm, __u8 hook, struct subject *s)
{
	bool runtime, copy;
	int verdict;

	if (!current_subject(s))
		return VERDICT_ALLOW;	/* allow: out of scope, or the agent itself */
	runtime = s->workload.flags & MAY_BE_CONTAINER && is_marked();
	copy = runtime && stays_runtime((void *)bpf_get_current_task(), BPF_CORE_READ(bprm, file));
	if (copy && spares_copy(s))
		return VERDICT_ALLOW;	/* allow: a runtime's copy of itself */
	verdict = question_exec(bprm, hook, s);
	if (runtime && !copy && (verdict < VERDICT_DENY || verdict == VERDICT_UNPROVEN))
		end_runtime();
	return verdict;
}

static __always_inline int on_bprm_check_security(__u8 hook, struct linux_binprm *bprm)
{
	struct subject subject;
	int verdict = check_exec(bprm, hook, &subject);

	return result(verdict, &subject);
}

ENFORCE_AT(bprm_check_security, security_bprm_check, bprm, struct linux_binprm *bprm)

SEC("tp_btf/sched_process_exec")
int BPF_PROG(signal_sched_process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct subject subject;
	int verdict = check_exec(bprm, HOOK_SIGNAL, &subject);

	if (is_denied(verdict, &subject))
		bpf_send_signal(SIGKILL);
	return 0;
}

#include "enforce_fanotify.h"
#include "enforce_file.h"
#include "enforce_network.h"
#include "enforce_privilege.h"
#include "enforce_namespace.h"
#include "enforce_rights.h"
#include "enforce_syscall.h"
#include "enforce_accept.h"
#include "enforce_dup.h"
#include "message.h"
#include "enforce_dns.h"
#include "enforce_begin.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
