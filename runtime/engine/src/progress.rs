//! How far long work is, told while it goes on.
//!
//! In: a [`Gauge`], in which the work says what it is at and counts, and a [`Listener`]. Out: an event each
//! [`TELL_EVERY`] where something has moved, the first after as long. So what is done at once tells nothing, what is
//! told costs the work nothing but its counting, and nobody who works waits for who hears of it.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rb_api::EventKind;
use rb_snapshot::{Count, Tally};
use rb_solver::Progress;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::fetch::{Listener, TELL_EVERY};

/// What work is at, and how far.
pub(crate) struct Gauge(Mutex<(Cow<'static, str>, Arc<Tally>)>);

impl Gauge {
    /// Of work that is at `doing`, as a word of people: `copying`.
    pub(crate) fn new(doing: impl Into<Cow<'static, str>>) -> Self {
        Self(Mutex::new((doing.into(), Arc::default())))
    }

    /// Goes on to something else, which is counted in what is returned.
    pub(crate) fn begin(&self, doing: impl Into<Cow<'static, str>>) -> Arc<Tally> {
        self.follow(doing, Arc::default())
    }

    /// As [`Self::begin`], where somebody else counts.
    pub(crate) fn follow(&self, doing: impl Into<Cow<'static, str>>, tally: Arc<Tally>) -> Arc<Tally> {
        *self.state() = (doing.into(), Arc::clone(&tally));
        tally
    }

    /// Returns where it is counted.
    pub(crate) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.state().1)
    }

    /// Returns how far it is; nothing where nothing is counted.
    fn look(&self) -> Option<Progress> {
        let (doing, count) = {
            let state = self.state();
            (state.0.clone(), state.1.look())
        };
        progress(doing, count)
    }

    fn state(&self) -> MutexGuard<'_, (Cow<'static, str>, Arc<Tally>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn progress(doing: Cow<'static, str>, count: Count) -> Option<Progress> {
    let Count { files, all_files, bytes, all_bytes, part, all_parts } = count;
    if (files, all_files, bytes, all_bytes) == (0, 0, 0, 0) {
        return None;
    }
    let known = |all: u64| (all > 0).then_some(all);
    let doing =
        if all_parts > 1 { Cow::Owned(format!("{doing} layer {part} of {all_parts}")) } else { doing };
    let files = (all_files > 0).then_some((files, known(all_files)));
    Some(Progress { doing, bytes, total_bytes: known(all_bytes), files })
}

/// Does work and tells how far it is, also at its end where it was told before. `is_seen` says whether it is what
/// people wait for just now.
pub(crate) async fn told<T>(
    listener: &Listener,
    gauge: &Gauge,
    is_seen: impl Fn() -> bool,
    work: impl Future<Output = T>,
) -> T {
    let mut beat = interval_at(Instant::now() + TELL_EVERY, TELL_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    let mut tell = |is_last: bool| {
        let now = if is_seen() { gauge.look() } else { None };
        if let Some(progress) = &now
            && now != last
            && (last.is_some() || !is_last)
        {
            listener.tell(progress.clone());
            last = now;
        }
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                tell(true);
                return done;
            }
            _ = beat.tick() => tell(false),
        }
    }
}

/// Says in the API's words how far an op is.
pub(crate) fn event(progress: Progress) -> EventKind {
    let Progress { doing, bytes, total_bytes, files } = progress;
    EventKind::Progress(rb_api::Progress { doing, current: bytes, total: total_bytes, files })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rb_solver::Event;

    use super::*;

    fn heard() -> (Listener, Arc<Mutex<Vec<Progress>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener = {
            let heard = Arc::clone(&heard);
            Listener::new(move |event| {
                if let Event::Progress(progress) = event {
                    heard.lock().expect("no panic").push(progress);
                }
            })
        };
        (listener, heard)
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_is_told_as_it_moves_and_at_its_end() {
        let (listener, heard) = heard();
        let gauge = Gauge::new("copying");
        let work = async {
            let tally = gauge.tally();
            tally.expect(2, 200);
            for _ in 0..2 {
                // Ten times as long as between two events; it moves once.
                tokio::time::sleep(TELL_EVERY * 10).await;
                tally.add(1, 100);
            }
            gauge.begin("packing").begin_part(2, 6);
            gauge.tally().add(0, 7);
            tokio::time::sleep(TELL_EVERY * 2).await;
        };
        told(&listener, &gauge, || true, work).await;
        let told: Vec<String> = heard
            .lock()
            .expect("no panic")
            .iter()
            .map(|progress| {
                let Progress { doing, bytes, total_bytes, files } = progress;
                format!("{doing} {bytes} {total_bytes:?} {files:?}")
            })
            .collect();
        assert_eq!(
            told,
            [
                "copying 0 Some(200) Some((0, Some(2)))",
                "copying 100 Some(200) Some((1, Some(2)))",
                "packing layer 2 of 6 7 None None",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_at_once_or_seen_by_nobody_tells_nothing() {
        let (listener, heard) = heard();
        let gauge = Gauge::new("copying");
        told(&listener, &gauge, || true, async { gauge.tally().add(1, 1) }).await;
        told(&listener, &gauge, || false, tokio::time::sleep(Duration::from_secs(9))).await;
        assert!(heard.lock().expect("no panic").is_empty());
    }
}
