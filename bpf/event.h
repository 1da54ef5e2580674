/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * The wire contract between kernel and agent. Every record in the ring buffer begins with
 * struct event_header. Go types and constants are generated from here; pkg/event repeats the enum
 * values and each sensor asserts at compile time that they agree.
 */

enum event_kind {
	EVENT_UNSPEC = 0,
	EVENT_FORK = 1,
	EVENT_EXEC = 2,
	EVENT_EXIT = 3,
	EVENT_EXEC_CHECK = 4,	/* an execution that the baseline does not know */
	EVENT_HANDSHAKE = 5,	/* a TLS handshake ended */
	EVENT_PAUSE = 6,	/* a stop-the-world pause ended */
	EVENT_CGROUP = 7,	/* a cgroup in scope was made or removed */
	EVENT_ACCESS = 8,	/* any other operation that the baseline does not know */
	EVENT_KIND_MAX,
};

enum verdict {
	VERDICT_ALLOW = 0,
	VERDICT_AUDIT = 1,	/* allowed, would be denied under enforce */
	VERDICT_DENY = 2,
	VERDICT_DENY_TWICE = 3,	/* by a rule, and it is outside the baseline too; in records only */
};

/* Where a verdict was taken or an observation made. */
enum hook {
	HOOK_UNSPEC = 0,
	HOOK_TRACEPOINT = 1,
	HOOK_LSM = 2,		/* BPF LSM: the operation returns -EPERM */
	HOOK_FMOD_RET = 3,	/* fmod_ret on security_*: the operation returns -EPERM */
	HOOK_SIGNAL = 4,	/* SIGKILL before the new image runs its first instruction */
	HOOK_UPROBE = 5,
	HOOK_CGROUP = 6,	/* cgroup/connect4 and its like: the operation returns -EPERM */
	HOOK_FANOTIFY = 7,	/* a permission event, which the agent answers: execve returns -EPERM */
	HOOK_FENTRY = 8,
};

/* Workload modes, in order of strength. */
enum mode {
	MODE_OFF = 0,
	MODE_LEARN = 1,
	MODE_AUDIT = 2,
	MODE_ENFORCE = 3,
};

/* 40 bytes, no padding. */
struct event_header {
	__u64 ktime_ns;		/* CLOCK_MONOTONIC at the hook */
	__u64 cgroup_id;	/* in the hierarchy the agent chose */
	__u32 tgid;		/* in the initial pid namespace */
	__u32 tid;
	__u32 workload;		/* id the agent gave the cgroup, 0: unknown */
	__u32 rule_id;		/* the rule that denied it, 0: none did */
	enum event_kind kind;
	__u16 size;		/* bytes of the record that are meant, header included */
	__u8 verdict;		/* enum verdict */
	__u8 hook;		/* enum hook */
};
