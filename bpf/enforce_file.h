/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * Files: opened, mapped executable, made, removed, renamed, linked, changed, mounted on. The hooks with
 * a struct path need CONFIG_SECURITY_PATH.
 */

#define FMODE_READ 0x1		/* include/linux/fs.h */
#define FMODE_WRITE 0x2
#define FMODE_EXEC 0x20
#define PROT_READ 0x1		/* include/uapi/asm-generic/mman-common.h */
#define PROT_EXEC 0x4
#define READ_IMPLIES_EXEC 0x0400000	/* include/uapi/linux/personality.h */
#define MNT_NOEXEC 0x04		/* include/linux/mount.h */
#define SB_I_NOEXEC 0x2		/* include/linux/fs.h */
#define VM_EXEC 0x4		/* include/linux/mm.h */
#define S_IFDIR 0040000		/* include/uapi/linux/stat.h */
#define S_IFLNK 0120000
#define SB_KERNMOUNT (1 << 22)	/* include/linux/fs.h */
#define RENAME_EXCHANGE 2	/* include/uapi/linux/fs.h */

/*
 * What a workload may do with an inode, so that a repetition costs two lookups and no path. A word is a hash of (all that
 * is known of the workload, the rules, mount, epoch) whose low bits say what was allowed: one store replaces it as
 * a whole. It is of use only while it hashes the same, so that nothing has to be taken back when a
 * policy changes. LSM programs only: others may not use an inode's storage.
 */
#define KNOWN_WORDS 4		/* workloads that share a file side by side */
#define KNOWN_READ 1
#define KNOWN_WRITE 2
#define KNOWN_OPEN (KNOWN_READ | KNOWN_WRITE)
#define KNOWN_LIBRARY 4
#define KNOWN_MASK 7

struct known {
	__u64 words[KNOWN_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_INODE_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct known);
} known_inodes SEC(".maps");

/* Counts what gives many files another path at once: a directory renamed, a mount. */
volatile __u64 path_epoch;
/*
 * By the mount, too: below another one the file has another path. A number is made of it, as the verifier has it, by
 * its distance from the inode, which is where the hash is kept. Taken before the question is asked: if
 * what it stands for changes meanwhile, the answer is not remembered under what came then.
 */
static __always_inline __u64 known_tag(__u64 standing, struct file *file)
{
	__u64 way = (__u64)file->f_path.mnt - (__u64)file->f_inode;
	__u64 tag = mix(mix(known_secret ^ standing ^ rules) ^ way) + path_epoch * (KNOWN_MASK + 1);

	barrier_var(tag);	/* one number to keep while the question is asked, and not all that it is made of */
	return tag;
}

/*
 * Whether the inode remembers that a file may be used so by who is in a cgroup. What stands in the cgroup's element need
 * not be looked at: only of a workload that was, the same was hashed.
 */
static __always_inline bool is_known(struct file *file, const struct sealed_workload *sealed, __u64 cgroup_id, __u64 uses)
{
	struct known *known = bpf_inode_storage_get(&known_inodes, file->f_inode, 0, 0);
	__u64 word;

	if (!known)
		return false;
	word = *(volatile __u64 *)&known->words[sealed->workload.id % KNOWN_WORDS];
	word ^= known_tag(sealed_standing(sealed, cgroup_id), file) | KNOWN_MASK;
	return !(word & (~(__u64)KNOWN_MASK | uses));
}

