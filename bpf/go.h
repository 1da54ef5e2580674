/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * Go's calling convention (ABIInternal, since Go 1.17 on amd64 and 1.18 on arm64): where arguments,
 * results and the goroutine are while a Go function begins, and when it returns.
 */

#if defined(__TARGET_ARCH_x86)
#define GO_ARG0(ctx) ((ctx)->rax)	/* results too */
#define GO_ARG1(ctx) ((ctx)->rbx)
#define GO_ARG2(ctx) ((ctx)->rcx)
#define GO_ARG3(ctx) ((ctx)->rdi)
#define GO_ARG_REGISTERS 9
#define GO_GOROUTINE(ctx) ((ctx)->r14)
#define GO_STACK(ctx) ((ctx)->rsp)
#elif defined(__TARGET_ARCH_arm64)
#define GO_ARG0(ctx) ((ctx)->user_regs.regs[0])
#define GO_ARG1(ctx) ((ctx)->user_regs.regs[1])
#define GO_ARG2(ctx) ((ctx)->user_regs.regs[2])
#define GO_ARG3(ctx) ((ctx)->user_regs.regs[3])
#define GO_ARG_REGISTERS 16
#define GO_GOROUTINE(ctx) ((ctx)->user_regs.regs[28])
#define GO_STACK(ctx) ((ctx)->user_regs.sp)
#endif

/* Arguments that do not fit in registers: above the return address or its slot. */
#define GO_STACK_ARGS(ctx) (GO_STACK(ctx) + 8)

/* runtime.g begins with its stack's bounds; the upper one is the second word. */
#define GO_STACK_TOP 8

struct go_slice {
	__u64 first;
	__u64 len;
};
