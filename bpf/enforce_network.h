/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * Sockets: Internet addresses, and Unix sockets. The cgroup hooks see what the LSM hook of connect does
 * not: TCP Fast Open, and datagrams without connect. Where there is no version 2 tree to attach them to,
 * pkg/enforce loads the programs of socket_connect and socket_bind instead.
 */

#define SOCK_STREAM 1		/* include/linux/net.h */
#define SOCK_DGRAM 2
#define IPPROTO_TCP 6		/* include/uapi/linux/in.h */
#define IPPROTO_UDP 17

#define IPPROTO_MPTCP 262

#define CGROUP_ALLOW 1
#define CGROUP_DENY 0

/*
 * Protocol and port as keys have them. Whether a TCP socket may use several paths is between the kernels:
 * where MPTCP does not work, programs take TCP, and Linux hands some calls on to a TCP socket within.
 */
static __always_inline __u32 protocol_and_port(__u32 protocol, __u16 port)
{
	if (protocol == IPPROTO_MPTCP)
		protocol = IPPROTO_TCP;
	return protocol << 16 | port;
}

/* Decides about the question of a place about place->fact. Global, as in deed.h. */
__noinline int check_fact(__u32 number)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	int verdict;

	if (!p)
		return VERDICT_UNPROVEN;
	decide_fact(p);
	if (p->answer.news)
		tell_fact(p);
	verdict = verdict_of(&p->answer);
	leave_place(p);
	return verdict;
}

static __always_inline void put_mapped(__u8 *to, __be32 address)
{
	__u32 *words = (__u32 *)to;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = address;
}

#define INADDR_LOOPBACK 0x7f000001	/* include/uapi/linux/in.h */

/*
 * Who connects or sends to the address that is none reaches the one that his socket is bound to or, as mostly, the loopback
 * interface. Baselines hold the address as it was written; rules mean the other one, too: they are asked about that first.
 */
enum none {
	NOT_NONE,
	NONE_IPV4,
	NONE_IPV6,
};

/* Whether the address of a question is none, and of which kind. */
static __always_inline enum none none_of(struct place *p)
{
	__u32 *words = (__u32 *)p->fact.address;

	if (words[0] | words[1] | words[3])
		return NOT_NONE;
	if (!words[2])
		return NONE_IPV6;
	return words[2] == bpf_htonl(0xffff) ? NONE_IPV4 : NOT_NONE;
}

/*
 * Asks rules about the address that is meant by that of a question, which is none. source: what the socket is bound to, if it is one
 * of IPv4. Global, as in deed.h.
 */
__noinline int ask_meant(__u32 number, __u32 ipv6, __be32 source)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	__u32 *words;
	__u32 none;

	if (!p || !is_ruled(p, rules))
		return 0;
	p->fact.workload = p->subject.workload.id;
	p->fact.generation = p->subject.workload.generation;
	p->fact.operation = p->op;
	p->exact = p->held && (bpf_map_lookup_elem(&fact_entries, &p->fact) || find_fact_pattern(p));
	words = (__u32 *)p->fact.address;
	none = words[2];
	if (ipv6 && !source)
		words[3] = bpf_htonl(1);
	else
		put_mapped(p->fact.address, (ipv6 ? 0 : source) ?: bpf_htonl(INADDR_LOOPBACK));
	ask_rules_fact(number);
	obey(p);
	p->meant_rule = p->answer.rule;
	p->meant_wanted = p->answer.wanted;
	p->meant_kill = p->answer.kill;
	words[2] = none;
	words[3] = 0;
	return 0;
}

/* The tgid of the helper is not to be had in cgroup programs before 6.10. */
static __always_inline __u64 read_pid_tgid(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return (__u64)BPF_CORE_READ(task, tgid) << 32 | (__u32)BPF_CORE_READ(task, pid);
}

/* A message may say from where it is sent. */
static __always_inline void find_meant(struct place *p, struct bpf_sock_addr *ctx, enum operation op, bool ipv6)
{
	enum none none = none_of(p);
	struct bpf_sock *sk;

	if (op == OP_BIND || none == NOT_NONE)
		return;
	sk = ctx->sk;
	if (none == NONE_IPV6)
		ask_meant(p->number, true, sk->src_ip6[2] == bpf_htonl(0xffff) && !sk->src_ip6[0] && !sk->src_ip6[1]);
	else
		ask_meant(p->number, false, op == OP_SEND && !ipv6 ? ctx->msg_src_ip4 : sk->src_ip4);
}

