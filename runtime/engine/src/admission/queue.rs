//! Who goes next: a queue for a budget, in which those that fit may pass those that do not.
//!
//! In: arrivals, what each needs, ends. Out: who is let in, in order. Nothing waits here and nothing has a clock: whoever
//! calls tells those that were let in.
//! **Invariants:** who is let in fits beside those inside, or nobody is inside; each is passed by [`MOST_PASSES`] others at most that
//! came later, so all are let in as long as those inside leave; where somebody waits, somebody is inside.

use std::collections::{BTreeMap, VecDeque};

/// So many that came later may go before one for which there is no room.
pub(super) const MOST_PASSES: u32 = 8;

/// Stands for one who came.
pub(super) type Ticket = u64;

/// All who came and have not left.
#[derive(Debug)]
pub(super) struct Queue {
    budget: u64,
    /// What each takes.
    inside: BTreeMap<Ticket, u64>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    passes: u32,
}

impl Queue {
    /// Nobody is there.
    pub(super) fn new(budget: u64) -> Self {
        Self { budget, inside: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// Adds one at the end of those who wait.
    pub(super) fn arrive(&mut self, ticket: Ticket) {
        self.waiting.push_back(Waiting { ticket, passes: 0 });
    }

    /// Lets in all who may go now, of whom `need` says how much they take. Returns them in order.
    pub(super) fn admit(&mut self, need: impl Fn(Ticket) -> u64) -> Vec<Ticket> {
        let mut let_in = Vec::new();
        let mut at = 0;
        while let Some(next) = self.waiting.get(at) {
            let (ticket, bytes) = (next.ticket, need(next.ticket));
            let fits = self.taken().checked_add(bytes).is_some_and(|taken| taken <= self.budget);
            if fits || self.inside.is_empty() {
                self.waiting.remove(at);
                self.inside.insert(ticket, bytes);
                let_in.push(ticket);
                self.waiting.iter_mut().take(at).for_each(|passed| passed.passes += 1);
            } else {
                at += 1;
            }
            if self.waiting.iter().take(at).any(|before| before.passes >= MOST_PASSES) {
                break;
            }
        }
        let_in
    }

    /// One who is inside takes more than was known, as is seen now.
    pub(super) fn grow(&mut self, ticket: Ticket, bytes: u64) {
        if let Some(taken) = self.inside.get_mut(&ticket) {
            *taken = bytes.max(*taken);
        }
    }

    /// One leaves, from inside or from among those who wait.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if self.inside.remove(&ticket).is_none() {
            self.waiting.retain(|waiting| waiting.ticket != ticket);
        }
    }

    /// Returns what those inside take.
    pub(super) fn taken(&self) -> u64 {
        self.inside.values().fold(0, |taken, bytes| taken.saturating_add(*bytes))
    }

    /// Tells whether one is inside.
    pub(super) fn has(&self, ticket: Ticket) -> bool {
        self.inside.contains_key(&ticket)
    }

    /// Returns who waits, the longest first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Ticket> {
        self.waiting.iter().map(|waiting| waiting.ticket)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET: u64 = 100;

