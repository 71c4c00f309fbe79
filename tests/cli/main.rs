//! The real `rb`, from the command line to the disk. One binary; a module per thing that users must see.

#![allow(clippy::print_stderr, reason = "a test says why it steps aside")]

mod cache;
mod cancel;
mod damage;
mod effects;
mod env;
mod equality;
mod exporters;
mod faults;
mod given;
mod hello;
mod images;
mod language;
mod login;
mod mistakes;
mod outputs;
mod places;
mod power;
mod push;
mod reading;
mod records;
mod registry;
mod run;
mod status;
mod strangers;
mod users;
