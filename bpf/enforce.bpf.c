/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

/*
 * Holds a workload to its baseline. The same code learns, audits and denies (policy.h).
 *
 * Hooks, of which pkg/enforce loads those of the strongest rung that the kernel has:
 *  - lsm/NAME: the operation returns -EPERM;
 *  - fmod_ret/security_NAME: the same, where the list of LSMs lacks bpf;
 *  - tp_btf/sched_process_exec: executions only. SIGKILL; the new image does not run an instruction;
 *  - cgroup/connect and its like: network only, beside any of the others;
 *  - tp_btf/sys_enter: system calls, which are learnt only, beside any of the others.
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

#include "policy.h"

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

static __always_inline void tell_exec(struct question *q, struct answer *a, struct linux_binprm *bprm)
{
	struct exec_event *e = &q->place->exec;

	describe_beside(e, (void *)bpf_get_current_task(), bprm);
	e->repeated = a->repeated > 0xffff ? 0xffff : a->repeated;
	e->header = EVENT_HEADER(EVENT_EXEC_CHECK, a->verdict, q->hook, q->subject, EXEC_FIXED_BYTES);
	e->header.rule_id = a->rule;
	if (bpf_ringbuf_output(&events, e, EXEC_FIXED_BYTES, BPF_RB_FORCE_WAKEUP))
		count_lost(EVENT_EXEC_CHECK);
}

static __always_inline int check_exec(struct linux_binprm *bprm, __u8 hook)
{
	struct question q = { .op = OP_EXEC, .hook = hook, .who = bpf_get_current_pid_tgid() };
	struct subject subject;
	struct answer answer;
	struct exec_event *e;

	if (!current_subject(&subject))
		return VERDICT_ALLOW;	/* allow: out of scope, or the agent itself */
	if (!is_asked(&subject, OP_EXEC))
		return VERDICT_ALLOW;	/* allow: not ours to hold */
	q.subject = &subject;
	q.place = take_place(q.who);
	if (!q.place)
		return no_place(&subject);
	e = &q.place->exec;
	describe_exec(e, &q.place->walk, (void *)bpf_get_current_task(), bprm);
	q.inode = e->inode;
	q.device = e->device;
	/* A file without a full name is never in a baseline, whatever its name was. */
	q.nameless = e->path_facts;
	__builtin_memcpy(q.place->path.path, e->path, PATH_BYTES);
	q.place->access.path_len = e->path_len;
	decide_path(&q, &answer);
	if (answer.news)
		tell_exec(&q, &answer, bprm);
	leave_place(q.place, q.who);
	return verdict_of(&answer);
}

static __always_inline int on_bprm_check_security(__u8 hook, struct linux_binprm *bprm)
{
	return result(check_exec(bprm, hook));
}

ENFORCE_AT(bprm_check_security, security_bprm_check, bprm, struct linux_binprm *bprm)

SEC("tp_btf/sched_process_exec")
int BPF_PROG(signal_sched_process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	if (is_denied(check_exec(bprm, HOOK_SIGNAL)))
		bpf_send_signal(SIGKILL);
	return 0;
}

#include "enforce_file.h"
#include "enforce_network.h"
#include "enforce_privilege.h"
#include "enforce_syscall.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
