//! Safe functions over Linux calls: the one crate with `unsafe` code.
//!
//! For what: a sandbox needs calls that std and rustix do not offer, or offer only as unsafe. In and out: plain values
//! and owned descriptors. **Invariant:** nothing here decides anything; what is mounted where and who may do what is
//! said by the caller (`rb-exec`).
//!
//! * [`child`]: a process made of prepared [steps](child::Step), which makes only system calls until it executes;
//! * [`memory`]: what was freed, given back; [`userns`]: moves this process into a user namespace; [`mount`]: attributes of detached mounts;
//! * [`resolve`]: paths that stay within a directory; [`ranges`]: locks on places of a file;
//! * [`landlock`]: rulesets that a process keeps to; [`rights`]: those of the user who is root in a namespace; [`caps`]: capability sets; [`seccomp`]: filter programs as data; [`process`]: threads, forks, namespaces;
//! * [`netlink`]: questions and changes about networks; [`network`]: sockets for what is not addressed to us.
//!
//! Source: the man pages named beside each block.
#![allow(unsafe_code)]

pub mod caps;
pub mod child;
pub mod landlock;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod network;
pub mod process;
pub mod ranges;
pub mod resolve;
pub mod rights;
pub mod seccomp;
pub mod userns;

mod trampoline;
