/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * The part of the kernel's types that we use. Structs list only the fields we read; CO-RE relocates
 * the offsets against the running kernel's BTF. Nothing else includes kernel headers, so that
 * generated objects do not depend on the machine that built them.
 */

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
typedef unsigned long size_t;
#define true 1
#define false 0
#define NULL ((void *)0)

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_HASH_OF_MAPS = 13,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_INODE_STORAGE = 28,
};

/* include/uapi/linux/bpf.h */
#define BPF_ANY 0
#define BPF_NOEXIST 1
#define BPF_F_NO_PREALLOC (1U << 0)
#define BPF_LOCAL_STORAGE_GET_F_CREATE (1ULL << 0)
#define BPF_RB_NO_WAKEUP (1ULL << 0)
#define BPF_RB_FORCE_WAKEUP (1ULL << 1)
#define BPF_RB_AVAIL_DATA 0

#define EPERM 1
#define EEXIST 17
#define SIGKILL 9
#define TASK_COMM_LEN 16
#define S_IFMT 0170000		/* include/uapi/linux/stat.h */
#define S_IFSOCK 0140000
#define AF_UNIX 1		/* include/linux/socket.h */
#define AF_INET 2
#define AF_INET6 10

/* Registers as uprobes see them: user ABI, so offsets are fixed and not relocated. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, rbp, rbx;
	unsigned long r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
	unsigned long orig_rax, rip, cs, eflags, rsp, ss;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31];
	__u64 sp, pc, pstate;
};
struct pt_regs {
	struct user_pt_regs user_regs;
	__u64 orig_x0;
	__s32 syscallno;	/* of the kernel alone */
};
#endif

/* What cgroup/connect and its like get. User ABI too. */
struct bpf_sock_addr {
	__u32 user_family;
	__u32 user_ip4;		/* network byte order, as the rest */
	__u32 user_ip6[4];
	__u32 user_port;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 msg_src_ip4;
	__u32 msg_src_ip6[4];
	struct bpf_sock *sk __attribute__((aligned(8)));
};

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 mark;
	__u32 priority;
	__u32 src_ip4;
	__u32 src_ip6[4];
};

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_endian.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	__u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;	/* ->parent->cgroup is the parent cgroup */
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct proc_ns_operations {
	int type;		/* CLONE_NEW* */
};

struct ns_common {
	const struct proc_ns_operations *ops;
	unsigned int inum;	/* also the inode's number, by which it is opened */
};

/* Linux 6.18; then struct proc_ns_operations has none. */
struct ns_common___typed {
	__u32 ns_type;
};

struct uts_namespace {
	struct ns_common ns;
};

struct ipc_namespace {
	struct ns_common ns;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct net {
	struct ns_common ns;
};

struct cgroup_namespace {
	struct ns_common ns;
};

struct uid_gid_extent {
	__u32 first;
	__u32 lower_first;
	__u32 count;
};

struct uid_gid_map {
	__u32 nr_extents;
	struct uid_gid_extent extent[5];
	struct uid_gid_extent *forward;		/* in place of the above if there are more, sorted by first */
};

struct user_namespace {
	struct uid_gid_map uid_map;
	struct ns_common ns;
};

struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct net *net_ns;
	struct cgroup_namespace *cgroup_ns;
};

struct css_set {
	struct cgroup_subsys_state *subsys[16];
	struct cgroup *dfl_cgrp;
};

struct qstr {
	__u32 len;
	const unsigned char *name;
};

struct file_system_type {
	const char *name;
};

struct list_head {
	struct list_head *next;
	struct list_head *prev;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_flags;
	unsigned long s_iflags;
	unsigned long s_magic;
	struct file_system_type *s_type;
	struct dentry *s_root;
	struct list_head s_mounts;	/* through mount.mnt_instance, the oldest first */
};

struct hlist_bl_node {
	struct hlist_bl_node **pprev;
};

struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};

struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
	__u32 i_nlink;
	struct super_block *i_sb;
	struct timespec64 i_ctime;
	struct timespec64 i_mtime;
	void *i_private;	/* of a namespace's file: struct ns_common */
};

/* 13bc24457850 ("fs: rename i_ctime field to __i_ctime", 6.6) */
struct inode___renamed {
	struct timespec64 __i_ctime;
};

/* 12cd44023651 ("fs: rename inode i_atime and i_mtime fields", 6.7) */
struct inode___renamed_later {
	struct timespec64 __i_mtime;
};

/* 3aa63a569c64 ("fs: switch timespec64 fields in inode to discrete integers", 6.11) */
struct inode___integers {
	__s64 i_ctime_sec;
	__u32 i_ctime_nsec;	/* from 6.13 on with a flag beside it */
	__s64 i_mtime_sec;
	__u32 i_mtime_nsec;
};

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
};

struct vfsmount {
	struct dentry *mnt_root;
	int mnt_flags;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct list_head mnt_instance;
	struct mnt_namespace *mnt_ns;
};

/* Linux 6.18: another list, the newest first. */
struct mount___for_sb {
	struct mount *mnt_next_for_sb;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	void *private_data;	/* of a socket: struct socket */
	unsigned int f_mode;
	unsigned int f_flags;
};

/* To whom signals go that are about a file. */
struct fown_struct {
	struct file *file;	/* 1934b212615d ("file: reclaim 24 bytes from f_owner", 6.12); before, it stands in its file */
};

struct file___embedding {
	struct fown_struct f_owner;
};

/* Linux 5.8. */
struct bpf_map {
	__u32 id;
};

struct bpf_prog_aux {
	__u32 id;
};

struct bpf_prog {
	struct bpf_prog_aux *aux;
};

