/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * The baselines, and the one place that decides about an operation. Learning, auditing and denying
 * are the same lookup with the same key; only what is made of an unknown key differs.
 *
 * A key begins with (workload, generation): a new policy is written beside the old one, and one write
 * to the map of workloads switches to it.
 */

/* What an operation on a path is compared by. */
struct path_key {
	__u32 workload;
	__u32 generation;
	enum operation operation;
	char path[PATH_BYTES];	/* NUL padded */
};

/* What any other operation is compared by. */
struct fact_key {
	__u32 workload;
	__u32 generation;
	enum operation operation;
	__u32 value;		/* see struct access_event */
	__u8 address[16];
};

struct entry {
	__u64 hits;		/* lookups that found it; what the inode remembers is not counted */
	__u64 wished;		/* what rules wish of it: remember_wish(); of exact keys only */
};

/* Written by the agent, and by remember_*() in learn mode. pkg/enforce says how many paths there may be. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct path_key);
	__type(value, struct entry);
} path_entries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct fact_key);
	__type(value, struct entry);
} fact_entries SEC(".maps");

#define PATTERN_BYTES 244	/* a longer key does not fit in a trie (LPM_DATA_SIZE_MAX) */

/* "Everything below" a directory, which is written with its final '/'. */
struct path_pattern {
	__u32 prefixlen;	/* bits, of what follows */
	__u32 workload;
	__u32 generation;
	enum operation operation;
	char path[PATTERN_BYTES];
};

/* An address range. The port is 0 for any. */
struct address_pattern {
	__u32 prefixlen;
	__u32 workload;
	__u32 generation;
	enum operation operation;
	__u32 value;
	__u8 address[16];
};

#define PATTERN_BITS(type) ((sizeof(struct type) - sizeof(__u32)) * 8)

/* Written by the agent; looked at only for what the exact keys do not know. Room in a trie costs nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1048576);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct path_pattern);
	__type(value, struct entry);
} path_patterns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1048576);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address_pattern);
	__type(value, struct entry);
} address_patterns SEC(".maps");

#include "wish.h"

/*
 * Per workload: what happened so far. Key: workload id. Read by the agent.
 */
struct tally {
	__u64 hits;
	__u64 learnt;
	__u64 audited;
	__u64 denied;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

/* When an unknown key was reported last: a program that tries again and again is told once a second. */
struct telling {
	__u64 at;		/* ktime */
	__u32 missed;		/* since then */
	__u32 verdict;		/* enum verdict: another one is told at once */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct path_key);
	__type(value, struct telling);
} told_paths SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct fact_key);
	__type(value, struct telling);
} told_facts SEC(".maps");

#define TELL_AGAIN_NS 1000000000ULL

/* Written by the agent, or by hand in an emergency: until this ktime nothing is denied. */
volatile __u64 paused_until;

#define WISHES 4		/* that one operation looks up, at the most */

/* What the rules wish of an operation of this workload. */
struct asked {
	__u32 generation;
	__u32 watch;			/* not 0: to see it */
	__u32 denials[WISHES];		/* indices of rule_denials, 0: none */
};

/* What is found out about who does something, and what he executes: deed.h. */
struct deed {
	__u32 asked;			/* 1 << enum trait, those that were looked up */
	__u64 properties;
	__u64 execution;		/* the properties of an execution as such */
	__u64 actor;			/* the properties that hang on what the actor is called */
	__u32 rule;			/* that denies it: open_traits() */
	struct task_struct *ancestor;
	volatile __u32 begin;		/* of the last name */
	struct denials_key denials;
	struct name_key name;
};

#define RULE_UNKNOWN 0xffffffff	/* of a rule: it has more names than are looked at, and may be denied by one of them */

struct answer {
	int verdict;		/* enum verdict */
	__u32 rule;		/* that denies it, or RULE_UNKNOWN */
	__u32 repeated;
	__u8 known;		/* these six are 0 or 1 */
	__u8 in_baseline;
	__u8 set_up;		/* the baseline does not know it, and it is the work of who starts the workload */
	__u8 news;		/* to be told to the agent */
	__u8 wanted;		/* by a rule, whatever the baseline says */
	__u8 kill;		/* and not only denied */
	__u8 why;		/* ACCESS_*, if a rule denies it because of another name */
	__u8 other;		/* 1: by another name, a rule may deny it to somebody */
};

