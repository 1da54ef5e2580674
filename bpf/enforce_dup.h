/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * Descriptors of sockets that a process makes of others, as whoever gets a shell over the network makes those of the
 * shell. Like enforce_accept.h: nothing is decided here, and the programs are there only while a rule asks.
 *
 * They are called when the system calls end, by their own functions: a tracepoint of system calls would make all of
 * them take the kernel's slower way. The agent knows what these functions are called on this architecture, those for
 * 32-bit programs too. A thread may have put something else in the descriptor's place by then: that is told.
 */

static __always_inline int on_dup(enum dup_call call, long fd)
{
	struct subject subject;
	struct place *p;
	struct sock *sk;
	__u16 family;

	if (fd < 0)
		return 0;	/* it failed */
	if (!current_subject(&subject) || !subject.workload.id || !rules_ask(OP_DUP))
		return 0;	/* out of scope, the agent, or nobody asks */
	sk = socket_of(file_at(fd));
	if (!sk)
		return 0;	/* most descriptors */
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
		return 0;	/* netlink, say */
	p = begin_fact(&subject, OP_DUP, HOOK_FENTRY);
	if (!p)
		return 0;	/* counted */
	p->held = 0;
	p->detail = fd;
	p->access.call = call;
	if (family == AF_UNIX) {
		p->fact.value = 0;	/* that it is one */
		p->access.local_port = 0;
		__builtin_memset(p->access.local, 0, sizeof(p->access.local));
	} else {
		p->fact.value = protocol_and_port(BPF_CORE_READ(sk, sk_protocol),
						  bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport)));
		p->access.local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
		put_ends(p, sk, family);
	}
	check_fact(p->number);
	return 0;
}

SEC("fexit/sys_dup")
int BPF_PROG(dup_exit, struct pt_regs *regs, long fd)
{
	return on_dup(CALL_DUP, fd);
}

SEC("fexit/sys_dup2")
int BPF_PROG(dup2_exit, struct pt_regs *regs, long fd)
{
	return on_dup(CALL_DUP2, fd);
}

SEC("fexit/sys_dup3")
int BPF_PROG(dup3_exit, struct pt_regs *regs, long fd)
{
	return on_dup(CALL_DUP3, fd);
}
