/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/* Namespaces of the host: those that its first process is in. */

#define NSFS_MAGIC 0x6e736673	/* include/uapi/linux/magic.h */

static __always_inline struct task_struct *first_process(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct upid *upid = upid_at(BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID]), 0);

	return BPF_CORE_READ(upid, ns, child_reaper);
}

#define NAMESPACE(task, kind) BPF_CORE_READ(task, nsproxy, kind, ns.inum)
#define USER_NAMESPACE(task) BPF_CORE_READ(task, cred, user_ns, ns.inum)

/* Whether this is the number of a namespace of the host's, in which the current task is not. */
static __always_inline bool is_host_namespace(__u32 number)
{
	struct task_struct *task = (void *)bpf_get_current_task(), *first = first_process();

	if (number == NAMESPACE(first, mnt_ns))
		return number != NAMESPACE(task, mnt_ns);
	if (number == NAMESPACE(first, pid_ns_for_children))
		return number != NAMESPACE(task, pid_ns_for_children);
	if (number == NAMESPACE(first, net_ns))
		return number != NAMESPACE(task, net_ns);
	if (number == NAMESPACE(first, ipc_ns))
		return number != NAMESPACE(task, ipc_ns);
	if (number == NAMESPACE(first, uts_ns))
		return number != NAMESPACE(task, uts_ns);
	if (number == NAMESPACE(first, cgroup_ns))
		return number != NAMESPACE(task, cgroup_ns);
	if (number == USER_NAMESPACE(first))
		return number != USER_NAMESPACE(task);
	return false;
}

/* Whether a task is in any namespace of the host's in which the current one is not. */
static __always_inline bool is_host_side(struct task_struct *other)
{
	return is_host_namespace(NAMESPACE(other, mnt_ns)) || is_host_namespace(NAMESPACE(other, pid_ns_for_children)) ||
	       is_host_namespace(NAMESPACE(other, net_ns)) || is_host_namespace(NAMESPACE(other, ipc_ns)) ||
	       is_host_namespace(NAMESPACE(other, uts_ns)) || is_host_namespace(NAMESPACE(other, cgroup_ns)) ||
	       is_host_namespace(USER_NAMESPACE(other));
}
