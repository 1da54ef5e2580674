/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * Containers may not get at the agent, whatever their mode is: signal or trace it, open its maps and programs, take
 * its links away, or touch its pins. It is the one thing that is denied without a baseline. The host's administrator
 * may. The next agent has to get at the pins. Where it will be a container, as this one is, that holds while this one lives.
 */

/* include/uapi/linux/bpf.h: enum bpf_cmd */
#define BPF_PROG_GET_FD_BY_ID 13
#define BPF_MAP_GET_FD_BY_ID 14
#define BPF_LINK_UPDATE 29
#define BPF_LINK_GET_FD_BY_ID 30
#define BPF_LINK_DETACH 34

/* What the agent has in the kernel. pkg/enforce repeats it. */
enum object_kind {
	OBJECT_MAP = 1,
	OBJECT_PROGRAM = 2,
	OBJECT_LINK = 3,
};

struct object_key {
	enum object_kind kind;
	__u32 id;
};

/* Written by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct object_key);
	__type(value, __u8);
} own_objects SEC(".maps");

/* The directory of the pins, written by the agent; 0: there is none. */
volatile __u64 pins_inode;
volatile __u32 pins_device;

/*
 * Until when that is kept from containers, in nanoseconds of CLOCK_MONOTONIC; 0: not at all. Written by the agent: for
 * ever, or, where it is in a container, a while ahead again and again.
 */
volatile __u64 protected_until;

#define FOR_EVER (~0ULL)

#define PIN_DEPTH 3		/* the directory, in it one for each agent, in that the pins */

static __always_inline bool is_pin(struct dentry *dentry)
{
	if (!pins_inode || BPF_CORE_READ(dentry, d_sb, s_dev) != pins_device)
		return false;
	for (int i = 0; i < PIN_DEPTH; i++) {
		if (BPF_CORE_READ(dentry, d_inode, i_ino) == pins_inode)
			return true;
		dentry = BPF_CORE_READ(dentry, d_parent);
	}
	return false;
}

/* Whether a subject is kept from something of the agent's that is protected until then. */
static __always_inline bool is_kept_out(struct subject *s, __u64 until)
{
	__u64 now;

	if ((s->workload.flags & (WORKLOAD_CONTAINER | WORKLOAD_OWN)) != WORKLOAD_CONTAINER)
		return false;
	now = bpf_ktime_get_ns();
	return now >= paused_until && now < until;
}

/*
 * The end of an agent in a container: with its last thread, and before its files are closed, so that the next one finds
 * nothing protected once it has the pins. Its hooks stay in force.
 */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(protect_exit, struct task_struct *task)
{
	if (is_agent(bpf_get_current_pid_tgid() >> 32) && !BPF_CORE_READ(task, signal, live.counter))
		protected_until = 0;
	return 0;
}

static __always_inline bool is_of_agent(struct task_struct *task)
{
	return BPF_CORE_READ(task, tgid) == agent_tgid && start_ticks(task) == agent_start;
}

static __always_inline bool attacks_agent(struct task_struct *target)
{
	struct subject subject;

	return is_of_agent(target) && current_subject(&subject) && is_kept_out(&subject, FOR_EVER);
}

static __always_inline bool attacks_object(enum object_kind kind, __u32 id)
{
	struct object_key key = { .kind = kind, .id = id };
	struct subject subject;

	return current_subject(&subject) && is_kept_out(&subject, protected_until) && bpf_map_lookup_elem(&own_objects, &key);
}

/* What a descriptor of the current process stands for; NULL: nothing. */
static __always_inline struct file *file_at(__u32 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **slots = BPF_CORE_READ(table, fd), *file = NULL;

	if (fd >= BPF_CORE_READ(table, max_fds) || bpf_probe_read_kernel(&file, sizeof(file), &slots[fd]))
		return NULL;
	return file;
}

/* The number of the link that a descriptor stands for; of another file, anything. */
static __always_inline __u32 link_of(__u32 fd)
{
	struct file *file = file_at(fd);
	struct bpf_link *link;

	if (!file)
		return 0;
	link = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(link, id);
}

/* Whether a call of bpf(2) gets at a link of the agent's: to others there are hooks when they are opened. */
static __always_inline bool attacks_link(int cmd, const void *attr)
{
	__u32 first = 0;

	if (cmd != BPF_LINK_GET_FD_BY_ID && cmd != BPF_LINK_DETACH && cmd != BPF_LINK_UPDATE)
		return false;
	if (bpf_probe_read_kernel(&first, sizeof(first), attr))
		return false;
	if (cmd != BPF_LINK_GET_FD_BY_ID)
		first = link_of(first);
	return attacks_object(OBJECT_LINK, first);
}

/* Denies a question, whatever the baseline says. */
static __always_inline void refuse(struct place *p, void *told, void *key)
{
	struct tally *tally = tally_of(p->subject.workload.id);

	p->answer = (struct answer){ .verdict = VERDICT_DENY };
	if (tally)
		tally->denied++;
	p->answer.news = tell(p, told, key);
}
