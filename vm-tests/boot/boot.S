/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The two ends of the loader that C cannot express: the Multiboot entry
 * (32-bit protected mode, no paging, no stack) and the step into 64-bit mode
 * with the stack that sys/amd64/amd64/locore.S reads its two arguments from.
 */

#define MB_MAGIC	0x1badb002
#define MB_FLAGS	0x00000003	/* modules on page boundaries; memory map */

#define CR0_PG		0x80000000
#define CR4_PAE		0x00000020
#define MSR_EFER	0xc0000080
#define EFER_LME	0x00000100

#define SEL_CODE64	0x08		/* the only descriptor of gdt below */

	.section .multiboot, "a"	/* loader.lds puts it in the first 8 KB */
	.balign	4
	.long	MB_MAGIC, MB_FLAGS, -(MB_MAGIC + MB_FLAGS)

	.text
	.code32
	.globl	_start
_start:
	cli
	cld
	movl	$stack_top, %esp
	pushl	$0			/* ends a debugger's backtrace, */
	movl	%esp, %ebp		/* and keeps the stack 16-byte aligned: */
	pushl	$0			/* 0, 0, info, magic */
	pushl	%ebx			/* struct mb_info * */
	pushl	%eax			/* the boot loader's magic */
	call	loader_main		/* does not return */

/*
 * void enter_kernel(uint32_t cr3, uint32_t modulep, uint32_t kernend,
 *     uint64_t entry) __attribute__((noreturn));
 */
	.globl	enter_kernel
enter_kernel:
	movl	4(%esp), %eax
	movl	%eax, %cr3
	movl	8(%esp), %esi		/* modulep */
	movl	12(%esp), %edi		/* kernend */
	leal	16(%esp), %ebx		/* where the entry address is */

	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_LME, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$CR0_PG, %eax		/* long mode is active from here on, */
	movl	%eax, %cr0
	lgdt	gdt_pointer		/* in its 32-bit compatibility mode */
	ljmp	$SEL_CODE64, $1f

	.code64
1:	xorl	%eax, %eax		/* data segments mean nothing any more */
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%ebx, %ebx		/* clear the upper halves, which a mode */
	movq	(%rbx), %rax		/* switch leaves undefined */
	movl	$stack_top - 16, %esp
	movl	$0, (%rsp)		/* a return address nobody may use */
	movl	%esi, 4(%rsp)
	movl	%edi, 8(%rsp)
	jmp	*%rax

	.section .rodata
	.balign	8
gdt:
	.quad	0
	.quad	0x00209a0000000000	/* 64-bit code, present, ring 0 */
gdt_pointer:
	.word	. - gdt - 1
	.long	gdt

	.bss
	.balign	16
	.space	16384
stack_top:

	.section .note.GNU-stack, "", @progbits
