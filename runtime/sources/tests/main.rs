//! The sources crate from outside: folders of users, layouts and layers of strangers.

#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside of test functions")]

mod suite;
