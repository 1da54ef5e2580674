/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * The one ring buffer, and the counters of what did not go through it. Both maps are made by the
 * agent and shared by all objects (MapReplacements), so that order is the ring's order.
 */

/*
 * Slots of events_lost: below FAULT_PATH_TOO_LONG the slot is the event kind whose record found the
 * ring full; from there on it is what went wrong before there was a record.
 */
enum fault {
	FAULT_PATH_TOO_LONG = 16,	/* longer than PATH_BYTES or deeper than the walk */
	FAULT_READ = 17,		/* a kernel or user read failed */
	FAULT_MAP_FULL = 18,		/* an entry could not be stored */
	FAULT_IN_FLIGHT_FULL = 19,	/* a begin without room, its end is not reported */
	FAULT_PREEMPTED = 20,		/* other tasks had all the room to work in */
	FAULT_WORKLOAD_CHANGED = 21,	/* what is known of a cgroup was another's, or not whole, whenever it was read */
	LOST_SLOTS = 32,
};

/* Key: event kind (ring full) or enum fault. Value: count. Written here, read by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOST_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} events_lost SEC(".maps");

static __always_inline void count_lost(__u32 slot)
{
	__u64 *count = bpf_map_lookup_elem(&events_lost, &slot);

	if (count)
		(*count)++;
}