/* In LSM programs only, of an inode that the kernel handed over. */
static __always_inline void note_known(struct file *file, struct workload *w, __u64 tag, __u64 uses)
{
	struct known *known = bpf_inode_storage_get(&known_inodes, file->f_inode, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	volatile __u64 *word;

	if (!known)
		return;
	tag &= ~(__u64)KNOWN_MASK;
	word = &known->words[w->id % KNOWN_WORDS];
	if ((*word & ~(__u64)KNOWN_MASK) == tag)
		uses |= *word & KNOWN_MASK;
	*word = tag | uses;
}

/* The mount by which overlayfs reaches one of its layers. */
static __always_inline bool is_layer(struct vfsmount *mnt)
{
	return is_internal(mnt) && !(BPF_CORE_READ(mnt, mnt_root, d_sb, s_flags) & SB_KERNMOUNT);
}

/*
 * A file that has no path in the process's tree: what kind of thing it is has to do as its name. What
 * somebody took out of a tree, or beyond the process's root, is not of the kind of an anonymous file.
 */
static __always_inline void name_nameless(struct place *p, struct dentry *dentry, struct vfsmount *mnt)
{
	const char *type = BPF_CORE_READ(dentry, d_sb, s_type, name);
	static const char unlinked[] = "[unlinked]", detached[] = "[detached ";
	__u32 head = 1;
	long len;

	__builtin_memset(p->path.path, 0, PATH_BYTES);
	if (p->access.path_facts & PATH_DETACHED) {
		__builtin_memcpy(p->path.path, detached, sizeof(detached) - 1);
		if (is_internal(mnt))
			__builtin_memset(&p->path.path[1], 0, sizeof(detached) - 2);
		else
			head = sizeof(detached) - 1;
		barrier_var(head);
		head &= 15;
		len = bpf_probe_read_kernel_str(&p->path.path[head], 32, type);
		len = head + (len > 0 ? len - 1 : 0);
		barrier_var(len);
		p->path.path[len & 63] = ']';
		p->access.path_len = (len & 63) + 1;
		return;
	}
	__builtin_memcpy(p->path.path, unlinked, sizeof(unlinked));
	p->access.path_len = sizeof(unlinked) - 1;
}

/* Whether an operation on a path lets the file's content run, which no other name than its own stands for. */
static __always_inline bool is_code(enum operation op)
{
	return op == OP_LIBRARY || gives_rights(op);
}

/* Writes the path of place->dentry. */
static __always_inline void write_path(struct place *p)
{
	struct dentry *dentry = p->dentry;
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	__u8 facts = write_name(p->number, OWN);

	p->access.path_len = p->name_len[OWN];
	p->access.path_facts = facts;
	if (facts & PATH_TRUNCATED)
		count_incomplete(facts);
	else if (facts && !is_code(p->op))
		name_nameless(p, dentry, p->mnt);
	p->nameless = is_code(p->op) ? facts : facts & PATH_TRUNCATED;
	if (!inode)
		return;
	p->inode = BPF_CORE_READ(inode, i_ino);
	p->device = BPF_CORE_READ(inode, i_sb, s_dev);
}

static __always_inline void refuse_path(struct place *p)
{
	begin_key(p);
	refuse(p, &told_paths, &p->path);
}

/*
 * Decides about the question of a place about place->dentry, or about a name that stands in place->path. Global, as in
 * deed.h.
 */
__noinline int check_path(__u32 number)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	int verdict;

	if (!p)
		return VERDICT_UNPROVEN;
	if (p->named)
		p->access.path_facts = p->nameless;
	else
		write_path(p);
	if (p->guarded)
		refuse_path(p);
	else
		decide_path(p, false);
	if (p->answer.news)
		tell_path(p);
	verdict = verdict_of(&p->answer);
	/* In proc, the name depends on who looks; and who may do it by another name may be anybody. */
	if (p->answer.known && !p->answer.other && !p->access.path_facts && !p->walk.proc_root)
		verdict |= VERDICT_KNOWN;
	leave_place(p);
	return verdict;
}

/* What is asked about: a dentry, which was reached by a mount. The rest is as of struct place. */
struct object {
	enum operation op;
	__u32 detail;
	struct dentry *dentry;
	struct vfsmount *mnt;
	struct dentry *to;
	const char *said;
	__u32 uses;
	__u64 facts;
	bool is_new;
	bool is_replaced;
};

