//! Ctrl-C and its kin.
//!
//! The first SIGINT, SIGTERM or SIGHUP cancels: the future of the work is dropped, which ends its processes, and the
//! run ends with 128 + the signal's number. The second ends `rb` at once. While a program of `rb run` has them, signals
//! end nothing here: they are [`Passed`] on, unless somebody [insists](Insistence). A signal that was ignored when `rb`
//! began (nohup, a shell's background job) stays ignored.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::process::Signal as Number;
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

    /// Returns which of those that end a run a signal is.
    pub(crate) fn of(signal: Number) -> Option<Self> {
        Self::ALL.into_iter().find(|interrupt| interrupt.number() == signal.as_raw())
    }

    /// Returns what it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Int => "SIGINT",
            Self::Term => "SIGTERM",
            Self::Hup => "SIGHUP",
        }
    }

    /// Returns the exit code of a run that it ended.
    pub(crate) fn exit_code(self) -> u8 {
        128 + self.number() as u8
    }
}

/// Runs `work` to its end, or calls `heard` and drops it at the first signal. Must be called within a tokio runtime.
pub(crate) async fn until_interrupted<T>(
    work: impl Future<Output = T>,
    heard: impl FnOnce(Interrupt),
) -> std::io::Result<Result<T, Interrupt>> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let ignored = ignored_signals();
    let mut streams: [Option<Signal>; 3] = [None, None, None];
    let mut listened = Vec::new();
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
        listened.push(interrupt.number());
    }
    // Work that computes for long keeps this task from hearing the first one: another one notes it, so that the second counts.
    let armed = Armed(tokio::spawn(note_first(listened, Arc::clone(&cancelled))));
    let [int, term, hup] = &mut streams;
    let interrupt = tokio::select! {
        done = work => {
            drop(armed);
            return Ok(Ok(done));
        }
        () = receive(int) => Interrupt::Int,
        () = receive(term) => Interrupt::Term,
        () = receive(hup) => Interrupt::Hup,
    };
    cancelled.store(true, Ordering::SeqCst);
    heard(interrupt);
    Ok(Err(interrupt))
}

/// A task that ends when nobody waits for it any more.
struct Armed(tokio::task::JoinHandle<()>);

