/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

/*
 * Reports the TLS handshakes of Go's crypto/tls, clients' and servers', completed and failed.
 *
 * Hooks, all uprobes on functions of crypto/tls: begin and RET instructions of
 * (*Conn).clientHandshake and (*Conn).serverHandshake; begin of (*Conn).sendAlertLocked,
 * (*Conn).verifyServerCertificate and (*Conn).processCertsFromClient. No return probes: they change
 * the stack that Go's runtime walks and moves. Nothing is decided here.
 */

#include "kernel.h"
#include "event.h"
#include "emit.h"
#include "workload.h"
#include "uprobe.h"
#include "tls.h"
#include "go.h"

/* Only here: which file a process runs. */
struct mm_struct___exe {
	struct file *exe_file;
} __attribute__((preserve_access_index));

struct inode___exe {
	unsigned long i_ino;
	long long i_size;
} __attribute__((preserve_access_index));

/* The file a process runs. No device: it differs between overlay mounts of one file. */
struct executable_key {
	__u64 inode;
	__u64 size;
};

/* Offsets of fields in crypto/tls.Conn. */
struct conn_layout {
	__u16 version;
	__u16 suite;
	__u16 curve;		/* 0: there is no such field before Go 1.23 */
	__u16 resumed;
	__u16 peers;
	__u16 name;
	__u16 alpn;
	__u16 reserved;
};

/*
 * Key: executable. Written by the agent before it attaches. Attach cookies would do, but came with
 * Linux 5.15. LRU: files go away without a word.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct executable_key);
	__type(value, struct conn_layout);
} conn_layouts SEC(".maps");

/*
 * One call of a handshake function. The goroutine stays the same while threads change under it, and
 * the distance from its stack's top while the stack moves. A certificate callback may do a handshake
 * of its own, deeper on the same stack.
 */
struct frame_key {
	__u64 goroutine;
	__u64 depth;
	__u32 tgid;
	__u32 reserved;
};

/* Key: call. Value: its connection. Written by the begin probes, removed at RET and by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);	/* at one time */
	__type(key, struct frame_key);
	__type(value, __u64);
} frames_active SEC(".maps");

struct conn_key {
	__u64 conn;
	__u32 tgid;
	__u32 reserved;
};

struct conn_state {
	__u64 begin_ns;
	struct go_slice leaf;	/* peer's certificate as it was received */
	__u16 alert;		/* sent + 1 */
	__u8 role;		/* enum tls_role */
	__u8 reserved[5];
};

/* Key: connection. Value: its handshake. Written and removed together with frames_active. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);	/* at one time */
	__type(key, struct conn_key);
	__type(value, struct conn_state);
} handshakes_active SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
	__type(value, struct handshake_event);
} events SEC(".maps");

/* Counted if it fails: the memory is in use by the code under the probe, so it should be there. */
static __always_inline bool read_user(void *to, __u32 bytes, __u64 from)
{
	if (!bpf_probe_read_user(to, bytes, (void *)from))
		return true;
	count_lost(FAULT_READ);
	return false;
}

static __always_inline bool current_frame(struct pt_regs *ctx, struct frame_key *key)
{
	__u64 goroutine = GO_GOROUTINE(ctx), top;

	if (!read_user(&top, sizeof(top), goroutine + GO_STACK_TOP))
		return false;
	*key = (struct frame_key){
		.goroutine = goroutine, .depth = top - GO_STACK(ctx),
		.tgid = bpf_get_current_pid_tgid() >> 32,
	};
	return true;
}

static __always_inline struct conn_key connection(__u64 conn)
{
	return (struct conn_key){ .conn = conn, .tgid = bpf_get_current_pid_tgid() >> 32 };
}

static __always_inline int handshake_begin(struct pt_regs *ctx, __u8 role)
{
	struct conn_state state = { .begin_ns = bpf_ktime_get_ns(), .role = role };
	__u64 conn = GO_ARG0(ctx);
	struct conn_key key = connection(conn);
	struct frame_key frame;
	struct subject subject;

	if (!current_subject(&subject) || !current_frame(ctx, &frame))
		return 0;
	if (bpf_map_update_elem(&handshakes_active, &key, &state, BPF_ANY)) {
		count_lost(FAULT_IN_FLIGHT_FULL);
		return 0;
	}
	if (bpf_map_update_elem(&frames_active, &frame, &conn, BPF_ANY)) {
		count_lost(FAULT_IN_FLIGHT_FULL);
		bpf_map_delete_elem(&handshakes_active, &key);
	}
	return 0;
}