static __always_inline int ask_guarded(struct subject *s, __u8 hook, const struct object *o, bool guarded)
{
	__u64 who = bpf_get_current_pid_tgid();
	struct place *p = begin_question(s, o->op, hook, who);

	if (!p)
		return VERDICT_UNPROVEN;
	p->dentry = o->dentry;
	p->mnt = o->mnt;
	p->to = o->to;
	p->uses = o->uses;
	p->is_new = o->is_new;
	p->is_replaced = o->is_replaced;
	p->detail = o->detail;
	p->said = o->said;
	p->facts = o->facts;
	p->guarded = guarded;
	return check_path(p->number);
}

static __always_inline int ask_path(struct subject *s, __u8 hook, enum operation op, struct dentry *dentry,
				    struct vfsmount *mnt, __u32 detail)
{
	struct object o = { .op = op, .dentry = dentry, .mnt = mnt, .detail = detail };

	return ask_guarded(s, hook, &o, false);
}

/* The same for one who may not be held in this; 0 or -EPERM. */
static __always_inline int check_object_of(struct subject *s, __u8 hook, const struct object *o)
{
	bool guarded = is_kept_out(s, protected_until) && is_pin(o->dentry);
	int verdict;

	if (!guarded && !is_asked(s, o->op))
		return 0;	/* allow: not ours to hold */
	verdict = ask_guarded(s, hook, o, guarded);
	return guarded ? -EPERM : result(verdict, s);
}

/* The same for one who may be out of scope. */
static __always_inline int check_object(__u8 hook, const struct object *o)
{
	struct subject subject;

	if (!current_subject(&subject))
		return 0;	/* allow: out of scope, or the agent itself */
	return check_object_of(&subject, hook, o);
}

static __always_inline int check_detail(__u8 hook, enum operation op, struct dentry *dentry, struct vfsmount *mnt,
					bool is_new, __u32 detail, const char *said)
{
	struct object o = { .op = op, .dentry = dentry, .mnt = mnt, .is_new = is_new, .detail = detail, .said = said };

	return check_object(hook, &o);
}

static __always_inline int check_tree(__u8 hook, enum operation op, struct dentry *dentry,
				      struct vfsmount *mnt, bool is_new)
{
	return check_detail(hook, op, dentry, mnt, is_new, 0, NULL);
}


/* A file with several names is never known by its inode: under which of them was it allowed? */
static __always_inline bool has_one_name(struct inode *inode)
{
	return BPF_CORE_READ(inode, i_nlink) == 1;
}

/*
 * What a file that is opened leads to, beside its path: a namespace, or another process, as its memory does. Properties,
 * for place->facts. Global, as in deed.h.
 */
__noinline int look_at_opened(__u64 address, __u32 uses)
{
	struct dentry *dentry = (void *)address;
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	unsigned long magic = BPF_CORE_READ(dentry, d_sb, s_magic);
	struct task_struct *task;

	if (magic == NSFS_MAGIC && is_host_namespace(BPF_CORE_READ(inode, i_ino)))
		return property(TRAIT_HOST_NAMESPACE);
	if (magic != PROC_SUPER_MAGIC || !(uses & KNOWN_WRITE))
		return 0;
	task = described_task(inode);
	return task && is_above(task) ? property(TRAIT_BY_ANCESTOR) : 0;
}

