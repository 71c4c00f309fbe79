//! One module for each kind of source.

mod archives;
mod aside;
mod git;
mod git_bundle;
#[path = "../support/git_host.rs"]
mod git_host;
mod git_hostile;
mod git_signed;
mod git_ssh;
mod hostile;
mod layout;
mod local;
mod signatures;
mod support;
mod unpack;
