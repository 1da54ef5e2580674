/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

/*
 * Reports the life of processes and keeps child cgroups in their parent's workload.
 *
 * Hooks: tp_btf/sched_process_fork, tp_btf/sched_process_exec, tp_btf/sched_process_exit,
 * tp_btf/cgroup_mkdir, tp_btf/cgroup_rmdir. Nothing is decided here.
 */

#include "kernel.h"
#include "event.h"
#include "emit.h"
#include "workload.h"
#include "path.h"
#include "task.h"
#include "exec.h"

struct fork_event {
	struct event_header header;	/* tgid is the parent */
	__u64 child_start_ticks;
	__u32 child;
	__u32 child_vpid;	/* in its innermost pid namespace */
};

struct exit_event {
	struct event_header header;
	__u64 start_ticks;
	__u64 started_ns;	/* CLOCK_MONOTONIC */
	__s32 exit_code;	/* as wait(2) reports it: status << 8 | signal */
	__u32 from_outside;	/* 1: its parent is not of its workload */
};

/* Sent up to .path, then path_len bytes of it. */
struct cgroup_event {
	struct event_header header;
	__u64 id;
	__u32 removed;
	__u32 path_len;
	char path[PATH_BYTES];
};

/* What this object writes; the ring buffer's value type carries it to the Go side. */
union process_record {
	struct fork_event fork;
	struct exec_event exec;
	struct exit_event exit;
	struct cgroup_event cgroup;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
	__type(value, union process_record);
} events SEC(".maps");

/*
 * These records keep the process table up to date and are not urgent: the reader polls, and is woken
 * early only if an eighth of the ring is used.
 */
#define WAKE_BYTES (1 << 19)

static __always_inline void emit_quietly(void *record, __u32 bytes, __u32 kind)
{
	__u64 flags = BPF_RB_NO_WAKEUP;

	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > WAKE_BYTES)
		flags = BPF_RB_FORCE_WAKEUP;
	if (bpf_ringbuf_output(&events, record, bytes, flags))
		count_lost(kind);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork, struct task_struct *parent, struct task_struct *child)
{
	struct fork_event e = {};
	struct subject subject;

	if (!current_subject(&subject))
		return 0;
	if (BPF_CORE_READ(child, pid) != BPF_CORE_READ(child, tgid))
		return 0;	/* a thread */
	e.header = EVENT_HEADER(EVENT_FORK, VERDICT_ALLOW, HOOK_TRACEPOINT, &subject, sizeof(e));
	e.child = BPF_CORE_READ(child, pid);
	e.child_start_ticks = start_ticks(child);
	e.child_vpid = innermost_number(child);
	emit_quietly(&e, sizeof(e), EVENT_FORK);
	return 0;
}

struct exec_scratch {
	struct walk walk;
	struct exec_event event;
};

