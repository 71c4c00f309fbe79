//! `rb`: builds images and artifacts from a Buildfile.
//!
//! argv → [`args`] (what was typed) → [`settings`] (what it means beside the [`environment`]) → [`commands`] (what to do)
//! → [`report`] (text and exit code). Only this crate prints, reads the environment, and knows both the compiler and the
//! runtime.

mod args;
mod codes;
mod commands;
mod complete;
mod env_file;
mod environment;
mod habits;
mod help;
mod helpers;
mod launcher;
mod output_spec;
mod progress;
mod prompt;
mod reference;
mod report;
mod session;
mod settings;
mod signals;
mod sizes;
mod world;

use std::process::ExitCode;

/// The one of musl, which the static binary would have, takes one lock for all threads. glibc's is as quick as this, and smaller.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(commands::main())
}
