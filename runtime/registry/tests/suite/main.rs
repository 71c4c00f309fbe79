//! The registry client against registries that are wrong, hostile, slow or broken, and against a real one.

#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside of test functions")]

mod auth;
mod buckets;
mod client;
mod hostile;
mod images;
mod lists;
#[path = "../support/objects.rs"]
#[allow(dead_code, reason = "tests of others use the rest")]
mod objects;
mod pull;
mod push;
mod real;
mod resume;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "tests of others use the rest")]
mod support;
mod web;