/* 0 or -EPERM. *all_known: so that the inode may remember it. */
static __always_inline int check_file(struct subject *s, struct file *file, __u64 uses, __u8 hook, __u8 *all_known)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct vfsmount *mnt = BPF_CORE_READ(file, f_path.mnt);
	struct object o = { .detail = BPF_CORE_READ(file, f_flags) | DETAIL_TOLD };
	int verdict = VERDICT_ALLOW, known = VERDICT_KNOWN;
	bool layer = is_layer(mnt);

	*all_known = false;
	if (layer) {
		struct backing_file *backing = (void *)file;

		if (!(uses & KNOWN_LIBRARY))
			return 0;	/* allow: opened by overlayfs, whose own file was asked about */
		if (bpf_core_field_exists(backing->user_path)) {
			dentry = BPF_CORE_READ(backing, user_path.dentry);
			mnt = BPF_CORE_READ(backing, user_path.mnt);
		}
	}
	o.dentry = dentry;
	o.mnt = mnt;
	if (uses & KNOWN_OPEN)
		o.facts = look_at_opened((__u64)dentry, uses);
	if (uses & KNOWN_READ) {
		o.op = OP_READ;
		verdict = ask_guarded(s, hook, &o, false);
		known &= verdict;
	}
	if (!is_denied(verdict, s) && uses & KNOWN_WRITE) {
		o.op = OP_WRITE;
		verdict = ask_guarded(s, hook, &o, false);
		known &= verdict;
	}
	if (!is_denied(verdict, s) && uses & KNOWN_LIBRARY) {
		o.op = OP_LIBRARY;
		verdict = ask_guarded(s, hook, &o, false);
		known &= verdict;
	}
	/* A layer's mount does not say by which path the file is reached. */
	*all_known = forgotten((__u8)(known && !layer && has_one_name(BPF_CORE_READ(file, f_inode))));
	return result(verdict, s);
}

/* What an open file is opened for. Programs are asked about when they are executed. */
static __always_inline __u64 uses_of_open(struct subject *subject, struct file *file)
{
	unsigned int mode = file->f_mode;
	__u64 uses = 0;

	if (!is_asked(subject, OP_READ) && !is_asked(subject, OP_WRITE))
		return 0;
	if (file->f_flags & FMODE_EXEC)
		return 0;
	if ((file->f_inode->i_mode & S_IFMT) == S_IFDIR)
		return 0;	/* allow: a listing */
	if (mode & FMODE_READ && is_asked(subject, OP_READ))
		uses |= KNOWN_READ;
	if (mode & FMODE_WRITE && is_asked(subject, OP_WRITE))
		uses |= KNOWN_WRITE;
	return uses;
}

_Static_assert(KNOWN_READ == FMODE_READ && KNOWN_WRITE == FMODE_WRITE, "a file's mode says what it is opened for");

/* Whether anybody might be asked about opening a file. */
static __always_inline bool may_be_asked(const struct workload *w)
{
	return (w->mode != MODE_OFF && w->held & dimension_bit(OP_READ)) || rules & (rule_bit(OP_READ) | rule_bit(OP_WRITE));
}

/* What most calls need comes first, and is short: each is a file that is opened. */
SEC("lsm/file_open")
int BPF_PROG(lsm_file_open, struct file *file)
{
	struct subject subject;
	struct sealed_workload *sealed;
	struct workload *w = &subject.workload;
	__u8 uses;
	__u8 all_known;
	__u64 tag;
	int err;

	subject.cgroup_id = followed_cgroup_id();
	sealed = workload_at(&subject.cgroup_id);
	if (!sealed)
		return 0;	/* allow: out of scope, or of no workload, which nobody asks about */
	if (may_be_asked(&sealed->workload) && is_known(file, sealed, subject.cgroup_id, file->f_mode & KNOWN_OPEN))
		return 0;	/* allow: known */
	if (!unseal(w, sealed, subject.cgroup_id) && !read_workload(w, &subject.cgroup_id))
		return 0;	/* allow: as above */
	if (!may_be_asked(w) || is_agent(bpf_get_current_pid_tgid() >> 32))
		return 0;	/* allow: not ours to hold, or the agent itself */
	subject.unproven = 0;
	tag = known_tag(standing_of(w), file);
	uses = forgotten((__u8)uses_of_open(&subject, file));
	if (!uses)
		return 0;	/* allow: as above */
	err = check_file(&subject, file, uses & KNOWN_OPEN, HOOK_LSM, &all_known);
	if (!err && all_known)
		note_known(file, w, tag, uses | (file->f_mode & KNOWN_OPEN));	/* about what else it is opened for nobody asks */
	return err;
}

