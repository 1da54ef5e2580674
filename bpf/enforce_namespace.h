/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * Namespaces that are made and entered, by kind. clone and its like are asked about where the kernel has taken over their
 * flags. unshare and setns have no hook of their own: each asks for CAP_SYS_ADMIN, and what they are to do stands in the
 * registers that the thread came into the kernel with, which nobody changes meanwhile.
 */

#define CAP_OPT_NOAUDIT 2	/* include/linux/security.h: a look, not a use */
#define CAP_SYS_ADMIN 21	/* include/uapi/linux/capability.h */
#define PF_IO_WORKER 0x10	/* include/linux/sched.h */
#define THREAD_SIZE 16384	/* arch/x86/include/asm/page_64_types.h, without KASAN */

#define CLONE_VM 0x00000100	/* include/uapi/linux/sched.h */
#define CLONE_FS 0x00000200
#define CLONE_FILES 0x00000400
#define CLONE_SIGHAND 0x00000800
#define CLONE_THREAD 0x00010000
#define CLONE_SYSVSEM 0x00040000
#define CLONE_NEWTIME 0x00000080
#define CLONE_NEWNS 0x00020000
#define CLONE_NEWCGROUP 0x02000000
#define CLONE_NEWUTS 0x04000000
#define CLONE_NEWIPC 0x08000000
#define CLONE_NEWUSER 0x10000000
#define CLONE_NEWPID 0x20000000
#define CLONE_NEWNET 0x40000000
#define UNSHARE_EMPTY_MNTNS 0x00100000	/* Linux 7.1; of unshare alone */
#define CLONE_EMPTY_MNTNS (1ULL << 37)	/* likewise, of clone3 */

/* A new user namespace is OP_USERNS. */
#define NAMESPACES_MADE (CLONE_NEWTIME | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET)
#define NAMESPACES_ENTERED (NAMESPACES_MADE | CLONE_NEWUSER)
#define UNSHARED_BESIDE (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_NEWUSER)

#define UNKNOWN_KIND 1		/* no bit of CLONE_NEW*: this one stands for 0 in keys */

/* Of x32, whose calls have the numbers of amd64 with this bit. */
#define X32_SYSCALL_BIT 0x40000000

#if defined(__TARGET_ARCH_x86)
#define NR_UNSHARE 272		/* arch/x86/entry/syscalls/syscall_64.tbl */
#define NR_SETNS 308
#define NR_UNSHARE_32 310	/* arch/x86/entry/syscalls/syscall_32.tbl */
#define NR_SETNS_32 346
#elif defined(__TARGET_ARCH_arm64)
#define NR_UNSHARE 97		/* include/uapi/asm-generic/unistd.h */
#define NR_SETNS 268
#define NR_UNSHARE_32 337	/* arch/arm/tools/syscall.tbl */
#define NR_SETNS_32 375
#endif

/* The system call that a thread is in. */
struct call {
	bool compat;		/* of a 32-bit program */
	__u32 number;
	__u64 first;
	__u64 second;
};

/*
 * The registers that the current thread came into the kernel with. Before Linux 5.15, where only amd64 has such programs, they
 * are where its stack begins.
 */
static __always_inline void *entry_registers(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	return BPF_CORE_READ(task, stack) + THREAD_SIZE - sizeof(struct pt_regs);
}

/* Each by itself: all of them are too many for the stack. */
#define REGISTER(to, from) bpf_probe_read_kernel(&(to), sizeof(from), &(from))

static __always_inline void read_call(struct call *c)
{
	struct pt_regs *regs = entry_registers();

	*c = (struct call){ .compat = is_compat() };
#if defined(__TARGET_ARCH_x86)
	__u64 number = 0;

	REGISTER(number, regs->orig_rax);
	if (c->compat) {
		REGISTER(c->first, regs->rbx);
		REGISTER(c->second, regs->rcx);
	} else {
		REGISTER(c->first, regs->rdi);
		REGISTER(c->second, regs->rsi);
		number &= ~(__u64)X32_SYSCALL_BIT;
	}
	c->number = number;
#elif defined(__TARGET_ARCH_arm64)
	REGISTER(c->number, regs->syscallno);
	REGISTER(c->first, regs->user_regs.regs[0]);
	REGISTER(c->second, regs->user_regs.regs[1]);
#endif
	if (c->compat)
		c->first = (__u32)c->first;
}

/*
 * The kind of the namespace that a descriptor of the current thread stands for; UNKNOWN_KIND: another thread may have put
 * another one there since the kernel has looked. Who else has the descriptors is counted, as the kernel asks itself.
 */
