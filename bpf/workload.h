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
/* The agent itself is never reported and never denied. */
const volatile __u32 agent_tgid;

struct workload {
	__u32 id;		/* given by the agent, > 0 */
	__u32 mode;		/* enum mode */
	__u32 generation;	/* of the policy; part of every policy key */
	__u32 flags;		/* WORKLOAD_* */
};

/* Inherited from the parent cgroup in the kernel: user space has not seen it yet. */
#define WORKLOAD_INHERITED 1

/* Key: cgroup id. Written by the agent and by process_cgroup_mkdir (inheritance). */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct workload);
} workloads SEC(".maps");

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

struct subject {
	__u64 cgroup_id;
	struct workload workload;	/* copy: zero if unknown */
};

/* true if the current task is in scope; *s says who it is. */
static __always_inline bool current_subject(struct subject *s)
{
	struct workload *w;

	if ((__u32)(bpf_get_current_pid_tgid() >> 32) == agent_tgid)
		return false;
	s->cgroup_id = task_cgroup_id((struct task_struct *)bpf_get_current_task());
	w = bpf_map_lookup_elem(&workloads, &s->cgroup_id);
	if (w) {
		s->workload = *w;
		return true;
	}
	s->workload = (struct workload){};
	return !scoped;
}

#define EVENT_HEADER(k, v, h, subject, bytes)						\
	(struct event_header) {								\
		.ktime_ns = bpf_ktime_get_ns(), .cgroup_id = (subject)->cgroup_id,	\
		.tgid = bpf_get_current_pid_tgid() >> 32,				\
		.tid = (__u32)bpf_get_current_pid_tgid(),				\
		.workload = (subject)->workload.id, .kind = (k), .verdict = (v),	\
		.hook = (h), .size = (bytes),						\
	}