SEC("fmod_ret/security_file_open")
int BPF_PROG(fmod_file_open, struct file *file)
{
	struct subject subject;
	__u8 uses;
	__u8 all_known;

	if (!current_subject(&subject))
		return 0;	/* allow: out of scope, or the agent itself */
	uses = forgotten((__u8)uses_of_open(&subject, file));
	if (!uses)
		return 0;	/* allow: not ours to hold */
	return check_file(&subject, file, uses & KNOWN_OPEN, HOOK_FMOD_RET, &all_known);
}

/* Whether a mapping is one of a library: of a file other than the program that runs. */
static __always_inline bool is_library(struct subject *subject, struct file *file)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (!current_subject(subject) || !is_asked(subject, OP_LIBRARY))
		return false;
	return BPF_CORE_READ(file, f_inode) != BPF_CORE_READ(task, mm, exe_file, f_inode);
}

SEC("lsm/mmap_file")
int BPF_PROG(lsm_mmap_file, struct file *file, unsigned long reqprot, unsigned long prot)
{
	struct subject subject;
	struct sealed_workload *sealed;
	__u8 all_known;
	__u64 tag;
	int err;

	if (!file || !(prot & PROT_EXEC))
		return 0;	/* allow: anonymous, or not executable */
	subject.cgroup_id = followed_cgroup_id();
	sealed = workload_at(&subject.cgroup_id);
	if (sealed && is_known(file, sealed, subject.cgroup_id, KNOWN_LIBRARY))
		return 0;	/* allow: known */
	if (!is_library(&subject, file))
		return 0;	/* allow: out of scope, or the program itself */
	tag = known_tag(standing_of(&subject.workload), file);
	err = check_file(&subject, file, KNOWN_LIBRARY, HOOK_LSM, &all_known);
	if (!err && all_known)
		note_known(file, &subject.workload, tag, KNOWN_LIBRARY);
	return err;
}

/*
 * Whether a file that is mapped to be read is mapped executable, too. LSM programs get what comes of it, as mmap_prot()
 * in the kernel's security/security.c has it; security_mmap_file() what was asked for.
 */
static __always_inline bool read_implies_exec(struct file *file)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct vfsmount *mnt;

	if (!(BPF_CORE_READ(task, personality) & READ_IMPLIES_EXEC))
		return false;
	mnt = BPF_CORE_READ(file, f_path.mnt);
	return !(BPF_CORE_READ(mnt, mnt_flags) & MNT_NOEXEC) && !(BPF_CORE_READ(mnt, mnt_root, d_sb, s_iflags) & SB_I_NOEXEC);
}

static __always_inline bool maps_executable(struct file *file, unsigned long prot)
{
	return prot & PROT_EXEC || (prot & PROT_READ && read_implies_exec(file));
}

SEC("fmod_ret/security_mmap_file")
int BPF_PROG(fmod_mmap_file, struct file *file, unsigned long prot)
{
	struct subject subject;
	__u8 all_known;

	if (!file || !maps_executable(file, prot) || !is_library(&subject, file))
		return 0;	/* allow: as above */
	return check_file(&subject, file, KNOWN_LIBRARY, HOOK_FMOD_RET, &all_known);
}

/* A mapping is made executable later. */
static __always_inline int on_file_mprotect(__u8 hook, struct vm_area_struct *vma, unsigned long prot)
{
	struct file *file = BPF_CORE_READ(vma, vm_file);
	struct subject subject;
	__u8 all_known;

	if (!file || !(prot & PROT_EXEC) || BPF_CORE_READ(vma, vm_flags) & VM_EXEC)
		return 0;	/* allow: anonymous, not executable, or asked about before */
	if (!is_library(&subject, file))
		return 0;	/* allow: out of scope, or the program itself */
	return check_file(&subject, file, KNOWN_LIBRARY, hook, &all_known);
}

ENFORCE(file_mprotect, ARGS(vma, prot), struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)

/* Something is made, of this type and with these permissions. */
static __always_inline int on_create(__u8 hook, const struct path *dir, struct dentry *dentry, __u32 mode,
				     const char *target)
{
	return check_detail(hook, OP_CREATE, dentry, BPF_CORE_READ(dir, mnt), true, DETAIL_TOLD | mode, target);
}

