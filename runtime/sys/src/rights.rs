//! What the user may do, who is root in a user namespace of their own.
//!
//! To that root the modes of the user's own files mean nothing, while to the user they do: a folder that was made
//! read-only is to stay as it is. What is done to the user's files can be done here with the rights of before.
//! Source: capabilities(7), `CAP_DAC_OVERRIDE`; user_namespaces(7), "Capabilities".

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::caps::{self, Capabilities, number};

/// What root has over modes.
const OVER_MODES: Capabilities = Capabilities::of(&[number::DAC_OVERRIDE, number::DAC_READ_SEARCH]);

/// This process has more rights than the user who runs it.
static BORROWED: AtomicBool = AtomicBool::new(false);

/// An ordinary user enters a namespace of their own.
pub(crate) fn borrow() {
    BORROWED.store(true, Ordering::SeqCst);
}

/// Runs `body` on this thread with no more rights over files than the user has who runs this process.
///
/// # Errors
/// Only if the kernel does not take rights away; then `body` has not run.
pub fn as_user<T>(body: impl FnOnce() -> T) -> io::Result<T> {
    if BORROWED.load(Ordering::SeqCst) { caps::without(OVER_MODES, body) } else { Ok(body()) }
}
