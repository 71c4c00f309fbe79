//! Tests of expressions on whole texts.
#![allow(clippy::unwrap_used)] // in helpers of tests too

mod golden;
mod hostile;
mod laws;
mod scope;
