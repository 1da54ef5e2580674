/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * Datagrams to name servers, with what they begin with. Like enforce_accept.h: nothing is decided here, no baseline
 * holds it, and the programs are there only while a rule asks.
 *
 * They are called for each message of a call that sends many, in the task that sends, before the kernel has copied it.
 */

#define AF_UNSPEC 0
#define DNS_PORT 53
#define DNS_HEADER 12

/* Messages with a shorter question match no rule: the bytes of its name, type and class. Written by the agent. */
volatile __u32 dns_least;

/* Tells messages apart, but for their number, which is their first two bytes. */
static __always_inline __u32 digest(struct place *p)
{
	const __u64 *words = (const void *)p->access.path;
	__u64 sum = known_secret ^ (words[0] & ~0xffffULL);

	ROLLED for (__u32 i = 1; i < MESSAGE_BYTES / sizeof(__u64); i++)
		sum = mix(sum ^ words[i]);
	return mix(sum);
}

static __always_inline int on_dns(struct sock *sk, struct msghdr *msg, __u64 bytes, struct any_sockaddr *to, bool ipv6)
{
	struct subject subject;
	struct place *p;
	__u32 have;

	if (bytes < DNS_HEADER + dns_least)
		return 0;
	if (!current_subject(&subject) || !subject.workload.id || !rules_ask(OP_DNS_QUERY))
		return 0;	/* out of scope, the agent, or nobody asks */
	p = begin_fact(&subject, OP_DNS_QUERY, HOOK_FENTRY);
	if (!p)
		return 0;	/* counted */
	p->held = 0;
	p->fact.value = protocol_and_port(BPF_CORE_READ(sk, sk_protocol), DNS_PORT);
	if (ipv6)
		__builtin_memcpy(p->fact.address, to->ipv6, sizeof(to->ipv6));
	else
		put_mapped(p->fact.address, to->ipv4);
	have = read_message(p, &msg->msg_iter, bytes);
	p->access.path_len = have < PATH_BYTES ? have : PATH_BYTES - 1;
	p->access.said_len = have - p->access.path_len;
	p->detail = digest(p);
	check_fact(p->number);
	return 0;
}

/* The kernel has copied the address, if one was given. Else the socket is connected, or sending fails. */
SEC("fentry/udp_sendmsg")
int BPF_PROG(dns_udp_sendmsg, struct sock *sk, struct msghdr *msg, size_t bytes)
{
	void *name = BPF_CORE_READ(msg, msg_name);
	struct any_sockaddr to = {};

	if (name) {
		bpf_probe_read_kernel(&to, __builtin_offsetof(struct any_sockaddr, ipv6), name);
	} else {
		to.port = BPF_CORE_READ(sk, __sk_common.skc_dport);
		to.ipv4 = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	}
	if (to.port != bpf_htons(DNS_PORT))
		return 0;
	return on_dns(sk, msg, bytes, &to, false);
}

/* What goes to an address of IPv4 is handed on to the other function. */
SEC("fentry/udpv6_sendmsg")
int BPF_PROG(dns_udpv6_sendmsg, struct sock *sk, struct msghdr *msg, size_t bytes)
{
	void *name = BPF_CORE_READ(msg, msg_name);
	struct any_sockaddr to = {};
	__u32 *words;

	if (name)
		bpf_probe_read_kernel(&to, sizeof(to), name);
	if (to.family == AF_INET)
		return 0;
	if (to.family == AF_UNSPEC) {
		to.port = BPF_CORE_READ(sk, __sk_common.skc_dport);
		bpf_core_read(to.ipv6, sizeof(to.ipv6), &sk->__sk_common.skc_v6_daddr);
	}
	if (to.port != bpf_htons(DNS_PORT))
		return 0;
	words = (__u32 *)to.ipv6;
	if (!words[0] && !words[1] && words[2] == bpf_htonl(0xffff))
		return 0;
	return on_dns(sk, msg, bytes, &to, true);
}
