/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * Container runtimes at work in a container. A runtime moves a process of its own into the container's cgroup, or
 * makes one there. It opens, mounts, enters namespaces, drops privileges, perhaps executes a copy of the runtime out
 * of memory, and executes the container's program last. Until then it is the runtime's: marked, neither denied
 * anything nor learnt from.
 *
 * A process is marked if it and its parent come from outside of every container, and
 *  - it still runs the parent's program, as what was forked and has executed nothing does (crun), or
 *  - somebody else who is outside moves it (runc: its parent or systemd).
 * After the move nobody knows where it came from. Then it has to have its parent's mounts, too: who is in a container,
 * and whose parent is not, is the first one there, or was left behind, and has others.
 */

/* Key: tgid. Value: start_ticks, so that a later process of the same pid has no mark. Linux 5.10 has no task storage. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} runtimes SEC(".maps");

/* Where marks are given. They count in containers only: what else is there may become one, once the agent has read of it. */
#define MAY_BE_CONTAINER (WORKLOAD_CONTAINER | WORKLOAD_INHERITED)

static __always_inline void mark_runtime(struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid);
	__u64 start = start_ticks(task);

	if (bpf_map_update_elem(&runtimes, &tgid, &start, BPF_ANY))
		count_lost(FAULT_MAP_FULL);
}

static __always_inline bool has_mark(struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid);
	__u64 *start = bpf_map_lookup_elem(&runtimes, &tgid);

	return start && *start == start_ticks(task);
}

/* Whether the current process is marked. Global, as in deed.h. */
__noinline int is_marked(void)
{
	return has_mark((struct task_struct *)bpf_get_current_task());
}

/* Whether the current process is a runtime's, at work in a container. */
static __always_inline bool is_runtime(struct subject *s)
{
	return s->workload.flags & WORKLOAD_CONTAINER && is_marked();
}

/* The mount namespace. */
static __always_inline struct mnt_namespace *mounts_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, nsproxy, mnt_ns);
}

/* The first process of the machine. */
static __always_inline struct task_struct *host_init(struct task_struct *task)
{
	struct upid *upid = upid_at(BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID]), 0);

	return BPF_CORE_READ(upid, ns, child_reaper);
}

/* Whether the agent has said that a cgroup is a container's. */
static __always_inline bool is_in_container(struct task_struct *task)
{
	__u64 cgroup = task_cgroup_id(task);
	struct workload w;

	return read_workload(&w, &cgroup) && w.flags & WORKLOAD_CONTAINER;
}

/*
 * Whether a task is in no container. If the agent has not read of its cgroup yet, that may be one; who has the
 * host's mounts is not in it.
 */
static __always_inline bool is_outside(struct task_struct *task)
{
	__u64 cgroup = task_cgroup_id(task);
	struct workload w;

	read_workload(&w, &cgroup);
	if (w.flags & WORKLOAD_CONTAINER)
		return false;
	return !(w.flags & WORKLOAD_INHERITED) || mounts_of(task) == mounts_of(host_init(task));
}

/* Whether two tasks have the same open file as their program: each execution opens it anew, a fork does not. */
static __always_inline bool is_same_program(struct task_struct *a, struct task_struct *b)
{
	struct file *program = BPF_CORE_READ(a, mm, exe_file);

	return program && program == BPF_CORE_READ(b, mm, exe_file);
}

/* moved: the task is in the container's cgroup already. */
static __always_inline bool comes_from_runtime(struct task_struct *task, bool moved)
{
	struct task_struct *mover = (void *)bpf_get_current_task();
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);

	if (!moved && is_in_container(task))
		return false;
	if (!is_outside(parent))
		return false;
	if (is_same_program(task, parent))
		return true;
	if (BPF_CORE_READ(mover, tgid) == BPF_CORE_READ(task, tgid) || !is_outside(mover))
		return false;
	return !moved || mounts_of(task) == mounts_of(parent);
}

static __always_inline void on_attach_task(struct cgroup *to, struct task_struct *task, bool moved)
{
	__u64 id = BPF_CORE_READ(to, kn, id);
	struct workload w;

	if ((__u32)BPF_CORE_READ(to, root, hierarchy_id) != hierarchy_id)
		return;
	if (read_workload(&w, &id) && w.flags & MAY_BE_CONTAINER && comes_from_runtime(task, moved))
		mark_runtime(task);
}

/* Before the task is moved, so that it does nothing there without the mark. */
SEC("fentry/cgroup_attach_task")
int BPF_PROG(runtime_attach, struct cgroup *to, struct task_struct *task)
{
	on_attach_task(to, task, false);
	return 0;
}

/* A moment after it was moved. For kernels that have no fentry. */
SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(runtime_attached, struct cgroup *to, const char *path, struct task_struct *task)
{
	on_attach_task(to, task, true);
	return 0;
}

/* What a runtime forks is a runtime's, and so is what somebody outside makes in the container by CLONE_INTO_CGROUP. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(runtime_fork, struct task_struct *parent, struct task_struct *child)
{
	bool elsewhere = parent->cgroups != child->cgroups;
	struct workload w;
	__u64 id;

	if (child->pid != child->tgid)
		return 0;	/* a thread */
	id = elsewhere ? task_cgroup_id(child) : current_cgroup_id();
	if (read_workload(&w, &id) && w.flags & MAY_BE_CONTAINER && (is_marked() || (elsewhere && is_outside(parent))))
		mark_runtime(child);
	return 0;
}

/*
 * Whether a file has no name where it is executed: memory, a deleted file, or one in a mount that is in no tree.
 * Runtimes copy themselves there, lest a container writes to their file.
 */
static __always_inline bool is_copy(struct file *file, struct task_struct *task)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct vfsmount *mnt = BPF_CORE_READ(file, f_path.mnt);
	struct mount *mount = real_mount(mnt);

	if (!BPF_CORE_READ(dentry, d_hash.pprev) && dentry != BPF_CORE_READ(mnt, mnt_root))
		return true;
	return BPF_CORE_READ(mount, mnt_parent) == mount && mnt != BPF_CORE_READ(task, fs, root.mnt);
}

/* Whether a marked process executes a copy of the runtime, and goes on with its work. */
static __always_inline bool stays_runtime(struct task_struct *task, struct file *file)
{
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);

	return is_copy(file, task) && mounts_of(task) == mounts_of(parent) && is_outside(parent);
}

/*
 * Whether such a copy is executed without a question: in a container, and where there may be one. Not in a new cgroup that
 * still counts to somebody who is held to something: he may have made it, and what he executes there is no runtime. The
 * cgroups of containers are made by others.
 */
static __always_inline bool spares_copy(struct subject *s)
{
	__u32 flags = s->workload.flags;

	if (!(flags & WORKLOAD_INHERITED))
		return true;
	return s->workload.mode != MODE_ENFORCE && (flags & WORKLOAD_CONTAINER || !(flags & WORKLOAD_PROTECTED));
}

static __always_inline void end_runtime(void)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	bpf_map_delete_elem(&runtimes, &tgid);
}
