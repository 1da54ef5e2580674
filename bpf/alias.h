/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * A rule that denies something by a path means what has that path, by whatever name it is reached. There are two
 * ways to another name. A mount, or another root, leaves the file where it is in its file system: it is asked about by
 * each name that older mounts give it. A link and a rename do not: who may not use what he links or renames may not
 * do that either, unless rules deny the same of the new name.
 */

/* Bits of the variable "rules", beside those of operations: some rule denies something by a path. */
#define RULES_DENY_PATHS (1ULL << OP_UNSPEC)

/*
 * What is done to a file and not to its name. The same counts of a directory, whose name begins like those of the files
 * in it; and whether below it anything is denied.
 */
#define USE(op) (1U << (op))
_Static_assert(OP_ABOVE < 32, "uses have a bit each");
#define USES_OF_FILE (USE(OP_EXEC) | USE(OP_LIBRARY) | USE(OP_READ) | USE(OP_WRITE) | USE(OP_ATTRIBUTES) | USE(OP_UNIX_CONNECT))
#define USES_OF_DIRECTORY (USES_OF_FILE | USE(OP_ABOVE))

/*
 * The workloads that have mounted something or changed a root since the agent started: what they use may have other
 * names. Key: workload id. Removed by the agent.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u8);
} mounters SEC(".maps");

static __always_inline void note_mounter(void)
{
	struct subject subject;
	__u8 yes = 1;

	if (!current_subject(&subject) || !subject.workload.id || is_starting() || is_runtime(&subject))
		return;
	if (bpf_map_update_elem(&mounters, &subject.workload.id, &yes, BPF_ANY))
		count_lost(FAULT_MAP_FULL);
}

/* Whether a mount is the kernel's own, in nobody's tree: its mount namespace is an error number. */
static __always_inline bool is_internal(struct vfsmount *mnt)
{
	return (__u64)BPF_CORE_READ(real_mount(mnt), mnt_ns) >= (__u64)-4095;
}

static __always_inline bool may_have_other_names(struct place *p)
{
	__u8 facts = p->op == OP_EXEC ? p->exec.path_facts : p->access.path_facts;

	if (!p->dentry)
		return false;	/* it is the name of something that is in no tree */
	if (facts & PATH_DETACHED && !is_internal(p->mnt))
		return true;
	return bpf_map_lookup_elem(&mounters, &p->subject.workload.id);
}

/*
 * Whose mounts give names: those of the process's own mount namespace, and those of the first process of the container,
 * or of init. Who makes a namespace of his own may take away in it what gave a file the name that rules know.
 */
static __always_inline void find_namespaces(struct place *p)
{
	struct task_struct *task = p->task;
	struct pid *pid = BPF_CORE_READ(task, signal, pids[1]);
	__u32 level = BPF_CORE_READ(pid, level);
	struct upid *upid = upid_at(pid, level ? 1 : 0);

	p->mounts[0] = BPF_CORE_READ(task, nsproxy, mnt_ns);
	p->mounts[1] = p->mounts[0];
	if (level || !(p->subject.workload.flags & WORKLOAD_CONTAINER))
		p->mounts[1] = BPF_CORE_READ(upid, ns, child_reaper, nsproxy, mnt_ns);
}

static __always_inline bool gives_names(struct place *p, struct mount *mount)
{
	struct mnt_namespace *of = BPF_CORE_READ(mount, mnt_ns);

	return of && (of == p->mounts[0] || of == p->mounts[1]);
}

#define LOST ((struct mount *)1)

/*
 * The mount of a file system that was made before this one. NULL: it is the first. LOST: it was just taken away. Not
 * inlined, lest the compiler reads, before the loop around it, a field that this kernel has not.
 */
static __noinline struct mount *older_mount(struct mount *mount, struct super_block *sb)
{
	struct mount___for_sb *linked = (void *)mount;
	struct list_head *at;

	if (bpf_core_field_exists(linked->mnt_next_for_sb))
		return BPF_CORE_READ(linked, mnt_next_for_sb);
	at = BPF_CORE_READ(mount, mnt_instance.prev);
	if (!at)
		return LOST;
	if (at == (void *)sb + bpf_core_field_offset(struct super_block, s_mounts))
		return NULL;
	return (void *)at - bpf_core_field_offset(struct mount, mnt_instance);
}

#define MOUNTS_AT_ONCE 8
#define MOUNTS_LOOKED_AT 16384	/* that give names */
#define MOUNTS_WITHOUT_LOOP 64	/* where the kernel has no bpf_loop */