/*
 * An operation in question, and what a running program needs beside its stack to answer it. LSM programs may be
 * preempted, and the next task on this CPU then works too: each takes a place of its own.
 *
 * It is all in a map for the verifier's sake too: it forgets there what it knew of a value, so that all ways look
 * alike to it.
 */
#define PLACES 4

/* What rules are asked about: */
#define OWN 0			/* the path */
#define NAME 1			/* another name of the same thing, alias.h */
#define TARGET 2		/* the one that it will have */
#define CWD 3			/* not asked about: where who executes it is */
#define NAMES 4			/* a power of two, for masks */

struct place {
	__u64 takers;		/* tasks that have it, or look whether it is free; the atomic operations want 64 bits */

	/* The question. */
	__u64 who;		/* pid_tgid */
	struct subject subject;
	enum operation op;
	__u32 softening;	/* which bits of workload.softened are about it */
	__u32 number;		/* the key of this place */
	__u32 detail;		/* as of struct access_event */
	const char *said;	/* likewise, in the kernel's memory; NULL: nothing, or the path that is being opened */
	__u64 inode;
	__u32 device;
	__u8 hook;
	__u8 held;		/* 1: the workload is held to its baseline in this */
	__u8 nameless;		/* not 0: a path that no baseline may hold */
	__u8 guarded;		/* 1: of the agent, and to be denied */
	__u8 named;		/* 1: it is in no tree, and its name stands in path */
	__u8 is_new;		/* 1: a name that does not stand in the tree yet */
	__u8 exact;		/* 1: the baseline has an entry for exactly this */
	struct dentry *dentry;	/* of what it is about; where it has to be looked for first */
	struct vfsmount *mnt;	/* by which the dentry was reached */
	struct dentry *to;	/* of its new name */
	__u32 uses;		/* 1 << enum operation, as what else its new name, or that it is replaced, counts: alias.h */
	__u8 is_replaced;	/* 1: it gets no new name, something else gets its */
	__u64 facts;		/* properties of what is done that the hook has found out, of other than executions */
	struct linux_binprm *bprm;	/* of an execution */
	struct file *file;
	struct task_struct *task;	/* who does it: the current one, but for HOOK_FANOTIFY */

	union {
		struct path_key path;
		struct path_key names[NAMES];
	};
	__u32 name_len[NAMES];
	struct vfsmount *mount;	/* by which it has those names; NULL: this process sees it so */
	struct mnt_namespace *mounts[2];	/* whose mounts give it names */
	__u8 has_target;	/* 1: it will have a name there */
	struct fact_key fact;
	__u32 meant_rule;	/* that denies it by the address that the kernel takes for that of fact, which is none; 0: none does */
	__u8 meant_wanted;	/* as in struct answer, by that address */
	__u8 meant_kill;
	struct walk walk;
	struct path_pattern path_pattern;
	struct address_pattern address_pattern;
	struct suffix suffix;
	struct asked asked;
	struct deed deed;
	struct answer answer;
	struct access_event access;
	struct exec_event exec;
};

/* Key: 0 to PLACES - 1. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, struct place);
} places SEC(".maps");

/*
 * A place is had by who finds himself alone after he has counted himself: whoever comes later, from whatever moment
 * on, finds two. If two come at the same time, both may go on to the next place.
 */
static __always_inline struct place *take_place(void)
{
	struct place *p;

	for (__u32 i = 0; i < PLACES; i++) {
		__u32 key = i;

		p = bpf_map_lookup_elem(&places, &key);
		if (!p)
			break;
		__sync_fetch_and_add(&p->takers, 1);
		if (*(volatile __u64 *)&p->takers == 1) {
			p->number = i;
			return p;
		}
		__sync_fetch_and_add(&p->takers, -1);
	}
	count_lost(FAULT_PREEMPTED);
	return NULL;
}

static __always_inline void leave_place(struct place *p)
{
	__sync_fetch_and_add(&p->takers, -1);
}

/* Whether the workload is held to what it does in this dimension. */
static __always_inline bool is_held(struct subject *s, enum operation op)
{
	return s->workload.mode != MODE_OFF && s->workload.held & dimension_bit(op);
}