static __always_inline __u32 kind_of_descriptor(__u32 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *fdt = BPF_CORE_READ(task, files, fdt);
	struct file **descriptors = BPF_CORE_READ(fdt, fd);
	struct ns_common___typed *typed;
	struct file *file = NULL;
	struct ns_common *ns;

	if (BPF_CORE_READ(task, files, count.counter) != 1 || fd >= BPF_CORE_READ(fdt, max_fds))
		return UNKNOWN_KIND;
	bpf_probe_read_kernel(&file, sizeof(file), descriptors + fd);
	if (BPF_CORE_READ(file, f_inode, i_sb, s_magic) != NSFS_MAGIC)
		return UNKNOWN_KIND;
	ns = BPF_CORE_READ(file, f_inode, i_private);
	typed = (void *)ns;
	if (bpf_core_field_exists(typed->ns_type))
		return BPF_CORE_READ(typed, ns_type);
	return BPF_CORE_READ(ns, ops, type);
}

/*
 * Kinds are bits CLONE_NEW*, or UNKNOWN_KIND; how: 0 or NAMESPACE_ENTERED. Not 0: one of them is denied. Global, as in
 * deed.h.
 */
__noinline int check_namespaces(__u32 hook, __u32 kinds, __u32 how)
{
	static const __u8 bits[] = { 0, 7, 17, 25, 26, 27, 28, 29, 30 };

	ROLLED for (__u32 i = 0; i < sizeof(bits); i++) {
		if (kinds >> bits[i] & 1 && check_use(hook, OP_NAMESPACE, bits[i] | how))
			return -EPERM;
	}
	return 0;
}

/* What the thread makes and enters by the system call that it is in, if it does. 0 or -EPERM. */
static __always_inline int check_called_namespaces(__u8 hook)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 kinds, how = 0;
	struct call call;

	if (BPF_CORE_READ(task, flags) & PF_IO_WORKER)
		return 0;	/* allow: in no system call */
	read_call(&call);
	if (call.number == (call.compat ? NR_UNSHARE_32 : NR_UNSHARE)) {
		kinds = call.first & NAMESPACES_MADE;
		if (call.first & UNSHARE_EMPTY_MNTNS)
			kinds |= CLONE_NEWNS;
		if (call.first & ~(__u64)(NAMESPACES_MADE | UNSHARED_BESIDE | UNSHARE_EMPTY_MNTNS))
			kinds |= UNKNOWN_KIND;
	} else if (call.number == (call.compat ? NR_SETNS_32 : NR_SETNS)) {
		how = NAMESPACE_ENTERED;
		kinds = call.second;
		if (!kinds)	/* the descriptor says which */
			kinds = kind_of_descriptor(call.first);
		if (!kinds || kinds & ~NAMESPACES_ENTERED)
			kinds = (kinds & NAMESPACES_ENTERED) | UNKNOWN_KIND;
	} else {
		return 0;	/* allow: it makes and enters none */
	}
	return check_namespaces(hook, kinds, how) ? -EPERM : 0;
}

/* Called last, after the capability was found to be there. */
static __always_inline int on_capable(__u8 hook, int cap, unsigned int opts)
{
	if (opts & CAP_OPT_NOAUDIT)
		return 0;	/* allow: nothing depends on it */
	if (check_use(hook, OP_CAPABILITY, cap))
		return -EPERM;
	return cap == CAP_SYS_ADMIN ? check_called_namespaces(hook) : 0;
}

ENFORCE(capable, ARGS(cap, opts), const struct cred *cred, struct user_namespace *ns, int cap, unsigned int opts)

/* A process with namespaces of its own; the flags are the kernel's copy. */
static __always_inline int on_clone(__u8 hook, __u64 flags)
{
	__u32 kinds = flags & NAMESPACES_MADE;

	if (flags & CLONE_EMPTY_MNTNS)
		kinds |= CLONE_NEWNS;
	return kinds && check_namespaces(hook, kinds, 0) ? -EPERM : 0;
}

/* Apart from the hook of files, which the same function calls. */
SEC("lsm/task_alloc")
int BPF_PROG(lsm_clone, struct task_struct *task, unsigned long flags)
{
	return on_clone(HOOK_LSM, flags);
}

SEC("fmod_ret/security_task_alloc")
int BPF_PROG(fmod_clone, struct task_struct *task, unsigned long flags)
{
	return on_clone(HOOK_FMOD_RET, flags);
}
