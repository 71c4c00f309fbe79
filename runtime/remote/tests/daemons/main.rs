//! The engine against daemons: one in this process that may lie, and a real buildkitd where `BUILDKIT` names a folder with one.

#![allow(clippy::print_stderr, reason = "a test that steps aside says so")]

mod any_bytes;
mod cache_writer;
mod docker;
mod liar;
mod lying;
mod nodes;
mod nonsense;
mod real;
mod support;
