/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * What a TCP connection that a workload made begins with: TLS, or something else. Like enforce_accept.h: nothing is decided
 * here, no baseline holds it, and the program is there only while a rule asks. What is sent does not leave the kernel, but
 * which kind it is does.
 */

#define TCP_CLOSE 7		/* include/net/tcp_states.h */
#define TCP_LISTEN 10
#define MSG_FASTOPEN 0x20000000	/* include/linux/socket.h */

/* Requests for TLS, which others may send to the same port in plaintext. The answer says whether it follows. */
#define POSTGRES_REQUEST 8		/* the length of all of it, with itself */
#define POSTGRES_TLS 80877103
#define POSTGRES_GSS 80877104		/* a server that declines it may be asked for TLS */
#define MYSQL_HEAD 0x20000001		/* 32 bytes follow, the second message of the connection */
#define MYSQL_TLS 0x08			/* CLIENT_SSL, in the second byte of what the client can */
#define LDAP_HEAD 0x301d0201		/* a message of 29 bytes, and its number, of one */
#define LDAP_EXTENDED 0x77

/* Letters that commands begin with which say nothing, and which STARTTLS or its like follows; SMTP, LMTP, POP3, FTP. Made small. */
#define EHLO 0x65686c6f
#define LHLO 0x6c686c6f
#define CAPA 0x63617061
#define FEAT 0x66656174
#define QUIT 0x71756974
#define STARTTLS 0x73746172
#define STLS 0x73746c73
#define AUTH 0x61757468
#define AUTH_TLS 0x20746c73
#define AUTH_SSL 0x2073736c
#define SMALL 0x20202020

static __always_inline bool is_upgrade(const __u8 *bytes)
{
	const __u32 *words = (const void *)bytes;
	__u32 head = bpf_ntohl(words[0]), next = bpf_ntohl(words[1]);

	if (head == POSTGRES_REQUEST)
		return next == POSTGRES_TLS || next == POSTGRES_GSS;
	if (head == MYSQL_HEAD)
		return bytes[5] & MYSQL_TLS;
	if (head == LDAP_HEAD)
		return bytes[5] == LDAP_EXTENDED;
	head |= SMALL;
	next |= SMALL;
	if (head == AUTH)
		return next == AUTH_TLS || next == AUTH_SSL;	/* the way of FTP; with SMTP a password follows */
	return head == EHLO || head == LHLO || head == CAPA || head == FEAT || head == QUIT || head == STARTTLS || head == STLS;
}

/* bytes: the begin of what is sent, at least eight of them, with zeroes behind it. */
static __always_inline enum tcp_begin kind_of(const __u8 *bytes)
{
	if (bytes[0] == 0x16 && bytes[1] == 3)
		return BEGIN_TLS;	/* a record of a handshake */
	return is_upgrade(bytes) ? BEGIN_UPGRADE : BEGIN_PLAINTEXT;
}

#define ASKING 1024			/* a power of two */
#define ASKING_NS 60000000000ULL	/* an answer that takes longer may be lost */
#define ASKING_BYTES 1024		/* with all requests, before TLS */

/* A connection that has asked for TLS, and goes on with the byte of this number. If two write it at once, it is of none of them. */
struct asking {
	__u64 sk;		/* 0: there is none */
	__u64 at;		/* ktime */
	__u32 next;
};

/* Key: of the hash of the address of struct sock, the lowest bits. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ASKING);
	__type(key, __u32);
	__type(value, struct asking);
} asking SEC(".maps");

/* As a number: the verifier wants no arithmetic with pointers. */
static __always_inline __u64 address_of(struct sock *sk)
{
	__u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &sk);
	return address;
}

static __always_inline struct asking *asking_of(__u64 sk)
{
	__u32 key = mix(known_secret ^ sk) % ASKING;

	return bpf_map_lookup_elem(&asking, &key);
}

/* Whether what is sent is the first, or follows a request for TLS. Of a connection that was taken it never is. */
static __always_inline bool is_at_begin(struct sock *sk)
{
	struct tcp_sock *tcp = (void *)sk;
	__u64 sent = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans), address;
	struct asking *a;
	__u32 next;

	if (sent > ASKING_BYTES)
		return false;		/* most of all */
	if (BPF_CORE_READ(sk, sk_max_ack_backlog))
		return false;		/* what its server asked for when it began to listen */
	next = BPF_CORE_READ(tcp, write_seq);
	if (!sent && next == BPF_CORE_READ(tcp, snd_nxt))
		return true;
	address = address_of(sk);
	a = asking_of(address);
	return a && a->sk == address && a->next == next;
}

/* Takes down whether a connection has asked for TLS, with the bytes that it sends now. */
static __always_inline void note_asking(struct sock *sk, bool asks, __u64 bytes)
{
	struct tcp_sock *tcp = (void *)sk;
	__u64 now = bpf_ktime_get_ns(), address = address_of(sk);
	struct asking *a = asking_of(address);

	if (!a)
		return;
	if (!asks) {
		if (a->sk == address)
			a->sk = 0;
		return;
	}
	if (a->sk && a->sk != address && now - a->at < ASKING_NS) {
		count_lost(FAULT_MAP_FULL);	/* what follows is not looked at */
		return;
	}
	a->at = now;
	a->next = BPF_CORE_READ(tcp, write_seq) + bytes;
	a->sk = address;
}

/* The server. TCP Fast Open makes the connection by what it sends. */
static __always_inline bool find_server(struct sock *sk, struct msghdr *msg, struct any_sockaddr *to)
{
	__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);
	void *name = BPF_CORE_READ(msg, msg_name);

	if (state == TCP_LISTEN)
		return false;
	if (state == TCP_CLOSE)
		return BPF_CORE_READ(msg, msg_flags) & MSG_FASTOPEN && name && !bpf_probe_read_kernel(to, sizeof(*to), name);
	to->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	to->port = BPF_CORE_READ(sk, __sk_common.skc_dport);
	to->ipv4 = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	return to->family == AF_INET || !bpf_core_read(to->ipv6, sizeof(to->ipv6), &sk->__sk_common.skc_v6_daddr);
}

SEC("fentry/tcp_sendmsg")
int BPF_PROG(begin_tcp_sendmsg, struct sock *sk, struct msghdr *msg, size_t bytes)
{
	struct any_sockaddr to = {};
	struct subject subject;
	struct place *p;

	if (!bytes || !is_at_begin(sk))
		return 0;
	if (!current_subject(&subject) || !subject.workload.id || !rules_ask(OP_TCP_BEGIN))
		return 0;	/* out of scope, the agent, or nobody asks */
	if (!find_server(sk, msg, &to))
		return 0;
	p = begin_fact(&subject, OP_TCP_BEGIN, HOOK_FENTRY);
	if (!p)
		return 0;	/* counted */
	p->held = 0;
	p->fact.value = protocol_and_port(IPPROTO_TCP, bpf_ntohs(to.port));
	if (to.family == AF_INET)
		put_mapped(p->fact.address, to.ipv4);
	else
		__builtin_memcpy(p->fact.address, to.ipv6, sizeof(to.ipv6));
	if (!read_message(p, &msg->msg_iter, bytes < 8 ? bytes : 8)) {
		leave_place(p);
		return 0;	/* by splice or the kernel itself, or counted */
	}
	p->detail = kind_of((const __u8 *)p->access.path);
	note_asking(sk, p->detail == BEGIN_UPGRADE, bytes);
	check_fact(p->number);
	return 0;
}
