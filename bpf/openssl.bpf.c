/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

/*
 * Reports the TLS handshakes of OpenSSL 3. All of them, also the implicit ones of SSL_read and
 * SSL_write, pass through the connection's state machine, which is what we hook; the hot read and
 * write paths are never touched.
 *
 * Hooks: uprobe and uretprobe on the state machine's two entries (ossl_statem_connect, _accept),
 * uprobes on SSL_free, SSL_clear and ERR_vset_error. Nothing is decided here.
 *
 * Where the fields are is read out of the library by the agent; there is one object for each
 * layout, whose offsets are constants to the verifier. Linux 5.10 has no attach cookies to tell
 * layouts apart.
 */

#include "kernel.h"
#include "event.h"
#include "emit.h"
#include "workload.h"
#include "uprobe.h"
#include "tls.h"

/* Offsets in bytes. Members named after a struct's field are in the struct their comment names. */
struct ssl_layout {
	__u32 version;		/* SSL */
	__u32 server;
	__u32 resumed;
	__u32 verify_result;
	__u32 hand_state;	/* message being sent or awaited */
	__u32 flow_state;	/* of the state machine as a whole */
	__u32 alpn;
	__u32 alpn_len;
	__u32 hostname;
	__u32 session;
	__u32 session_cipher;	/* SSL_SESSION */
	__u32 session_hostname;
	__u32 session_peer;
	__u32 session_chain;
	__u32 cipher_id;	/* SSL_CIPHER */
	__u32 stack_items;	/* OPENSSL_STACK */
	__u32 x509_tbs;		/* X509: the cached encoding, pointer; its length follows */
	__u32 x509_signature;	/* X509: ASN1_STRING, in place */
	__u32 string_length;	/* ASN1_STRING */
	__u32 string_data;
};

const volatile struct ssl_layout layout;

/* Values of OpenSSL's enums that have not changed since 1.1.0. */
#define HAND_BEFORE 0
#define HAND_OK 1
#define FLOW_UNINITED 0
#define FLOW_ERROR 1
#define ERR_LIB_SSL 20

#define TLS_1_0 0x0301
#define TLS_1_2 0x0303

#define PART_BYTES (TLS_CERT_BYTES / 2)

struct handshake_key {
	__u64 ssl;
	__u32 tgid;
	__u32 reserved;
};

struct handshake_state {
	__u64 begin_ns;
	__u32 calls;
	__u32 reason;		/* first ERR reason of the SSL library in the latest call */
};

/* A thread inside the state machine. A verify callback may do a handshake of its own in there. */
struct thread_state {
	__u64 ssl;
	__u64 outer;
};

/*
 * Key: connection. Value: its unfinished handshake. Written by the entry and exit programs. LRU: a
 * process that is killed leaves its entries behind.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);	/* at one time */
	__type(key, struct handshake_key);
	__type(value, struct handshake_state);
} handshakes_active SEC(".maps");

/* Key: pid_tgid. Value: what the thread is handling. LRU as above. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);	/* at one time */
	__type(key, __u64);
	__type(value, struct thread_state);
} threads_active SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
	__type(value, struct handshake_event);
} events SEC(".maps");

static __always_inline __u64 read_word(__u64 address)
{
	__u64 word = 0;

	if (bpf_probe_read_user(&word, sizeof(word), (void *)address))
		count_lost(FAULT_READ);
	return word;
}

static __always_inline __u32 read_int(__u64 address)
{
	__u32 n = 0;

	if (bpf_probe_read_user(&n, sizeof(n), (void *)address))
		count_lost(FAULT_READ);
	return n;
}

static __always_inline struct handshake_key connection(__u64 ssl)
{
	return (struct handshake_key){ .ssl = ssl, .tgid = bpf_get_current_pid_tgid() >> 32 };
}

/*
 * true if the call begins a handshake. The state machine is also entered after the handshake, for
 * TLS 1.3's later messages, and there a TLS 1.2 peer renegotiates.
 */
static __always_inline bool begins(__u64 ssl)
{
	__u32 state = read_int(ssl + layout.hand_state), version;

	if (state == HAND_BEFORE)
		return read_int(ssl + layout.flow_state) == FLOW_UNINITED;
	version = read_int(ssl + layout.version);
	return state == HAND_OK && version >= TLS_1_0 && version <= TLS_1_2;
}

