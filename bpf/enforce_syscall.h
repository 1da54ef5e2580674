/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * The first time that a workload in learn mode makes a system call. Nothing is decided here. The agent
 * attaches the program only while somebody learns: as long as it is, every call of the machine takes the
 * kernel's slower way.
 */

#define SYSCALLS 512		/* more than any architecture has; a multiple of 64 */

/*
 * What was told of a generation: native calls, then those of 32-bit programs. Bits are set without a lock;
 * one that gets lost costs another look into fact_entries, which has the last word.
 */
struct syscalls_seen {
	__u32 generation;
	__u32 reserved;
	__u64 words[2 * SYSCALLS / 64];
};

/* Key: workload id. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct syscalls_seen);
} syscalls_seen SEC(".maps");

static __always_inline struct syscalls_seen *seen_of(struct workload *w)
{
	struct syscalls_seen nothing = { .generation = w->generation };
	struct syscalls_seen *seen = bpf_map_lookup_elem(&syscalls_seen, &w->id);

	if (seen && seen->generation == w->generation)
		return seen;
	if (bpf_map_update_elem(&syscalls_seen, &w->id, &nothing, BPF_ANY))
		count_lost(FAULT_MAP_FULL);
	return bpf_map_lookup_elem(&syscalls_seen, &w->id);
}

/*
 * Whether this is still the program of whoever starts the workload: init's, a container runtime's, or that of an
 * agent that records. Which calls it makes before it executes the workload's program is none of the workload's.
 */
static __always_inline bool is_starter(struct subject *subject)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (is_runtime(subject))
		return true;
	if (has_executed(task))
		return false;
	return BPF_CORE_READ(task, real_parent, tgid) == agent_tgid || is_starting();
}

/* false: there was no room to work in; the next call tries again. */
static __always_inline bool learn_syscall(struct subject *subject, __u32 value)
{
	__u64 who = bpf_get_current_pid_tgid();
	struct place *p = begin_question(subject, OP_SYSCALL, HOOK_TRACEPOINT, who);

	if (!p)
		return false;
	p->answer = (struct answer){};
	__builtin_memset(&p->fact, 0, sizeof(p->fact));
	p->fact.workload = subject->workload.id;
	p->fact.generation = subject->workload.generation;
	p->fact.operation = OP_SYSCALL;
	p->fact.value = value;
	if (remember(p, &fact_entries, &told_facts, &p->fact)) {
		struct tally *tally = tally_of(subject->workload.id);

		if (tally)
			tally->learnt++;
		tell_fact(p);
	}
	leave_place(p);
	return true;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(learn_sys_enter, struct pt_regs *regs, long id)
{
	struct syscalls_seen *seen;
	struct subject subject;
	__u64 *word, bit;
	__u32 number = id;

	if (!current_subject(&subject))
		return 0;
	if (subject.workload.mode != MODE_LEARN || !is_held(&subject, OP_SYSCALL))
		return 0;
	if (id < 0 || id >= SYSCALLS)
		return 0;	/* none of Linux's: the kernel refuses it */
	seen = seen_of(&subject.workload);
	if (!seen)
		return 0;
	if (is_compat())
		number += SYSCALLS;
	barrier_var(number);
	number &= 2 * SYSCALLS - 1;
	word = &seen->words[number / 64];
	bit = 1ULL << (number % 64);
	if (*word & bit || is_starter(&subject))
		return 0;
	if (learn_syscall(&subject, (number / SYSCALLS) << 16 | (number % SYSCALLS)))
		*word |= bit;
	return 0;
}