    /// What happens to a queue; the number picks one of those that it can happen to.
    #[derive(Clone, Debug)]
    enum Happens {
        /// One comes who needs so much.
        Arrives(u64),
        Leaves(usize),
        GivesUp(usize),
        Grows(usize, u64),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            4 => (0_u64..150).prop_map(Happens::Arrives),
            3 => (0_usize..100).prop_map(Happens::Leaves),
            1 => (0_usize..100).prop_map(Happens::GivesUp),
            1 => (0_usize..100, 0_u64..150).prop_map(|(who, bytes)| Happens::Grows(who, bytes)),
        ]
    }

    /// A queue, what each needs, and who went before whom.
    struct World {
        queue: Queue,
        needs: BTreeMap<Ticket, u64>,
        passed: BTreeMap<Ticket, u32>,
    }

    impl World {
        fn new() -> Self {
            Self { queue: Queue::new(BUDGET), needs: BTreeMap::new(), passed: BTreeMap::new() }
        }

        fn arrive(&mut self, bytes: u64) {
            let ticket = self.needs.len() as u64;
            self.needs.insert(ticket, bytes);
            self.queue.arrive(ticket);
        }

        /// Lets in who may, and looks whether they might.
        fn admit(&mut self) {
            let mut inside: Vec<u64> = self.queue.inside.values().copied().collect();
            for ticket in self.queue.admit(|ticket| self.needs[&ticket]) {
                inside.push(self.needs[&ticket]);
                let sum: u64 = inside.iter().sum();
                assert!(sum <= BUDGET || inside.len() == 1, "{ticket} was let in beside others: {inside:?}");
                for waiting in self.queue.waiting().filter(|waiting| *waiting < ticket) {
                    *self.passed.entry(waiting).or_default() += 1;
                }
            }
            assert!(self.passed.values().all(|passes| *passes <= MOST_PASSES), "{:?}", self.passed);
            let nobody_waits = self.queue.waiting.is_empty();
            assert!(nobody_waits || !self.queue.inside.is_empty(), "all wait for nobody");
        }

        fn happen(&mut self, what: &Happens) {
            let pick = |all: Vec<Ticket>, which: usize| all.get(which.checked_rem(all.len())?).copied();
            let inside = || -> Vec<Ticket> { self.queue.inside.keys().copied().collect() };
            match what {
                Happens::Arrives(bytes) => self.arrive(*bytes),
                Happens::Leaves(which) => {
                    if let Some(ticket) = pick(inside(), *which) {
                        self.queue.leave(ticket);
                    }
                }
                Happens::GivesUp(which) => {
                    if let Some(ticket) = pick(self.queue.waiting().collect(), *which) {
                        self.queue.leave(ticket);
                        self.passed.remove(&ticket);
                    }
                }
                Happens::Grows(which, bytes) => {
                    if let Some(ticket) = pick(inside(), *which) {
                        self.queue.grow(ticket, *bytes);
                    }
                }
            }
            self.admit();
        }
    }

    proptest! {
        #[test]
        fn the_budget_holds_nobody_starves_and_nothing_is_left(all in prop::collection::vec(happens(), 0..200)) {
            let mut world = World::new();
            all.iter().for_each(|what| world.happen(what));
            // Those inside leave one after the other, while small ones keep coming for a while.
            let waited: Vec<Ticket> = world.queue.waiting().collect();
            for round in 0.. {
                let Some(ticket) = world.queue.inside.keys().next().copied() else { break };
                world.queue.leave(ticket);
                if round < 300 {
                    world.arrive(1);
                }
                world.admit();
                prop_assert!(round < 10_000);
            }
            prop_assert!(waited.iter().all(|ticket| !world.queue.waiting().any(|waiting| waiting == *ticket)));
            prop_assert!(world.queue.waiting.is_empty() && world.queue.taken() == 0, "{:?}", world.queue);
        }

        #[test]
        fn what_fits_at_once_never_waits(needs in prop::collection::vec(0_u64..20, 1..6)) {
            let mut world = World::new();
            for bytes in needs {
                world.arrive(bytes);
                world.admit();
                prop_assert!(world.queue.waiting.is_empty());
            }
        }
    }

    #[test]
    fn small_ones_pass_a_large_one_some_times() {
        let mut world = World::new();
        world.arrive(60);
        world.arrive(90);
        world.admit();
        for _ in 0..20 {
            world.arrive(10);
            world.admit();
        }
        // Four fit beside the first; as they leave, others take their places, until the large one has waited enough.
        let mut passes = world.queue.inside.len() - 1;
        while let Some(ticket) = world.queue.inside.keys().find(|ticket| **ticket > 1).copied() {
            let before = world.queue.inside.len();
            world.queue.leave(ticket);
            world.admit();
            passes += world.queue.inside.len() + 1 - before;
        }
        assert_eq!(passes, MOST_PASSES as usize);
        assert!(world.queue.has(0) && !world.queue.has(1));
        world.queue.leave(0);
        world.admit();
        // It goes before those that came later; and now one of them fits beside it.
        assert!(world.queue.has(1));
        assert_eq!(world.queue.taken(), 100);
    }

    #[test]
    fn one_that_is_larger_than_all_goes_alone() {
        let mut world = World::new();
        world.arrive(30);
        world.arrive(500);
        world.arrive(80);
        world.admit();
        assert!(world.queue.has(0) && !world.queue.has(1) && !world.queue.has(2));
        world.queue.leave(0);
        world.admit();
        assert!(world.queue.has(1) && !world.queue.has(2), "{:?}", world.queue);
        world.arrive(0);
        world.admit();
        assert_eq!(world.queue.inside.len(), 1);
        world.queue.leave(1);
        world.admit();
        assert!(world.queue.has(2) && world.queue.has(3));
    }

    #[test]
    fn who_grows_keeps_others_out_and_shrinks_never() {
        let mut world = World::new();
        world.arrive(10);
        world.admit();
        world.queue.grow(0, 90);
        world.queue.grow(0, 20);
        world.queue.grow(7, 1000);
        world.arrive(20);
        world.admit();
        assert_eq!((world.queue.taken(), world.queue.has(1)), (90, false));
    }
}
