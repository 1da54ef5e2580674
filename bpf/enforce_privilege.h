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
	struct workload them, us;

	return read_workload(&them, &theirs) && read_workload(&us, &ours) && them.id == us.id ? 0 : PTRACE_KEY_OTHER;
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

#define SIGIO 29		/* include/uapi/asm-generic/signal.h */

/*
 * The workloads that have said to whom the kernel sends signals about a file. Key: the address of its struct file, which
 * may have been another one's. Whoever makes the kernel send such a signal may be anybody, whom data from the network
 * interrupts: nobody is asked but for what his own workload has said.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u32);
} signallers SEC(".maps");

SEC("fentry/security_file_set_fowner")
int BPF_PROG(signal_set_fowner, struct file *file)
{
	__u64 key = (__u64)file;
	struct subject subject;

	if (current_subject(&subject) && is_asked(&subject, OP_SIGNAL))
		bpf_map_update_elem(&signallers, &key, &subject.workload.id, BPF_ANY);
	else
		bpf_map_delete_elem(&signallers, &key);
	return 0;
}

static __always_inline struct file *owned_file(struct fown_struct *owner)
{
	if (bpf_core_field_exists(owner->file))
		return BPF_CORE_READ(owner, file);
	return (void *)owner - bpf_core_field_offset(struct file___embedding, f_owner);
}

/* Whether the current workload has said that a stranger gets signals about a file. */
static __always_inline bool signals_by_file(struct task_struct *target, struct fown_struct *owner)
{
	__u64 key = (__u64)owned_file(owner);
	__u32 *by = bpf_map_lookup_elem(&signallers, &key);
	struct subject subject;

	return by && find_subject(&subject) && subject.workload.id == *by && stranger(target);
}

/* The agent asks for no such signals, so that it is nobody's business to send it one. */
static __always_inline int on_file_send_sigiotask(__u8 hook, struct task_struct *target, struct fown_struct *owner, int sig)
{
	sig = sig ?: SIGIO;
	if (is_of_agent(target) && bpf_ktime_get_ns() >= paused_until)
		return protect_agent(hook, OP_SIGNAL, sig);
	if (!signals_by_file(target, owner))
		return 0;	/* allow: among its own, or somebody else's */
	return check_number(hook, OP_SIGNAL, sig);
}

ENFORCE(file_send_sigiotask, ARGS(target, owner, sig), struct task_struct *target, struct fown_struct *owner, int sig)

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

/* Which users or groups a process is: its own, whose rights it has, and with whose it uses files. */
struct ids {
	__u32 real;
	__u32 effective;
	__u32 of_files;
};

/* Asks about each that a process becomes, once: mostly it becomes one in all three ways. */
static __always_inline int check_ids(__u8 hook, enum operation op, const struct ids *new, const struct ids *old)
{
	bool real = new->real != old->real;
	bool effective = new->effective != old->effective && !(real && new->effective == new->real);
	bool of_files = new->of_files != old->of_files && new->of_files != new->effective && !(real && new->of_files == new->real);
	int err = -EPERM;

	if ((real && check_use(hook, op, new->real)) || (effective && check_use(hook, op, new->effective)) ||
	    (of_files && check_use(hook, op, new->of_files))) {
		barrier_var(err);	/* as in result() */
		return err;
	}
	return 0;
}

static __always_inline struct ids users_of(const struct cred *cred)
{
	return (struct ids){
		.real = BPF_CORE_READ(cred, uid.val), .effective = BPF_CORE_READ(cred, euid.val), .of_files = BPF_CORE_READ(cred, fsuid.val),
	};
}

static __always_inline struct ids groups_of(const struct cred *cred)
{
	return (struct ids){
		.real = BPF_CORE_READ(cred, gid.val), .effective = BPF_CORE_READ(cred, egid.val), .of_files = BPF_CORE_READ(cred, fsgid.val),
	};
}

static __always_inline int on_task_fix_setuid(__u8 hook, struct cred *new, const struct cred *old)
{
	struct ids to = users_of(new), from = users_of(old);

	return check_ids(hook, OP_SETUID, &to, &from);
}

static __always_inline int on_task_fix_setgid(__u8 hook, struct cred *new, const struct cred *old)
{
	struct ids to = groups_of(new), from = groups_of(old);

	return check_ids(hook, OP_SETGID, &to, &from);
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
