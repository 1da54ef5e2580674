/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * What rules want of operations, beside what baselines make of them: to see them, or to deny them. Every
 * key begins with the generation of the rules. New rules are written beside the old ones, and one write
 * to the variable "rules" switches to them.
 */

#define WISH_HOST 1
#define WISH_CONTAINER 2

/* Whatever is wished of a longer prefix includes what is wished of the shorter ones: the agent sees to it. */
struct wish {
	__u32 watch;		/* WISH_*: operations of whom leave the kernel */
	__u32 kill;		/* WISH_*: deny kills the process too */
	__u32 deny_host;	/* id of the rule that denies it, 0: none does */
	__u32 deny_container;
};

#define RULE_UNKNOWN 1		/* it was not found out whether one denies it */

/* Generation << 32 | 1 << enum operation, for those that any rule asks about. Written by the agent. */
volatile __u64 rules;

static __always_inline __u32 rule_bit(enum operation op)
{
	return 1U << op;
}

static __always_inline bool rules_ask(enum operation op)
{
	return rules & rule_bit(op);
}

/* All written by the agent. In the keys there is no workload. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct path_key);
	__type(value, struct wish);
} rule_paths SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct path_pattern);
	__type(value, struct wish);
} rule_prefixes SEC(".maps");

#define SUFFIX_BYTES 16

/* The end of a path, its last byte first. */
struct suffix {
	__u32 prefixlen;	/* bits, of what follows */
	__u32 generation;
	enum operation operation;
	char bytes[SUFFIX_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct suffix);
	__type(value, struct wish);
} rule_suffixes SEC(".maps");

/* Addresses, with 0 for any protocol and port; and numbers, whose value is in network order. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address_pattern);
	__type(value, struct wish);
} rule_facts SEC(".maps");

/* Behind a path there are zeroes up to PATH_BYTES: what is before its begin is found there. */
static __always_inline void fill_suffix(struct suffix *s, const char *path, __u32 len)
{
	s->prefixlen = (sizeof(*s) - sizeof(s->prefixlen)) * 8;
	for (__u32 i = 0; i < SUFFIX_BYTES; i++)
		s->bytes[i] = path[(len - 1 - i) & (PATH_BYTES - 1)];
}

/* Random, so that nobody can make one hash look like another. */
const volatile __u64 known_secret;

static __always_inline __u64 mix(__u64 x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	return x ^ (x >> 33);
}
