/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * What fanotify's question is answered by: whether the execution that a task waits with is outside of its workload's
 * baseline. The agent runs this program (BPF_PROG_RUN, Linux 5.10) and passes the descriptors of the file and of the
 * task's directory below /proc; the decision is the same lookup with the same key as everywhere.
 *
 * It only refuses. What is known, learnt or audited is told by signal_sched_process_exec, which stands behind it, and so
 * is what a rule denies: there the kernel knows what the new program will be called.
 */

#define ANSWER_REFUSED 1
#define ANSWER_NAMED 2		/* the caller of execve named the file, not the kernel for a script or a program */

#define PIDTYPE_PID 0		/* include/linux/pid_types.h */

/* What stands behind one of the agent's descriptors. */
static __always_inline struct file *described_file(__u64 descriptor)
{
	struct task_struct *agent = (void *)bpf_get_current_task();
	struct file **files = BPF_CORE_READ(agent, files, fdt, fd), *file = NULL;

	bpf_probe_read_kernel(&file, sizeof(file), files + descriptor);
	return file;
}

/* Whether its baseline denies now what it does not hold. */
static __always_inline bool is_strict(struct subject *s)
{
	return s->workload.mode == MODE_ENFORCE && is_held(s, OP_EXEC) &&
	       !(s->workload.softened & dimension_bit(OP_EXEC)) && bpf_ktime_get_ns() >= paused_until;
}

/* Whether the baseline, and no rule, denies what stands in a place. */
static __always_inline bool is_refused(struct place *p)
{
	bool ruled = is_ruled(p, rules);

	begin_key(p);
	p->exact = false;
	if (!p->nameless && (bpf_map_lookup_elem(&path_entries, &p->path) || find_path_pattern(p)))
		return false;
	if (!ruled)
		return true;
	p->name_len[OWN] = p->access.path_len;
	ask_rules_path(p->number, OWN, p->op);
	look_at_executed(p);
	obey(p);
	begin_key(p);		/* as in look_at_baseline */
	return !p->answer.rule;
}

/* Describes the execution; the name is what the waiting task asked to open. Returns ANSWER_NAMED or 0. */
static __always_inline int describe_waiting(struct place *p)
{
	struct task_struct *task = p->task;
	struct filename *name = BPF_CORE_READ(task, nameidata, name);

	describe_file(&p->exec, &p->walk, task, p->file);
	describe_name(&p->exec, BPF_CORE_READ(name, name));
	p->exec.uid = BPF_CORE_READ(task, cred, uid.val);
	bpf_core_read_str(p->exec.comm, sizeof(p->exec.comm), &task->comm);
	ask_exec(p);
	return bpf_core_field_exists(name->uptr) && BPF_CORE_READ(name, uptr) ? ANSWER_NAMED : 0;
}

/* Tells what was refused, and counts it. */
static __always_inline int tell_refusal(struct place *p)
{
	decide_unknown(p, &path_entries, &told_paths, &p->path);
	if (p->answer.verdict != VERDICT_DENY)
		return 0;
	if (p->answer.news)
		tell_exec(p);
	return ANSWER_REFUSED;
}

/* tells: whether the answer will be what this returns, so that it is counted and told. Returns ANSWER_*. */
SEC("raw_tp")
int BPF_PROG(fanotify_open_exec, __u64 file, __u64 process, __u64 tells)
{
	struct file *directory = described_file(process);	/* /proc/TID */
	struct task_struct *task = described_task(BPF_CORE_READ(directory, f_inode));
	struct subject subject;
	struct place *p;
	int answer;

	if (!task || !find_subject_at(&subject, task_cgroup_id(task)) || !is_strict(&subject))
		return 0;	/* allow: there is nothing to deny, or the hook behind decides */
	if (subject.workload.flags & MAY_BE_CONTAINER && spares_copy(&subject) && has_mark(task) &&
	    stays_runtime(task, described_file(file)))
		return 0;	/* allow: a runtime's copy of itself */
	p = begin_question(&subject, OP_EXEC, HOOK_FANOTIFY, (__u64)BPF_CORE_READ(task, tgid) << 32 | BPF_CORE_READ(task, pid));
	if (!p)
		return 0;	/* allow: the hook behind decides */
	p->task = task;
	p->file = described_file(file);
	answer = describe_waiting(p);
	if (is_refused(p))
		answer |= tells ? tell_refusal(p) : ANSWER_REFUSED;
	leave_place(p);
	return answer;
}
