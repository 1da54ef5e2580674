/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/* What a process does with its privileges, and to other processes and the kernel. */

#define PTRACE_MODE_ATTACH 2	/* include/linux/ptrace.h */
#define PTRACE_MODE_REALCREDS 0x10
#define CLONE_INTO_CGROUP 0x200000000ULL	/* include/uapi/linux/sched.h */

/* As check_number; not 0: it is denied. Global, as in deed.h. */
__noinline int check_use(__u32 hook, __u32 op, __u32 value)
{
	return check_number(hook, op, value);
}

/* 0, or PTRACE_KEY_OTHER if the task is in another workload than the current one. */
static __always_inline __u32 stranger(struct task_struct *task)
{
	__u64 theirs = task_cgroup_id(task), ours = current_cgroup_id();
	struct workload *them = bpf_map_lookup_elem(&workloads, &theirs);
	struct workload *us = bpf_map_lookup_elem(&workloads, &ours);

	return them && us && them->id == us->id ? 0 : PTRACE_KEY_OTHER;
}

/* Denies, and tells as an operation outside of the baseline. */
static __always_inline int protect_agent(__u8 hook, enum operation op, __u32 value)
{
	struct subject subject;
	struct place *p;

	if (!current_subject(&subject))
		return -EPERM;	/* deny: it was in scope a moment ago */
	p = begin_fact(&subject, op, hook);
	if (!p)
		return -EPERM;	/* deny: nobody has to be asked */
	p->fact.workload = subject.workload.id;
	p->fact.generation = subject.workload.generation;
	p->fact.operation = op;
	p->fact.value = value;
	refuse(p, &told_facts, &p->fact);
	if (p->answer.news)
		tell_fact(p);
	leave_place(p);
	return -EPERM;
}

/*
 * What there is to know of access to a process. Of what asks for it to look only, setns(2) with the process's descriptor
 * does so with the rights that it acts with; files of /proc do not.
 */
static __always_inline __u64 look_at_traced(struct task_struct *task, unsigned int mode)
{
	__u64 facts = 0;

	if (is_above(task))
		facts |= property(TRAIT_BY_ANCESTOR);
	if (!(mode & PTRACE_MODE_ATTACH) && mode & PTRACE_MODE_REALCREDS && is_host_side(task))
		facts |= property(TRAIT_HOST_NAMESPACE);
	return facts;
}

/* As check_number. */
static __always_inline int check_access(__u8 hook, struct task_struct *task, unsigned int mode, __u32 value)
{
	struct subject subject;
	struct place *p;

	if (!current_subject(&subject) || !is_asked(&subject, OP_PTRACE))
		return 0;	/* allow: out of scope, the agent, or not ours to hold */
	p = begin_fact(&subject, OP_PTRACE, hook);
	if (!p)
		return result(VERDICT_UNPROVEN, &subject);
	p->facts = look_at_traced(task, mode);
	return end_fact(p, value, &subject);
}

static __always_inline int on_ptrace_access_check(__u8 hook, struct task_struct *child, unsigned int mode)
{
	__u32 use = mode & PTRACE_MODE_ATTACH ? PTRACE_KEY_ATTACH : PTRACE_KEY_READ;

	if (attacks_agent(child))
		return protect_agent(hook, OP_PTRACE, use | PTRACE_KEY_OTHER);
	return check_access(hook, child, mode, use | stranger(child));
}

/* The parent will be the one who traces. */
static __always_inline int on_ptrace_traceme(__u8 hook, struct task_struct *parent)
{
	struct subject subject;
	struct place *p;

	if (!current_subject(&subject) || !is_asked(&subject, OP_PTRACE))
		return 0;	/* allow: out of scope, the agent, or not ours to hold */
	p = begin_fact(&subject, OP_PTRACE, hook);
	if (!p)
		return result(VERDICT_UNPROVEN, &subject);
	p->facts = property(TRAIT_BY_ANCESTOR);
	return end_fact(p, PTRACE_KEY_ATTACH | stranger(parent), &subject);
}

