//! The program that stands between our own and the sandboxed one.
//!
//! While a process executes a file, `/proc/self/exe` still names the file it ran before. An image whose shell begins
//! with `#!/proc/self/exe` could so get hold of our binary and change it (CVE-2019-5736). Therefore the child first
//! executes this program of some 400 bytes, kept in a sealed memfd, and that one executes the command.
//!
//! Where the command is not to be the first process of its namespace, a few more bytes come first: [`init`].
//!
//! Its arguments are candidates for the program's path, an empty string, then the command's own arguments. Descriptor 3
//! is a pipe: closed by a successful execution, else it gets eight bytes, `u32::MAX` and the errno. Like execvp(3) it
//! goes on to the next candidate when a path does not exist, and remembers that one may not be executed. A file that is
//! "busy" is tried again for some 200 ms: a process forked elsewhere may hold a descriptor from when it was written.
//!
//! Source: elf(5), execve(2); the calling conventions of syscall(2).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, SealFlags};

mod init;

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    r#"
    .pushsection .rodata.rb_trampoline, "a", @progbits
    .hidden rb_trampoline_start
    .hidden rb_trampoline_end
    .globl rb_trampoline_start
    .globl rb_trampoline_end
rb_trampoline_start:
    mov edi, 3                      /* fcntl(3, F_SETFD, FD_CLOEXEC) */
    mov esi, 2
    mov edx, 1
    mov eax, 72
    syscall
    mov rbx, [rsp]                  /* argc */
    lea r12, [rsp + 8]              /* argv: the candidates */
    lea r14, [r12 + rbx * 8 + 8]    /* environment */
    mov r15d, 2                     /* ENOENT, unless something says more */
    mov ebp, 40                     /* how often to wait for a busy file */
    mov r13, r12
20: mov rax, [r13]                  /* r13: behind the empty string */
    test rax, rax
    jz 50f
    add r13, 8
    cmp byte ptr [rax], 0
    jne 20b
30: mov rdi, [r12]                  /* next candidate */
    cmp byte ptr [rdi], 0
    je 50f
    mov rsi, r13
    mov rdx, r14
    mov eax, 59                     /* execve */
    syscall
    neg eax
    cmp eax, 26                     /* ETXTBSY */
    jne 40f
    dec ebp
    jz 40f
    mov qword ptr [rsp - 16], 0     /* nanosleep: 5 ms */
    mov qword ptr [rsp - 8], 5000000
    lea rdi, [rsp - 16]
    xor esi, esi
    mov eax, 35
    syscall
    jmp 30b
40: add r12, 8
    cmp eax, 2                      /* ENOENT */
    je 30b
    cmp eax, 20                     /* ENOTDIR */
    je 30b
    mov r15d, eax
    cmp eax, 13                     /* EACCES */
    je 30b
50: mov dword ptr [rsp - 16], -1
    mov dword ptr [rsp - 12], r15d
    mov edi, 3
    lea rsi, [rsp - 16]
    mov edx, 8
    mov eax, 1                      /* write */
    syscall
    mov edi, 127
    mov eax, 231                    /* exit_group */
    syscall
    ud2
rb_trampoline_end:
    .popsection
"#
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    r#"
    .pushsection .rodata.rb_trampoline, "a", @progbits
    .hidden rb_trampoline_start
    .hidden rb_trampoline_end
    .globl rb_trampoline_start
    .globl rb_trampoline_end
    .balign 4
rb_trampoline_start:
    mov x0, #3                      // fcntl(3, F_SETFD, FD_CLOEXEC)
    mov x1, #2
    mov x2, #1
    mov x8, #25
    svc #0
    ldr x19, [sp]                   // argc
    add x20, sp, #8                 // argv: the candidates
    add x22, x20, x19, lsl #3
    add x22, x22, #8                // environment
    mov w23, #2                     // ENOENT, unless something says more
    mov w24, #40                    // how often to wait for a busy file
    mov x21, x20
20: ldr x0, [x21], #8               // x21: behind the empty string
    cbz x0, 50f
    ldrb w1, [x0]
    cbnz w1, 20b
