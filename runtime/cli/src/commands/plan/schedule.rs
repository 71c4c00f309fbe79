//! How long steps take together: arithmetic on times that are known or not.
//!
//! In: tasks, each with those that it needs, and how many may be done at once. Out: an [`Estimate`]. Tasks are done as the solver
//! starts its runs: in their order, each once all that it needs is done and a place is free. What may turn out not to be
//! needed is left out of the least, and is in the most.
//! **Invariant:** a task whose time is not known takes none, and is counted.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::num::NonZeroUsize;

/// Something to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Task {
    /// What has to be done before, by place; each before it, and each once.
    pub(super) needs: Vec<usize>,
    /// How long it takes, where that is known.
    pub(super) milliseconds: Option<u64>,
    /// It has to be done; otherwise it may have to.
    pub(super) is_sure: bool,
}

/// A number between two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) least: u64,
    pub(super) most: u64,
}

/// How long it takes, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Estimate {
    /// All times together.
    pub(super) work: Span,
    /// From the start to the end.
    pub(super) elapsed: Span,
    /// The tasks of the longest chain, of all that may have to be done, by place; it takes as long with any number at once.
    pub(super) chain: Vec<usize>,
    /// How long that takes.
    pub(super) chain_milliseconds: u64,
    /// How many times are not known.
    pub(super) untimed: usize,
}

/// Estimates how long tasks take, `places` at once.
pub(super) fn estimate(tasks: &[Task], places: NonZeroUsize) -> Estimate {
    let sure = |task: &Task| task.is_sure;
    let any = |_: &Task| true;
    let (chain, chain_milliseconds) = longest_chain(tasks);
    Estimate {
        work: Span { least: work(tasks, sure), most: work(tasks, any) },
        elapsed: Span { least: elapsed(tasks, places, sure), most: elapsed(tasks, places, any) },
        chain,
        chain_milliseconds,
        untimed: tasks.iter().filter(|task| task.milliseconds.is_none()).count(),
    }
}

fn work(tasks: &[Task], counts: impl Fn(&Task) -> bool) -> u64 {
    let times = tasks.iter().filter(|task| counts(task)).filter_map(|task| task.milliseconds);
    times.fold(0, u64::saturating_add)
}

/// Returns when the last task is done; one that does not count is done at once, and takes no place.
fn elapsed(tasks: &[Task], places: NonZeroUsize, counts: impl Fn(&Task) -> bool) -> u64 {
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); tasks.len()];
    let mut open: Vec<usize> = Vec::with_capacity(tasks.len());
    for (at, task) in tasks.iter().enumerate() {
        task.needs.iter().for_each(|needed| users[*needed].push(at));
        open.push(task.needs.len());
    }
    let mut free: VecDeque<usize> = (0..tasks.len()).filter(|at| open[*at] == 0).collect();
    let mut queue: VecDeque<usize> = VecDeque::new();
    let mut running: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut now = 0_u64;
    loop {
        let done = match free.pop_front() {
            Some(at) if counts(&tasks[at]) => {
                queue.push_back(at);
                continue;
            }
            Some(at) => at,
            None => {
                while running.len() < places.get()
                    && let Some(at) = queue.pop_front()
                {
                    let end = now.saturating_add(tasks[at].milliseconds.unwrap_or_default());
                    running.push(Reverse((end, at)));
                }
                let Some(Reverse((end, at))) = running.pop() else { return now };
                now = end;
                at
            }
        };
        for user in &users[done] {
            open[*user] -= 1;
            if open[*user] == 0 {
                free.push_back(*user);
            }
        }
    }
}