/* func (c *Conn) clientHandshake(ctx context.Context) error */
SEC("uprobe/client")
int gotls_client_begin(struct pt_regs *ctx)
{
	KEEP_TASK_STACK(ctx);
	return handshake_begin(ctx, TLS_CLIENT);
}

/* func (c *Conn) serverHandshake(ctx context.Context) error */
SEC("uprobe/server")
int gotls_server_begin(struct pt_regs *ctx)
{
	KEEP_TASK_STACK(ctx);
	return handshake_begin(ctx, TLS_SERVER);
}

/* func (c *Conn) sendAlertLocked(err alert) error. Also at the end of connections: not in flight. */
SEC("uprobe/alert")
int gotls_alert(struct pt_regs *ctx)
{
	struct conn_key key = connection(GO_ARG0(ctx));
	struct conn_state *state;
	struct subject subject;

	KEEP_TASK_STACK(ctx);
	if (!current_subject(&subject))
		return 0;
	state = bpf_map_lookup_elem(&handshakes_active, &key);
	if (state && !state->alert)
		state->alert = (GO_ARG1(ctx) & 0xff) + 1;
	return 0;
}

/* Beyond these it is something else, in a release that passes other arguments. */
#define MAX_CHAIN 1024
#define MAX_LEAF 65536

/* Remembers the first certificate of a chain that may not pass verification; it is not copied. */
static __always_inline int certificates_received(__u64 conn, __u64 chain, __u64 len)
{
	struct conn_key key = connection(conn);
	struct conn_state *state;
	struct subject subject;
	struct go_slice leaf;

	if (!len || len > MAX_CHAIN || !current_subject(&subject))
		return 0;
	state = bpf_map_lookup_elem(&handshakes_active, &key);
	if (state && read_user(&leaf, sizeof(leaf), chain) && leaf.len <= MAX_LEAF)
		state->leaf = leaf;
	return 0;
}

/* func (c *Conn) verifyServerCertificate(certificates [][]byte) error */
SEC("uprobe/chain")
int gotls_server_chain(struct pt_regs *ctx)
{
	KEEP_TASK_STACK(ctx);
	return certificates_received(GO_ARG0(ctx), GO_ARG1(ctx), GO_ARG2(ctx));
}

/*
 * func (c *Conn) processCertsFromClient(certificate Certificate) error. A Certificate has 15 words, of
 * which the first are its [][]byte: with the receiver they just fit in arm64's registers; on amd64 they
 * are on the stack.
 */
SEC("uprobe/chain_client")
int gotls_client_chain(struct pt_regs *ctx)
{
	struct go_slice chain = {};

	KEEP_TASK_STACK(ctx);
	if (GO_ARG_REGISTERS >= 16) {
		chain.first = GO_ARG1(ctx);
		chain.len = GO_ARG2(ctx);
	} else if (!read_user(&chain, sizeof(chain), GO_STACK_ARGS(ctx))) {
		return 0;
	}
	return certificates_received(GO_ARG0(ctx), chain.first, chain.len);
}

static __always_inline struct conn_layout *current_layout(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct mm_struct___exe *mm = (void *)BPF_CORE_READ(task, mm);
	struct inode___exe *inode = (void *)BPF_CORE_READ(mm, exe_file, f_inode);
	struct executable_key key = {
		.inode = BPF_CORE_READ(inode, i_ino), .size = BPF_CORE_READ(inode, i_size),
	};

	return bpf_map_lookup_elem(&conn_layouts, &key);
}

/* Where the peer's certificate is: in the connection if it was verified, else where it came in. */
static __always_inline struct go_slice peer_leaf(__u64 conn, struct conn_layout *layout,
						 struct conn_state *state)
{
	struct go_slice peers = {}, raw = {};
	__u64 leaf;

	if (!read_user(&peers, sizeof(peers), conn + layout->peers) || !peers.len)
		return state->leaf;
	/* x509.Certificate begins with its encoding. */
	if (read_user(&leaf, sizeof(leaf), peers.first))
		read_user(&raw, sizeof(raw), leaf);
	return raw;
}