30: ldr x0, [x20], #8               // next candidate
    ldrb w1, [x0]
    cbz w1, 50f
    mov x1, x21
    mov x2, x22
    mov x8, #221                    // execve
    svc #0
    neg w0, w0
    cmp w0, #26                     // ETXTBSY
    b.ne 40f
    subs w24, w24, #1
    b.eq 40f
    sub x20, x20, #8
    movz x0, #0x4b40                // nanosleep: 5 ms
    movk x0, #0x4c, lsl #16
    stp xzr, x0, [sp, #-16]!
    mov x0, sp
    mov x1, #0
    mov x8, #101
    svc #0
    add sp, sp, #16
    b 30b
40: cmp w0, #2                      // ENOENT
    b.eq 30b
    cmp w0, #20                     // ENOTDIR
    b.eq 30b
    mov w23, w0
    cmp w0, #13                     // EACCES
    b.eq 30b
50: sub sp, sp, #16
    mov w0, #-1
    str w0, [sp]
    str w23, [sp, #4]
    mov x0, #3
    mov x1, sp
    mov x2, #8
    mov x8, #64                     // write
    svc #0
    mov x0, #127
    mov x8, #94                     // exit_group
    svc #0
    brk #0
rb_trampoline_end:
    .popsection
"#
);

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the sandbox needs its trampoline and seccomp table for this machine");

unsafe extern "C" {
    static rb_trampoline_start: u8;
    static rb_trampoline_end: u8;
}

/// `e_machine` of this machine.
const MACHINE: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
const HEADERS: usize = 64 + 2 * 56;
const BASE: u64 = 0x40_0000;

fn code() -> &'static [u8] {
    let start = &raw const rb_trampoline_start;
    let end = &raw const rb_trampoline_end;
    // SAFETY: both labels stand in one section of this binary, in this order, with constant bytes between (ld(1)).
    unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

/// Which process the command is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// This one.
    Command,
    /// A child of this one, which ends what it leaves behind.
    Init,
}

/// Returns the whole ELF file: a header, one executable segment, a stack that is not executable, the code.
fn elf(start: Start) -> Vec<u8> {
    let code = match start {
        Start::Command => code().to_vec(),
        Start::Init => [init::code(), code()].concat(),
    };
    let size = (HEADERS + code.len()) as u64;
    let mut file = Vec::with_capacity(HEADERS + code.len());
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64 bits, little endian
    for half in [2, MACHINE] {
        file.extend_from_slice(&half.to_le_bytes()); // ET_EXEC
    }
    file.extend_from_slice(&1u32.to_le_bytes());
    for word in [BASE + HEADERS as u64, 64, 0] {
        file.extend_from_slice(&word.to_le_bytes()); // entry, program headers, no sections
    }
    file.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 2, 64, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    for (kind, flags, words) in [
        (1u32, 5u32, [0, BASE, BASE, size, size, 0x1000]), // PT_LOAD, readable and executable
        (0x6474_e551, 6, [0, 0, 0, 0, 0, 16]),             // PT_GNU_STACK, readable and writable
    ] {
        file.extend_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&flags.to_le_bytes());
        for word in words {
            file.extend_from_slice(&word.to_le_bytes());
        }
    }
    file.extend_from_slice(&code);
    file
}

/// Returns the sealed memfd with the program; made at the first call, kept for the life of this process.
pub(crate) fn file(start: Start) -> io::Result<&'static OwnedFd> {
    static FILES: [OnceLock<OwnedFd>; 2] = [OnceLock::new(), OnceLock::new()];
    let [command, init] = &FILES;
    let file = match start {
        Start::Command => command,
        Start::Init => init,
    };
    if let Some(file) = file.get() {
        return Ok(file);
    }
    let made = make(start)?;
    Ok(file.get_or_init(|| made))
}

fn make(start: Start) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match rustix::fs::memfd_create("rb-start", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every memfd is executable and the flag unknown.
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create("rb-start", flags)?,
        other => other?,
    };
    let elf = elf(start);
    let mut rest = elf.as_slice();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o555))?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn is_small_and_sealed() {
        for (start, most) in [(Start::Command, 512), (Start::Init, 1024)] {
            let file = file(start).unwrap();
            assert!(elf(start).len() < most, "{}", elf(start).len());
            assert_eq!(rustix::io::write(file, b"x"), Err(rustix::io::Errno::PERM));
        }
    }

    #[test]
    fn executes_the_first_candidate_that_exists() {
        let path = format!("/proc/{}/fd/{}", std::process::id(), file(Start::Command).unwrap().as_raw_fd());
        let mut command = Command::new("/bin/bash");
        command.args([
            "-c",
            "exec 3>&1; exec -a /nonexistent/echo \"$0\" /bin/sh/echo /bin/echo '' NAME one two",
        ]);
        let output = command.arg(&path).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "one two\n");
    }

    #[test]
    fn reports_the_reason_on_descriptor_three() {
        let path = format!("/proc/{}/fd/{}", std::process::id(), file(Start::Command).unwrap().as_raw_fd());
        for (candidate, errno) in [("/nonexistent", 2), ("/etc/passwd", 13)] {
            let mut command = Command::new("/bin/bash");
            command.args(["-c", "exec 3>&1; exec -a \"$1\" \"$0\" '' name"]);
            let output = command.arg(&path).arg(candidate).output().unwrap();
            assert_eq!(output.status.code(), Some(127));
            assert_eq!(output.stdout, [255, 255, 255, 255, errno, 0, 0, 0], "{candidate}");
        }
    }
}
