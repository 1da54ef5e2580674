/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * Whether a rule denies what somebody does, by who it is and what he executes. Nothing of it is looked up before
 * a rule is found that depends on it.
 *
 * Functions here are global where they may be: the verifier looks at such a function once in a program, however
 * many ways lead to it. In return they get numbers only, and find their place again by its own.
 */

#define ANCESTORS 16		/* of them names are asked about */

/* The properties that are known without a look at who acts. */
#define AT_ONCE (property(TRAIT_EXEC_MEMORY) | property(TRAIT_EXEC_UNLINKED) | property(TRAIT_EXEC_DETACHED) |	\
		 property(TRAIT_BY_ANCESTOR) | property(TRAIT_HOST_NAMESPACE))

static __always_inline __u64 properties_of_path(struct place *p)
{
	static const char memfd[] = "/memfd:";
	__u8 facts = p->exec.path_facts;
	__u64 properties = 0;

	if (facts & PATH_UNLINKED)
		properties |= property(TRAIT_EXEC_UNLINKED);
	if (facts & PATH_DETACHED)
		properties |= property(TRAIT_EXEC_DETACHED);
	if (facts & PATH_DETACHED && !__builtin_memcmp(p->exec.path, memfd, sizeof(memfd) - 1))
		properties |= property(TRAIT_EXEC_MEMORY);
	return properties;
}

/* What an execution is asked about as such, and what its actor is called by then: look_at_execution(). */
#define EXECUTION_TRAITS (1 << TRAIT_ACTOR_NAME | 1 << TRAIT_EXEC_UPPER | 1 << TRAIT_EXEC_SOCKET | 1 << TRAIT_EXEC_CWD)

static __always_inline void begin_deed(struct place *p)
{
	struct deed *d = &p->deed;

	d->asked = p->op == OP_EXEC ? EXECUTION_TRAITS : 0;
	d->properties = p->op == OP_EXEC ? d->execution : p->facts;
	d->denials.generation = p->asked.generation;
	d->name.generation = p->asked.generation;
}

/* Where the workload is held to a baseline, and does not still learn it: nobody has looked at what that holds. */
static __always_inline void look_at_baseline(struct place *p)
{
	bool known;

	if (!is_compared(p))
		return;
	if (is_on_path(p->op))
		begin_key(p);	/* rules were asked by it */
	known = p->exact || (!p->nameless && (is_on_path(p->op) ? find_path_pattern(p) : find_fact_pattern(p)));
	p->deed.properties |= property(known ? TRAIT_IN_BASELINE : TRAIT_OUTSIDE_BASELINE);
}

/* A name begins with this one; size: how much of it counts, with a final NUL. */
static __always_inline void add_name(struct deed *d, enum trait trait, const void *name, __u32 size)
{
	__u64 *properties;

	__builtin_memset(d->name.text, 0, sizeof(d->name.text));
	bpf_probe_read_kernel_str(d->name.text, size, name);
	d->name.trait = trait;
	properties = bpf_map_lookup_elem(&rule_names, &d->name);
	if (properties)
		d->properties |= *properties;
}

/* The name of the file that a task runs. */
static __always_inline void add_file(struct deed *d, enum trait trait, struct task_struct *task, __u32 size)
{
	add_name(d, trait, BPF_CORE_READ(task, mm, exe_file, f_path.dentry, d_name.name), size);
}

#define EACH_BYTE(x) ((x) * 0x0101010101010101ULL)
#define WORD sizeof(__u64)

/*
 * What an execution will be called: the last name in filename. A word of it is looked at at once, and the result
 * stands in a map, for the verifier's sake.
 */
static __always_inline void add_new_name(struct deed *d, const char *filename, __u32 len)
{
	const __u64 *words = (const void *)filename;

	d->begin = 0;
	for (__u32 i = 0; i < PATH_BYTES; i += WORD) {
		__u64 x = words[i / WORD] ^ EACH_BYTE('/');
		__u32 end = forgotten(len);

		if (i >= end)
			break;
		if (i + WORD > end)
			x |= ~0ULL << (end % WORD) * 8;	/* what is behind the end does not count */
		if ((x - EACH_BYTE(1)) & ~x & EACH_BYTE(0x80))
			d->begin = i;	/* one of them is a slash */
	}
	for (__u32 i = 0, word = d->begin; i < WORD; i++) {
		__u32 end = forgotten(len);

		if (filename[(word + i) & (PATH_BYTES - 1)] == '/' && word + i < end)
			d->begin = word + i + 1;
	}
	add_name(d, TRAIT_ACTOR_NAME, &filename[d->begin & (PATH_BYTES - 1)], TASK_COMM_LEN);
}

/*
 * Finds the properties of an execution before rules are asked about it: next to it this costs nothing, and programs of
 * other hooks need not have the code.
 */
__noinline int look_at_execution(__u32 number)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	struct file *file;
	struct deed *d;

	if (!p)
		return 0;
	file = p->file;		/* "p->" inside BPF_CORE_READ would be relocated too */
	d = &p->deed;
	d->properties = properties_of_path(p);
	d->name.generation = p->asked.generation;
	add_new_name(d, p->exec.filename, p->exec.filename_len);
	if (is_upper(BPF_CORE_READ(file, f_inode)))
		d->properties |= property(TRAIT_EXEC_UPPER);
	if (talks_to_internet(p->task))
		d->properties |= property(TRAIT_EXEC_SOCKET);
	d->execution = d->properties;
	return 0;
}

