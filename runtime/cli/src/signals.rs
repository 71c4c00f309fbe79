//! Ctrl-C and its kin.
//!
//! The first SIGINT, SIGTERM or SIGHUP cancels: the future of the work is dropped, which ends its processes, and the
//! run ends with 128 + the signal's number. The second ends `rb` at once. A signal that was ignored when `rb` began
//! (nohup, a shell's background job) stays ignored.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that ends the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// SIGINT
    Int,
    /// SIGTERM
    Term,
    /// SIGHUP
    Hup,
}

impl Interrupt {
    const ALL: [Self; 3] = [Self::Int, Self::Term, Self::Hup];

    fn number(self) -> i32 {
        match self {
            Self::Int => 2,
            Self::Term => 15,
            Self::Hup => 1,
        }
    }

    /// Returns the exit code of a run that it ended.
    pub(crate) fn exit_code(self) -> u8 {
        128 + self.number() as u8
    }
}

/// Runs `work` to its end, or drops it at the first signal. Must be called within a tokio runtime.
pub(crate) async fn until_interrupted<T>(
    work: impl Future<Output = T>,
) -> std::io::Result<Result<T, Interrupt>> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let ignored = ignored_signals();
    let mut streams: [Option<Signal>; 3] = [None, None, None];
    for (interrupt, stream) in Interrupt::ALL.into_iter().zip(&mut streams) {
        if ignored & (1 << (interrupt.number() - 1)) != 0 {
            continue;
        }
        // Ends the process from within the handler, but only once `cancelled` is set.
        signal_hook::flag::register_conditional_shutdown(
            interrupt.number(),
            i32::from(interrupt.exit_code()),
            Arc::clone(&cancelled),
        )?;
        *stream = Some(signal(SignalKind::from_raw(interrupt.number()))?);
    }
    let [int, term, hup] = &mut streams;
    let interrupt = tokio::select! {
        done = work => return Ok(Ok(done)),
        () = receive(int) => Interrupt::Int,
        () = receive(term) => Interrupt::Term,
        () = receive(hup) => Interrupt::Hup,
    };
    cancelled.store(true, Ordering::SeqCst);
    Ok(Err(interrupt))
}

async fn receive(stream: &mut Option<Signal>) {
    if let Some(stream) = stream
        && stream.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Returns the mask of signals this process ignores, bit 0 for signal 1. Source: proc_pid_status(5), `SigIgn`.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_shell() {
        assert_eq!(Interrupt::ALL.map(Interrupt::exit_code), [130, 143, 129]);
    }

    #[test]
    fn a_signal_drops_the_work() {
        struct Dropped(Arc<AtomicBool>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let dropped = Arc::new(AtomicBool::new(false));
        let guard = Dropped(Arc::clone(&dropped));
        let work = async move {
            let _guard = guard;
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP)
                .expect("a process may signal itself");
            std::future::pending::<()>().await;
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let ended = runtime.block_on(until_interrupted(work)).expect("handlers can be set");
        assert_eq!(ended, Err(Interrupt::Hup));
        assert!(dropped.load(Ordering::SeqCst));
    }
}
