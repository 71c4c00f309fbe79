//! One binary for all conformance tests, a module per format.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod llb;
