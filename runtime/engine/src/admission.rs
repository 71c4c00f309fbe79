//! The memory budget: steps run at once only as far as what they are known to take fits into it.
//!
//! In: who is about to run, and what each takes, as that is seen. Out: a [`Room`] for each, in time; given back when it is
//! dropped, and what the step took is learnt. A step is known to take the most of its last runs ([`learnt`]); one that was never
//! run counts as its share of the budget, so that as many of those run at once as without one; and none as more than the
//! limit that it has itself. Who goes next says [`queue`].
//! **Invariants:** who begins fits beside those that run, or is alone. A step that takes more than it was known to is not stopped:
//! it counts as that much from then on, and so do those like it that wait. Who waits has nothing that another one waits for
//! who has room; and who gives up, in whatever state, leaves nothing behind.

mod learnt;
mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rb_diag::chain;
use rb_exec::MemoryMeter;
use rb_oci::Digest;
use rb_store::{Amount, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::error::EngineError;
use learnt::Learnt;
pub(crate) use learnt::StepId;
use queue::{Queue, Ticket};

/// A step counts as this much at least, unless its share is less: one that ends at once is not measured.
const LEAST_BYTES: u64 = 16 << 20;

/// What was learnt is written this often at most, while steps end.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// What the steps of this process may take together, and what they do.
pub(crate) struct Admission {
    budget: u64,
    /// What one takes of which nothing is known.
    share: u64,
    store: Store,
    state: Mutex<State>,
}

struct State {
    queue: Queue,
    /// All that are in the queue.
    steps: BTreeMap<Ticket, Step>,
    learnt: Learnt,
    next: Ticket,
    /// Those of which was told that they are larger than the budget.
    told: BTreeSet<StepId>,
    written: Instant,
}

struct Step {
    id: StepId,
    vertex: Digest,
    /// It cannot take more.
    limit: Option<u64>,
    /// What it was seen to take.
    peak: u64,
    /// Tells it that it may run.
    begin: Option<oneshot::Sender<()>>,
}

/// What a process has of its memory budget, for `rb status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// All of it.
    pub budget_bytes: u64,
    /// What those that run take.
    pub taken_bytes: u64,
    /// Vertices that wait for some, the longest first.
    pub waiting: Vec<Digest>,
}

/// A place among those that run, or wait to; left when it is dropped.
pub(crate) struct Room {
    admission: Arc<Admission>,
    ticket: Ticket,
    /// The step has done all that it was to do.
    is_whole: bool,
}

/// What one who comes is told.
pub(crate) struct Arrival {
    pub(crate) room: Room,
    /// It has to wait for this; an error cannot come of it as long as the room is there.
    pub(crate) turn: Option<oneshot::Receiver<()>>,
    /// What it counts as.
    pub(crate) need: u64,
    /// What others have.
    pub(crate) taken: u64,
    /// It is larger than the budget, which is told for the first time.
    pub(crate) is_too_large: bool,
}

impl Admission {
    /// Opens the budget of `amount`, of all memory of this machine if it is a part, for `jobs` steps at once.
    pub(crate) fn open(amount: Amount, jobs: NonZeroUsize, store: &Store) -> Result<Arc<Self>, EngineError> {
        let budget = match amount {
            Amount::Bytes(bytes) => bytes,
            Amount::Percent(_) => amount.of(rb_exec::machine_memory()?),
        };
        let learnt = Learnt::read(store.root());
        let state = State {
            queue: Queue::new(budget),
            steps: BTreeMap::new(),
            learnt,
            next: 0,
            told: BTreeSet::new(),
            written: Instant::now(),
        };
        let share = budget / u64::try_from(jobs.get()).unwrap_or(u64::MAX);
        Ok(Arc::new(Self { budget, share, store: store.clone(), state: Mutex::new(state) }))
    }

    /// Returns all of it.
    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    /// Comes to run a step. `vertex` is what it is known by in this process.
    pub(crate) fn arrive(self: &Arc<Self>, id: StepId, vertex: Digest, limit: Option<u64>) -> Arrival {
        let (begin, turn) = oneshot::channel();
        let mut state = self.lock();
        let ticket = state.next;
        state.next += 1;
        let taken = state.queue.taken();
        state.steps.insert(ticket, Step { id: id.clone(), vertex, limit, peak: 0, begin: Some(begin) });
        state.queue.arrive(ticket);
        let need = state.needs(self).get(&ticket).copied().unwrap_or(self.share);
        state.admit(self);
        let is_too_large = need > self.budget && state.told.insert(id);
        let turn = (!state.queue.has(ticket)).then_some(turn);
        drop(state);
        let room = Room { admission: Arc::clone(self), ticket, is_whole: false };
        Arrival { room, turn, need, taken, is_too_large }
    }