/* Whether its baseline or a rule has to be asked about an operation. */
static __always_inline bool is_asked(struct subject *s, enum operation op)
{
	return is_held(s, op) || (s->workload.id && rules_ask(op));
}

/* Whether its baseline or a rule may deny an operation. */
static __always_inline bool is_deniable(struct subject *s, enum operation op)
{
	struct workload *w = &s->workload;

	if (bpf_ktime_get_ns() < paused_until || is_runtime(s))
		return false;
	if (w->mode == MODE_ENFORCE && w->held & dimension_bit(op) && !(w->softened & (dimension_bit(op) | added_bit(op))))
		return true;
	return w->flags & WORKLOAD_PROTECTED && rules_deny & 1ULL << op;
}

/* Begins a question. NULL: there is no place for it. */
static __always_inline struct place *begin_question(struct subject *s, enum operation op, __u8 hook, __u64 who)
{
	struct place *p = take_place();

	if (!p) {
		s->unproven = is_deniable(s, op);
		return NULL;
	}
	p->who = who;
	p->task = (void *)bpf_get_current_task();
	p->subject = *s;
	p->op = op;
	p->softening = dimension_bit(op) | added_bit(op);
	p->hook = hook;
	p->held = is_held(s, op);
	p->nameless = 0;
	p->guarded = 0;
	p->named = 0;
	p->is_new = 0;
	p->inode = 0;
	p->device = 0;
	p->detail = 0;
	p->said = NULL;
	p->dentry = NULL;
	p->mount = NULL;
	p->uses = 0;
	p->facts = 0;
	p->meant_rule = 0;
	p->meant_wanted = 0;
	p->meant_kill = 0;
	return p;
}

static __always_inline struct tally *tally_of(__u32 workload)
{
	struct tally none = {}, *t = bpf_map_lookup_elem(&tallies, &workload);

	if (t)
		return t;
	bpf_map_update_elem(&tallies, &workload, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&tallies, &workload);
}

/* Always 0, which the verifier does not know. */
volatile __u64 nothing;

/* Lets the verifier forget which values a number may have, so that it follows one way from here and not many. */
#define forgotten(x) ((x) | (typeof(x))nothing)

/* Whether a deviation is to be told, and how many equal ones were not. */
static __always_inline bool tell(struct place *p, void *map, void *key)
{
	struct telling now = { .at = bpf_ktime_get_ns(), .verdict = p->answer.verdict };
	struct telling *t = bpf_map_lookup_elem(map, key);

	if (t && t->verdict == now.verdict && now.at - t->at < TELL_AGAIN_NS) {
		__sync_fetch_and_add(&t->missed, 1);
		return false;
	}
	if (t)
		p->answer.repeated = t->missed;
	bpf_map_update_elem(map, key, &now, BPF_ANY);
	return true;
}

/* Returns whether this is to be told: not if another CPU was first, and seldom if there is no room. */
static __always_inline bool remember(struct place *p, void *entries, void *told, void *key)
{
	struct entry entry = { .hits = 1 };
	long err = bpf_map_update_elem(entries, key, &entry, BPF_NOEXIST);

	if (err == -EEXIST)
		return false;
	if (!err)
		return true;
	count_lost(FAULT_MAP_FULL);
	return tell(p, told, key);
}

#define PF_FORKNOEXEC 0x40	/* include/linux/sched.h: forked, and nothing executed yet */

/* Whether a process has executed a program since its fork. Its threads other than the first never lose the flag. */
static __always_inline bool has_executed(struct task_struct *task)
{
	return !(BPF_CORE_READ(task, group_leader, flags) & PF_FORKNOEXEC);
}

/*
 * Whether this is a child of init, still with init's program, that is about to become a unit's first
 * process: what it sets up, user, limits and cgroup among it, is init's work, and which part of it happens
 * in the unit's cgroup already is a matter of chance.
 *
 * Init is also the parent of whatever a workload leaves behind, and the workload may execute init's file too.
 * But each execution opens the file anew: who has the same open file as init got it from init, by a fork. Global, as in
 * deed.h.
 */
__noinline int is_starting(void)
{
	struct task_struct *task = (void *)bpf_get_current_task(), *parent;

	if (has_executed(task))
		return false;
	parent = BPF_CORE_READ(task, real_parent);
	return BPF_CORE_READ(parent, tgid) == 1 &&
	       BPF_CORE_READ(parent, mm, exe_file) == BPF_CORE_READ(task, mm, exe_file);
}

