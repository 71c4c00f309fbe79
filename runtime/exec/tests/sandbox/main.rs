//! The sandbox on a real kernel. Needs root, and busybox-static at /bin/busybox; tests of user namespaces re-execute the
//! example `sandbox` as another user, those of commands outside the example `outside`.

// Clippy's exceptions for tests do not reach their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod counts;
mod support;

mod chroot;
mod commands;
mod escapes;
mod foreign;
mod hostile;
mod init;
mod isolation;
mod leaks;
mod limits;
mod many;
mod memory;
mod mounts;
mod networks;
mod oci;
mod outside;
mod ports;
mod rootless;
mod sockets;
mod stacks;
mod terminals;
