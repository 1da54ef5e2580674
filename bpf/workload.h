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

struct workload {
	__u32 id;		/* given by the agent, > 0 */
	enum mode mode;
	__u32 generation;	/* of the policy; part of every policy key */
	__u32 flags;		/* WORKLOAD_* */
	__u32 held;		/* 1 << enum dimension: what the mode is about */
	__u32 softened;		/* the same, and ADDED_*: enforced as audit, because something is not known */
};

/* Inherited from the parent cgroup in the kernel: user space has not seen it yet. */
#define WORKLOAD_INHERITED 1
/* A container: it may not touch the agent, whatever its mode. */
#define WORKLOAD_CONTAINER 2
/* Rules that deny do so here. */
#define WORKLOAD_PROTECTED 4

/* Key: cgroup id. Written by the agent and by process_cgroup_mkdir (inheritance). */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct workload);
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

struct subject {
	__u64 cgroup_id;
	struct workload workload;	/* copy: zero if unknown */
	__u64 unproven;		/* 1: nothing can be found out about what it does, and that may be denied */
};

/* true if a task of this cgroup is in scope; *s says who it is. */
static __always_inline bool find_subject_at(struct subject *s, __u64 cgroup_id)
{
	struct workload *w;

	s->cgroup_id = cgroup_id;
	s->unproven = 0;
	w = bpf_map_lookup_elem(&workloads, &s->cgroup_id);
	if (w) {
		s->workload = *w;
		return true;
	}
	s->workload = (struct workload){};
	return !scoped;
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