static __always_inline int check_sock_addr(struct bpf_sock_addr *ctx, enum operation op, bool ipv6)
{
	__u16 port = bpf_ntohs((__u16)ctx->user_port);
	struct subject subject;
	struct place *p;
	__u64 who;
	int verdict = VERDICT_UNPROVEN;

	if (!port)
		return CGROUP_ALLOW;	/* allow: nobody is reached there; bind: the kernel chooses */
	if (!find_subject(&subject) || !is_asked(&subject, op))
		return CGROUP_ALLOW;	/* allow: out of scope, or not ours to hold */
	who = read_pid_tgid();
	if (is_agent(who >> 32))
		return CGROUP_ALLOW;	/* allow: the agent itself */
	p = begin_question(&subject, op, HOOK_CGROUP, who);
	if (!p)
		return is_denied(verdict, &subject) ? CGROUP_DENY : CGROUP_ALLOW;
	p->fact.value = protocol_and_port(ctx->protocol, port);
	if (ipv6) {
		__u32 *words = (__u32 *)p->fact.address;

		words[0] = ctx->user_ip6[0];
		words[1] = ctx->user_ip6[1];
		words[2] = ctx->user_ip6[2];
		words[3] = ctx->user_ip6[3];
	} else {
		put_mapped(p->fact.address, ctx->user_ip4);
	}
	find_meant(p, ctx, op, ipv6);
	verdict = check_fact(p->number);
	return is_denied(verdict, &subject) ? CGROUP_DENY : CGROUP_ALLOW;
}

SEC("cgroup/connect4")
int cgroup_connect4(struct bpf_sock_addr *ctx)
{
	return check_sock_addr(ctx, OP_CONNECT, false);
}

SEC("cgroup/connect6")
int cgroup_connect6(struct bpf_sock_addr *ctx)
{
	return check_sock_addr(ctx, OP_CONNECT, true);
}

SEC("cgroup/sendmsg4")
int cgroup_sendmsg4(struct bpf_sock_addr *ctx)
{
	return check_sock_addr(ctx, OP_SEND, false);
}

SEC("cgroup/sendmsg6")
int cgroup_sendmsg6(struct bpf_sock_addr *ctx)
{
	return check_sock_addr(ctx, OP_SEND, true);
}

SEC("cgroup/bind4")
int cgroup_bind4(struct bpf_sock_addr *ctx)
{
	return check_sock_addr(ctx, OP_BIND, false);
}

SEC("cgroup/bind6")
int cgroup_bind6(struct bpf_sock_addr *ctx)
{
	return check_sock_addr(ctx, OP_BIND, true);
}

/* Begins a question about a fact; NULL: nothing can be proven. */
static __always_inline struct place *begin_fact(struct subject *s, enum operation op, __u8 hook)
{
	struct place *p = begin_question(s, op, hook, bpf_get_current_pid_tgid());

	if (p)
		__builtin_memset(p->fact.address, 0, sizeof(p->fact.address));
	return p;
}

/* Answers it; 0 or -EPERM. */
static __always_inline int end_fact(struct place *p, __u32 value, struct subject *s)
{
	p->fact.value = value;
	return result(check_fact(p->number), s);
}

/* include/uapi/linux/in.h and in6.h: struct sockaddr_in and sockaddr_in6 begin alike. */
struct any_sockaddr {
	__u16 family;
	__be16 port;
	__be32 ipv4;		/* IPv6: flow information */
	__u8 ipv6[16];
};

