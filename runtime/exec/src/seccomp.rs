//! The filter of system calls: a program of the kernel's classic BPF for every ABI of this machine.
//!
//! In: the allow-list of [`table`] and the few conditional calls below. Out: one [`Filter`], made once. An ABI is told
//! by the audit architecture (and the x32 bit); within it a binary search over the call's number ends in a verdict.
//! Calls outside the list get EPERM, as with Docker; calls newer than the list get ENOSYS, so that programs fall back;
//! so does clone3, whose flags a filter cannot see. An ABI that is not ours gets ENOSYS for everything.
//!
//! **Invariant:** no path through the program allows a call that is neither in the list nor passes its condition.
//! Source: moby/profiles seccomp/default.json (facts); seccomp(2); linux/filter.h, linux/audit.h.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rb_sys::seccomp::{Filter, Instruction};

mod profile;
mod table;

pub(crate) use profile::profile;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

const RETURN_ALLOW: u32 = 0x7fff_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets in `struct seccomp_data` (little endian).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENT_LOW: u32 = 16;
const ARGUMENT_HIGH: u32 = 20;

/// One way to call the kernel.
#[derive(Clone, Copy, Debug)]
struct Abi {
    /// `AUDIT_ARCH_…`.
    architecture: u32,
    /// Column of the table.
    column: usize,
    /// Added to the numbers: the x32 bit.
    offset: u32,
}

const X32_BIT: u32 = 0x4000_0000;

/// In the order they are told apart: x32 has the architecture of x86_64 and higher numbers.
#[cfg(target_arch = "x86_64")]
const ABIS: &[Abi] = &[
    Abi { architecture: 0xc000_003e, column: 0, offset: 0 },
    Abi { architecture: 0xc000_003e, column: 2, offset: X32_BIT },
    Abi { architecture: 0x4000_0003, column: 1, offset: 0 },
];
#[cfg(not(target_arch = "x86_64"))]
const ABIS: &[Abi] = &[Abi { architecture: 0xc000_00b7, column: 3, offset: 0 }];

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Refuse(u32),
    /// Allowed if the first argument has none of these bits.
    WithoutBits(u32),
    /// Allowed if the first argument is in one of these ranges (both ends included).
    OneOf(&'static [(u32, u32)]),
}

/// `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID`, `NEWNET`.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;

/// Linux, Linux with a 32-bit look, without address randomisation in neither nor both, and the question what it is.
const PERSONALITIES: &[(u32, u32)] = &[(0, 0), (8, 8), (0x2_0000, 0x2_0000), (0x2_0008, 0x2_0008), (!0, !0)];

/// All families but DECnet (12), ATM (19, 20), IrDA (23), WAN pipe (25), IUCV (34), CAIF (37), the kernel's
/// cryptography (38) and virtual machine sockets (40).
const SOCKET_FAMILIES: &[(u32, u32)] =
    &[(0, 11), (13, 18), (21, 22), (24, 24), (26, 33), (35, 36), (39, 39), (41, 45)];

const CONDITIONAL: &[(table::Row, Verdict)] = &[
    (("clone", [56, 120, 56, 220]), Verdict::WithoutBits(CLONE_NAMESPACES)),
    (("clone3", [435, 435, 435, 435]), Verdict::Refuse(ENOSYS)),
    (("personality", [135, 136, 135, 92]), Verdict::OneOf(PERSONALITIES)),
    (("socket", [41, 359, 41, 198]), Verdict::OneOf(SOCKET_FAMILIES)),
];

/// What a command may ask of itself alone where it sees the processes of others: the kernel lets it limit those of its user, and
/// neither Landlock nor the capabilities stand in its way.
const OF_ITSELF: &[(table::Row, Verdict)] =
    &[(("prlimit64", [302, 340, 302, 261]), Verdict::OneOf(&[(0, 0)]))];

/// Returns the filter for everything but insecure runs. Made at the first call.
pub(crate) fn filter() -> Filter {
    static FILTER: OnceLock<Filter> = OnceLock::new();
    FILTER
        .get_or_init(|| Filter::new(compile(ABIS, &[])).expect("the table is fixed and its program short"))
        .clone()
}

/// Returns the filter for a command that is not alone among processes.
pub(crate) fn filter_beside_others() -> Filter {
    Filter::new(compile(ABIS, OF_ITSELF)).expect("the table is fixed and its program short")
}

