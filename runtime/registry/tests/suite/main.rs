//! The registry client against registries that are wrong, hostile, slow or broken, and against a real one.

#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside of test functions")]

mod auth;
mod client;
mod hostile;
mod images;
mod lists;
mod pull;
mod push;
mod real;
#[path = "../support/mod.rs"]
mod support;
