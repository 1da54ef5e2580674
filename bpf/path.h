/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * The one encoding of a path: names from the process's root to the file, joined by '/', written by a
 * bounded walk over dentries and mounts. Linux 5.10 has no bpf_d_path for LSM programs, so every
 * kernel walks, and learning and enforcing compare the same bytes.
 */

#define PATH_BYTES 256		/* of a key, the final NUL included; longer paths are never learnt */
#define PATH_STEPS 64		/* names and mounts on the way to the root */
#define NAME_BYTES 256		/* NAME_MAX is 255 */
#define WALK_BYTES 1024		/* power of two, for masks */

_Static_assert((WALK_BYTES & (WALK_BYTES - 1)) == 0, "WALK_BYTES is used as a mask");

/* Facts about a resolved path that forbid a match. */
#define PATH_TRUNCATED 1	/* longer than PATH_BYTES or deeper than PATH_STEPS */
#define PATH_UNLINKED 2		/* the file has no name any more: deleted, or a memfd */
#define PATH_DETACHED 4		/* does not lead to the process's root */
#define PATH_UNREAD 8		/* beside PATH_TRUNCATED: because a part of it could not be read */

/*
 * The kernel has bpf_loop (Linux 5.17), with which the verifier looks at one step and not at PATH_STEPS
 * of them: a tenth of the time that loading takes. Where it is false, pkg/sensor takes the callback out
 * of the object, which a kernel before 5.13 would refuse.
 */
const volatile bool can_loop;

/*
 * Written from its end towards its begin; the tail of NAME_BYTES keeps masked writes inside. The
 * state of the walk lives here and not in registers: the verifier forgets what it knew of a value
 * that goes through a map, so that all ways through one step look alike to it, and 64 steps cost 64
 * times one step.
 */
struct walk {
	struct dentry *dentry;
	struct vfsmount *vfs;
	struct dentry *mount_root;	/* of vfs */
	struct dentry *top;
	struct vfsmount *top_vfs;
	__u32 begin;
	__u32 facts;
	struct dentry *proc_root;	/* of the proc file system that the file is in, else NULL */
	char bytes[WALK_BYTES + NAME_BYTES];
};

static __always_inline struct mount *real_mount(struct vfsmount *mnt)
{
	return (void *)mnt - bpf_core_field_offset(struct mount, mnt);
}

static __always_inline struct vfsmount *vfs_mount(struct mount *mnt)
{
	return (void *)mnt + bpf_core_field_offset(struct mount, mnt);
}

/* The process that a file of a proc file system is about. */
static __always_inline struct pid *described_pid(struct inode *inode)
{
	struct proc_inode *proc = (void *)inode - bpf_core_field_offset(struct proc_inode, vfs_inode);

	return BPF_CORE_READ(proc, pid);
}

/* Its task; NULL if it has ended, or the file is about none. */
static __always_inline struct task_struct *described_task(struct inode *inode)
{
	struct pid *pid = described_pid(inode);
	struct hlist_node *link = BPF_CORE_READ(pid, tasks[0].first);	/* PIDTYPE_PID */

	if (!link)
		return NULL;
	return (void *)link - bpf_core_field_offset(struct task_struct, pid_links);
}

/*
 * A process's directory in a proc file system: the number says nothing about behaviour, so that its
 * name is "self" for the own one and "[pid]" for every other.
 */
static __always_inline const char *process_name(struct dentry *dentry, __u32 *len)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	static const char self[] = "self", other[] = "[pid]";

	if (described_pid(inode) == BPF_CORE_READ(task, signal, pids[1])) {
		*len = sizeof(self) - 1;
		return self;
	}
	*len = sizeof(other) - 1;
	return other;
}

/* Returns the length of a dentry's name. */
static __always_inline __u32 read_name(struct dentry *dentry, const unsigned char **name)
{
	__u64 words[2] = {};	/* a hash and the length, in either order, and the text */

	bpf_core_read(words, sizeof(words), &dentry->d_name);
	*name = (const unsigned char *)words[1];
	return bpf_core_field_offset(struct qstr, len) ? words[0] >> 32 : (__u32)words[0];
}

/* Puts "/name" before what is written; false if there is no room. */
static __always_inline bool prepend_name(struct walk *w, struct dentry *dentry, struct dentry *parent)
{
	const unsigned char *name;
	__u32 len = read_name(dentry, &name);
	__u32 begin = w->begin;

	if (w->proc_root && parent == w->proc_root) {
		unsigned char first = 0;

		bpf_probe_read_kernel(&first, 1, name);
		if (first >= '0' && first <= '9')
			name = (const unsigned char *)process_name(dentry, &len);
	}
	if (len >= NAME_BYTES || begin <= len)
		return false;
	begin -= len;
	barrier_var(len);	/* keeps the mask, by which the verifier sees the bound */
	len &= NAME_BYTES - 1;
	if (bpf_probe_read_kernel(&w->bytes[begin & (WALK_BYTES - 1)], len, name)) {
		w->facts |= PATH_UNREAD;
		return false;
	}
	begin--;
	w->bytes[begin & (WALK_BYTES - 1)] = '/';
	w->begin = begin;
	return true;
}