/* Whether this is still the work of who starts the workload, and not the workload's. What is executed then is its own. */
static __always_inline bool is_set_up(struct place *p)
{
	return p->op != OP_EXEC && !gives_rights(p->op) && (is_runtime(&p->subject) || is_starting());
}

/* The only place that knows allow and deny. */
static __always_inline void decide_unknown(struct place *p, void *entries, void *told, void *key)
{
	struct workload *w = &p->subject.workload;
	struct tally *tally = tally_of(w->id);
	struct answer *a = &p->answer;

	if (is_set_up(p)) {
		a->verdict = VERDICT_ALLOW;	/* allow: init's or a runtime's, not the workload's */
		a->set_up = true;
		return;
	}
	if (w->mode == MODE_LEARN) {
		a->verdict = VERDICT_ALLOW;	/* allow: learning */
		a->news = p->nameless ? tell(p, told, key) : remember(p, entries, told, key);
		if (tally && a->news && !p->nameless)
			tally->learnt++;
		return;
	}
	a->verdict = VERDICT_AUDIT;	/* allow: auditing, or paused, or not all is known */
	if (w->mode == MODE_ENFORCE && !(w->softened & p->softening) && bpf_ktime_get_ns() >= paused_until)
		a->verdict = VERDICT_DENY;
	if (tally && a->verdict == VERDICT_DENY)
		tally->denied++;
	else if (tally)
		tally->audited++;
	/* A killed process has an exec event, which the agent must know to be the end. */
	a->news = tell(p, told, key) || p->hook == HOOK_SIGNAL;
}

static __always_inline void found(struct place *p, struct entry *entry)
{
	struct tally *tally = tally_of(p->subject.workload.id);

	__sync_fetch_and_add(&entry->hits, 1);
	if (tally)
		tally->hits++;
	p->answer.verdict = VERDICT_ALLOW;	/* allow: known */
	p->answer.known = true;
}

/* Whether it is compared with a baseline, and not still learnt. */
static __always_inline bool is_compared(struct place *p)
{
	return p->held && p->subject.workload.mode >= MODE_AUDIT;
}

/* What the baseline makes of it. What a rule denies is not learnt, audited or counted as a hit. */
static __always_inline void settle(struct place *p, struct entry *entry, void *entries, void *told, void *key)
{
	p->answer.in_baseline = entry && is_compared(p);
	if (!p->held)
		p->answer.known = true;	/* allow: nothing is held here */
	else if (p->answer.rule)
		p->answer.known = entry || p->subject.workload.mode == MODE_LEARN;
	else if (entry)
		found(p, entry);
	else
		decide_unknown(p, entries, told, key);
}

/* Adds the nth wish. */
static __always_inline void add_wish(struct place *p, __u32 nth, struct wish *wish)
{
	bool inside = p->subject.workload.flags & WORKLOAD_CONTAINER;

	if (!wish)
		return;
	p->asked.watch |= wish->watch & (inside ? WISH_CONTAINER : WISH_HOST);
	p->asked.denials[nth] = inside ? wish->deny_container : wish->deny_host;
}

static __always_inline bool may_be_denied(struct asked *asked)
{
	return asked->denials[0] | asked->denials[1] | asked->denials[2] | asked->denials[3];
}

/* Makes place->path the key of the baseline. */
static __always_inline void begin_key(struct place *p)
{
	p->path.workload = p->subject.workload.id;
	p->path.generation = p->subject.workload.generation;
	p->path.operation = p->op;
}

static __always_inline void fill_path_pattern(struct place *p, struct path_key *key)
{
	struct path_pattern *pattern = &p->path_pattern;

	pattern->prefixlen = PATTERN_BITS(path_pattern);
	pattern->workload = key->workload;
	pattern->generation = key->generation;
	pattern->operation = key->operation;
	__builtin_memcpy(pattern->path, key->path, PATTERN_BYTES);
}

static __always_inline void fill_address_pattern(struct place *p, __u32 workload, __u32 generation)
{
	struct address_pattern *pattern = &p->address_pattern;

	pattern->prefixlen = PATTERN_BITS(address_pattern);
	pattern->workload = workload;
	pattern->generation = generation;
	pattern->operation = p->op;
	pattern->value = p->fact.value;
	__builtin_memcpy(pattern->address, p->fact.address, 16);
}

