/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/* What a task is, beside its program: its numbers, its terminal and what it may do. */

#define PIDTYPE_TGID 1		/* include/linux/pid_types.h */
#define PIDTYPE_PGID 2
#define PIDTYPE_SID 3

/* What a pid is in one of its namespaces, by level. */
static __always_inline struct upid *upid_at(struct pid *pid, __u32 level)
{
	return (void *)pid + bpf_core_field_offset(struct pid, numbers) +
	       (level & 63) * bpf_core_type_size(struct upid);	/* MAX_PID_NS_LEVEL is 32 */
}

/* The number of a pid in the initial namespace. */
static __always_inline __u32 outermost_number(struct pid *pid)
{
	struct upid *upid = upid_at(pid, 0);

	return BPF_CORE_READ(upid, nr);
}

/* The process in the innermost pid namespace of the task. */
static __always_inline struct upid *innermost(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID]);

	return upid_at(pid, BPF_CORE_READ(pid, level));
}

static __always_inline __u32 innermost_number(struct task_struct *task)
{
	struct upid *upid = innermost(task);

	return BPF_CORE_READ(upid, nr);
}

/* When the first process of that namespace was started, as start_ticks(). */
static __always_inline __u64 namespace_ticks(struct task_struct *task)
{
	struct upid *upid = innermost(task);

	return start_ticks(BPF_CORE_READ(upid, ns, child_reaper));
}

/* The terminal that controls a task's session, as /proc/PID/stat field 7 has it; 0: none. */
static __always_inline __u32 terminal_of(struct task_struct *task)
{
	struct tty_struct *tty = BPF_CORE_READ(task, signal, tty);
	__u32 major, minor;

	if (!tty)
		return 0;
	major = BPF_CORE_READ(tty, driver, major);
	minor = BPF_CORE_READ(tty, driver, minor_start) + BPF_CORE_READ(tty, index);
	return (minor & 0xff) | major << 8 | (minor & ~0xffU) << 12;	/* new_encode_dev() */
}

struct capabilities {
	__u64 permitted;	/* a bit for each, see capabilities(7) */
	__u64 effective;
	__u64 inheritable;
};

static __always_inline void read_capabilities(struct capabilities *c, struct task_struct *task)
{
	const struct cred *cred = BPF_CORE_READ(task, cred);

	bpf_core_read(&c->permitted, sizeof(c->permitted), &cred->cap_permitted);
	bpf_core_read(&c->effective, sizeof(c->effective), &cred->cap_effective);
	bpf_core_read(&c->inheritable, sizeof(c->inheritable), &cred->cap_inheritable);
}
