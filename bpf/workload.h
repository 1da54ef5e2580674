/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * Which workload the current task belongs to. The first guard of every program: a task outside the
 * scope costs one map lookup and leaves no trace.
 */

/* Which hierarchy names workloads, chosen in user space (pkg/workload.Hierarchy). */
#define HIERARCHY_V2 0xffffffffU	/* the default hierarchy; else the index of a v1 controller */

const volatile __u32 hierarchy = HIERARCHY_V2;
/* cgroup_root.hierarchy_id of the same hierarchy, to tell its cgroup_mkdir events apart. */
const volatile __u32 hierarchy_id;
/* true: only cgroups in the map exist for us. false: unknown cgroups are observed as workload 0. */
const volatile bool scoped = true;
/* The agent itself is never reported and never denied. Its pid alone may be another's later. */
const volatile __u32 agent_tgid;
const volatile __u64 agent_start;	/* start_ticks */

#define WORKLOAD_WORDS 3

struct workload {
	__u32 id;		/* given by the agent, > 0 */
	enum mode mode;
	__u32 generation;	/* of the policy; part of every policy key */
	__u32 flags;		/* WORKLOAD_* */
	__u32 held;		/* 1 << enum dimension: what the mode is about */
	__u32 softened;		/* the same, and ADDED_*: enforced as audit, because something is not known */
} __attribute__((aligned(8)));

/*
 * The kernel writes the next value of a map into an element that it has just taken out, whoever still reads there: what is
 * copied from it may be another's by then, or partly so. The seal is of the whole and of whom it is about.
 */
struct sealed_workload {
	struct workload workload;
	__u64 seal;
};

_Static_assert(sizeof(struct workload) == WORKLOAD_WORDS * sizeof(__u64), "all of it is sealed");

#define SEAL 0xd1342543de82ef95ULL	/* odd; pkg/sensor has it too */

static __always_inline __u64 seal_of(const __u64 *words, __u64 whose)
{
	return whose + words[0] * SEAL + words[1] * SEAL * SEAL + words[2] * SEAL * SEAL * SEAL;
}

static __always_inline void seal(struct sealed_workload *sealed, __u64 whose)
{
	__u64 words[WORKLOAD_WORDS];

	__builtin_memcpy(words, &sealed->workload, sizeof(words));
	sealed->seal = seal_of(words, whose);
}

/* false: it is not whose it should be, or changed meanwhile. */
static __always_inline bool unseal(struct workload *w, const struct sealed_workload *sealed, __u64 whose)
{
	__u64 words[WORKLOAD_WORDS];

	__builtin_memcpy(words, &sealed->workload, sizeof(words));
	barrier_var(words[0]);	/* what is compared is what was copied: each word is read once */
	barrier_var(words[1]);
	barrier_var(words[2]);
	__builtin_memcpy(w, words, sizeof(words));
	return seal_of(words, whose) == sealed->seal;
}

/* What stands in it, as one number. */
static __always_inline __u64 standing_of(const struct workload *w)
{
	__u64 words[WORKLOAD_WORDS];

	__builtin_memcpy(words, w, sizeof(words));
	return seal_of(words, 0);
}

/* The same of an element without a look at what stands in it: that of no workload, where it is not whose it should be. */
static __always_inline __u64 sealed_standing(const struct sealed_workload *sealed, __u64 whose)
{
	return *(const volatile __u64 *)&sealed->seal - whose;
}

/* Inherited from the parent cgroup in the kernel: user space has not seen it yet. */
#define WORKLOAD_INHERITED 1
/* A container: it may not touch the agent, whatever its mode. */
#define WORKLOAD_CONTAINER 2
/* Rules that deny do so here. */
#define WORKLOAD_PROTECTED 4
/* The agent's own container, which is not kept from it. */
#define WORKLOAD_OWN 8

/* Key: cgroup id, for which the value is sealed. Written by the agent and by process_cgroup_mkdir (inheritance). */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct sealed_workload);
} workloads SEC(".maps");

/* USER_HZ is 100 on every architecture we build for. */
static __always_inline __u64 start_ticks(struct task_struct *task)
{
	struct task_struct___old *old = (void *)task;
	__u64 ns;

	if (bpf_core_field_exists(task->start_boottime))
		ns = BPF_CORE_READ(task, group_leader, start_boottime);
	else
		ns = BPF_CORE_READ(old, real_start_time);
	return ns / 10000000;
}

