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

/* The number of a process in its innermost namespace. */
static __always_inline __u32 innermost_number(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID]);
	struct upid *upid = upid_at(pid, BPF_CORE_READ(pid, level));

	return BPF_CORE_READ(upid, nr);
}

/* The terminal that controls a task's session, as /proc/PID/stat field 7 has it; 0: none. */
static __always_inline __u32 terminal_of(struct signal_struct *signal)
{
	struct tty_struct *tty = BPF_CORE_READ(signal, tty);
	__u32 major, minor;

	if (!tty)
		return 0;
	major = BPF_CORE_READ(tty, driver, major);
	minor = BPF_CORE_READ(tty, driver, minor_start) + BPF_CORE_READ(tty, index);
	return (minor & 0xff) | major << 8 | (minor & ~0xffU) << 12;	/* new_encode_dev() */
}

#define TS_COMPAT 2		/* arch/x86/include/asm/thread_info.h */
#define TIF_32BIT (1 << 22)	/* arch/arm64/include/asm/thread_info.h */

/* Whether the current task is in a system call of a 32-bit program, which has other numbers. */
static __always_inline bool is_compat(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (bpf_core_field_exists(task->thread_info.status))
		return BPF_CORE_READ(task, thread_info.status) & TS_COMPAT;
	return BPF_CORE_READ(task, thread_info.flags) & TIF_32BIT;
}

/* As they stand in struct cred, one behind the other. */
struct capabilities {
	__u64 inheritable;	/* a bit for each, see capabilities(7) */
	__u64 permitted;
	__u64 effective;
};

static __always_inline void capabilities_of(struct capabilities *c, const struct cred *cred)
{
	bpf_probe_read_kernel(c, sizeof(*c), (void *)cred + bpf_core_field_offset(struct cred, cap_inheritable));
}

static __always_inline void read_capabilities(struct capabilities *c, struct task_struct *task)
{
	capabilities_of(c, BPF_CORE_READ(task, cred));
}

#define DESCENT 16		/* generations that are looked at */

/* Whether the current process is the parent of a task's process, the parent of that, and so on. */
static __always_inline bool is_above(struct task_struct *task)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	for (int i = 0; i < DESCENT; i++) {
		struct task_struct *parent = BPF_CORE_READ(task, real_parent);

		if (BPF_CORE_READ(parent, tgid) == tgid)
			return true;
		if (parent == task)
			return false;	/* the first of all */
		task = parent;
	}
	return false;
}
