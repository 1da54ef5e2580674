/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * Since Linux 6.13 (commit a76ab5731e32) a program of this type has a stack of its own on each CPU, on the
 * assumption that it is never preempted. On uprobes it is (since 6.0, commit 8c7dcb84e3b7), so that two
 * tasks use one stack and the kernel follows what the other one left there. A program with a tail call
 * stays on the task's stack. The array is never filled: the call does nothing.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} no_programs SEC(".maps");

#define KEEP_TASK_STACK(ctx) bpf_tail_call(ctx, &no_programs, 0)