static __always_inline __u64 task_cgroup_id(struct task_struct *task)
{
	struct cgroup_subsys_state *css;
	struct css_set *set = BPF_CORE_READ(task, cgroups);

	if (hierarchy == HIERARCHY_V2)
		return BPF_CORE_READ(set, dfl_cgrp, kn, id);
	if (bpf_core_read(&css, sizeof(css), &set->subsys[hierarchy & 15]))
		return 0;
	return BPF_CORE_READ(css, cgroup, kn, id);
}

/* The helper takes a tenth of the time of the reads. */
static __always_inline __u64 current_cgroup_id(void)
{
	if (hierarchy == HIERARCHY_V2)
		return bpf_get_current_cgroup_id();
	return task_cgroup_id((struct task_struct *)bpf_get_current_task());
}

/* The same in programs that may follow pointers: no helper, and no locks of its own. */
static __always_inline __u64 followed_cgroup_id(void)
{
	if (hierarchy == HIERARCHY_V2 && bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf))
		return bpf_get_current_task_btf()->cgroups->dfl_cgrp->kn->id;
	return current_cgroup_id();
}

/*
 * The element of a cgroup; NULL: it has none. The kernel puts a new value in front of its bucket and then takes the old one
 * out: who is between the two finds neither. Where every cgroup has an element that is worth another look.
 */
static __always_inline struct sealed_workload *workload_at(const __u64 *cgroup_id)
{
	struct sealed_workload *sealed = bpf_map_lookup_elem(&workloads, cgroup_id);

	return sealed || scoped ? sealed : bpf_map_lookup_elem(&workloads, cgroup_id);
}

#define LOOKS 2	/* at an element, before nobody knows what it holds */

/*
 * What is known of a cgroup. false: nothing. Where it was another's each time, that is counted, and nobody is denied
 * something for what others may not do; the cgroup is told from one that is not in the map by WORKLOAD_INHERITED.
 */
static __always_inline bool read_workload(struct workload *w, const __u64 *cgroup_id)
{
	struct sealed_workload *known;

	ROLLED for (__u32 i = 0; i < LOOKS; i++) {
		known = workload_at(cgroup_id);
		if (!known) {
			*w = (struct workload){};
			return false;
		}
		if (unseal(w, known, *cgroup_id))
			return true;
	}
	count_lost(FAULT_WORKLOAD_CHANGED);
	*w = (struct workload){ .flags = WORKLOAD_INHERITED };
	return false;
}

struct subject {
	__u64 cgroup_id;
	struct workload workload;	/* copy: of read_workload() */
	__u64 unproven;		/* 1: nothing can be found out about what it does, and that may be denied */
};

/* true if a task of this cgroup is in scope; *s says who it is. */
static __always_inline bool find_subject_at(struct subject *s, __u64 cgroup_id)
{
	s->cgroup_id = cgroup_id;
	s->unproven = 0;
	return read_workload(&s->workload, &s->cgroup_id) || !scoped;
}

/* The same of the current task. */
static __always_inline bool find_subject(struct subject *s)
{
	return find_subject_at(s, current_cgroup_id());
}

static __always_inline bool is_agent(__u32 tgid)
{
	return tgid == agent_tgid &&
	       start_ticks((struct task_struct *)bpf_get_current_task()) == agent_start;
}

/* The same, and false for the agent. */
static __always_inline bool current_subject(struct subject *s)
{
	return find_subject(s) && !is_agent(bpf_get_current_pid_tgid() >> 32);
}

#define EVENT_HEADER(k, v, h, subject, bytes)						\
	EVENT_HEADER_BY(bpf_get_current_pid_tgid(), k, v, h, subject, bytes)

/* who: pid_tgid */
#define EVENT_HEADER_BY(who, k, v, h, subject, bytes)					\
	(struct event_header) {								\
		.ktime_ns = bpf_ktime_get_ns(), .cgroup_id = (subject)->cgroup_id,	\
		.tgid = (who) >> 32, .tid = (__u32)(who),				\
		.workload = (subject)->workload.id, .kind = (k), .verdict = (v),	\
		.hook = (h), .size = (bytes),						\
	}