/* The pattern of the baseline that place->path is in. */
static __always_inline struct entry *find_path_pattern(struct place *p)
{
	fill_path_pattern(p, &p->path);
	return bpf_map_lookup_elem(&path_patterns, &p->path_pattern);
}

/* The same of place->fact. */
static __always_inline struct entry *find_fact_pattern(struct place *p)
{
	struct entry *entry;

	if (p->op >= OP_SOCKET)
		return NULL;
	fill_address_pattern(p, p->fact.workload, p->fact.generation);
	entry = bpf_map_lookup_elem(&address_patterns, &p->address_pattern);
	if (entry)
		return entry;
	p->address_pattern.value &= 0xffff0000;	/* any port */
	return bpf_map_lookup_elem(&address_patterns, &p->address_pattern);
}

/*
 * Writes what place->dentry is called, or what place->to will be: as this process sees it or, by place->mount, from the
 * top of the mounts. Returns PATH_*; 0: it has such a name. Global, as in deed.h.
 */
__noinline int write_name(__u32 number, __u32 which)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	struct task_struct *task;
	struct walk *w;
	__u8 facts;

	if (!p)
		return PATH_TRUNCATED;
	task = p->task;
	which &= NAMES - 1;
	w = &p->walk;
	__builtin_memset(p->names[which].path, 0, PATH_BYTES);
	walk_begin(w, which == TARGET ? p->to : p->dentry, p->mount ?: p->mnt, BPF_CORE_READ(task, fs));
	if (p->mount)
		w->top = NULL;
	p->name_len[which] = walk_to(w, p->names[which].path, &facts);
	if (p->is_new || which == TARGET)
		facts &= ~PATH_UNLINKED;	/* its dentry does not stand in the tree yet */
	if (p->mount && w->dentry == w->mount_root)
		facts &= ~PATH_DETACHED;	/* the walk ended at the top of the mounts, and not at that of the file system */
	return facts;
}

/* Whether all that is in the root's mount is below the root: it is that of a file system. */
static __always_inline bool holds_all(struct path *root)
{
	struct dentry *dentry = BPF_CORE_READ(root, dentry);

	return dentry == BPF_CORE_READ(root, mnt, mnt_root) && dentry == BPF_CORE_READ(dentry, d_sb, s_root);
}

/* Whether who executes something is where his root does not lead to. Global, as in deed.h. */
__noinline int is_cwd_detached(__u32 number)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	struct task_struct *task;
	struct vfsmount *mount, *mnt;
	struct dentry *dentry;
	struct fs_struct *fs;
	int facts;

	if (!p)
		return 0;
	task = p->task;
	mount = p->mount;
	fs = BPF_CORE_READ(task, fs);
	dentry = p->dentry;
	mnt = p->mnt;
	if (BPF_CORE_READ(fs, pwd.mnt) == BPF_CORE_READ(fs, root.mnt) && holds_all(&fs->root))
		return 0;	/* most of all */
	p->dentry = BPF_CORE_READ(fs, pwd.dentry);
	p->mnt = BPF_CORE_READ(fs, pwd.mnt);
	p->mount = NULL;	/* it may be that of another name of the program */
	facts = write_name(number, CWD);
	p->mount = mount;
	p->dentry = dentry;
	p->mnt = mnt;
	return facts & PATH_DETACHED;
}

/*
 * What they wish of an operation on a path: by it, or the longest prefix of it that is wished for; and by its end.
 * Returns whether any may deny it. Global, as in deed.h.
 */
__noinline int ask_rules_path(__u32 number, __u32 which, __u32 op)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	struct path_key *key;
	struct wish *wish;

	if (!p)
		return 0;
	which &= NAMES - 1;
	key = &p->names[which];
	fill_suffix(&p->suffix, key->path, p->name_len[which]);
	p->suffix.generation = p->asked.generation;
	p->suffix.operation = op;
	p->asked.denials[0] = 0;
	p->asked.denials[1] = 0;
	key->workload = 0;
	key->generation = p->asked.generation;
	key->operation = op;
	wish = bpf_map_lookup_elem(&rule_paths, key);
	if (!wish) {
		fill_path_pattern(p, key);
		wish = bpf_map_lookup_elem(&rule_prefixes, &p->path_pattern);
	}
	add_wish(p, 0, wish);
	add_wish(p, 1, bpf_map_lookup_elem(&rule_suffixes, &p->suffix));
	return may_be_denied(&p->asked);
}

