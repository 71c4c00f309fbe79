//! One module for each kind of source.

mod aside;
mod hostile;
mod layout;
mod local;
mod support;
mod unpack;
