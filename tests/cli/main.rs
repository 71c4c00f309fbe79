//! The real `rb`, from the command line to the disk. One binary; a module per thing that users must see.

#![allow(clippy::print_stderr, reason = "a test says why it steps aside")]

mod cache;
mod cancel;
mod env;
mod hello;
mod images;
mod language;
mod mistakes;
mod users;