/// Makes the program; what `narrower` says of a call counts before the table.
fn compile(abis: &[Abi], narrower: &[(table::Row, Verdict)]) -> Vec<Instruction> {
    let mut program = vec![statement(LOAD, ARCHITECTURE)];
    let mut rest = abis;
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|abi| abi.architecture == first.architecture).count();
        let (group, others) = rest.split_at(same);
        let mut runs = Vec::new();
        for abi in group {
            append_runs(&mut runs, *abi, narrower);
        }
        let mut block = vec![statement(LOAD, NUMBER)];
        block.extend(search(&runs));
        program.push(branch(JUMP_EQUAL, first.architecture, 1, 0));
        program.push(statement(JUMP, block.len() as u32));
        program.extend(block);
        rest = others;
    }
    program.push(statement(RETURN, RETURN_ERRNO | ENOSYS));
    program
}

/// Appends the runs of equal verdicts of one ABI: (first number, verdict), ascending.
fn append_runs(runs: &mut Vec<(u32, Verdict)>, abi: Abi, narrower: &[(table::Row, Verdict)]) {
    let mut verdicts = BTreeMap::new();
    let allowed = table::ALLOWED.iter().map(|row| (row, Verdict::Allow));
    let conditional = CONDITIONAL.iter().chain(narrower).map(|(row, verdict)| (row, *verdict));
    for ((_, numbers), verdict) in allowed.chain(conditional) {
        if let Some(number) = numbers.get(abi.column).and_then(|number| u32::try_from(*number).ok()) {
            verdicts.insert(number, verdict);
        }
    }
    let mut append = |number: u32, verdict: Verdict| {
        if runs.last().is_none_or(|(_, last)| *last != verdict) {
            runs.push((number + abi.offset, verdict));
        }
    };
    for number in 0..=table::LAST_KNOWN {
        append(number, verdicts.get(&number).copied().unwrap_or(Verdict::Refuse(EPERM)));
    }
    append(table::LAST_KNOWN + 1, Verdict::Refuse(ENOSYS));
    // x32 has calls of its own from 512 on, where its 64-bit twins differ.
    for (number, verdict) in verdicts.range(table::LAST_KNOWN + 1..) {
        append(*number, *verdict);
        if !verdicts.contains_key(&(number + 1)) {
            append(number + 1, Verdict::Refuse(ENOSYS));
        }
    }
}

/// Emits a binary search over ascending runs; the number is in the accumulator.
fn search(runs: &[(u32, Verdict)]) -> Vec<Instruction> {
    match runs {
        [] => vec![statement(RETURN, RETURN_ERRNO | ENOSYS)],
        [(_, verdict)] => leaf(*verdict),
        _ => {
            let (low, high) = runs.split_at(runs.len() / 2);
            let pivot = high.first().map_or(0, |(number, _)| *number);
            let (low, high) = (search(low), search(high));
            // A conditional jump reaches 255 instructions; a plain one reaches all.
            let mut program = match u8::try_from(low.len()) {
                Ok(skip) => vec![branch(JUMP_GREATER_EQUAL, pivot, skip, 0)],
                Err(_) => {
                    vec![branch(JUMP_GREATER_EQUAL, pivot, 0, 1), statement(JUMP, low.len() as u32)]
                }
            };
            program.extend(low);
            program.extend(high);
            program
        }
    }
}

fn leaf(verdict: Verdict) -> Vec<Instruction> {
    let allow = statement(RETURN, RETURN_ALLOW);
    let refuse = statement(RETURN, RETURN_ERRNO | EPERM);
    match verdict {
        Verdict::Allow => vec![allow],
        Verdict::Refuse(errno) => vec![statement(RETURN, RETURN_ERRNO | errno)],
        Verdict::WithoutBits(bits) => vec![
            statement(LOAD, ARGUMENT_LOW),
            statement(AND, bits),
            branch(JUMP_EQUAL, 0, 0, 1),
            allow,
            refuse,
        ],
        Verdict::OneOf(ranges) => {
            let mut program = vec![
                statement(LOAD, ARGUMENT_HIGH),
                branch(JUMP_EQUAL, 0, 1, 0),
                refuse,
                statement(LOAD, ARGUMENT_LOW),
            ];
            for (first, last) in ranges {
                // Below `first`: next range. From `last` + 1 on: next range. Between: allowed.
                match last.checked_add(1) {
                    Some(above) => {
                        program.push(branch(JUMP_GREATER_EQUAL, *first, 0, 2));
                        program.push(branch(JUMP_GREATER_EQUAL, above, 1, 0));
                    }
                    None => program.push(branch(JUMP_GREATER_EQUAL, *first, 0, 1)),
                }
                program.push(allow);
            }
            program.push(refuse);
            program
        }
    }
}

const fn statement(code: u16, value: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, value }
}

const fn branch(code: u16, value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, value }
}

#[cfg(test)]
mod tests;