static __always_inline __u32 copy_string(char *to, __u32 room, __u64 from)
{
	struct go_slice s = {};
	__u64 len;

	if (!read_user(&s, sizeof(s), from) || !s.len)
		return 0;
	len = s.len;
	if (len > room - 1)
		len = room - 1;
	barrier_var(len);
	len &= room - 1;	/* room is a power of two; by the mask the verifier sees the bound */
	return read_user(to, len, s.first) ? len : 0;
}

static __always_inline void fill(struct handshake_event *e, __u64 conn, struct conn_layout *layout,
				 struct conn_state *state)
{
	__u16 suite = 0;

	e->version = e->curve = e->resumed = 0;
	e->duration_ns = bpf_ktime_get_ns() - state->begin_ns;
	read_user(&e->version, sizeof(e->version), conn + layout->version);
	read_user(&suite, sizeof(suite), conn + layout->suite);
	read_user(&e->resumed, sizeof(e->resumed), conn + layout->resumed);
	if (layout->curve)
		read_user(&e->curve, sizeof(e->curve), conn + layout->curve);
	e->cipher_suite = suite;
	e->name_len = copy_string(e->name, sizeof(e->name), conn + layout->name);
	e->alpn_len = copy_string(e->alpn, sizeof(e->alpn), conn + layout->alpn);
	e->alert = state->alert;
	e->role = state->role;
	e->library = TLS_LIBRARY_GO;
	e->verify_result = 0;
	e->error_reason = 0;
	e->cert_is_tbs = 0;
	e->cert_truncated = 0;
	e->cert_len = 0;
	e->calls = 1;
}

#define FIXED_BYTES __builtin_offsetof(struct handshake_event, cert)

/*
 * The record is made in the ring buffer: programs of user code can be preempted, so scratch memory
 * of the CPU is not theirs. A reservation's size is a constant, hence one of four.
 */
static __always_inline void report(struct subject *subject, __u64 conn, struct conn_layout *layout,
				   struct conn_state *state, bool ok)
{
	struct go_slice leaf = peer_leaf(conn, layout, state);
	struct handshake_event *e;
	__u32 room = 0, len = 0;

	if (!leaf.len || leaf.len > TLS_CERT_BYTES) {
		e = bpf_ringbuf_reserve(&events, FIXED_BYTES, 0);
	} else if (leaf.len <= 1024) {
		room = 1024;
		e = bpf_ringbuf_reserve(&events, FIXED_BYTES + 1024, 0);
	} else if (leaf.len <= 2048) {
		room = 2048;
		e = bpf_ringbuf_reserve(&events, FIXED_BYTES + 2048, 0);
	} else {
		room = TLS_CERT_BYTES;
		e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	}
	if (!e) {
		count_lost(EVENT_HANDSHAKE);
		return;
	}
	fill(e, conn, layout, state);
	e->ok = ok;
	e->cert_truncated = leaf.len > TLS_CERT_BYTES;
	if (room) {
		len = leaf.len;
		if (len > room)
			len = room;
		if (!read_user(e->cert, len, leaf.first))
			len = 0;
		e->cert_len = len;
	}
	e->header = EVENT_HEADER(EVENT_HANDSHAKE, VERDICT_ALLOW, HOOK_UPROBE, subject,
				 FIXED_BYTES + len);
	bpf_ringbuf_submit(e, 0);
}

/* RET of both handshake functions: the result is an error, whose first word is its type. */
SEC("uprobe/end")
int gotls_end(struct pt_regs *ctx)
{
	struct conn_state *known, state;
	struct conn_layout *layout;
	struct frame_key frame;
	struct subject subject;
	struct conn_key key;
	__u64 *conn;

	KEEP_TASK_STACK(ctx);
	if (!current_subject(&subject) || !current_frame(ctx, &frame))
		return 0;
	conn = bpf_map_lookup_elem(&frames_active, &frame);
	if (!conn)
		return 0;	/* begun before we came */
	key = connection(*conn);
	/* Removed first: a second probe on the same file must not report it again. */
	bpf_map_delete_elem(&frames_active, &frame);
	known = bpf_map_lookup_elem(&handshakes_active, &key);
	if (!known)
		return 0;
	state = *known;
	bpf_map_delete_elem(&handshakes_active, &key);
	layout = current_layout();
	if (!layout) {
		count_lost(FAULT_READ);
		return 0;
	}
	report(&subject, key.conn, layout, &state, GO_ARG0(ctx) == 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
