//! The real `rb`, from the command line to the disk. One binary; a module per thing that users must see.

#![allow(clippy::print_stderr, reason = "a test says why it steps aside")]

mod cache;
mod cancel;
mod effects;
mod env;
mod given;
mod hello;
mod images;
mod language;
mod mistakes;
mod outputs;
mod places;
mod reading;
mod strangers;
mod users;