    /// Returns how it stands.
    pub(crate) fn status(&self) -> MemoryStatus {
        let state = self.lock();
        let waiting = state.queue.waiting().filter_map(|ticket| Some(state.steps.get(&ticket)?.vertex));
        MemoryStatus {
            budget_bytes: self.budget,
            taken_bytes: state.queue.taken(),
            waiting: waiting.collect(),
        }
    }

    /// Writes what was learnt. Blocks.
    pub(crate) fn save(&self) {
        let mut state = self.lock();
        state.written = Instant::now();
        if let Err(error) = state.learnt.save(&self.store) {
            tracing::debug!(error = chain(&error), "what steps take of memory is not kept");
        }
    }

    fn grow(&self, ticket: Ticket, bytes: u64) {
        let mut state = self.lock();
        state.queue.grow(ticket, bytes);
        if let Some(step) = state.steps.get_mut(&ticket) {
            step.peak = bytes.max(step.peak);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl State {
    /// Tells those that may run now.
    fn admit(&mut self, admission: &Admission) {
        let needs = self.needs(admission);
        for ticket in self.queue.admit(|ticket| needs.get(&ticket).copied().unwrap_or(admission.share)) {
            if let Some(begin) = self.steps.get_mut(&ticket).and_then(|step| step.begin.take()) {
                // One who has given up leaves of itself.
                begin.send(()).ok();
            }
        }
    }

    /// Returns what each who waits counts as: what it took, or its like does just now.
    fn needs(&self, admission: &Admission) -> BTreeMap<Ticket, u64> {
        let mut seen: BTreeMap<&StepId, u64> = BTreeMap::new();
        let mut seen_alike: BTreeMap<&str, u64> = BTreeMap::new();
        for step in self.steps.values() {
            for peak in [seen.entry(&step.id).or_default(), seen_alike.entry(step.id.alike()).or_default()] {
                *peak = step.peak.max(*peak);
            }
        }
        let need = |step: &Step| {
            let known = self.learnt.peak(&step.id).unwrap_or(admission.share);
            let seen = if self.learnt.has(&step.id) {
                seen.get(&step.id).copied().unwrap_or_default()
            } else {
                seen_alike.get(step.id.alike()).copied().unwrap_or_default()
            };
            let least = LEAST_BYTES.min(admission.share);
            known.max(seen).max(least).min(step.limit.unwrap_or(u64::MAX))
        };
        self.queue.waiting().filter_map(|ticket| Some((ticket, need(self.steps.get(&ticket)?)))).collect()
    }
}

impl Room {
    /// Returns what hears of the memory that the step takes.
    pub(crate) fn meter(&self) -> MemoryMeter {
        let (admission, ticket) = (Arc::clone(&self.admission), self.ticket);
        MemoryMeter::new(move |bytes| admission.grow(ticket, bytes))
    }

    /// Gives the room back of a step that ran; `is_whole`: it did all that it was to do. Blocks.
    pub(crate) fn ended(mut self, is_whole: bool) {
        let admission = Arc::clone(&self.admission);
        self.is_whole = is_whole;
        drop(self);
        let is_time = admission.lock().written.elapsed() >= WRITE_EVERY;
        if is_time {
            admission.save();
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let admission = &self.admission;
        let mut state = admission.lock();
        state.queue.leave(self.ticket);
        if let Some(step) = state.steps.remove(&self.ticket) {
            // One that was stopped might have taken more.
            let known = state.learnt.peak(&step.id).unwrap_or(admission.share);
            if self.is_whole || step.peak > known {
                state.learnt.note(&step.id, step.peak, admission.store.clock().now().as_secs());
            }
        }
        state.admit(admission);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn opened(budget_mb: u64, jobs: usize) -> (Arc<Admission>, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(dir.path()).expect("opens");
        let jobs = NonZeroUsize::new(jobs).expect("some");
        let admission = Admission::open(Amount::Bytes(budget_mb * MB), jobs, &store).expect("opens");
        (admission, dir)
    }

    fn id(name: &str) -> StepId {
        StepId::of("ws", name, &[])
    }

    fn arrive(admission: &Arc<Admission>, name: &str) -> Arrival {
        admission.arrive(id(name), Digest::of(name), None)
    }

    /// Runs a step that takes so much, alone.
    fn ran(admission: &Arc<Admission>, name: &str, peak_mb: u64) {
        let arrival = arrive(admission, name);
        assert!(arrival.turn.is_none(), "{name} has to wait");
        admission.grow(arrival.room.ticket, peak_mb * MB);
        arrival.room.ended(true);
    }

    fn empty(admission: &Admission) {
        let state = admission.lock();
        assert_eq!((state.steps.len(), state.queue.taken(), state.queue.waiting().count()), (0, 0, 0));
    }

    #[tokio::test]
    async fn what_is_known_to_be_large_waits_and_begins_when_there_is_room() {
        let (admission, _dir) = opened(1000, 8);
        for name in ["+a | x", "+b | x"] {
            ran(&admission, name, 600);
        }
        let first = arrive(&admission, "+a | x");
        let second = arrive(&admission, "+b | x");
        assert!(first.turn.is_none());
        assert_eq!((second.need, second.taken), (600 * MB, 600 * MB));
        let turn = second.turn.expect("there is no room for it");
        // One that is small goes before it.
        ran(&admission, "+c | x", 1);
        let status = admission.status();
        assert_eq!(status.waiting, [Digest::of("+b | x")]);
        assert_eq!((status.budget_bytes, status.taken_bytes), (1000 * MB, 600 * MB));
        first.room.ended(true);
        turn.await.expect("it is told");
        assert_eq!(admission.status().taken_bytes, 600 * MB);
        drop(second.room);
        empty(&admission);
    }

    #[test]
    fn of_what_is_not_known_as_many_run_as_without_a_budget() {
        let (admission, _dir) = opened(1000, 3);
        let all = ["+a | x", "+b | x", "+c | x"].map(|name| arrive(&admission, name));
        assert!(all.iter().all(|arrival| arrival.turn.is_none()));
        // They grow beyond the budget: none is stopped, and none begins.
        all.iter().for_each(|arrival| admission.grow(arrival.room.ticket, 500 * MB));
        assert!(arrive(&admission, "+d | x").turn.is_some());
        drop(all);
        assert!(arrive(&admission, "+d | x").turn.is_none());
        empty(&admission);
    }

    #[test]
    fn its_like_that_runs_tells_what_one_takes() {
        let (admission, _dir) = opened(1000, 10);
        let first = arrive(&admission, "+t --N=1 | x");
        admission.grow(first.room.ticket, 700 * MB);
        let second = arrive(&admission, "+t --N=2 | x");
        assert_eq!((second.need, second.turn.is_some()), (700 * MB, true));
        drop(first);
        assert!(admission.status().waiting.is_empty());
        drop(second);
        empty(&admission);
    }

    #[test]
    fn one_that_is_larger_than_the_budget_runs_alone_and_that_is_told_once() {
        let (admission, _dir) = opened(100, 2);
        ran(&admission, "+a | x", 300);
        for is_first in [true, false] {
            let large = arrive(&admission, "+a | x");
            assert_eq!((large.turn.is_none(), large.is_too_large), (true, is_first));
            let small = arrive(&admission, "+b | x");
            assert!(small.turn.is_some() && !small.is_too_large);
        }
        // It cannot be, with a limit of its own.
        let limited = admission.arrive(id("+a | x"), Digest::of("a"), Some(50 * MB));
        assert_eq!((limited.need, limited.is_too_large), (50 * MB, false));
        assert!(arrive(&admission, "+b | x").turn.is_none());
        drop(limited);
        empty(&admission);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing_behind() {
        let (admission, _dir) = opened(100, 1);
        let running = arrive(&admission, "+a | x");
        let gives_up = arrive(&admission, "+b | x");
        let waits = arrive(&admission, "+c | x");
        assert!(gives_up.turn.is_some());
        drop(gives_up);
        assert_eq!(admission.status().waiting, [Digest::of("+c | x")]);
        // One that was let in, and has not heard of it.
        drop(running);
        assert_eq!(admission.status().taken_bytes, 100 * MB);
        drop(waits);
        empty(&admission);
    }

    #[test]
    fn one_that_was_stopped_is_known_for_what_it_took_where_that_is_more() {
        let (admission, _dir) = opened(1000, 4);
        for (peak_mb, known_mb) in [(100, 250), (400, 400), (300, 400), (500, 500)] {
            let stopped = arrive(&admission, "+a | x");
            admission.grow(stopped.room.ticket, peak_mb * MB);
            stopped.room.ended(false);
            assert_eq!(arrive(&admission, "+a | x").need, known_mb * MB);
        }
    }

    #[test]
    fn the_next_process_knows_what_this_one_saw() {
        let (admission, dir) = opened(1000, 4);
        ran(&admission, "+a | x", 400);
        admission.save();
        let store = Store::open(dir.path()).expect("opens");
        let next = Admission::open(Amount::Bytes(1000 * MB), NonZeroUsize::MIN, &store).expect("opens");
        assert_eq!(arrive(&next, "+a | x").need, 400 * MB);
        assert_eq!(arrive(&next, "+b | x").need, 1000 * MB);
        let part = Admission::open(Amount::Percent(50), NonZeroUsize::MIN, &store).expect("opens");
        assert!(part.budget() > 0);
    }
}
