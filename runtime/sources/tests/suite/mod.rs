//! One module for each kind of source.

mod layout;
mod local;
mod support;
mod unpack;
