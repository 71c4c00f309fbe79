//! Filter programs as data; what they say is the caller's business.
//!
//! Source: seccomp(2), linux/filter.h.

use std::sync::Arc;

/// One instruction of classic BPF (`struct sock_filter`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if a comparison holds.
    pub jump_true: u8,
    /// How many instructions to skip if it does not.
    pub jump_false: u8,
    /// The operand.
    pub value: u32,
}

/// A program, cheap to clone, for [`Step::Seccomp`](crate::child::Step::Seccomp): 1 to 4096 instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Arc<[Instruction]>);

impl Filter {
    /// Takes a program. `None` if the kernel would refuse its length.
    pub fn new(instructions: Vec<Instruction>) -> Option<Self> {
        (1..=4096).contains(&instructions.len()).then(|| Self(instructions.into()))
    }

    /// Returns the program.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }
}