enum step {
	STEP_ON,
	STEP_DONE,
	STEP_STUCK,
};

static __always_inline enum step walk_step(struct walk *w)
{
	struct dentry *dentry = w->dentry, *parent;	/* "w->" inside BPF_CORE_READ would be relocated too */
	struct vfsmount *vfs = w->vfs;

	if (dentry == w->top && vfs == w->top_vfs)
		return STEP_DONE;
	if (dentry == w->mount_root) {
		struct mount *mnt = real_mount(vfs);
		struct mount *up = BPF_CORE_READ(mnt, mnt_parent);

		if (up == mnt) {
			w->facts |= PATH_DETACHED;
			return STEP_DONE;
		}
		w->dentry = BPF_CORE_READ(mnt, mnt_mountpoint);
		w->vfs = vfs_mount(up);
		w->mount_root = BPF_CORE_READ(up, mnt.mnt_root);
		return STEP_ON;
	}
	parent = BPF_CORE_READ(dentry, d_parent);
	if (!prepend_name(w, dentry, parent))
		return STEP_STUCK;
	if (parent == dentry) {
		/* A file without a directory: memfd and other pseudo files. */
		w->facts |= PATH_DETACHED;
		return STEP_DONE;
	}
	w->dentry = parent;
	return STEP_ON;
}

struct walking {
	struct walk *walk;
	enum step step;
};

static long walk_on(__u32 i, struct walking *walking)
{
	walking->step = walk_step(walking->walk);
	return walking->step != STEP_ON;
}

/* Walks to the root, or as far as it may. */
static __always_inline enum step walk_all(struct walk *w)
{
	struct walking walking = { .walk = w, .step = STEP_ON };

	if (can_loop) {
		bpf_loop(PATH_STEPS, walk_on, &walking, 0);
		return walking.step;
	}
	for (int i = 0; i < PATH_STEPS; i++) {
		walking.step = walk_step(w);
		if (walking.step != STEP_ON)
			break;
	}
	return walking.step;
}

#define PROC_SUPER_MAGIC 0x9fa0	/* include/uapi/linux/magic.h */

static __always_inline void walk_begin(struct walk *w, struct dentry *dentry, struct vfsmount *vfs,
				       struct fs_struct *fs)
{
	struct dentry *mount_root = BPF_CORE_READ(vfs, mnt_root);
	struct super_block *sb = BPF_CORE_READ(mount_root, d_sb);

	w->dentry = dentry;
	w->vfs = vfs;
	w->mount_root = mount_root;
	w->top = BPF_CORE_READ(fs, root.dentry);
	w->top_vfs = BPF_CORE_READ(fs, root.mnt);
	w->begin = WALK_BYTES - 1;
	w->facts = 0;
	w->proc_root = NULL;
	if (BPF_CORE_READ(sb, s_magic) == PROC_SUPER_MAGIC)
		w->proc_root = BPF_CORE_READ(sb, s_root);
	if (!BPF_CORE_READ(dentry, d_hash.pprev) && dentry != mount_root)
		w->facts = PATH_UNLINKED;
}

/* Walks, and writes the path to out[PATH_BYTES], which has to be empty. Returns its length. */
static __always_inline __u32 walk_to(struct walk *w, char *out, __u8 *facts)
{
	__u32 len;

	if (walk_all(w) != STEP_DONE)
		w->facts |= PATH_TRUNCATED;
	if (w->begin == WALK_BYTES - 1) {
		w->begin--;
		w->bytes[WALK_BYTES - 2] = '/';
	}
	len = WALK_BYTES - 1 - w->begin;
	if (len > PATH_BYTES - 1) {
		w->facts |= PATH_TRUNCATED;
		len = PATH_BYTES - 1;
	}
	barrier_var(len);	/* as above */
	len &= PATH_BYTES - 1;
	if (bpf_probe_read_kernel(out, len, &w->bytes[w->begin & (WALK_BYTES - 1)]))
		w->facts |= PATH_TRUNCATED | PATH_UNREAD;
	*facts = w->facts;
	return len;
}

/*
 * Writes the path of a dentry as a process with this root sees it to out[PATH_BYTES], NUL padded.
 * Returns its length without NUL; *facts gets PATH_* flags. 0 with PATH_TRUNCATED: nothing known.
 */
static __always_inline __u32 resolve_path(struct walk *w, struct dentry *dentry, struct vfsmount *vfs,
					  struct fs_struct *fs, char *out, __u8 *facts)
{
	__builtin_memset(out, 0, PATH_BYTES);
	walk_begin(w, dentry, vfs, fs);
	return walk_to(w, out, facts);
}

/* The same for a file. */
static __always_inline __u32 resolve_file(struct walk *w, struct file *file, struct fs_struct *fs,
					  char *out, __u8 *facts)
{
	return resolve_path(w, BPF_CORE_READ(file, f_path.dentry), BPF_CORE_READ(file, f_path.mnt), fs,
			    out, facts);
}