/* A number is a prefix of its bits. Protocol and port are each given or any. Global, as in deed.h. */
__noinline int ask_rules_fact(__u32 number)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	struct address_pattern *pattern;

	if (!p)
		return 0;
	pattern = &p->address_pattern;
	fill_address_pattern(p, 0, p->asked.generation);
	if (p->op >= OP_SOCKET && p->op < OP_ACCEPT) {
		pattern->value = bpf_htonl(pattern->value);
		add_wish(p, 0, bpf_map_lookup_elem(&rule_facts, pattern));
		return 0;
	}
	add_wish(p, 0, bpf_map_lookup_elem(&rule_facts, pattern));
	pattern->value &= 0xffff0000;
	add_wish(p, 1, bpf_map_lookup_elem(&rule_facts, pattern));
	pattern->value = p->fact.value & 0xffff;
	add_wish(p, 2, bpf_map_lookup_elem(&rule_facts, pattern));
	pattern->value = 0;
	add_wish(p, 3, bpf_map_lookup_elem(&rule_facts, pattern));
	return 0;
}

#include "deed.h"

/* Takes over what the rules wish. */
static __always_inline void obey(struct place *p)
{
	p->answer.wanted = p->asked.watch != 0;
	if (!may_be_denied(&p->asked) || !(p->subject.workload.flags & WORKLOAD_PROTECTED) || bpf_ktime_get_ns() < paused_until)
		return;
	if (is_set_up(p))
		return;			/* as in decide_unknown */
	judge_all(p);
}

#include "alias.h"

/* When a rule's wish was told last. Key: rule_topic(). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct telling);
} told_to_rules SEC(".maps");

#define O_TRUNC 01000		/* include/uapi/asm-generic/fcntl.h */

/* The part of the detail that makes an operation another one to rules. Opening a file to truncate it is told twice. */
static __always_inline __u32 manner(struct place *p)
{
	if (p->op == OP_READ || p->op == OP_WRITE)
		return p->detail & O_TRUNC;
	if (p->op == OP_DUP)
		return p->detail ^ p->access.call << 30;
	if (p->op == OP_DNS_QUERY || p->op == OP_TCP_BEGIN)
		return p->detail;
	return p->op == OP_ATTRIBUTES ? p->detail : 0;
}

/*
 * What is not to be told again at once: an operation on the same thing by the same program in the same
 * process, since rules may ask who acts, under the same rules.
 */
static __always_inline __u64 rule_topic(struct place *p, const __u64 *thing, __u32 words)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 topic = mix(known_secret ^ p->who >> 32 ^ (__u64)p->op << 32);

	topic = mix(topic ^ BPF_CORE_READ(task, self_exec_id) ^ (__u64)manner(p) << 32) ^ rules;
	for (__u32 i = 0; i < words; i++)
		topic = mix(topic ^ thing[i]);
	return topic;
}

/* After the baseline was asked: what a rule denies, and what one wants to see. */
static __always_inline void conclude(struct place *p, const void *thing, __u32 bytes)
{
	struct answer *a = &p->answer;
	struct tally *tally;
	__u64 topic;

	if (!a->rule && (!a->wanted || a->news || a->verdict == VERDICT_DENY))
		return;
	topic = rule_topic(p, thing, bytes / sizeof(__u64));
	if (!a->rule) {
		a->known = false;	/* the next time it is to be told again */
		a->news = !is_runtime(&p->subject) && tell(p, &told_to_rules, &topic);
		return;
	}
	tally = tally_of(p->subject.workload.id);
	if (tally)
		tally->denied++;
	a->verdict = a->known ? VERDICT_DENY : VERDICT_DENY_TWICE;
	/* As in decide_unknown. */
	a->news = tell(p, &told_to_rules, &topic) || p->hook == HOOK_SIGNAL;
}

/*
 * The short way, of most operations: an entry of the baseline has exactly this key, and remembers what the rules in force
 * wish of it. That is one word, which is written and read as a whole: for whom, and which denials. An entry belongs to one
 * workload, and that is on the host and, for a moment, in a new container that is still its parent's, at once: rules
 * wish other things of the two.
 */