struct bpf_link {
	__u32 id;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
	unsigned long *close_on_exec;	/* a bit for each descriptor */
};

typedef struct {
	int counter;
} atomic_t;

struct files_struct {
	atomic_t count;		/* tasks that share it, and who looks at it from elsewhere */
	struct fdtable *fdt;
};

/* Linux 6.8: what overlayfs opens in a layer. user_path is that of the overlay. */
struct backing_file {
	struct file file;
	struct path user_path;
};

struct filename {
	const char *name;
	const char *uptr;	/* where user space has it; NULL: the kernel itself asks for the file */
};

struct nameidata {
	struct filename *name;
};

struct fs_struct {
	struct path root;
	struct path pwd;
};

struct vm_area_struct {
	unsigned long vm_flags;
	struct file *vm_file;
};

struct pid_namespace {
	struct task_struct *child_reaper;	/* the first process in it */
	struct ns_common ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct pid {
	struct hlist_head tasks[4];	/* by enum pid_type; 0: the task itself */
	int level;	/* of the innermost pid namespace; 0: the initial one */
	struct upid numbers[1];	/* by level */
};

struct proc_inode {
	struct pid *pid;
	struct inode vfs_inode;
};

struct sockaddr_un {
	unsigned short sun_family;
	char sun_path[108];
};

struct unix_address {
	int len;	/* of name, with its family */
	struct sockaddr_un name[];
};

struct in6_addr {
	__u8 bytes[16];
};

struct sock_common {
	unsigned short skc_family;
	__u16 skc_num;
	__be16 skc_dport;
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	volatile unsigned char skc_state;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	__u16 sk_type;
	__u32 sk_max_ack_backlog;
};

/* Begins with a struct sock. */
struct tcp_sock {
	__u32 snd_nxt;
	__u32 write_seq;
	__u64 bytes_sent;	/* what was sent again counts again */
	__u64 bytes_retrans;
};

struct socket {
	short type;
	struct sock *sk;
};

struct unix_sock {
	struct sock sk;
	struct unix_address *addr;
	struct path path;
};

struct sockaddr {
	unsigned short sa_family;
};

struct iovec {
	void *iov_base;
	unsigned long iov_len;
};

/* Only the values' names count: the kernels number them differently. */
enum iter_type {
	ITER_IOVEC = 1,
	ITER_UBUF = 2,		/* Linux 6.0 */
};

struct iov_iter {
	__u8 iter_type;
	unsigned long iov_offset;
	const struct iovec *__iov;
	void *ubuf;
	unsigned long nr_segs;
};

/* Linux 5.14: "iov_iter: separate direction from flavour" */
struct iov_iter___before_14 {
	unsigned int type;	/* the direction in its lowest bit */
};

/* Linux 6.4: "iov_iter: add iter_iovec() helper" */
struct iov_iter___before_4 {
	const struct iovec *iov;
};

struct msghdr {
	void *msg_name;
	struct iov_iter msg_iter;
	unsigned int msg_flags;
};

struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start;
	unsigned long arg_end;
};

typedef struct {
	unsigned int val;
} kuid_t;

typedef struct {
	unsigned int val;
} kgid_t;

/* Before f122a08b197d ("capability: just use a 'u64' instead of a 'u32[2]' array", 6.3) two halves, the lower first. */
struct capability_set {
	__u64 bits;
};

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
	kgid_t egid;
	kuid_t fsuid;
	kgid_t fsgid;
	unsigned int securebits;
	struct user_namespace *user_ns;
	struct capability_set cap_inheritable;	/* permitted and effective stand behind it */
};

struct key {
	unsigned long flags;
};

struct tty_driver {
	int major;
	int minor_start;
};

struct tty_struct {
	struct tty_driver *driver;
	int index;
};

struct signal_struct {
	atomic_t live;
	struct pid *pids[4];	/* by enum pid_type; 1: thread group, 2: process group, 3: session */
	struct tty_struct *tty;	/* that controls the session */
};

/* Of x86: status. Elsewhere flags tell the same. */
struct thread_info {
	unsigned long flags;
	__u32 status;
};

struct task_struct {
	struct thread_info thread_info;
	void *stack;
	unsigned int flags;
	unsigned int personality;
	int pid;
	int tgid;
	struct hlist_node pid_links[4];	/* where struct pid has it in its lists */
	int exit_code;
	__u64 start_time;
	__u64 start_boottime;	/* before cf25e24db61c ("time: Rename tsk->real_start_time", 5.5) see ___old */
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct css_set *cgroups;
	const struct cred *cred;
	struct nameidata *nameidata;	/* while a path is looked up */
	struct signal_struct *signal;
	__u64 self_exec_id;	/* changes with every exec */
	char comm[TASK_COMM_LEN];
};

struct task_struct___old {
	__u64 real_start_time;
};

union bpf_attr;
struct user_namespace;
struct kernel_siginfo;

/* Only the value's name counts: it is looked up in the kernel's own list. */
enum kernel_read_file_id {
	READING_MODULE = 2,
};

enum bpf_func_id {
	BPF_FUNC_get_current_task_btf = 158,
	BPF_FUNC_task_pt_regs = 175,
	BPF_FUNC_get_func_arg = 183,
};

enum kernel_load_data_id {
	LOADING_MODULE = 2,
};

struct linux_binprm {
	struct file *file;
	struct cred *cred;	/* of the new image */
	unsigned int per_clear;	/* not 0: its file gives rights */
	const char *filename;
	const char *interp;
};

#pragma clang attribute pop

/* Before a loop that calls: the kernel looks for the deepest stack behind each call that stands in a program. */
#define ROLLED _Pragma("clang loop unroll(disable)")
