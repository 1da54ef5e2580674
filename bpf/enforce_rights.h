/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * Executions that give rights because of the file: set-uid, set-gid, capabilities. What the file may give is nothing where
 * its mount is nosuid or the process has no_new_privs, so asked about is what the new credentials have and the old ones have
 * not. At this hook bprm->file is final, the process can still go on as it was, and LSM programs, which are called last, see all;
 * with fmod_ret the file's capabilities are not there yet.
 */

#define SECBIT_NOROOT 1		/* include/uapi/linux/securebits.h */
#define NO_UID 0xffffffffU
#define EXTENTS 5		/* include/linux/user_namespace.h: UID_GID_MAP_MAX_BASE_EXTENTS */

/* Who is root in a user namespace. NO_UID: nobody. */
static __always_inline __u32 root_of(struct user_namespace *ns)
{
	struct uid_gid_extent extents[EXTENTS] = {};
	__u32 n = BPF_CORE_READ(ns, uid_map.nr_extents);

	if (n > EXTENTS)
		bpf_probe_read_kernel(extents, sizeof(extents[0]), BPF_CORE_READ(ns, uid_map.forward));
	else
		bpf_core_read(extents, sizeof(extents), &ns->uid_map.extent);
	for (__u32 i = 0; i < EXTENTS; i++) {
		if (extents[i].count && !extents[i].first)
			return extents[i].lower_first;
	}
	return NO_UID;
}

/* Whether there are capabilities that do not come with being root. */
static __always_inline bool gives_capabilities(const struct cred *old, const struct cred *new, __u32 root)
{
	bool is_root = BPF_CORE_READ(new, uid.val) == root || BPF_CORE_READ(new, euid.val) == root;
	struct capabilities before, after;

	if (is_root && !(BPF_CORE_READ(new, securebits) & SECBIT_NOROOT))
		return false;
	capabilities_of(&before, old);
	capabilities_of(&after, new);
	return after.permitted & ~before.permitted;
}

/* 1 << enum operation from OP_EXEC_AS_ROOT on, which is bit 0. */
#define RIGHT(op) (1U << ((op) - OP_EXEC_AS_ROOT))

/* Of the addresses of two struct cred. Global, so that its stack is free again when the file is asked about. */
__noinline __u32 rights_given(__u64 before, __u64 after)
{
	const struct cred *old = (void *)before, *new = (void *)after;
	__u32 uid = BPF_CORE_READ(new, euid.val), root = root_of(BPF_CORE_READ(new, user_ns)), rights = 0;

	if (uid != BPF_CORE_READ(old, euid.val))
		rights |= uid == root ? RIGHT(OP_EXEC_AS_ROOT) : RIGHT(OP_EXEC_AS_USER);
	if (BPF_CORE_READ(new, egid.val) != BPF_CORE_READ(old, egid.val))
		rights |= RIGHT(OP_EXEC_AS_GROUP);
	if (gives_capabilities(old, new, root))
		rights |= RIGHT(OP_EXEC_WITH_CAPABILITIES);
	return rights;
}

static __always_inline int on_bprm_creds_from_file(__u8 hook, struct linux_binprm *bprm, struct file *file)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct subject subject;
	__u32 rights;

	if (!bprm->per_clear)
		return 0;	/* allow: its file gives none */
	if (!current_subject(&subject))
		return 0;	/* allow: out of scope, or the agent itself */
	rights = rights_given((__u64)BPF_CORE_READ(task, cred), (__u64)BPF_CORE_READ(bprm, cred));
	ROLLED for (__u32 op = OP_EXEC_AS_ROOT; op <= OP_EXEC_WITH_CAPABILITIES; op++) {
		int verdict;

		if (!(rights & RIGHT(op)) || !is_asked(&subject, op))
			continue;	/* allow: not given, or not ours to hold */
		verdict = ask_path(&subject, hook, op, BPF_CORE_READ(file, f_path.dentry), BPF_CORE_READ(file, f_path.mnt), 0);
		if (is_denied(verdict, &subject))
			return result(verdict, &subject);
	}
	return 0;
}

ENFORCE(bprm_creds_from_file, ARGS(bprm, file), struct linux_binprm *bprm, struct file *file)