static __always_inline __u32 wisher(struct place *p)
{
	return p->asked.generation ^ (p->subject.workload.flags & WORKLOAD_CONTAINER) << 30;
}

static __always_inline void remember_wish(struct place *p, struct entry *entry)
{
	struct asked *asked = &p->asked;

	if (asked->watch || asked->denials[2] || asked->denials[3])
		return;			/* the word has no room for it */
	entry->wished = (__u64)wisher(p) << 32 | asked->denials[1] << 16 | asked->denials[0];
}

/* false: what is wished is not known. */
static __always_inline bool recall_wish(struct place *p, struct entry *entry)
{
	__u64 wished = entry->wished;

	if (wished >> 32 != wisher(p))
		return false;
	p->asked.denials[0] = wished & 0xffff;
	p->asked.denials[1] = wished >> 16 & 0xffff;
	return true;
}

static __always_inline bool is_ruled(struct place *p, __u64 asking)
{
	p->answer = (struct answer){};
	p->asked = (struct asked){ .generation = asking >> RULE_OPERATIONS };
	return asking & rule_bit(p->op) && p->subject.workload.id;
}

/* Finds the properties of an execution. The walk to the root from one call deeper would have no room on the stack. */
static __always_inline void look_at_executed(struct place *p)
{
	look_at_execution(p->number);
	if (is_cwd_detached(p->number))
		p->deed.execution |= property(TRAIT_EXEC_CWD);
}

/* Decides about an operation on a path, which stands in place->path; execution: a constant, whether it is one. */
static __always_inline void decide_path(struct place *p, bool execution)
{
	struct path_key *key = &p->path;
	struct entry *entry = NULL;

	begin_key(p);
	if (p->held && !p->nameless)
		entry = bpf_map_lookup_elem(&path_entries, key);
	p->exact = entry != NULL;
	if (is_ruled(p, rules)) {
		if (!entry || !recall_wish(p, entry)) {
			p->name_len[OWN] = p->access.path_len;
			ask_rules_path(p->number, OWN, p->op);
			if (entry)
				remember_wish(p, entry);
		}
		if (execution && p->subject.workload.flags & WORKLOAD_PROTECTED)
			look_at_executed(p);
		obey(p);
		obey_by_names(p->number);
		begin_key(p);	/* as in look_at_baseline */
	}
	if (p->held && !p->nameless && !entry)
		entry = find_path_pattern(p);
	settle(p, entry, &path_entries, &told_paths, key);
	conclude(p, key->path, PATH_BYTES);
}

/* The same for any other operation, whose value and address stand in place->fact. */
static __always_inline void decide_fact(struct place *p)
{
	struct workload *w = &p->subject.workload;
	struct fact_key *key = &p->fact;
	struct entry *entry = NULL;

	key->workload = w->id;
	key->generation = w->generation;
	key->operation = p->op;
	if (p->held)
		entry = bpf_map_lookup_elem(&fact_entries, key);
	p->exact = entry != NULL;
	if (is_ruled(p, rules)) {
		if (!entry || !recall_wish(p, entry)) {
			ask_rules_fact(p->number);
			if (entry)
				remember_wish(p, entry);
		}
		obey(p);
		p->answer.rule = p->answer.rule ?: p->meant_rule;
		p->answer.wanted |= p->meant_wanted;
		p->answer.kill |= p->meant_kill;
	}
	if (p->held && !entry)
		entry = find_fact_pattern(p);
	settle(p, entry, &fact_entries, &told_facts, key);
	conclude(p, &key->operation, sizeof(*key) - __builtin_offsetof(struct fact_key, operation));
}