/// Returns the tasks of the chain that takes longest, and how long.
fn longest_chain(tasks: &[Task]) -> (Vec<usize>, u64) {
    let mut ends: Vec<u64> = Vec::with_capacity(tasks.len());
    let mut before: Vec<Option<usize>> = Vec::with_capacity(tasks.len());
    for task in tasks {
        // Of equal ones the first.
        let last = task.needs.iter().copied().max_by_key(|at| (ends[*at], Reverse(*at)));
        let begin = last.map_or(0, |last| ends[last]);
        ends.push(begin.saturating_add(task.milliseconds.unwrap_or_default()));
        before.push(last);
    }
    let last = (0..tasks.len()).max_by_key(|at| (ends[*at], Reverse(*at)));
    let mut chain: Vec<usize> = std::iter::successors(last, |at| before[*at]).collect();
    chain.reverse();
    (chain, last.map_or(0, |last| ends[last]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn task(needs: &[usize], milliseconds: u64) -> Task {
        Task { needs: needs.to_vec(), milliseconds: Some(milliseconds), is_sure: true }
    }

    fn may(task: Task) -> Task {
        Task { is_sure: false, ..task }
    }

    fn of(tasks: &[Task], places: usize) -> Estimate {
        estimate(tasks, NonZeroUsize::new(places).expect("some"))
    }

    fn span(least: u64, most: u64) -> Span {
        Span { least, most }
    }

    #[test]
    fn nothing_takes_no_time() {
        assert_eq!(of(&[], 2), Estimate::default());
    }

    #[test]
    fn a_diamond_is_as_long_as_its_longer_side() {
        // 0 → 1 → 3, 0 → 2 → 3
        let tasks = [task(&[], 10), task(&[0], 30), task(&[0], 50), task(&[1, 2], 5)];
        let told = of(&tasks, 4);
        assert_eq!((told.work, told.elapsed), (span(95, 95), span(65, 65)));
        assert_eq!((told.chain, told.chain_milliseconds), (vec![0, 2, 3], 65));
        assert_eq!(of(&tasks, 1).elapsed, span(95, 95));
    }

    #[test]
    fn places_are_taken_in_order() {
        let tasks = [task(&[], 30), task(&[], 10), task(&[], 10), task(&[], 40)];
        // The last begins when the third has ended.
        assert_eq!(of(&tasks, 2).elapsed, span(60, 60));
        assert_eq!(of(&tasks, 3).elapsed, span(50, 50));
        let told = of(&tasks, 4);
        assert_eq!((told.elapsed, told.chain), (span(40, 40), vec![3]));
    }

    #[test]
    fn what_may_be_found_is_in_the_most_alone() {
        let tasks = [task(&[], 10), may(task(&[0], 20)), may(task(&[1], 30)), task(&[], 15)];
        let told = of(&tasks, 2);
        assert_eq!((told.work, told.elapsed), (span(25, 75), span(15, 60)));
        assert_eq!(told.chain, [0, 1, 2]);
        // One that is sure waits for one that may be found, and for what is below that.
        let tasks = [task(&[], 10), may(task(&[0], 20)), task(&[1], 30)];
        assert_eq!(of(&tasks, 1).elapsed, span(40, 60));
    }

    #[test]
    fn what_is_not_known_is_counted_and_takes_no_time() {
        let unknown = |needs: &[usize]| Task { milliseconds: None, ..task(needs, 0) };
        let tasks = [unknown(&[]), task(&[0], 10), may(unknown(&[1]))];
        let told = of(&tasks, 1);
        assert_eq!((told.untimed, told.work, told.elapsed), (2, span(10, 10), span(10, 10)));
        assert_eq!(told.chain_milliseconds, 10);
    }

    #[test]
    fn endless_times_do_not_overflow() {
        let tasks = [task(&[], u64::MAX), task(&[0], u64::MAX)];
        let told = of(&tasks, 1);
        assert_eq!(
            (told.work.most, told.elapsed.most, told.chain_milliseconds),
            (u64::MAX, u64::MAX, u64::MAX)
        );
    }

    fn tasks() -> impl Strategy<Value = Vec<Task>> {
        let one = (
            prop::option::of(0_u64..1000),
            any::<bool>(),
            prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        );
        prop::collection::vec(one, 0..24).prop_map(|sketches| {
            let made = sketches.into_iter().enumerate().map(|(at, (milliseconds, is_sure, needs))| {
                let needs = needs.into_iter().filter(|_| at > 0).map(|index| index.index(at));
                let needs: std::collections::BTreeSet<usize> = needs.collect();
                Task { needs: needs.into_iter().collect(), milliseconds, is_sure }
            });
            made.collect()
        })
    }

    proptest! {
        #[test]
        fn an_end_lies_between_the_longest_chain_and_all_work(tasks in tasks(), places in 1_usize..8) {
            let told = of(&tasks, places);
            let Estimate { work, elapsed, chain, chain_milliseconds, untimed } = told.clone();
            prop_assert!(work.least <= work.most && elapsed.least <= work.least && elapsed.most <= work.most);
            prop_assert!(chain_milliseconds <= elapsed.most);
            // Who starts what is ready at once needs at most this (Graham 1966).
            prop_assert!(elapsed.most <= work.most / places as u64 + chain_milliseconds + 1);
            prop_assert_eq!(of(&tasks, tasks.len().max(1)).elapsed.most, chain_milliseconds);
            prop_assert_eq!(of(&tasks, 1).elapsed, work);
            prop_assert!(chain.windows(2).all(|two| tasks[two[1]].needs.contains(&two[0])));
            let times = chain.iter().filter_map(|at| tasks[*at].milliseconds);
            prop_assert_eq!(times.sum::<u64>(), chain_milliseconds);
            prop_assert_eq!(untimed, tasks.iter().filter(|task| task.milliseconds.is_none()).count());
        }
    }
}
