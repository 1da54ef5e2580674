/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * TCP connections that a server takes, with both ends. Nothing is decided here, and no baseline holds it: the
 * program is there for rules. The agent loads and attaches it only while a rule asks.
 *
 * It is called by the task that calls accept, when the kernel gives it the socket. The hook of LSMs of that name is
 * before there is a client.
 */

/* The ends of a socket of the Internet: the other one's address for the key, and ours beside it. */
static __always_inline void put_ends(struct place *p, struct sock *sk, __u16 family)
{
	if (family == AF_INET) {
		put_mapped(p->fact.address, BPF_CORE_READ(sk, __sk_common.skc_daddr));
		put_mapped(p->access.local, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		return;
	}
	bpf_core_read(p->fact.address, 16, &sk->__sk_common.skc_v6_daddr);
	bpf_core_read(p->access.local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
}

SEC("fentry/security_sock_graft")
int BPF_PROG(accept_sock_graft, struct sock *sk)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	__u16 protocol = BPF_CORE_READ(sk, sk_protocol);
	struct subject subject;
	struct place *p;

	if (family != AF_INET && family != AF_INET6)
		return 0;	/* a Unix socket, say */
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP)
		return 0;
	if (!current_subject(&subject) || !subject.workload.id || !rules_ask(OP_ACCEPT))
		return 0;	/* out of scope, the agent, or nobody asks */
	p = begin_fact(&subject, OP_ACCEPT, HOOK_FENTRY);
	if (!p)
		return 0;	/* counted */
	p->held = 0;
	p->detail = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	p->fact.value = protocol_and_port(protocol, BPF_CORE_READ(sk, __sk_common.skc_num));
	put_ends(p, sk, family);
	check_fact(p->number);
	return 0;
}