/* Goes on to the parent of deed.ancestor; 0: there is none. */
__noinline int look_at_ancestor(__u32 number)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	struct task_struct *task, *parent;

	if (!p)
		return 0;
	task = p->deed.ancestor;
	parent = BPF_CORE_READ(task, real_parent);
	if (!parent || parent == task)
		return 0;
	p->deed.ancestor = parent;
	add_file(&p->deed, TRAIT_ANCESTOR_NAME, parent, TASK_COMM_LEN);
	return 1;
}

/* Finds the properties of a deed that hang on some traits. */
__noinline int look_at_deed(__u32 number, __u32 ask)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	struct task_struct *task, *parent;
	struct deed *d;

	if (!p)
		return 0;
	task = p->task;
	d = &p->deed;
	ask &= ~d->asked;
	d->asked |= ask;
	if (ask & (1 << TRAIT_OUTSIDE_BASELINE | 1 << TRAIT_IN_BASELINE))
		look_at_baseline(p);
	if (ask & 1 << TRAIT_ACTOR_NAME)
		add_name(d, TRAIT_ACTOR_NAME, task->comm, TASK_COMM_LEN);
	if (ask & 1 << TRAIT_ACTOR_FILE)
		add_file(d, TRAIT_ACTOR_FILE, task, NAME_ASKED);
	parent = BPF_CORE_READ(task, real_parent);
	if (ask & 1 << TRAIT_PARENT_NAME)
		add_file(d, TRAIT_PARENT_NAME, parent, TASK_COMM_LEN);
	if (ask & 1 << TRAIT_PARENT_FILE)
		add_file(d, TRAIT_PARENT_FILE, parent, NAME_ASKED);
	if (!(ask & 1 << TRAIT_ANCESTOR_NAME))
		return 0;
	d->ancestor = task;
	ROLLED for (int i = 0; i < ANCESTORS; i++) {
		if (!look_at_ancestor(number))
			break;
	}
	return 0;
}

/* All ones if x is 0, else 0: without a branch, of which the verifier would follow both ways. */
static __always_inline __u64 if_zero(__u64 x)
{
	x |= -x;
	barrier_var(x);
	return (x >> 63) - 1;
}

/* What clears a deed of what is denied, of those of its properties that are certain. 0: it is not cleared. */
static __always_inline __u64 cleared_by(struct denial *d, __u64 properties, __u64 certain)
{
	return ((d->require & ~properties) | (d->forbid & properties)) & certain;
}

#define OPEN (1U << 30)		/* beside traits, so that it is not 0 where denials hang on none */

/*
 * The traits that denials hang on of which the deed is not cleared yet; 0: it is cleared of all. deed.rule is that of the first
 * of these denials; it holds once none of the traits is left to be looked at.
 */
__noinline __u32 open_traits(__u32 number, __u64 certain)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	__u64 ask = 0, rule = 0, counts;
	struct denials *denials;
	struct deed *deed;

	if (!p)
		return 0;
	deed = &p->deed;
	denials = bpf_map_lookup_elem(&rule_denials, &p->deed.denials);
	if (!denials)
		return 0;	/* somebody else took the place */
	for (int i = 0; i < DENIALS; i++) {
		struct denial *d = &denials->of[i];

		if (!d->rule)
			break;
		counts = if_zero(cleared_by(d, deed->properties, certain));
		ask |= (d->ask | OPEN) & counts;
		rule |= d->rule & counts & if_zero(rule);
	}
	deed->actor = denials->actor;
	deed->rule = rule;
	return ask;
}

#define ACTOR_TRAITS (1 << TRAIT_ACTOR_NAME | 1 << TRAIT_ACTOR_FILE)
#define PARENT_TRAITS (1 << TRAIT_PARENT_NAME | 1 << TRAIT_PARENT_FILE | 1 << TRAIT_ANCESTOR_NAME)
#define OTHER_TRAITS (~(ACTOR_TRAITS | PARENT_TRAITS) & ((1 << TRAIT_MAX) - 1))

/*
 * Judges the deed of a place by a set of denials. Most deeds are cleared by what is known at once or what the actor is
 * called; parents and ancestors cost most.
 */
__noinline int judge(__u32 number, __u32 index)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	__u64 certain = AT_ONCE;
	__u32 ask;

	if (!p || !index)
		return 0;	/* 0: none */
	p->deed.denials.index = index;
	ask = open_traits(number, certain);
	certain |= p->deed.actor;
	if (ask & ACTOR_TRAITS) {
		look_at_deed(number, ask & ACTOR_TRAITS);
		ask = open_traits(number, certain);
	}
	certain |= property(TRAIT_MAX) - 1;
	if (ask & OTHER_TRAITS) {
		look_at_deed(number, ask & OTHER_TRAITS);
		ask = open_traits(number, certain);
	}
	if (ask & PARENT_TRAITS) {
		look_at_deed(number, ask & PARENT_TRAITS);
		ask = open_traits(number, ~0ULL);
	}
	if (!ask)
		return 0;
	p->answer.kill |= ask >> 31;
	if (!p->answer.rule)
		p->answer.rule = p->deed.rule;
	return 0;
}

/* Judges by all sets that were found. */
static __always_inline void judge_all(struct place *p)
{
	begin_deed(p);
	ROLLED for (int i = 0; i < WISHES; i++)
		judge(p->number, p->asked.denials[i]);
}