/* Key: 0. Too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct exec_scratch);
} exec_scratches SEC(".maps");

static __always_inline __u32 read_args(struct exec_event *e, struct task_struct *task)
{
	unsigned long begin = BPF_CORE_READ(task, mm, arg_start);
	unsigned long end = BPF_CORE_READ(task, mm, arg_end);
	__u32 len = end - begin;

	if (end <= begin)
		return 0;
	if (end - begin > ARGS_BYTES - 1) {
		e->flags |= EXEC_ARGS_TRUNCATED;
		len = ARGS_BYTES - 1;
	}
	barrier_var(len);
	len &= ARGS_BYTES - 1;
	if (bpf_probe_read_user(e->args, len, (void *)begin)) {
		count_lost(FAULT_READ);
		return 0;
	}
	return len;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct exec_scratch *scratch;
	struct subject subject;
	struct exec_event *e;
	struct fs_struct *fs;
	__u32 zero = 0, len;
	__u8 facts;

	if (!current_subject(&subject))
		return 0;
	scratch = bpf_map_lookup_elem(&exec_scratches, &zero);
	if (!scratch)
		return 0;
	e = &scratch->event;
	describe_exec(e, &scratch->walk, task, bprm);
	describe_beside(e, task, bpf_get_current_pid_tgid() >> 32, BPF_CORE_READ(bprm, file));
	fs = BPF_CORE_READ(task, fs);
	e->cwd_len = resolve_path(&scratch->walk, BPF_CORE_READ(fs, pwd.dentry),
				  BPF_CORE_READ(fs, pwd.mnt), fs, e->cwd, &facts);
	if (facts & PATH_DETACHED)
		e->flags |= EXEC_CWD_DETACHED;
	len = read_args(e, task);
	e->args_len = len;
	len = EXEC_FIXED_BYTES + (len & (ARGS_BYTES - 1));
	e->header = EVENT_HEADER(EVENT_EXEC, VERDICT_ALLOW, HOOK_TRACEPOINT, &subject, len);
	emit_quietly(e, len, EVENT_EXEC);
	return 0;
}

/* Whether a process was started by somebody who is not of its workload. */
static __always_inline bool is_from_outside(struct task_struct *task, struct subject *subject)
{
	__u64 cgroup = task_cgroup_id(BPF_CORE_READ(task, real_parent));
	struct workload parent;

	return !read_workload(&parent, &cgroup) || parent.id != subject->workload.id;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *task)
{
	struct exit_event e = {};
	struct subject subject;

	if (!current_subject(&subject))
		return 0;
	if (BPF_CORE_READ(task, signal, live.counter))
		return 0;	/* other threads go on */
	e.header = EVENT_HEADER(EVENT_EXIT, VERDICT_ALLOW, HOOK_TRACEPOINT, &subject, sizeof(e));
	e.start_ticks = start_ticks(task);
	e.started_ns = BPF_CORE_READ(task, group_leader, start_time);
	e.exit_code = BPF_CORE_READ(task, exit_code);
	e.from_outside = is_from_outside(task, &subject);
	emit_quietly(&e, sizeof(e), EVENT_EXIT);
	return 0;
}

/* Key: 0. Scratch of the cgroup programs. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cgroup_event);
} cgroup_events SEC(".maps");

static __always_inline void report_cgroup(__u64 id, const char *path, struct workload *workload,
					  bool removed)
{
	struct subject subject = { .cgroup_id = id };
	struct cgroup_event *e;
	__u32 zero = 0, bytes;
	long len;

	e = bpf_map_lookup_elem(&cgroup_events, &zero);
	if (!e)
		return;
	if (workload)
		subject.workload = *workload;
	len = bpf_probe_read_kernel_str(e->path, sizeof(e->path), path);
	e->path_len = len > 0 ? len - 1 : 0;
	e->id = id;
	e->removed = removed;
	bytes = __builtin_offsetof(struct cgroup_event, path) + (e->path_len & (PATH_BYTES - 1));
	e->header = EVENT_HEADER(EVENT_CGROUP, VERDICT_ALLOW, HOOK_TRACEPOINT, &subject, bytes);
	if (bpf_ringbuf_output(&events, e, bytes, BPF_RB_FORCE_WAKEUP))
		count_lost(EVENT_CGROUP);
}

/* What a cgroup is that has the name of a container, until the agent has read of it: WORKLOAD_*. */
const volatile __u32 container_flags;

#define CONTAINER_ID_BYTES 64

static __always_inline bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* Whether a text stands before a place in a path. */
static __always_inline bool has_before(const char *path, long place, const char *text, __u32 len)
{
	__u32 i;

	if (place < len)
		return false;
	for (i = 0; i < len; i++)
		if (path[(place - len + i) & (PATH_BYTES - 1)] != text[i])
			return false;
	return true;
}

/*
 * Whether the last part of a path is the name of a container, as pkg/workload tells it: 64 digits, behind something
 * with "-" or ":" or nothing, before ".scope" or nothing. A monitor of Podman has such a name too.
 */