SEC("uprobe/statem")
int BPF_KPROBE(openssl_statem_enter, __u64 ssl)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct handshake_key key = connection(ssl);
	struct handshake_state *known, fresh = {};
	struct thread_state *outer, thread = { .ssl = ssl };
	struct subject subject;

	KEEP_TASK_STACK(ctx);
	if (!current_subject(&subject))
		return 0;
	outer = bpf_map_lookup_elem(&threads_active, &id);
	if (outer)
		thread.outer = outer->ssl;
	if (bpf_map_update_elem(&threads_active, &id, &thread, BPF_ANY)) {
		count_lost(FAULT_IN_FLIGHT_FULL);
		return 0;
	}
	known = bpf_map_lookup_elem(&handshakes_active, &key);
	if (begins(ssl)) {
		fresh.begin_ns = bpf_ktime_get_ns();
		fresh.calls = 1;
		if (bpf_map_update_elem(&handshakes_active, &key, &fresh, BPF_ANY))
			count_lost(FAULT_IN_FLIGHT_FULL);
	} else if (known) {
		known->calls++;
		known->reason = 0;
	}
	return 0;
}

static __always_inline __u64 peer_certificate(__u64 session)
{
	__u64 peer, chain, items;

	if (!session)
		return 0;
	peer = read_word(session + layout.session_peer);
	if (peer)
		return peer;
	/* A client whose verification failed has the chain, but no peer yet. */
	chain = read_word(session + layout.session_chain);
	if (!chain)
		return 0;
	items = read_word(chain + layout.stack_items);
	return items ? read_word(items) : 0;
}

/* Where the two parts of a certificate are that OpenSSL keeps encoded. */
struct certificate {
	__u64 tbs;
	__u64 tbs_len;
	__u64 signature;
	__u32 signature_len;
};

static __always_inline void find_certificate(__u64 session, struct certificate *c)
{
	__u64 x509 = peer_certificate(session);

	if (!x509)
		return;
	c->tbs = read_word(x509 + layout.x509_tbs);
	c->tbs_len = read_word(x509 + layout.x509_tbs + sizeof(c->tbs));
	c->signature = read_word(x509 + layout.x509_signature + layout.string_data);
	c->signature_len = read_int(x509 + layout.x509_signature + layout.string_length);
}

/* The TBSCertificate, and the signature's bytes after it; both or nothing. */
static __always_inline __u32 copy_certificate(struct handshake_event *e, struct certificate *c)
{
	__u64 tbs_len = c->tbs_len, signature_len = c->signature_len;

	e->cert_is_tbs = 1;
	if (tbs_len >= PART_BYTES || signature_len >= PART_BYTES) {
		e->cert_truncated = 1;
		return 0;
	}
	barrier_var(tbs_len);	/* keep the masks, by which the verifier sees the bounds */
	barrier_var(signature_len);
	tbs_len &= PART_BYTES - 1;
	signature_len &= PART_BYTES - 1;
	if (bpf_probe_read_user(e->cert, tbs_len, (void *)c->tbs) ||
	    bpf_probe_read_user(e->cert + tbs_len, signature_len, (void *)c->signature)) {
		count_lost(FAULT_READ);
		return 0;
	}
	return tbs_len + signature_len;
}

static __always_inline void copy_names(struct handshake_event *e, __u64 ssl, __u64 session)
{
	__u64 name = read_word(ssl + layout.hostname), alpn = read_word(ssl + layout.alpn);
	__u32 alpn_len = read_int(ssl + layout.alpn_len);
	long len = 0;

	e->name_len = 0;
	e->alpn_len = 0;
	/* Up to TLS 1.2 the name belongs to the session. */
	if (!name && session)
		name = read_word(session + layout.session_hostname);
	if (name)
		len = bpf_probe_read_user_str(e->name, sizeof(e->name), (void *)name);
	if (len > 0)
		e->name_len = len - 1;
	if (!alpn || !alpn_len || alpn_len >= TLS_ALPN_BYTES)
		return;
	barrier_var(alpn_len);
	alpn_len &= TLS_ALPN_BYTES - 1;
	if (!bpf_probe_read_user(e->alpn, alpn_len, (void *)alpn))
		e->alpn_len = alpn_len;
}

static __always_inline void fill(struct handshake_event *e, __u64 ssl, __u64 session,
				 struct handshake_state *h, bool ok)
{
	__u64 cipher = session ? read_word(session + layout.session_cipher) : 0;

