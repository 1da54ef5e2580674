/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/* The begin of what is being sent, where the program that sends has it. The kernel has not copied it yet. */

#define MESSAGE_BYTES 288	/* that are read: more than a header of DNS and the longest question */
#define MESSAGE_PIECES 8	/* in so many it may lie */

/* The pieces of what is sent. */
struct pieces {
	const struct iovec *of;	/* NULL: there is one, at */
	void *at;
	__u64 count;
};

/* false: the kernel itself sends, or what is sent is not at an address of user space. */
static __always_inline bool find_pieces(struct iov_iter *iter, struct pieces *pieces)
{
	struct iov_iter___before_14 *before_14 = (void *)iter;
	struct iov_iter___before_4 *before_4 = (void *)iter;

	if (bpf_core_enum_value_exists(enum iter_type, ITER_UBUF) &&
	    BPF_CORE_READ(iter, iter_type) == bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
		pieces->at = BPF_CORE_READ(iter, ubuf);
		pieces->count = 1;
		return true;
	}
	if (bpf_core_field_exists(iter->iter_type)) {
		if (BPF_CORE_READ(iter, iter_type) != bpf_core_enum_value(enum iter_type, ITER_IOVEC))
			return false;
	} else if (!(BPF_CORE_READ(before_14, type) & bpf_core_enum_value(enum iter_type, ITER_IOVEC))) {
		return false;
	}
	if (bpf_core_field_exists(iter->__iov))
		pieces->of = BPF_CORE_READ(iter, __iov);
	else
		pieces->of = BPF_CORE_READ(before_4, iov);
	pieces->count = BPF_CORE_READ(iter, nr_segs);
	return true;
}

/* Writes the begin of a message of some bytes to place->access.path, with zeroes behind it, and returns how much that is. */
static __always_inline __u32 read_message(struct place *p, struct iov_iter *iter, __u64 bytes)
{
	struct pieces pieces = {};
	__u64 skip, more;
	__u32 have = 0;

	__builtin_memset(p->access.path, 0, MESSAGE_BYTES);
	if (!find_pieces(iter, &pieces))
		return 0;
	skip = BPF_CORE_READ(iter, iov_offset);
	more = bytes < MESSAGE_BYTES ? bytes : MESSAGE_BYTES;
	ROLLED for (__u32 i = 0; i < MESSAGE_PIECES; i++) {
		struct iovec piece = { .iov_base = pieces.at, .iov_len = skip + bytes };
		__u64 n;

		if (i >= pieces.count || !more)
			break;
		if (pieces.of && bpf_probe_read_kernel(&piece, sizeof(piece), &pieces.of[i]))
			break;
		n = piece.iov_len > skip ? piece.iov_len - skip : 0;
		if (n > more)
			n = more;
		barrier_var(n);
		n &= 2 * PATH_BYTES - 1;
		barrier_var(have);
		have &= 2 * PATH_BYTES - 1;
		if (bpf_probe_read_user(&p->access.path[have], n, piece.iov_base + skip)) {
			count_lost(FAULT_READ);
			break;
		}
		have += n;
		more -= n;
		skip = 0;
	}
	return have;
}