/* As find_meant(). */
static __always_inline void find_meant_by(struct place *p, struct sock *sk)
{
	enum none none = none_of(p);
	__u32 words[4] = {};

	if (none == NONE_IPV4)
		ask_meant(p->number, false, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
	if (none != NONE_IPV6)
		return;
	bpf_core_read(words, sizeof(words), &sk->__sk_common.skc_v6_rcv_saddr);
	ask_meant(p->number, true, words[2] == bpf_htonl(0xffff) && !words[0] && !words[1]);
}

/* Of connect and bind with a sockaddr, which the kernel has copied already. */
static __always_inline int check_sockaddr(__u8 hook, enum operation op, struct socket *sock,
					  struct sockaddr *address)
{
	struct any_sockaddr a = {};
	struct subject subject;
	struct place *p;

	if (bpf_probe_read_kernel(&a, __builtin_offsetof(struct any_sockaddr, ipv6), address))
		return 0;	/* allow: shorter than an address, the kernel refuses it */
	if ((a.family != AF_INET && a.family != AF_INET6) || !a.port)
		return 0;	/* allow: asked about elsewhere, or nobody is reached */
	if (!current_subject(&subject) || !is_asked(&subject, op))
		return 0;	/* allow: out of scope, the agent, or not ours to hold */
	p = begin_fact(&subject, op, hook);
	if (!p)
		return result(VERDICT_UNPROVEN, &subject);
	if (a.family == AF_INET)
		put_mapped(p->fact.address, a.ipv4);
	else
		bpf_probe_read_kernel(p->fact.address, 16,
				      (void *)address + __builtin_offsetof(struct any_sockaddr, ipv6));
	if (op == OP_CONNECT)
		find_meant_by(p, BPF_CORE_READ(sock, sk));
	return end_fact(p, protocol_and_port(BPF_CORE_READ(sock, sk, sk_protocol), bpf_ntohs(a.port)), &subject);
}

static __always_inline int on_socket_connect(__u8 hook, struct socket *sock, struct sockaddr *address)
{
	return check_sockaddr(hook, OP_CONNECT, sock, address);
}

static __always_inline int on_socket_bind(__u8 hook, struct socket *sock, struct sockaddr *address)
{
	return check_sockaddr(hook, OP_BIND, sock, address);
}

ENFORCE(socket_connect, ARGS(sock, address), struct socket *sock, struct sockaddr *address)
ENFORCE(socket_bind, ARGS(sock, address), struct socket *sock, struct sockaddr *address)

static __always_inline int on_socket_listen(__u8 hook, struct socket *sock)
{
	struct sock *sk = BPF_CORE_READ(sock, sk);
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	__u16 port = BPF_CORE_READ(sk, __sk_common.skc_num);
	struct subject subject;
	struct place *p;

	if ((family != AF_INET && family != AF_INET6) || !port)
		return 0;	/* allow: not the Internet, or the kernel chooses */
	if (!current_subject(&subject) || !is_asked(&subject, OP_LISTEN))
		return 0;	/* allow: out of scope, the agent, or not ours to hold */
	p = begin_fact(&subject, OP_LISTEN, hook);
	if (!p)
		return result(VERDICT_UNPROVEN, &subject);
	if (family == AF_INET)
		put_mapped(p->fact.address, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
	else
		bpf_core_read(p->fact.address, 16, &sk->__sk_common.skc_v6_rcv_saddr);
	return end_fact(p, protocol_and_port(BPF_CORE_READ(sk, sk_protocol), port), &subject);
}

ENFORCE(socket_listen, sock, struct socket *sock)

/* Asks about a number; 0 or -EPERM. */
static __always_inline int check_number(__u8 hook, enum operation op, __u32 value)
{
	struct subject subject;
	struct place *p;

	if (!current_subject(&subject) || !is_asked(&subject, op))
		return 0;	/* allow: out of scope, the agent, or not ours to hold */
	p = begin_fact(&subject, op, hook);
	if (!p)
		return result(VERDICT_UNPROVEN, &subject);
	return end_fact(p, value, &subject);
}

/*
 * TCP and UDP, which the hooks of addresses see wherever they go. Others (UDP-Lite, ping, L2TP, SCTP) get past
 * those of a cgroup in some way or on some kernel.
 */
static __always_inline bool is_held_by_address(int family, int type, int protocol)
{
	if (family != AF_INET && family != AF_INET6)
		return false;
	if (type == SOCK_STREAM)
		return !protocol || protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP;
	return type == SOCK_DGRAM && (!protocol || protocol == IPPROTO_UDP);
}

/* Sockets other than TCP, UDP and Unix ones: raw, packet, netlink and what else there is. */
static __always_inline int on_socket_create(__u8 hook, int family, int type, int protocol, int kern)
{
	if (kern || family == AF_UNIX)
		return 0;	/* allow: the kernel's own, or asked about by name */
	if (is_held_by_address(family, type, protocol))
		return 0;	/* allow: asked about by address */
	return check_number(hook, OP_SOCKET, (family & 0xff) << 16 | (type & 0xff) << 8 | (protocol & 0xff));
}

ENFORCE(socket_create, ARGS(family, type, protocol, kern), int family, int type, int protocol, int kern)

/* 0x80 in each byte that is zero. */
static __always_inline __u64 zeroes_of(__u64 x)
{
	__u64 low = EACH_BYTE(0x7f);

	return ~(((x & low) + low) | x | low);
}

#define NAME_WORDS 14		/* that sun_path fits in */

/*
 * Reads a name, and writes each zero of it as a one: zeroes are what fills keys up, and names that differ in nothing else have
 * different keys then. false: it has ones itself, or could not be read.
 */
static __always_inline bool read_abstract_name(struct place *p, const void *from, __u32 len)
{
	__u64 *words = (void *)p->walk.bytes, ones = 0;

	__builtin_memset(words, 0, NAME_WORDS * WORD);
	if (bpf_probe_read_kernel(words, len, from)) {
		count_lost(FAULT_READ);
		return false;
	}
	for (int i = 0; i < NAME_WORDS; i++) {
		ones |= zeroes_of(words[i] ^ EACH_BYTE(1));
		words[i] |= zeroes_of(words[i]) >> 7;
	}
	return !bpf_probe_read_kernel(p->path.path, len, words) && !ones;
}

/* Unix sockets of the abstract name space: '@' and the name, with a one for each zero in it. sun_path: with its first zero. */
static __always_inline int ask_abstract(struct subject *s, __u8 hook, enum operation op, const void *sun_path, __u32 len)
{
	__u64 who = bpf_get_current_pid_tgid();
	struct place *p = begin_question(s, op, hook, who);

	if (!p)
		return VERDICT_UNPROVEN;
	p->named = 1;
	__builtin_memset(p->path.path, 0, PATH_BYTES);
	barrier_var(len);
	len &= 127;	/* at most 108, the size of sun_path */
	if (!read_abstract_name(p, sun_path, len))
		p->nameless = PATH_TRUNCATED;	/* it could be taken for another name */
	p->path.path[0] = '@';
	p->access.path_len = len;
	return check_path(p->number);
}

/* A Unix socket: by its path in the tree, or by its abstract name with '@' before it. */
static __always_inline int check_unix(__u8 hook, struct sock *sk)
{
	struct unix_sock *other = (void *)sk;
	struct dentry *dentry = BPF_CORE_READ(other, path.dentry);
	struct unix_address *address = BPF_CORE_READ(other, addr);
	struct subject subject;
	int verdict;

	if (!dentry && !address)
		return 0;	/* allow: nameless, so it was handed over */
	if (!current_subject(&subject) || !is_asked(&subject, OP_UNIX_CONNECT))
		return 0;	/* allow: out of scope, the agent, or not ours to hold */
	if (dentry)
		verdict = ask_path(&subject, hook, OP_UNIX_CONNECT, dentry, BPF_CORE_READ(other, path.mnt), 0);
	else
		verdict = ask_abstract(&subject, hook, OP_UNIX_CONNECT,
				       __builtin_preserve_access_index(&address->name[0].sun_path),
				       BPF_CORE_READ(address, len) - sizeof(unsigned short));
	return result(verdict, &subject);
}

static __always_inline int on_unix_stream_connect(__u8 hook, struct sock *other)
{
	return check_unix(hook, other);
}

static __always_inline int on_unix_may_send(__u8 hook, struct socket *other)
{
	return check_unix(hook, BPF_CORE_READ(other, sk));
}

/* User ABI: include/uapi/linux/un.h. */
struct unix_sockaddr {
	__u16 family;
	char path[108];
};

/* An abstract name. One in the tree is a file that is made, and asked about as such. */
static __always_inline int on_unix_bind(__u8 hook, struct socket *sock, struct sockaddr *address, int len)
{
	struct unix_sockaddr *name = (void *)address;
	struct subject subject;
	__u16 family;
	char first;

	if (BPF_CORE_READ(sock, sk, __sk_common.skc_family) != AF_UNIX)
		return 0;	/* allow: asked about by address */
	if (len <= (int)sizeof(family) || len > (int)sizeof(*name))
		return 0;	/* allow: the kernel chooses a name, or refuses the address */
	if (bpf_probe_read_kernel(&family, sizeof(family), &name->family) || family != AF_UNIX)
		return 0;	/* allow: the kernel refuses it */
	if (bpf_probe_read_kernel(&first, 1, &name->path) || first)
		return 0;	/* allow: asked about when the file is made */
	if (!current_subject(&subject) || !is_asked(&subject, OP_UNIX_BIND))
		return 0;	/* allow: out of scope, the agent, or not ours to hold */
	return result(ask_abstract(&subject, hook, OP_UNIX_BIND, &name->path, len - sizeof(family)), &subject);
}

/* Apart from the hook of addresses, whose part cgroup hooks may play. */
SEC("lsm/socket_bind")
int BPF_PROG(lsm_unix_bind, struct socket *sock, struct sockaddr *address, int len)
{
	return on_unix_bind(HOOK_LSM, sock, address, len);
}

SEC("fmod_ret/security_socket_bind")
int BPF_PROG(fmod_unix_bind, struct socket *sock, struct sockaddr *address, int len)
{
	return on_unix_bind(HOOK_FMOD_RET, sock, address, len);
}

ENFORCE(unix_stream_connect, other, struct sock *sock, struct sock *other)
ENFORCE(unix_may_send, other, struct socket *sock, struct socket *other)
