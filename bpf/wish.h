/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * What rules want of operations, beside what baselines make of them: to see them, or to deny them, perhaps only to
 * some. Every key has the generation of the rules. New rules are written beside the old ones, and one write
 * to the variable "rules" switches to them.
 */

#define WISH_HOST 1
#define WISH_CONTAINER 2

/* Whatever is wished of a longer prefix includes what is wished of the shorter ones: the agent sees to it. */
struct wish {
	__u32 watch;		/* WISH_*: operations of whom leave the kernel */
	__u32 deny_host;	/* index in rule_denials of those that may deny it, 0: none does */
	__u32 deny_container;
};

/* What rules ask about who acts, and about the file that is executed. pkg/rule repeats the values and explains them. */
enum trait {
	TRAIT_UNSPEC = 0,
	/* names */
	TRAIT_ACTOR_NAME = 1,
	TRAIT_ACTOR_FILE = 2,
	TRAIT_PARENT_NAME = 3,
	TRAIT_PARENT_FILE = 4,
	TRAIT_ANCESTOR_NAME = 5,
	/* yes or no */
	TRAIT_EXEC_MEMORY = 6,
	TRAIT_EXEC_UNLINKED = 7,
	TRAIT_EXEC_DETACHED = 8,
	TRAIT_EXEC_UPPER = 9,
	TRAIT_EXEC_SOCKET = 10,
	TRAIT_OUTSIDE_BASELINE = 11,
	TRAIT_IN_BASELINE = 12,
	TRAIT_EXEC_CWD = 13,
	TRAIT_BY_ANCESTOR = 14,
	TRAIT_HOST_NAMESPACE = 15,
	TRAIT_MAX,
};

/*
 * A deed has up to 64 properties, each a bit: the first ones are the traits that are yes or no, the others say
 * of a set of names that a name is in it. Which bit is which set is the agent's choice, anew for each generation.
 */
static __always_inline __u64 property(enum trait t)
{
	return 1ULL << (t - TRAIT_EXEC_MEMORY);
}

/* What one rule denies of an operation on one thing: a deed with all of some properties, and none of others. */
struct denial {
	__u64 require;
	__u64 forbid;
	__u32 rule;		/* id, 0: this denial and those behind it are none */
	__u32 ask;		/* 1 << enum trait, those that its properties hang on; and DENIAL_KILLS */
};

#define DENIAL_KILLS (1U << 31)	/* the process ends, too */

#define DENIALS 16		/* of one thing: executions are what most rules are about, and many of them of any path */

struct denials {
	__u64 actor;		/* the properties that hang on what the actor and his file are called */
	struct denial of[DENIALS];
};

struct denials_key {
	__u32 generation;
	__u32 index;
};

#define NAME_ASKED 64		/* bytes of a name that is compared, the final NUL included; the agent asks for no name that fills it */

struct name_key {
	__u32 generation;
	enum trait trait;
	char text[NAME_ASKED];	/* NUL padded */
};

#define RULE_OPERATIONS 40	/* bits of what follows that are of operations */

/* Generation << RULE_OPERATIONS | 1 << enum operation, for those that any rule asks about. Written by the agent. */
volatile __u64 rules;

/* 1 << enum operation, for those that any rule denies, these or the ones before. Written by the agent. */
volatile __u64 rules_deny;

_Static_assert(OP_MAX <= RULE_OPERATIONS, "operations have a bit each, and that of none is one more");

static __always_inline __u64 rule_bit(enum operation op)
{
	return 1ULL << op;
}

static __always_inline bool rules_ask(enum operation op)
{
	return rules & rule_bit(op);
}

/* All written by the agent. In the keys there is no workload. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct denials_key);
	__type(value, struct denials);
} rule_denials SEC(".maps");

/* Value: the properties that a name gives. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct name_key);
	__type(value, __u64);
} rule_names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);	/* paths, and directories above them */
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
