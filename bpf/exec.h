/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/* The record of a new image (EVENT_EXEC), or of an attempt to load one (EVENT_EXEC_CHECK). */

#define ARGS_BYTES 1024		/* arguments beyond it are cut; the flag says so */

#define EXEC_ARGS_TRUNCATED 1
#define EXEC_SCRIPT 2		/* filename names a script that path interprets */
#define EXEC_UPPER 4		/* the file is in the upper layer of an overlayfs */
#define EXEC_SOCKET 8		/* standard input and output are Internet sockets */
#define EXEC_CWD_DETACHED 32	/* the working directory is where the root does not lead to */
#define EXEC_OTHER_NAME 16	/* as ACCESS_OTHER_NAME; filename says which name was used */

/* Sent up to .args, then args_len bytes of it. */
struct exec_event {
	struct event_header header;
	__u64 start_ticks;	/* as /proc/PID/stat field 22: 100 a second since boot */
	__u64 namespace_ticks;	/* likewise, of the first process in its pid namespace; 0: it is the initial one */
	__u64 inode;
	__u64 changed_ns;	/* the inode's ctime, nanoseconds since 1970: of content, attributes or name */
	__u64 modified_ns;	/* its mtime, likewise: of content */
	struct capabilities capabilities;	/* of an EVENT_EXEC_CHECK: before the exec */
	__u32 device;
	__u32 ppid;
	__u32 uid;
	__u32 vpid;		/* process id in its innermost pid namespace */
	__u32 session;		/* process ids of the leaders, in the initial pid namespace */
	__u32 group;
	__u32 tty;		/* as /proc/PID/stat field 7; 0: none */
	__u16 path_len;
	__u16 filename_len;
	__u16 cwd_len;
	__u16 args_len;
	__u8 path_facts;	/* PATH_* */
	__u8 flags;		/* EXEC_* */
	__u16 repeated;		/* of an EVENT_EXEC_CHECK: equal ones since the last that was sent */
	char comm[TASK_COMM_LEN];
	char path[PATH_BYTES];
	char filename[PATH_BYTES];
	char cwd[PATH_BYTES];
	char args[ARGS_BYTES];
};

#define EXEC_FIXED_BYTES __builtin_offsetof(struct exec_event, args)

#define NSEC_PER_SEC 1000000000ULL
#define CTIME_NSEC 0x7fffffff	/* include/linux/fs.h: I_CTIME_QUERIED is the bit above */

static __always_inline __u64 changed_at(struct inode *inode)
{
	struct inode___integers *integers = (void *)inode;
	struct inode___renamed *renamed = (void *)inode;

	if (bpf_core_field_exists(integers->i_ctime_sec))
		return BPF_CORE_READ(integers, i_ctime_sec) * NSEC_PER_SEC +
		       (BPF_CORE_READ(integers, i_ctime_nsec) & CTIME_NSEC);
	if (bpf_core_field_exists(renamed->__i_ctime))
		return BPF_CORE_READ(renamed, __i_ctime.tv_sec) * NSEC_PER_SEC +
		       BPF_CORE_READ(renamed, __i_ctime.tv_nsec);
	return BPF_CORE_READ(inode, i_ctime.tv_sec) * NSEC_PER_SEC + BPF_CORE_READ(inode, i_ctime.tv_nsec);
}

static __always_inline __u64 modified_at(struct inode *inode)
{
	struct inode___integers *integers = (void *)inode;
	struct inode___renamed_later *renamed = (void *)inode;

	if (bpf_core_field_exists(integers->i_mtime_sec))
		return BPF_CORE_READ(integers, i_mtime_sec) * NSEC_PER_SEC + BPF_CORE_READ(integers, i_mtime_nsec);
	if (bpf_core_field_exists(renamed->__i_mtime))
		return BPF_CORE_READ(renamed, __i_mtime.tv_sec) * NSEC_PER_SEC +
		       BPF_CORE_READ(renamed, __i_mtime.tv_nsec);
	return BPF_CORE_READ(inode, i_mtime.tv_sec) * NSEC_PER_SEC + BPF_CORE_READ(inode, i_mtime.tv_nsec);
}

#define OVERLAYFS_SUPER_MAGIC 0x794c7630	/* include/uapi/linux/magic.h */

/*
 * Whether a file of an overlayfs is, or was copied, into the upper layer. struct ovl_inode is not in the BTF of
 * vmlinux where overlayfs is a module; its dentry of the upper layer has stood behind the inode since
 * Linux 4.13.
 */
static __always_inline bool is_upper(struct inode *inode)
{
	struct dentry *upper = NULL;

	if (BPF_CORE_READ(inode, i_sb, s_magic) != OVERLAYFS_SUPER_MAGIC)
		return false;
	bpf_probe_read_kernel(&upper, sizeof(upper), (void *)inode + bpf_core_type_size(struct inode));
	return upper && BPF_CORE_READ(upper, d_inode);
}

