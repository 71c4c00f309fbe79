//! Tests of the language on whole files.
#![allow(clippy::unwrap_used)] // in helpers of tests too

mod blocks;
mod corpus;
mod hostile;
mod print;
mod properties;
mod tree;
