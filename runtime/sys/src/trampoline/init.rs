//! The first process of a sandbox, for programs that are no good as one.
//!
//! Some 250 bytes that stand before those of the trampoline: they fork, the child goes on into the trampoline, and the
//! parent stays. It ends every orphan it is left with (waitpid(2)), hands each signal on to the child, and ends as the
//! child does: with its code, or 128 and its signal. The child leads a process group of its own, the foreground one of
//! the terminal if there is one, so that a key reaches it once.
//!
//! All signals are blocked and read one by one, but for the two that the C library keeps for itself: by those the exec
//! crate tells a program that has begun from one that has not. They are read from a signalfd(2), since
//! rt_sigtimedwait(2) has a process shown as one that blocks nothing. If the fork fails, that is reported as the
//! trampoline reports.
//!
//! Source: pid_namespaces(7), signalfd(2), wait4(2); tini's README, "Why Tini?" (behaviour).

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    r#"
    .pushsection .rodata.rb_init, "a", @progbits
    .hidden rb_init_start
    .hidden rb_init_end
    .globl rb_init_start
    .globl rb_init_end
rb_init_start:
    mov rax, 0xfffffffe7fffffff     /* all signals but 32 and 33 */
    mov [rsp - 8], rax
    mov edi, 2                      /* rt_sigprocmask(SIG_SETMASK) */
    lea rsi, [rsp - 8]
    xor edx, edx
    mov r10d, 8
    mov eax, 14
    syscall
    mov edi, -1                     /* signalfd4(new, the same signals, SFD_CLOEXEC) */
    lea rsi, [rsp - 8]
    mov edx, 8
    mov r10d, 0x80000
    mov eax, 289
    syscall
    test eax, eax
    js 80f
    mov r13d, eax
    mov eax, 57                     /* fork */
    syscall
    test eax, eax
    jz 90f
    js 80f
    mov r12d, eax                   /* the child */
    sub rsp, 160                    /* one siginfo, and a status behind it */
    mov edi, 3                      /* close: the pipe is the child's */
    mov eax, 3
    syscall
20: mov edi, r13d                   /* read: the next signal */
    mov rsi, rsp
    mov edx, 128
    xor eax, eax
    syscall
    cmp eax, 128
    jne 20b
    mov esi, [rsp]
    cmp esi, 17                     /* SIGCHLD */
    je 30f
    mov edi, r12d                   /* kill(child, signal) */
    mov eax, 62
    syscall
    jmp 20b
30: mov edi, -1                     /* wait4(any, WNOHANG | __WALL) */
    lea rsi, [rsp + 128]
    mov edx, 0x40000001
    xor r10d, r10d
    mov eax, 61
    syscall
    test eax, eax
    jle 20b
    cmp eax, r12d
    jne 30b
    mov edi, [rsp + 128]            /* the child has ended */
    mov eax, edi
    and eax, 0x7f
    jz 40f
    lea edi, [rax + 128]
    jmp 50f
40: shr edi, 8
    and edi, 0xff
50: mov eax, 231                    /* exit_group */
    syscall
    ud2
80: neg eax
    mov dword ptr [rsp - 16], -1
    mov dword ptr [rsp - 12], eax
    mov edi, 3
    lea rsi, [rsp - 16]
    mov edx, 8
    mov eax, 1                      /* write */
    syscall
    mov edi, 127
    jmp 50b
90: xor edi, edi                    /* setpgid(0, 0) */
    xor esi, esi
    mov eax, 109
    syscall
    mov eax, 39                     /* getpid */
    syscall
    mov [rsp - 16], eax
    xor edi, edi                    /* ioctl(0, TIOCSPGRP); no terminal is no error */
    mov esi, 0x5410
    lea rdx, [rsp - 16]
    mov eax, 16
    syscall
    mov qword ptr [rsp - 8], 0      /* no signal is blocked any more */
    mov edi, 2
    lea rsi, [rsp - 8]
    xor edx, edx
    mov r10d, 8
    mov eax, 14
    syscall
rb_init_end:
    .popsection
"#
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    r#"
    .pushsection .rodata.rb_init, "a", @progbits
    .hidden rb_init_start
    .hidden rb_init_end
    .globl rb_init_start
    .globl rb_init_end
    .balign 4
rb_init_start:
    sub sp, sp, #16
    mov x0, #-1                     // all signals but 32 and 33
    movz x1, #0x8000, lsl #16
    movk x1, #0x1, lsl #32
    bic x0, x0, x1
    str x0, [sp]
    mov x0, #2                      // rt_sigprocmask(SIG_SETMASK)
    mov x1, sp
    mov x2, #0
    mov x3, #8
    mov x8, #135
    svc #0
    mov x0, #-1                     // signalfd4(new, the same signals, SFD_CLOEXEC)
    mov x1, sp
    mov x2, #8
    mov x3, #0x80000
    mov x8, #74
    svc #0
    tbnz x0, #63, 80f
    mov x20, x0
    mov x0, #17                     // clone(SIGCHLD)
    mov x1, #0
    mov x2, #0
    mov x3, #0
    mov x4, #0
    mov x8, #220
    svc #0
    cbz x0, 90f
    tbnz x0, #63, 80f
    mov x19, x0                     // the child
    sub sp, sp, #144                // one siginfo, and a status behind it
    mov x0, #3                      // close: the pipe is the child's
    mov x8, #57
    svc #0
20: mov x0, x20                     // read: the next signal
    mov x1, sp
    mov x2, #128
    mov x8, #63
    svc #0
    cmp x0, #128
    b.ne 20b
    ldr w1, [sp]
    cmp w1, #17                     // SIGCHLD
    b.eq 30f
    mov x0, x19                     // kill(child, signal)
    mov x8, #129
    svc #0
    b 20b
30: mov x0, #-1                     // wait4(any, WNOHANG | __WALL)
    add x1, sp, #128
    movz x2, #1
    movk x2, #0x4000, lsl #16
    mov x3, #0
    mov x8, #260
    svc #0
    cmp x0, #0
    b.le 20b
    cmp x0, x19
    b.ne 30b
    ldr w0, [sp, #128]              // the child has ended
    ands w1, w0, #0x7f
    b.eq 40f
    add w0, w1, #128
    b 50f
40: ubfx w0, w0, #8, #8
50: mov x8, #94                     // exit_group
    svc #0
    brk #0
80: neg w1, w0
    mov w0, #-1
    str w0, [sp]
    str w1, [sp, #4]
    mov x0, #3
    mov x1, sp
    mov x2, #8
    mov x8, #64                     // write
    svc #0
    mov x0, #127
    b 50b
90: mov x0, #0                      // setpgid(0, 0)
    mov x1, #0
    mov x8, #154
    svc #0
    mov x8, #172                    // getpid
    svc #0
    str w0, [sp, #8]
    mov x0, #0                      // ioctl(0, TIOCSPGRP); no terminal is no error
    movz x1, #0x5410
    add x2, sp, #8
    mov x8, #29
    svc #0
    str xzr, [sp]                   // no signal is blocked any more
    mov x0, #2
    mov x1, sp
    mov x2, #0
    mov x3, #8
    mov x8, #135
    svc #0
    add sp, sp, #16
rb_init_end:
    .popsection
"#
);

unsafe extern "C" {
    static rb_init_start: u8;
    static rb_init_end: u8;
}

/// Returns what stands before the trampoline's code.
pub(super) fn code() -> &'static [u8] {
    let start = &raw const rb_init_start;
    let end = &raw const rb_init_end;
    // SAFETY: both labels stand in one section of this binary, in this order, with constant bytes between (ld(1)).
    unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}
