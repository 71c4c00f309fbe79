//! A farm in numbers: 10,000 targets on 100 engines, some of which fail, placed by us, at random and in turn.
//!
//! A target has a base (a few of many, some used much more), dependencies on that base, and work of its own. A node that lacks a base
//! moves its bytes, one that lacks dependencies moves theirs and makes them; what it has it keeps until its disk is full, and loses as it
//! fails. A node does one build after another. Everything follows from one seed.

use std::collections::BTreeMap;

use super::tests::{node, prefix};
use super::*;

const TARGETS: usize = 10_000;
const NODES: usize = 100;
const BASES: u64 = 40;
const DEPENDENCIES: u64 = 800;
/// Bytes that a node keeps.
const DISK: u64 = 20_000;
/// So many targets come in a second.
const RATE: f64 = 5.0;
/// Megabytes that a node moves in a second.
const SPEED: f64 = 100.0;

/// splitmix64, as `mixed` finishes it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Few of many: the lower a number, the oftener it comes.
    fn few(&mut self, end: u64) -> u64 {
        let (one, other) = (self.below(end), self.below(end));
        one.min(other).min(self.below(end))
    }
}

#[derive(Clone)]
struct Target {
    base: u64,
    dependencies: u64,
    comes: f64,
    /// Seconds of its own.
    work: f64,
}

/// Megabytes of a base.
fn base_size(base: u64) -> u64 {
    200 + mixed(base) % 800
}

/// Megabytes of dependencies, and the seconds that making them takes.
fn dependencies_size(dependencies: u64) -> (u64, f64) {
    let size = 50 + mixed(dependencies + 1_000) % 450;
    (size, 10.0 + size as f64 / 20.0)
}

fn targets(random: &mut Random) -> Vec<Target> {
    let target = |number: usize| {
        let dependencies = random.few(DEPENDENCIES);
        Target {
            base: mixed(dependencies) % BASES,
            dependencies,
            comes: number as f64 / RATE,
            work: 2.0 + random.below(12) as f64,
        }
    };
    (0..TARGETS).map(target).collect()
}

/// What a node has, by when it was used last, and the builds that it has taken.
#[derive(Clone, Default)]
struct Place {
    has: BTreeMap<(bool, u64), (u64, usize)>,
    /// When each ends, and of which target it is.
    builds: Vec<(f64, Target)>,
    /// Until when it is away.
    away: f64,
}