static __always_inline int on_path_mknod(__u8 hook, const struct path *dir, struct dentry *dentry, unsigned short mode)
{
	return on_create(hook, dir, dentry, mode, NULL);
}

static __always_inline int on_path_mkdir(__u8 hook, const struct path *dir, struct dentry *dentry, unsigned short mode)
{
	return on_create(hook, dir, dentry, S_IFDIR | mode, NULL);
}

static __always_inline int on_path_symlink(__u8 hook, const struct path *dir, struct dentry *dentry, const char *target)
{
	return on_create(hook, dir, dentry, S_IFLNK | 0777, target);
}

static __always_inline int on_path_unlink(__u8 hook, const struct path *dir, struct dentry *dentry)
{
	return check_tree(hook, OP_DELETE, dentry, BPF_CORE_READ(dir, mnt), false);
}

static __always_inline int on_path_rmdir(__u8 hook, const struct path *dir, struct dentry *dentry)
{
	return check_tree(hook, OP_DELETE, dentry, BPF_CORE_READ(dir, mnt), false);
}

static __always_inline int on_path_truncate(__u8 hook, const struct path *path)
{
	return check_detail(hook, OP_WRITE, BPF_CORE_READ(path, dentry), BPF_CORE_READ(path, mnt), false, O_TRUNC, NULL);
}

static __always_inline int on_path_chmod(__u8 hook, const struct path *path, unsigned short mode)
{
	return check_detail(hook, OP_ATTRIBUTES, BPF_CORE_READ(path, dentry), BPF_CORE_READ(path, mnt), false,
			    DETAIL_TOLD | mode, NULL);
}

static __always_inline int on_path_chown(__u8 hook, const struct path *path)
{
	return check_tree(hook, OP_ATTRIBUTES, BPF_CORE_READ(path, dentry), BPF_CORE_READ(path, mnt), false);
}

static __always_inline int on_path_chroot(__u8 hook, const struct path *path)
{
	note_mounter();
	return check_tree(hook, OP_MOUNT, BPF_CORE_READ(path, dentry), BPF_CORE_READ(path, mnt), false);
}

static __always_inline int on_path_link(__u8 hook, struct dentry *old, const struct path *dir,
					struct dentry *new)
{
	struct vfsmount *mnt = BPF_CORE_READ(dir, mnt);	/* a link does not cross mounts */

	struct object o = { .op = OP_LINK, .dentry = old, .mnt = mnt, .to = new, .uses = USES_OF_FILE };

	return check_object(hook, &o) ?: check_tree(hook, OP_LINK, new, mnt, true);
}

static __always_inline __u32 uses_of(struct dentry *dentry)
{
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	__u32 uses = 0;

	if (inode)
		uses = (BPF_CORE_READ(inode, i_mode) & S_IFMT) == S_IFDIR ? USES_OF_DIRECTORY : USES_OF_FILE;
	return forgotten(uses);
}

/* A rename does not cross mounts either. What is there is overwritten, or gets the other's name. */
static __always_inline int on_path_rename(__u8 hook, const struct path *dir, struct dentry *old, struct dentry *new,
					  unsigned int flags)
{
	struct object from = { .op = OP_RENAME, .dentry = old, .mnt = BPF_CORE_READ(dir, mnt), .to = new, .uses = uses_of(old) };
	struct object to = { .op = OP_RENAME, .dentry = new, .mnt = from.mnt, .is_new = true, .to = old };
	struct subject subject;

	if (!current_subject(&subject))
		return 0;	/* allow: as in check_object */
	to.is_replaced = !(flags & RENAME_EXCHANGE);
	to.uses = uses_of(new);
	if (to.is_replaced)
		to.uses &= USE(OP_WRITE);
	return check_object_of(&subject, hook, &from) ?: check_object_of(&subject, hook, &to);
}