ENFORCE(ptrace_access_check, ARGS(child, mode), struct task_struct *child, unsigned int mode)
ENFORCE(ptrace_traceme, parent, struct task_struct *parent)

static __always_inline int on_task_kill(__u8 hook, struct task_struct *target, int sig)
{
	if (!sig || !stranger(target))
		return 0;	/* allow: a look, or among its own */
	if (attacks_agent(target))
		return protect_agent(hook, OP_SIGNAL, sig);
	return check_number(hook, OP_SIGNAL, sig);
}

ENFORCE(task_kill, ARGS(target, sig), struct task_struct *target, struct kernel_siginfo *info, int sig)

static __always_inline int on_userns_create(__u8 hook, const struct cred *cred)
{
	return check_number(hook, OP_USERNS, 0);
}

ENFORCE_AT(userns_create, security_create_user_ns, cred, const struct cred *cred)

static __always_inline int on_kernel_read_file(__u8 hook, enum kernel_read_file_id id)
{
	if (id != bpf_core_enum_value(enum kernel_read_file_id, READING_MODULE))
		return 0;	/* allow: firmware and the like, which the kernel asks for */
	return check_number(hook, OP_MODULE, 0);
}

static __always_inline int on_kernel_load_data(__u8 hook, enum kernel_load_data_id id)
{
	if (id != bpf_core_enum_value(enum kernel_load_data_id, LOADING_MODULE))
		return 0;	/* allow: firmware and the like, which the kernel asks for */
	return check_number(hook, OP_MODULE, 0);
}

ENFORCE(kernel_read_file, id, struct file *file, enum kernel_read_file_id id)
ENFORCE(kernel_load_data, id, enum kernel_load_data_id id)

static __always_inline int on_bpf(__u8 hook, int cmd, const void *attr)
{
	if (attacks_link(cmd, attr))
		return protect_agent(hook, OP_BPF, cmd);
	return check_number(hook, OP_BPF, cmd);
}

/* A descriptor for a map or a program is made, by its number or by a pin. */
static __always_inline int on_bpf_map(__u8 hook, struct bpf_map *map)
{
	if (attacks_object(OBJECT_MAP, BPF_CORE_READ(map, id)))
		return protect_agent(hook, OP_BPF, BPF_MAP_GET_FD_BY_ID);
	return 0;	/* allow: the call was asked about */
}

static __always_inline int on_bpf_prog(__u8 hook, struct bpf_prog *prog)
{
	if (attacks_object(OBJECT_PROGRAM, BPF_CORE_READ(prog, aux, id)))
		return protect_agent(hook, OP_BPF, BPF_PROG_GET_FD_BY_ID);
	return 0;	/* allow: the call was asked about */
}

ENFORCE(bpf, ARGS(cmd, attr), int cmd, const void *attr)
ENFORCE(bpf_map, map, struct bpf_map *map)
ENFORCE(bpf_prog, prog, struct bpf_prog *prog)

static __always_inline int on_perf_event_open(__u8 hook)
{
	return check_number(hook, OP_PERF, 0);
}

SEC("lsm/perf_event_open")
int BPF_PROG(lsm_perf_event_open)
{
	return on_perf_event_open(HOOK_LSM);
}

SEC("fmod_ret/security_perf_event_open")
int BPF_PROG(fmod_perf_event_open)
{
	return on_perf_event_open(HOOK_FMOD_RET);
}

/* io_uring and userfaultfd have no hooks of their own; their files have, by name. Linux 5.12. */
static __always_inline int on_inode_init_security_anon(__u8 hook, const struct qstr *qstr)
{
	const unsigned char *name = BPF_CORE_READ(qstr, name);
	char text[16] = {};

	bpf_probe_read_kernel_str(text, sizeof(text), name);
	if (!__builtin_memcmp(text, "[io_uring]", 11))
		return check_number(hook, OP_IO_URING, 0);
	if (!__builtin_memcmp(text, "[userfaultfd]", 14))
		return check_number(hook, OP_USERFAULTFD, 0);
	return 0;	/* allow: another kind of anonymous file */
}