	e->duration_ns = bpf_ktime_get_ns() - h->begin_ns;
	e->cipher_suite = cipher ? read_int(cipher + layout.cipher_id) : 0;
	e->cert_len = 0;
	e->version = read_int(ssl + layout.version);
	e->curve = 0;
	e->alert = 0;
	e->verify_result = read_word(ssl + layout.verify_result);
	e->error_reason = ok ? 0 : h->reason;
	e->library = TLS_LIBRARY_OPENSSL;
	e->role = read_int(ssl + layout.server) ? TLS_SERVER : TLS_CLIENT;
	e->ok = ok;
	e->resumed = read_int(ssl + layout.resumed) != 0;
	e->cert_is_tbs = 0;
	e->cert_truncated = 0;
	e->calls = h->calls;
	copy_names(e, ssl, session);
}

/*
 * The record is made in the ring buffer itself: user code can be preempted here, and the next task
 * on the CPU would find the same scratch. A reservation's size is a constant, so one with a
 * certificate takes TLS_CERT_BYTES of the ring, whatever its size says.
 */
static __always_inline void report(struct subject *subject, __u64 ssl, struct handshake_state *h,
				   bool ok)
{
	const __u32 fixed = __builtin_offsetof(struct handshake_event, cert);
	__u64 session = read_word(ssl + layout.session);
	struct certificate certificate = {};
	struct handshake_event *e;

	find_certificate(session, &certificate);
	if (certificate.tbs && certificate.signature)
		e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	else
		e = bpf_ringbuf_reserve(&events, fixed, 0);
	if (!e) {
		count_lost(EVENT_HANDSHAKE);
		return;
	}
	fill(e, ssl, session, h, ok);
	if (certificate.tbs && certificate.signature)
		e->cert_len = copy_certificate(e, &certificate);
	e->header = EVENT_HEADER(EVENT_HANDSHAKE, VERDICT_ALLOW, HOOK_UPROBE, subject,
				 fixed + e->cert_len);
	bpf_ringbuf_submit(e, 0);
}

SEC("uretprobe/statem")
int BPF_KRETPROBE(openssl_statem_exit, int ret)
{
	__u64 id = bpf_get_current_pid_tgid(), ssl;
	struct handshake_state *known, h;
	struct thread_state *thread, outer = {};
	struct handshake_key key;
	struct subject subject;
	bool ok;

	KEEP_TASK_STACK(ctx);
	if (!current_subject(&subject))
		return 0;
	thread = bpf_map_lookup_elem(&threads_active, &id);
	if (!thread)
		return 0;	/* entered before the probes were there */
	ssl = thread->ssl;
	outer.ssl = thread->outer;
	if (outer.ssl)
		bpf_map_update_elem(&threads_active, &id, &outer, BPF_ANY);
	else
		bpf_map_delete_elem(&threads_active, &id);
	key = connection(ssl);
	known = bpf_map_lookup_elem(&handshakes_active, &key);
	if (!known)
		return 0;	/* a message after the handshake, or one begun before we came */
	ok = ret == 1 && read_int(ssl + layout.hand_state) == HAND_OK;
	if (!ok && read_int(ssl + layout.flow_state) != FLOW_ERROR)
		return 0;	/* waits for the peer */
	h = *known;
	bpf_map_delete_elem(&handshakes_active, &key);
	report(&subject, ssl, &h, ok);
	return 0;
}

/* SSL_free and SSL_clear: what is unfinished now was given up. */
SEC("uprobe/release")
int BPF_KPROBE(openssl_release, __u64 ssl)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct handshake_key key = connection(ssl);
	struct handshake_state *known, h;
	struct thread_state *thread;
	struct subject subject;

	KEEP_TASK_STACK(ctx);
	if (!current_subject(&subject))
		return 0;
	thread = bpf_map_lookup_elem(&threads_active, &id);
	if (thread && thread->ssl == ssl)
		return 0;	/* the state machine clears the connection before it begins */
	known = bpf_map_lookup_elem(&handshakes_active, &key);
	if (!known)
		return 0;
	h = *known;
	bpf_map_delete_elem(&handshakes_active, &key);
	report(&subject, ssl, &h, false);
	return 0;
}

SEC("uprobe/error")
int BPF_KPROBE(openssl_error, int library, __u32 reason)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct handshake_state *known;
	struct thread_state *thread;
	struct handshake_key key;
	struct subject subject;

	KEEP_TASK_STACK(ctx);
	if (library != ERR_LIB_SSL || !current_subject(&subject))
		return 0;
	thread = bpf_map_lookup_elem(&threads_active, &id);
	if (!thread)
		return 0;
	key = connection(thread->ssl);
	known = bpf_map_lookup_elem(&handshakes_active, &key);
	if (known && !known->reason)
		known->reason = reason;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