static __always_inline bool names_container(const char *path)
{
	struct cgroup_event *e;
	__u32 zero = 0, begin, i;
	char before;
	long len;

	e = bpf_map_lookup_elem(&cgroup_events, &zero);
	if (!e)
		return false;
	len = bpf_probe_read_kernel_str(e->path, sizeof(e->path), path) - 1;
	if (has_before(e->path, len, ".scope", 6))
		len -= 6;
	if (len <= CONTAINER_ID_BYTES)
		return false;
	begin = len - CONTAINER_ID_BYTES;
	for (i = 0; i < CONTAINER_ID_BYTES; i++)
		if (!is_hex(e->path[(begin + i) & (PATH_BYTES - 1)]))
			return false;
	before = e->path[(begin - 1) & (PATH_BYTES - 1)];
	if (before != '-' && before != ':')
		return before == '/';
	return !has_before(e->path, begin - 1, "conmon", 6);
}

struct cgroup_path {
	char bytes[PATH_BYTES];	/* NUL padded */
} __attribute__((aligned(8)));

/*
 * What a cgroup that is made at this path will be: a unit that is started again keeps its path, and must
 * not run in its parent's workload until the agent has read of it. The value is sealed for sum_of() the path. Written by
 * the agent.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct cgroup_path);
	__type(value, struct sealed_workload);
} expected SEC(".maps");

static __always_inline __u64 sum_of(const struct cgroup_path *path)
{
	const __u64 *words = (const __u64 *)path->bytes;
	__u64 sum = 0;

	for (__u32 i = 0; i < PATH_BYTES / sizeof(*words); i++)
		sum = sum * SEAL + words[i];
	return sum;
}

/* What was said of a cgroup at this path; false: nothing, or it was another's each time. */
static __always_inline bool read_expected(struct workload *w, const char *path)
{
	struct cgroup_path key = {};
	struct sealed_workload *known;

	bpf_probe_read_kernel_str(key.bytes, sizeof(key.bytes), path);
	ROLLED for (__u32 i = 0; i < LOOKS; i++) {
		known = bpf_map_lookup_elem(&expected, &key);
		if (!known)
			return false;
		if (unseal(w, known, sum_of(&key)))
			return true;
	}
	count_lost(FAULT_WORKLOAD_CHANGED);
	return false;
}

/* The workload that a new cgroup belongs to; false: to none. */
static __always_inline bool find_workload(struct cgroup *cgroup, const char *path, struct workload *w)
{
	__u64 parent = BPF_CORE_READ(cgroup, self.parent, cgroup, kn, id);

	if (read_expected(w, path))
		return true;
	if (!read_workload(w, &parent) && !w->flags)
		return false;
	w->flags |= WORKLOAD_INHERITED;
	if (container_flags && names_container(path))
		w->flags = (w->flags & ~WORKLOAD_OWN) | container_flags;
	return true;
}

/* A cgroup joins its workload here, so that its first exec is already covered. */
SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(process_cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
	__u64 id = BPF_CORE_READ(cgroup, kn, id);
	struct sealed_workload child = {};
	bool known;

	if ((__u32)BPF_CORE_READ(cgroup, root, hierarchy_id) != hierarchy_id)
		return 0;
	known = find_workload(cgroup, path, &child.workload);
	if (!known && scoped)
		return 0;
	seal(&child, id);
	if (known && bpf_map_update_elem(&workloads, &id, &child, BPF_ANY))
		count_lost(FAULT_MAP_FULL);
	report_cgroup(id, path, known ? &child.workload : NULL, false);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(process_cgroup_rmdir, struct cgroup *cgroup, const char *path)
{
	__u64 id = BPF_CORE_READ(cgroup, kn, id);
	struct workload gone;
	bool known;

	if ((__u32)BPF_CORE_READ(cgroup, root, hierarchy_id) != hierarchy_id)
		return 0;
	read_workload(&gone, &id);
	known = !bpf_map_delete_elem(&workloads, &id);
	if (!known && scoped)
		return 0;
	report_cgroup(id, path, known ? &gone : NULL, true);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