ENFORCE(inode_init_security_anon, name, struct inode *inode, const struct qstr *name)

#define KEY_FLAG_IN_QUOTA 2	/* include/linux/key.h: the number of a bit */

/*
 * Keys and keyrings of the kernel's that users have: made by add_key(2), request_key(2) and keyctl(2), and looked for, read and
 * changed by these. Those that the kernel has for itself, as of who may sign modules and files, count in no user's
 * quota; it looks for them on behalf of everybody.
 */
static __always_inline int check_key(__u8 hook, struct key *key)
{
	if (!(BPF_CORE_READ(key, flags) & 1UL << KEY_FLAG_IN_QUOTA))
		return 0;	/* allow: the kernel's own */
	return check_number(hook, OP_KEYCTL, 0);
}

static __always_inline int on_key_alloc(__u8 hook, struct key *key)
{
	return check_key(hook, key);
}

/*
 * The argument is the address of a key, and whether it is possessed in the lowest bit. The kernel gives it a type that
 * it says nothing of: no program may load it, so that it is read from where the arguments are.
 */
static __always_inline int on_key_permission(__u8 hook, void *arguments)
{
	__u64 reference = 0;

	if (bpf_probe_read_kernel(&reference, sizeof(reference), arguments))
		count_lost(FAULT_READ);
	return check_key(hook, (struct key *)(reference & ~1ULL));
}

ENFORCE(key_alloc, key, struct key *key)
ENFORCE(key_permission, ctx, void *reference)

static __always_inline int on_task_fix_setuid(__u8 hook, struct cred *new, const struct cred *old)
{
	__u32 uid = BPF_CORE_READ(new, uid.val);

	if (uid == BPF_CORE_READ(old, uid.val))
		return 0;	/* allow: the same user */
	return check_number(hook, OP_SETUID, uid);
}

static __always_inline int on_task_fix_setgid(__u8 hook, struct cred *new, const struct cred *old)
{
	__u32 gid = BPF_CORE_READ(new, gid.val);

	if (gid == BPF_CORE_READ(old, gid.val))
		return 0;	/* allow: the same group */
	return check_number(hook, OP_SETGID, gid);
}

ENFORCE(task_fix_setuid, ARGS(new, old), struct cred *new, const struct cred *old)
ENFORCE(task_fix_setgid, ARGS(new, old), struct cred *new, const struct cred *old)

/*
 * A process that makes another one in a cgroup of its choice, which may belong to no workload. The hook
 * does not know which; writing to cgroup.procs, the older way, is asked about by path.
 */
static __always_inline int on_task_alloc(__u8 hook, unsigned long clone_flags)
{
	static const char name[] = "[cgroup]";
	__u64 who = bpf_get_current_pid_tgid();
	struct subject subject;
	struct place *p;

	if (!(clone_flags & CLONE_INTO_CGROUP))
		return 0;	/* allow: it stays in the workload */
	if (!current_subject(&subject) || !is_asked(&subject, OP_WRITE))
		return 0;	/* allow: out of scope, the agent, or not ours to hold */
	p = begin_question(&subject, OP_WRITE, hook, who);
	if (!p)
		return result(VERDICT_UNPROVEN, &subject);
	p->named = 1;
	__builtin_memset(p->path.path, 0, PATH_BYTES);
	__builtin_memcpy(p->path.path, name, sizeof(name));
	p->access.path_len = sizeof(name) - 1;
	return result(check_path(p->number), &subject);
}

ENFORCE(task_alloc, clone_flags, struct task_struct *task, unsigned long clone_flags)