ENFORCE(path_mknod, ARGS(dir, dentry, mode), const struct path *dir, struct dentry *dentry, unsigned short mode)
ENFORCE(path_mkdir, ARGS(dir, dentry, mode), const struct path *dir, struct dentry *dentry, unsigned short mode)
ENFORCE(path_symlink, ARGS(dir, dentry, target), const struct path *dir, struct dentry *dentry, const char *target)
ENFORCE(path_unlink, ARGS(dir, dentry), const struct path *dir, struct dentry *dentry)
ENFORCE(path_rmdir, ARGS(dir, dentry), const struct path *dir, struct dentry *dentry)
ENFORCE(path_truncate, path, const struct path *path)
ENFORCE(path_chmod, ARGS(path, mode), const struct path *path, unsigned short mode)
ENFORCE(path_chown, path, const struct path *path)
ENFORCE(path_chroot, path, const struct path *path)
ENFORCE(path_link, ARGS(old, dir, new), struct dentry *old, const struct path *dir, struct dentry *new)

/*
 * Before 100f59d96405 ("LSM: Remove double path_rename hook calls for RENAME_EXCHANGE", 5.19) the hook has no flags
 * and is called once more, with the names exchanged. The helper is older, and says that there are none.
 */
SEC("lsm/path_rename")
int BPF_PROG(lsm_path_rename, const struct path *old_dir, struct dentry *old, const struct path *new_dir, struct dentry *new)
{
	__u64 flags = 0;

	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_func_arg) && bpf_get_func_arg(ctx, 4, &flags))
		flags = 0;
	return on_path_rename(HOOK_LSM, old_dir, old, new, flags);
}

SEC("fmod_ret/security_path_rename")
int BPF_PROG(fmod_path_rename, const struct path *old_dir, struct dentry *old, const struct path *new_dir, struct dentry *new,
	     unsigned int flags)
{
	return on_path_rename(HOOK_FMOD_RET, old_dir, old, new, flags);
}

/* A mount gives files other paths, whoever makes it. */
static __always_inline int on_mount(__u8 hook, const struct path *on)
{
	__sync_fetch_and_add(&path_epoch, 1);
	note_mounter();
	return check_tree(hook, OP_MOUNT, BPF_CORE_READ(on, dentry), BPF_CORE_READ(on, mnt), false);
}

static __always_inline int on_sb_mount(__u8 hook, const struct path *path)
{
	return on_mount(hook, path);
}

static __always_inline int on_move_mount(__u8 hook, const struct path *to)
{
	return on_mount(hook, to);
}

static __always_inline int on_sb_pivotroot(__u8 hook, const struct path *new)
{
	return on_mount(hook, new);
}

static __always_inline int on_sb_umount(__u8 hook, struct vfsmount *mnt)
{
	__sync_fetch_and_add(&path_epoch, 1);
	return check_tree(hook, OP_MOUNT, BPF_CORE_READ(mnt, mnt_root), mnt, false);
}

ENFORCE(sb_mount, path, const char *dev_name, const struct path *path)
ENFORCE(move_mount, to, const struct path *from, const struct path *to)
ENFORCE(sb_pivotroot, new, const struct path *old, const struct path *new)
ENFORCE(sb_umount, mnt, struct vfsmount *mnt)

/* Nothing is decided here: the inode forgets what it was allowed as under its old name. */
SEC("lsm/inode_rename")
int BPF_PROG(lsm_inode_rename, struct inode *old_dir, struct dentry *old, struct inode *new_dir,
	     struct dentry *new)
{
	if ((BPF_CORE_READ(old, d_inode, i_mode) & S_IFMT) == S_IFDIR)
		__sync_fetch_and_add(&path_epoch, 1);
	else
		bpf_inode_storage_delete(&known_inodes, old->d_inode);
	return 0;
}

SEC("lsm/inode_link")
int BPF_PROG(lsm_inode_link, struct dentry *old)
{
	bpf_inode_storage_delete(&known_inodes, old->d_inode);
	return 0;
}
