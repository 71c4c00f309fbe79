//! Servers for tests of registries: a real one, a scripted one, and a bad line to either. Other test binaries include
//! the modules by path; they use nothing of this crate.

pub(crate) mod docker_registry;
pub(crate) mod faults;
pub(crate) mod forward;
pub(crate) mod scripted;
