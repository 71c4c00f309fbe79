//! The same command once more, in the same process: for a cache database that turns out to be damaged in the midst of the
//! work.
//!
//! The store has marked it by then, and whoever opens the state directory next puts it aside and begins with an empty one. So
//! [`super::main`] does the command again instead of asking the user to: once, and unless it did what cannot be done twice.
//! That is a command on the user's machine, a program of `rb run`, what was read from stdin and what goes to stdout. Files are
//! written whole, and the second time the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rb_diag::ErrorKind;
use rb_engine::LocalEngine;
use rb_exec::Outside;

use crate::report::Failure;

/// Something was done that cannot be done twice.
static DONE: AtomicBool = AtomicBool::new(false);

/// The process outside, where the work failed over a damaged database: this one cannot leave another there, since it has
/// entered the runtime.
static OUTSIDE: Mutex<Option<Arc<Outside>>> = Mutex::new(None);

/// To be called before something is done that cannot be done twice.
pub(crate) fn forbid() {
    DONE.store(true, Ordering::Relaxed);
}

/// Notes how work ended.
pub(super) fn note<T>(engine: &LocalEngine, outside: &Arc<Outside>, ended: &Result<T, Failure>) {
    // A command of the user's that failed would fail again.
    let [environment, internal] = [ErrorKind::Environment, ErrorKind::Internal].map(ErrorKind::exit_code);
    let may_be = ended.as_ref().is_err_and(|failure| [environment, internal].contains(&failure.exit_code()));
    if may_be && !DONE.load(Ordering::Relaxed) && engine.store().is_damaged() {
        *lock() = Some(Arc::clone(outside));
    }
}

/// Says whether the command that just failed is to be done again.
pub(super) fn is_wanted() -> bool {
    lock().is_some()
}

/// Takes the process outside that was kept for the second time.
pub(super) fn kept_outside() -> Option<Arc<Outside>> {
    lock().take()
}

fn lock() -> MutexGuard<'static, Option<Arc<Outside>>> {
    // Each change is a single step.
    OUTSIDE.lock().unwrap_or_else(PoisonError::into_inner)
}
