/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * What a workload does, as far as baselines tell it apart, and the record of an operation that its
 * baseline does not know. pkg/event repeats the values and explains them.
 */

enum operation {
	OP_UNSPEC = 0,
	/* on a path */
	OP_EXEC = 1,
	OP_LIBRARY = 2,
	OP_READ = 3,
	OP_WRITE = 4,
	OP_CREATE = 5,
	OP_DELETE = 6,
	OP_RENAME = 7,
	OP_LINK = 8,
	OP_ATTRIBUTES = 9,
	OP_MOUNT = 10,
	OP_UNIX_CONNECT = 11,
	OP_UNIX_BIND = 12,
	/* on an address */
	OP_CONNECT = 13,
	OP_BIND = 14,
	OP_LISTEN = 15,
	OP_SEND = 16,
	/* with a number */
	OP_SOCKET = 17,
	OP_CAPABILITY = 18,
	OP_PTRACE = 19,
	OP_USERNS = 20,
	OP_MODULE = 21,
	OP_BPF = 22,
	OP_PERF = 23,
	OP_IO_URING = 24,
	OP_USERFAULTFD = 25,
	OP_SETUID = 26,
	OP_SETGID = 27,
	OP_SIGNAL = 28,
	OP_KEYCTL = 29,
	OP_NAMESPACE = 30,	/* value: NAMESPACE_* */
	/* learnt only */
	OP_SYSCALL = 31,	/* value: whether of a 32-bit program << 16 | number */
	/* told for rules only: the client's address, and the server's port */
	OP_ACCEPT = 32,
	OP_DUP = 33,		/* the address and port of the other end */
	OP_DNS_QUERY = 34,	/* the server's */
	OP_TCP_BEGIN = 35,	/* likewise */
	/* on the path of a file that is executed, which gives rights; privileges, too */
	OP_EXEC_AS_ROOT = 36,
	OP_EXEC_AS_USER = 37,
	OP_EXEC_AS_GROUP = 38,
	OP_EXEC_WITH_CAPABILITIES = 39,
	OP_MAX,
	/* only in the tables of rules, alias.h, where system calls are not */
	OP_ABOVE = OP_SYSCALL,
};

/* Groups of operations that a baseline holds as a whole. struct workload has a bit for each. */
enum dimension {
	DIM_EXEC = 0,
	DIM_LIBRARY = 1,
	DIM_FILE = 2,
	DIM_UNIX = 3,
	DIM_NETWORK = 4,
	DIM_PRIVILEGE = 5,
	DIM_SYSCALLS = 6,
	DIM_MAX,
};

/* Whether an operation is the execution of a file that gives rights. */
static __always_inline bool gives_rights(enum operation op)
{
	return op >= OP_EXEC_AS_ROOT;
}

/* Whether it is on a path. */
static __always_inline bool is_on_path(enum operation op)
{
	return op < OP_CONNECT || gives_rights(op);
}

static __always_inline __u32 dimension_bit(enum operation op)
{
	if (op == OP_EXEC)
		return 1 << DIM_EXEC;
	if (op == OP_LIBRARY)
		return 1 << DIM_LIBRARY;
	if (op < OP_UNIX_CONNECT)
		return 1 << DIM_FILE;
	if (op < OP_CONNECT)
		return 1 << DIM_UNIX;
	if (op < OP_SOCKET)
		return 1 << DIM_NETWORK;
	if (op < OP_SYSCALL || gives_rights(op))
		return 1 << DIM_PRIVILEGE;
	if (op >= OP_ACCEPT)
		return 1 << DIM_NETWORK;
	return 1 << DIM_SYSCALLS;
}

/*
 * Operations that baselines of earlier versions lack: they are audited there. Bits of workload.softened, behind those of
 * dimensions. pkg/event repeats them.
 */
#define ADDED_NAMESPACES (1 << 16)
#define ADDED_FILE_RIGHTS (1 << 17)
#define ADDED_KEYS (1 << 18)

static __always_inline __u32 added_bit(enum operation op)
{
	if (op == OP_NAMESPACE)
		return ADDED_NAMESPACES;
	if (op == OP_KEYCTL)
		return ADDED_KEYS;
	return gives_rights(op) ? ADDED_FILE_RIGHTS : 0;
}

/* How a descriptor is made of another one. */
enum dup_call {
	CALL_DUP = 1,
	CALL_DUP2 = 2,
	CALL_DUP3 = 3,
};

/* What a TCP connection begins with. */
enum tcp_begin {
	BEGIN_TLS = 1,
	BEGIN_UPGRADE = 2,	/* a request that TLS may follow */
	BEGIN_PLAINTEXT = 3,
};

#define PTRACE_KEY_READ 1
#define PTRACE_KEY_ATTACH 2
#define PTRACE_KEY_OTHER (1 << 8)	/* the other process is in another workload */

/* Of a namespace: which of the bits CLONE_NEW* its kind is; 0: that is not known. */
#define NAMESPACE_ENTERED (1U << 31)	/* and not made */

/* Sent up to .path, then path_len and said_len bytes of it. */
struct access_event {
	struct event_header header;
	__u64 start_ticks;	/* of the process */
	__u64 inode;
	struct capabilities capabilities;
	__u32 device;
	__u32 value;		/* the number; for an address protocol << 16 | port */
	__u32 repeated;		/* equal ones since the last that was sent */
	__u16 path_len;
	__u8 operation;		/* enum operation */
	__u8 path_facts;	/* PATH_* */
	__u8 address[16];	/* IPv4 as ::ffff:a.b.c.d */
	__u8 local[16];		/* of OP_ACCEPT and OP_DUP: our end's, likewise */
	char comm[TASK_COMM_LEN];
	__u32 detail;		/* with DETAIL_TOLD: of OP_READ and OP_WRITE the flags of open(2), of OP_CREATE and chmod the mode; of OP_ACCEPT the client's port, of OP_DUP the new descriptor, of OP_DNS_QUERY a checksum, and of OP_TCP_BEGIN an enum tcp_begin, without it */
	__u16 said_len;
	__u16 flags;		/* ACCESS_* */
	enum dup_call call;	/* of OP_DUP */
	__u32 local_port;	/* of OP_DUP: our end's */
	char path[2 * PATH_BYTES];	/* and what the caller wrote: the path that it opened, or a symbolic link's target; of OP_DNS_QUERY both are the message */
};

#define ACCESS_KNOWN 1		/* the baseline that it is compared with holds it */
#define ACCESS_SET_UP 2		/* told for a rule; not the workload's, but init's before its first program */
/* Of what a rule denies, not for what it says, but because of */
#define ACCESS_OTHER_NAME 4	/* another name of the same thing, which path is; what was said is the name that was used */
#define ACCESS_RENAMES 8	/* something that it denies, which would have another name */
#define ACCESS_REPLACES 16	/* a file that it denies to write, which would be replaced */

/* Of what is read or written, or of OP_PTRACE: */
#define ACCESS_BY_ANCESTOR 32	/* who does it is above the process that it is about */
#define ACCESS_HOST_NAMESPACE 64	/* it leads into a namespace of the host's, where who does it is not */

#define DETAIL_TOLD (1U << 31)	/* neither a flag of open(2) nor a part of a mode */

#define ACCESS_FIXED_BYTES __builtin_offsetof(struct access_event, path)