impl Place {
    /// Takes a thing; tells whether it was there.
    fn take(&mut self, thing: (bool, u64), size: u64, now: usize) -> bool {
        let was_there = self.has.insert(thing, (size, now)).is_some();
        while self.has.values().map(|(size, _)| size).sum::<u64>() > DISK {
            let oldest = self.has.iter().min_by_key(|(_, (_, used))| *used).map(|(thing, _)| *thing);
            self.has.remove(&oldest.expect("more than nothing is there"));
        }
        was_there
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    moved_gb: f64,
    hits: usize,
    makespan: f64,
    /// Builds that a node took with it as it failed.
    lost: usize,
}

/// Chooses among nodes, of which some are known to be away: the best first.
type Chooses<'a> = dyn FnMut(&Target, &[Candidate]) -> Vec<usize> + 'a;

struct Farm {
    places: Vec<Place>,
    candidates: Vec<Candidate>,
    outcome: Outcome,
}

impl Farm {
    /// Builds a target that comes at `now`.
    fn build(&mut self, target: &Target, (number, now): (usize, f64), chooses: &mut Chooses<'_>) {
        for (candidate, place) in self.candidates.iter_mut().zip(&mut self.places) {
            place.builds.retain(|(end, _)| *end > now);
            candidate.load = place.builds.len();
            candidate.is_up |= place.away <= now;
        }
        let order = chooses(target, &self.candidates);
        let found = order.into_iter().find(|at| {
            // Who is away is known once somebody tried.
            self.candidates[*at].is_up = self.places[*at].away <= now;
            self.candidates[*at].is_up
        });
        let place = &mut self.places[found.expect("one is there")];
        let mut takes = target.work;
        let mut moved = 0;
        let size = base_size(target.base);
        if place.take((true, target.base), size, number) {
            self.outcome.hits += 1;
        } else {
            moved += size;
        }
        let (size, making) = dependencies_size(target.dependencies);
        if place.take((false, target.dependencies), size, number) {
            self.outcome.hits += 1;
        } else {
            moved += size;
            takes += making;
        }
        takes += moved as f64 / SPEED;
        self.outcome.moved_gb += moved as f64 / 1000.0;
        let begins = place.builds.iter().map(|(end, _)| *end).fold(now, f64::max);
        place.builds.push((begins + takes, target.clone()));
    }
}

fn run(targets: &[Target], chooses: &mut Chooses<'_>) -> Outcome {
    let mut failing = Random(7);
    let mut farm = Farm {
        places: vec![Place::default(); NODES],
        candidates: (0..NODES).map(|number| node(&format!("node-{number}"))).collect(),
        outcome: Outcome::default(),
    };
    for (number, target) in targets.iter().enumerate() {
        let now = target.comes;
        if number % 400 == 399 {
            // One fails: its disk is lost, and what runs or waits there is built elsewhere.
            let fails = failing.below(NODES as u64) as usize;
            let gone = Place { away: now + 120.0, ..Place::default() };
            let lost = std::mem::replace(&mut farm.places[fails], gone).builds;
            for (_, target) in lost.into_iter().filter(|(end, _)| *end > now) {
                farm.outcome.lost += 1;
                farm.build(&target, (number, now), chooses);
            }
        }
        farm.build(target, (number, now), chooses);
    }
    let ends = farm.places.iter().flat_map(|place| &place.builds).map(|(end, _)| *end);
    Outcome { makespan: ends.fold(0.0, f64::max), ..farm.outcome }
}

/// Those that are not known to be away come first.
fn known_first(mut order: Vec<usize>, candidates: &[Candidate]) -> Vec<usize> {
    order.sort_by_key(|at| !candidates[*at].is_up);
    order
}

#[test]
fn ours_moves_less_and_finds_more_than_chance_and_turns() {
    let targets = targets(&mut Random(1));
    let mut all: Vec<(&str, Outcome)> = Vec::new();
    let mut ours = |target: &Target, candidates: &[Candidate]| {
        let keys = Keys {
            ground: Some(prefix(&format!("base {}", target.base))),
            first: Some(prefix(&format!("dependencies {}", target.dependencies))),
        };
        rank(candidates, &BTreeSet::new(), &keys).ranked.into_iter().map(|ranked| ranked.node).collect()
    };
    all.push(("ours", run(&targets, &mut ours)));
    let mut random = Random(3);
    let mut chance = |_: &Target, candidates: &[Candidate]| {
        let start = random.below(NODES as u64) as usize;
        known_first((0..NODES).map(|more| (start + more) % NODES).collect(), candidates)
    };
    all.push(("random", run(&targets, &mut chance)));
    let mut turn = 0;
    let mut turns = |_: &Target, candidates: &[Candidate]| {
        turn += 1;
        known_first((0..NODES).map(|more| (turn + more) % NODES).collect(), candidates)
    };
    all.push(("in turn", run(&targets, &mut turns)));
    for (name, outcome) in &all {
        println!("{name:8} {outcome:?}");
    }
    let ours = all[0].1;
    for (name, other) in &all[1..] {
        assert!(ours.moved_gb < other.moved_gb / 2.0, "{name}: {all:?}");
        assert!(ours.hits as f64 > other.hits as f64 * 1.2, "{name}: {all:?}");
        assert!(ours.makespan <= other.makespan * 1.1, "{name}: {all:?}");
    }
}