/* Goes on from place->mount to an older one, that gives names if there is such a one near. 0: there is none. */
__noinline int find_older_mount(__u32 number)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	struct super_block *sb;
	struct mount *mount;

	if (!p)
		return 0;
	mount = real_mount(p->mount);
	sb = BPF_CORE_READ(mount, mnt.mnt_root, d_sb);
	for (int i = 0; i < MOUNTS_AT_ONCE; i++) {
		mount = older_mount(mount, sb);
		if (!mount)
			return 0;
		if (mount == LOST)
			mount = real_mount(p->mnt);	/* once more from the begin */
		else if (gives_names(p, mount))
			break;
	}
	p->mount = vfs_mount(mount);
	return 1;
}

/*
 * Judges, unless it is denied already, that something is used by an operation under its other name, or by one of its uses.
 * why: ACCESS_*, of what would be denied. Where it will have a new name, and the same is denied of that, it stays denied.
 */
__noinline int judge_use(__u32 number, __u32 op, __u32 why)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	__u32 first, second;

	if (!p || p->answer.rule || (why != ACCESS_OTHER_NAME && !(p->uses & USE(op & 31))))
		return 0;
	if (!rules_ask(op & 63) || !ask_rules_path(number, p->mount ? NAME : OWN, op))
		return 0;
	first = p->asked.denials[0];
	second = p->asked.denials[1];
	if (why == ACCESS_OTHER_NAME) {
		p->answer.other = true;
	} else if (p->has_target && op != OP_ABOVE) {
		ask_rules_path(number, TARGET, op);
		if (p->asked.denials[0] == first && p->asked.denials[1] == second)
			return 0;	/* allow: it stays where the same is denied */
		p->asked.denials[0] = first;
		p->asked.denials[1] = second;
	}
	judge_all(p);
	if (p->answer.rule)
		p->answer.why |= why;
	return 0;
}

/* Judges all that has to be allowed with what happens to it. */
static __always_inline void judge_uses(struct place *p)
{
	__u32 why = p->is_replaced ? ACCESS_REPLACES : ACCESS_RENAMES;

	if (!p->uses)
		return;
	p->has_target = !p->is_replaced && !write_name(p->number, TARGET);
	ROLLED for (__u32 op = OP_EXEC; op <= OP_UNIX_CONNECT; op++)
		judge_use(p->number, op, why);
	judge_use(p->number, OP_ABOVE, why);
}

/* Judges by the name that place->mount gives, and goes on to an older one. false: there is none, or a rule denies it. */
static __always_inline bool judge_by_mount(__u32 number)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	struct mount *mount;

	if (!p)
		return false;
	mount = real_mount(p->mount);
	if (gives_names(p, mount) && !write_name(number, NAME)) {
		judge_use(number, p->op, ACCESS_OTHER_NAME);
		if (!p->answer.rule)
			judge_uses(p);
		if (p->answer.rule) {
			p->answer.why |= ACCESS_OTHER_NAME;
			return false;
		}
	}
	return find_older_mount(number);
}

struct judging {
	__u32 number;
	bool more;
};

static long judge_next(__u32 i, struct judging *judging)
{
	judging->more = judge_by_mount(judging->number);
	return !judging->more;
}

/* By each of its other names, until a rule denies it. */
static __always_inline void judge_by_other_names(struct place *p)
{
	struct judging judging = { .number = p->number, .more = true };

	p->mount = p->mnt;
	find_namespaces(p);
	if (can_loop) {
		bpf_loop(MOUNTS_LOOKED_AT, judge_next, &judging, 0);
		if (judging.more)
			p->answer.rule = RULE_UNKNOWN;	/* deny: who made so many hides behind them */
		return;
	}
	for (int i = 0; i < MOUNTS_WITHOUT_LOOP && judging.more; i++)
		judging.more = judge_by_mount(p->number);
}

/* What obey() does not do: what rules deny because of the names that it has or would have. Global, as in deed.h. */
__noinline int obey_by_names(__u32 number)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	bool others;

	if (!p || p->answer.rule || !(rules & RULES_DENY_PATHS) || !(p->subject.workload.flags & WORKLOAD_PROTECTED))
		return 0;
	others = may_have_other_names(p);
	if (!others && !p->uses)
		return 0;
	if (bpf_ktime_get_ns() < paused_until || is_set_up(p)) {
		p->answer.other = true;	/* the inode does not remember it: others will be asked */
		return 0;
	}
	p->mount = NULL;
	judge_uses(p);
	if (others && !p->answer.rule)
		judge_by_other_names(p);
	return 0;
}
