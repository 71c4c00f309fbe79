//! The snapshot crate from outside: one suite run on both drivers, and the kernel's overlayfs as the judge.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests; a test says why it steps aside"
)]

mod applying;
mod conformance;
mod continuing;
mod copying;
mod counting;
mod hostile;
mod kernel;
mod linking;
mod many;
mod merging;
mod overlay;
mod sealing;
mod support;
mod uppers;