#define SOCKFS_MAGIC 0x534f434b	/* include/uapi/linux/magic.h */

/* The socket that a file is; NULL: it is none. */
static __always_inline struct sock *socket_of(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct socket *socket;

	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFSOCK || BPF_CORE_READ(inode, i_sb, s_magic) != SOCKFS_MAGIC)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

/* Whether a descriptor is an Internet socket; here its file stands. */
static __always_inline bool is_internet(struct file **descriptor)
{
	struct file *file = NULL;
	struct sock *sk;
	__u16 family;

	bpf_probe_read_kernel(&file, sizeof(file), descriptor);
	sk = socket_of(file);
	if (!sk)
		return false;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	return family == AF_INET || family == AF_INET6;
}

/* Whether the new program talks to somebody over the Internet: both its standard input and output are such sockets. */
static __always_inline bool talks_to_internet(struct task_struct *task)
{
	struct fdtable *fdt = BPF_CORE_READ(task, files, fdt);
	struct file **descriptors = BPF_CORE_READ(fdt, fd);
	unsigned long closing = 0;	/* that will be closed, before the exec */

	if (!is_internet(descriptors) || !is_internet(descriptors + 1))
		return false;
	bpf_probe_read_kernel(&closing, sizeof(closing), BPF_CORE_READ(fdt, close_on_exec));
	return !(closing & 3);
}

/* What the process belongs to. tgid: its own. */
static __always_inline void describe_membership(struct exec_event *e, struct task_struct *task, __u32 tgid)
{
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	struct pid *pids[3];	/* from PIDTYPE_TGID to PIDTYPE_SID */
	__u32 level;

	bpf_probe_read_kernel(pids, sizeof(pids), (void *)signal + bpf_core_field_offset(struct signal_struct, pids) +
						  PIDTYPE_TGID * sizeof(pids[0]));
	e->vpid = tgid;
	e->namespace_ticks = 0;
	level = BPF_CORE_READ(pids[0], level);
	if (level) {
		struct upid *upid = upid_at(pids[0], level);

		e->vpid = BPF_CORE_READ(upid, nr);
		e->namespace_ticks = start_ticks(BPF_CORE_READ(upid, ns, child_reaper));
	}
	e->group = outermost_number(pids[1]);
	e->session = outermost_number(pids[2]);
	e->tty = terminal_of(signal);
}

/* What nothing is decided by. */
static __always_inline void describe_beside(struct exec_event *e, struct task_struct *task, __u32 tgid, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);

	describe_membership(e, task, tgid);
	read_capabilities(&e->capabilities, task);
	e->modified_ns = modified_at(inode);
	if (is_upper(inode))
		e->flags |= EXEC_UPPER;
	if (talks_to_internet(task))
		e->flags |= EXEC_SOCKET;
}

static __always_inline void describe_name(struct exec_event *e, const char *filename)
{
	long len = bpf_probe_read_kernel_str(e->filename, sizeof(e->filename), filename);

	e->filename_len = len > 0 ? len - 1 : 0;
}

_Static_assert(FAULT_READ == FAULT_PATH_TOO_LONG + 1, "one is made of the other");

/* Counts a path that is not known as a whole, by why: without a branch, as in deed.h. */
static __always_inline void count_incomplete(__u8 facts)
{
	count_lost(FAULT_PATH_TOO_LONG + facts / PATH_UNREAD % 2);
}

/* Who executes which file. */
static __always_inline void describe_file(struct exec_event *e, struct walk *w, struct task_struct *task, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct fs_struct *fs = BPF_CORE_READ(task, fs);

	e->start_ticks = start_ticks(task);
	e->ppid = BPF_CORE_READ(task, real_parent, tgid);
	e->inode = BPF_CORE_READ(inode, i_ino);
	e->changed_ns = changed_at(inode);
	e->device = BPF_CORE_READ(inode, i_sb, s_dev);
	e->cwd_len = 0;
	e->args_len = 0;
	e->repeated = 0;
	e->flags = 0;
	e->path_len = resolve_file(w, file, fs, e->path, &e->path_facts);
	if (e->path_facts & PATH_TRUNCATED)
		count_incomplete(e->path_facts);
}

/* Everything but header, args, cwd and what is beside; the same for an attempt and for the new image. */
static __always_inline void describe_exec(struct exec_event *e, struct walk *w,
					  struct task_struct *task, struct linux_binprm *bprm)
{
	const char *filename = BPF_CORE_READ(bprm, filename);

	describe_file(e, w, task, BPF_CORE_READ(bprm, file));
	describe_name(e, filename);
	e->uid = (__u32)bpf_get_current_uid_gid();
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	if (BPF_CORE_READ(bprm, interp) != filename)
		e->flags = EXEC_SCRIPT;
}
