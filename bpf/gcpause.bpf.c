/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

/*
 * Reports the pauses in which a Go runtime stops all of its goroutines, for the garbage collector or
 * for another reason.
 *
 * Hooks, all uprobes on functions of package runtime: begin and RET of startTheWorldWithSema, which
 * is told when the stop began and returns when it ended, by the runtime's own clock readings; before
 * Go 1.22 also the begin of stopTheWorldWithSema. No field of the runtime is read. Nothing is decided
 * here.
 */

#include "kernel.h"
#include "event.h"
#include "emit.h"
#include "workload.h"
#include "uprobe.h"
#include "go.h"

/* The runtime's stwReason; the same numbers in Go 1.21 to 1.27. */
#define REASON_MARK_TERMINATION 1
#define REASON_SWEEP_TERMINATION 2

struct pause_event {
	struct event_header header;
	__u64 total_ns;		/* from the request to stop until the world runs again */
	__u64 stopping_ns;	/* until all stood still, 0: not known */
	__u8 reason;		/* stwReason, 0: not known */
	__u8 gc;
	__u8 reserved[6];
};

struct pause_state {
	__u64 begin_ns;
	__u64 stopped_ns;	/* 0: not known */
	__u8 reason;
	__u8 our_clock;		/* begin_ns is the kernel's reading */
	__u8 reserved[6];
};

/*
 * Key: tgid; the runtime's worldsema lets only one pause of a process be under way. Written by the
 * begin probes, removed at the end and by the agent when the process has exited.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);	/* Go processes that stand still at one time */
	__type(key, __u32);
	__type(value, struct pause_state);
} pauses_active SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
	__type(value, struct pause_event);
} events SEC(".maps");

static __always_inline int pause_begin(struct pause_state *state)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct subject subject;

	if (!current_subject(&subject))
		return 0;
	if (bpf_map_update_elem(&pauses_active, &tgid, state, BPF_ANY))
		count_lost(FAULT_IN_FLIGHT_FULL);
	return 0;
}

/*
 * func startTheWorldWithSema(now int64, w worldStop) int64, since Go 1.23: worldStop is
 * {reason, startedStopping, finishedStopping, stoppingCPUTime}.
 */
SEC("uprobe/start")
int gcpause_start(struct pt_regs *ctx)
{
	struct pause_state state = {
		.reason = GO_ARG1(ctx), .begin_ns = GO_ARG2(ctx), .stopped_ns = GO_ARG3(ctx),
	};

	KEEP_TASK_STACK(ctx);
	return pause_begin(&state);
}

/* The same in Go 1.22, where worldStop is {reason, start}. */
SEC("uprobe/start_122")
int gcpause_start_122(struct pt_regs *ctx)
{
	struct pause_state state = { .reason = GO_ARG1(ctx), .begin_ns = GO_ARG2(ctx) };

	KEEP_TASK_STACK(ctx);
	return pause_begin(&state);
}

/* func stopTheWorldWithSema(reason stwReason), Go 1.21 */
SEC("uprobe/stop_121")
int gcpause_stop_121(struct pt_regs *ctx)
{
	struct pause_state state = {
		.reason = GO_ARG0(ctx), .begin_ns = bpf_ktime_get_ns(), .our_clock = 1,
	};

	KEEP_TASK_STACK(ctx);
	return pause_begin(&state);
}

/* func stopTheWorldWithSema(), Go 1.20 */
SEC("uprobe/stop_120")
int gcpause_stop_120(struct pt_regs *ctx)
{
	struct pause_state state = { .begin_ns = bpf_ktime_get_ns(), .our_clock = 1 };

	KEEP_TASK_STACK(ctx);
	return pause_begin(&state);
}

static __always_inline void report(struct subject *subject, struct pause_state *state, __u64 end)
{
	struct pause_event *e;

	if (end < state->begin_ns) {
		count_lost(FAULT_READ);
		return;
	}
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_lost(EVENT_PAUSE);
		return;
	}
	*e = (struct pause_event){
		.total_ns = end - state->begin_ns, .reason = state->reason,
		.gc = state->reason == REASON_MARK_TERMINATION ||
		      state->reason == REASON_SWEEP_TERMINATION,
	};
	if (state->stopped_ns >= state->begin_ns)
		e->stopping_ns = state->stopped_ns - state->begin_ns;
	e->header = EVENT_HEADER(EVENT_PAUSE, VERDICT_ALLOW, HOOK_UPROBE, subject, sizeof(*e));
	bpf_ringbuf_submit(e, 0);
}

/* RET of startTheWorldWithSema: the result is when the world ran again. */
SEC("uprobe/end")
int gcpause_end(struct pt_regs *ctx)
{
	__u64 end = GO_ARG0(ctx), now = bpf_ktime_get_ns();
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct pause_state *known, state;
	struct subject subject;

	KEEP_TASK_STACK(ctx);
	if (!current_subject(&subject))
		return 0;
	known = bpf_map_lookup_elem(&pauses_active, &tgid);
	if (!known)
		return 0;	/* begun before we came */
	state = *known;
	bpf_map_delete_elem(&pauses_active, &tgid);
	/* In a time namespace the runtime's clock is not ours. */
	if (state.our_clock && (end < state.begin_ns || end > now))
		end = now;
	report(&subject, &state, end);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