impl Drop for Armed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Notes that one of these signals came.
async fn note_first(numbers: Vec<i32>, cancelled: Arc<AtomicBool>) {
    // One that cannot be heard here is heard by who waits for the work.
    let heard = |number: &i32| signal(SignalKind::from_raw(*number)).ok();
    let mut streams: Vec<Signal> = numbers.iter().filter_map(heard).collect();
    poll_fn(|context| {
        let is_one =
            streams.iter_mut().any(|stream| matches!(stream.poll_recv(context), Poll::Ready(Some(()))));
        if is_one { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    cancelled.store(true, Ordering::SeqCst);
}

async fn receive(stream: &mut Option<Signal>) {
    if let Some(stream) = stream
        && stream.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Signals that are for a program, as they come.
pub(crate) struct Passed {
    ignored: u64,
    streams: Vec<(Number, Signal)>,
}

impl Passed {
    /// Begins to hear those that end a run. What comes is kept until it is asked for. To be called within a tokio runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut passed = Self { ignored: ignored_signals(), streams: Vec::new() };
        passed.add([Number::HUP, Number::INT, Number::TERM])?;
        Ok(passed)
    }

    /// Hears the others too, which do something else to `rb` until a program has them.
    pub(crate) fn listen_to_all(&mut self) -> io::Result<()> {
        self.add([Number::QUIT, Number::USR1, Number::USR2, Number::WINCH])
    }

    fn add<const N: usize>(&mut self, numbers: [Number; N]) -> io::Result<()> {
        for number in numbers {
            if self.ignored & (1 << (number.as_raw() - 1)) == 0 {
                self.streams.push((number, signal(SignalKind::from_raw(number.as_raw()))?));
            }
        }
        Ok(())
    }

    /// Returns the next one.
    pub(crate) async fn next(&mut self) -> Number {
        poll_fn(|context| {
            let mut streams = self.streams.iter_mut();
            let came = streams.find_map(|(number, stream)| {
                matches!(stream.poll_recv(context), Poll::Ready(Some(()))).then_some(*number)
            });
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Hears whether somebody asks for the end again: SIGINT or SIGTERM once more within ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Insistence {
    asked: Option<(Number, Instant)>,
}

impl Insistence {
    /// Whoever passes a signal on to us may have been sent it together with us: so close together, two are one.
    const SAME: Duration = Duration::from_millis(500);
    /// As long as others let a program take to end.
    const GRACE: Duration = Duration::from_secs(10);

    /// Takes a signal; tells whether it is such a second one.
    pub(crate) fn is_insisted(&mut self, signal: Number, now: Instant) -> bool {
        if ![Number::INT, Number::TERM].contains(&signal) {
            return false;
        }
        match self.asked {
            Some((asked, at)) if asked == signal && now.duration_since(at) <= Self::GRACE => {
                now.duration_since(at) >= Self::SAME
            }
            Some(_) | None => {
                self.asked = Some((signal, now));
                false
            }
        }
    }
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
    fn one_who_asks_again_insists() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let mut insistence = Insistence::default();
        assert!(!insistence.is_insisted(Number::INT, at(0)));
        assert!(!insistence.is_insisted(Number::INT, at(40)), "sent to a whole group, and passed on");
        assert!(!insistence.is_insisted(Number::USR1, at(600)));
        assert!(insistence.is_insisted(Number::INT, at(700)));
        let mut insistence = Insistence::default();
        assert!(!insistence.is_insisted(Number::INT, at(0)));
        assert!(!insistence.is_insisted(Number::TERM, at(7_500)), "the next step of who cancels");
        assert!(!insistence.is_insisted(Number::TERM, at(20_000)), "long ago");
        assert!(insistence.is_insisted(Number::TERM, at(29_000)));
        assert_eq!((Interrupt::of(Number::TERM), Interrupt::of(Number::USR1)), (Some(Interrupt::Term), None));
    }

    #[test]
    fn signals_are_kept_until_they_are_asked_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut passed = Passed::listen().expect("handlers can be set");
            passed.listen_to_all().expect("handlers can be set");
            for number in [Number::USR2, Number::WINCH] {
                rustix::process::kill_process(rustix::process::getpid(), number).expect("a process may");
                // Another test of this process sends itself SIGHUP.
                let came = async { while passed.next().await != number {} };
                tokio::time::timeout(Duration::from_secs(60), came).await.expect("it comes");
            }
        });
    }

    #[test]
    fn a_signal_is_noted_while_the_work_computes() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let noted = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&noted);
        runtime.block_on(async move {
            // Until the other task hears of it, the signal must not end this process.
            let _heard = signal(SignalKind::user_defined1()).expect("handlers can be set");
            let numbers = vec![Number::USR1.as_raw()];
            let armed = Armed(tokio::spawn(note_first(numbers, Arc::clone(&seen))));
            let began = Instant::now();
            // As work that does not wait for anything.
            while !seen.load(Ordering::SeqCst) {
                rustix::process::kill_process(rustix::process::getpid(), Number::USR1)
                    .expect("a process may");
                std::thread::sleep(Duration::from_millis(10));
                assert!(began.elapsed() < Duration::from_secs(60), "nobody noted it");
            }
            drop(armed);
        });
        assert!(noted.load(Ordering::SeqCst));
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
        let mut told = None;
        let ended = runtime.block_on(until_interrupted(work, |interrupt| told = Some(interrupt)));
        let ended = ended.expect("handlers can be set");
        assert_eq!(told, Some(Interrupt::Hup));
        assert_eq!(ended, Err(Interrupt::Hup));
        assert!(dropped.load(Ordering::SeqCst));
    }
}