/* Global, as in deed.h. */
__noinline int tell_access(__u32 number)
{
	struct place *p = bpf_map_lookup_elem(&places, &number);
	struct task_struct *task = (void *)bpf_get_current_task();
	struct access_event *e;
	__u32 bytes;

	if (!p)
		return 0;
	e = &p->access;
	bytes = ACCESS_FIXED_BYTES + (e->path_len & (PATH_BYTES - 1)) + (e->said_len & (PATH_BYTES - 1));
	e->header = (struct event_header){
		.ktime_ns = bpf_ktime_get_ns(), .cgroup_id = p->subject.cgroup_id,
		.tgid = p->who >> 32, .tid = (__u32)p->who, .workload = p->subject.workload.id,
		.kind = EVENT_ACCESS, .verdict = p->answer.verdict, .hook = p->hook, .size = bytes, .rule_id = p->answer.rule,
	};
	e->start_ticks = start_ticks(task);
	e->inode = p->inode;
	e->device = p->device;
	e->operation = p->op;
	e->repeated = p->answer.repeated;
	e->flags = (p->answer.in_baseline ? ACCESS_KNOWN : 0) | (p->answer.set_up ? ACCESS_SET_UP : 0) | p->answer.why;
	if (p->facts & property(TRAIT_BY_ANCESTOR))
		e->flags |= ACCESS_BY_ANCESTOR;
	if (p->facts & property(TRAIT_HOST_NAMESPACE))
		e->flags |= ACCESS_HOST_NAMESPACE;
	read_capabilities(&e->capabilities, task);
	bpf_core_read_str(e->comm, sizeof(e->comm), &task->comm);
	if (bpf_ringbuf_output(&events, e, bytes, BPF_RB_FORCE_WAKEUP))
		count_lost(EVENT_ACCESS);
	return 0;
}

/* What the caller called the file that it opens, NULL if nothing is opened by name. */
static __always_inline const char *opened_name(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, nameidata, name, name);
}

/* Puts behind the path what the caller said. */
static __always_inline void add_said(struct place *p)
{
	struct access_event *e = &p->access;
	const char *said = p->said;
	long len = 0;

	e->detail = p->detail;
	if (p->answer.why & ACCESS_OTHER_NAME)
		said = p->path.path;
	else if (p->detail & DETAIL_TOLD && (p->op == OP_READ || p->op == OP_WRITE))
		said = opened_name();
	if (said)
		len = bpf_probe_read_kernel_str(&e->path[e->path_len & (PATH_BYTES - 1)], PATH_BYTES, said);
	e->said_len = len > 0 ? len - 1 : 0;
}

static __always_inline void tell_path(struct place *p)
{
	__u32 which = OWN;

	if (p->answer.why & ACCESS_OTHER_NAME) {
		which = NAME;
		p->access.path_len = p->name_len[NAME];
		p->access.path_facts = 0;
	}
	which = forgotten(which) & (NAMES - 1);
	__builtin_memcpy(p->access.path, p->names[which].path, PATH_BYTES);
	__builtin_memset(p->access.address, 0, sizeof(p->access.address));
	p->access.value = 0;
	add_said(p);
	tell_access(p->number);
}

static __always_inline void tell_fact(struct place *p)
{
	__builtin_memcpy(p->access.address, p->fact.address, sizeof(p->access.address));
	p->access.value = p->fact.value;
	p->access.path_facts = 0;
	p->access.detail = p->detail;
	if (p->op != OP_DNS_QUERY) {	/* whose message stands there */
		p->access.path_len = 0;
		p->access.said_len = 0;
	}
	tell_access(p->number);
}

/* What checks return: an enum verdict, or one of these. */
#define VERDICT_KILL 4		/* denied, and the process ends */
#define VERDICT_UNPROVEN 5	/* there was no place for the question, or another one stands in it by now */
#define VERDICT_BITS 7
#define VERDICT_KNOWN 8		/* a bit beside: an inode may remember that it is allowed */

static __always_inline int verdict_of(struct answer *a)
{
	return a->kill ? VERDICT_KILL : a->verdict;
}

/* Where nothing can be proven, nothing is let through that may be denied. */
static __always_inline bool is_denied(int verdict, struct subject *s)
{
	if ((verdict & VERDICT_BITS) == VERDICT_UNPROVEN)
		return s->unproven;
	return (verdict & VERDICT_BITS) >= VERDICT_DENY;
}

/* What the hook returns; not of cgroup programs, which send no signals. The barrier forbids arithmetic that hides the two values from the verifier. */
static __always_inline int result(int verdict, struct subject *s)
{
	int err = -EPERM;

	if (!is_denied(verdict, s))
		return 0;
	if ((verdict & VERDICT_BITS) == VERDICT_KILL)
		bpf_send_signal(SIGKILL);
	barrier_var(err);
	return err;
}
