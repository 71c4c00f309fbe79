use std::collections::BTreeMap;

use super::*;

const MB: u64 = 1_000_000;

fn piece(megabytes: u64, cost_ms: u64) -> Weighed {
    Weighed { bytes: megabytes * MB, cost_ms, uses: 1, ..Weighed::default() }
}

#[test]
fn what_is_cheap_for_its_size_goes_first_and_no_more_than_is_needed() {
    let all = [piece(10, 60_000), piece(10, 100), piece(20, 100)];
    assert_eq!(choose(&all, 5 * MB, 0.0).0, [2]);
    assert_eq!(choose(&all, 25 * MB, 0.0).0, [2, 1]);
    assert_eq!(choose(&all, 500 * MB, 0.0).0, [2, 1, 0]);
    assert_eq!(choose(&all, 0, 7.0), (Vec::new(), 7.0));
}

#[test]
fn what_was_used_lately_stays_before_what_was_dear_long_ago() {
    let old = piece(10, 10_000);
    let (_, floor) = choose(std::slice::from_ref(&old), 1, 0.0);
    assert!(floor > 0.0);
    let new = Weighed { base: floor, ..piece(10, 10) };
    assert_eq!(choose(&[old, new], 1, floor).0, [0]);
}

#[test]
fn nothing_goes_before_what_stands_on_it_and_what_stays_keeps_what_it_stands_on() {
    let base = piece(300, 10);
    let on = |parent, stays| Weighed { parent: Some(parent), stays, ..piece(10, 100_000) };
    let all = [base.clone(), on(0, false), on(0, false)];
    assert_eq!(choose(&all, 1000 * MB, 0.0).0, [1, 2, 0]);
    let all = [base.clone(), on(0, true), on(0, false)];
    assert_eq!(choose(&all, 1000 * MB, 0.0).0, [2]);
    let all = [Weighed { stays: true, ..base }, on(0, false)];
    assert_eq!(choose(&all, 1000 * MB, 0.0).0, [1]);
}

#[test]
fn a_little_thing_does_not_keep_a_large_one() {
    // Of no size at all and dear, it stands on what is cheap and large; the other is in between.
    let little = Weighed { parent: Some(0), ..piece(0, 5000) };
    let all = [piece(300, 100), little, piece(100, 10_000)];
    assert_eq!(choose(&all, MB, 0.0).0, [1, 0]);
}

/// What one asks for: which piece, its size, its cost.
type Asked = (u64, u64, u64);

/// Which piece goes first: the worth of what there is, and when each was used last.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Worth,
    LeastRecent,
}

/// Plays a trace over a cache of this size. Returns how many were found, and the time that this saved.
fn play(trace: &[Asked], cap_bytes: u64, rule: Rule) -> (u64, u64) {
    let mut kept: BTreeMap<u64, (Weighed, usize)> = BTreeMap::new();
    let (mut floor, mut found, mut saved_ms) = (0.0, 0, 0);
    for (now, (name, bytes, cost_ms)) in trace.iter().enumerate() {
        if let Some((piece, used)) = kept.get_mut(name) {
            piece.uses += 1;
            piece.base = floor;
            *used = now;
            found += 1;
            saved_ms += cost_ms;
            continue;
        }
        let held: u64 = kept.values().map(|(piece, _)| piece.bytes).sum();
        let need = (held + bytes).saturating_sub(cap_bytes);
        let names: Vec<u64> = kept.keys().copied().collect();
        let going: Vec<u64> = match rule {
            Rule::Worth => {
                let all: Vec<Weighed> = kept.values().map(|(piece, _)| piece.clone()).collect();
                let (going, worth) = choose(&all, need, floor);
                floor = worth;
                going.into_iter().map(|place| names[place]).collect()
            }
            Rule::LeastRecent => {
                let mut by_age: Vec<(usize, u64, u64)> =
                    kept.iter().map(|(name, (piece, used))| (*used, *name, piece.bytes)).collect();
                by_age.sort_unstable();
                let mut freed = 0;
                let goes = |(_, name, bytes): (usize, u64, u64)| {
                    let goes = freed < need;
                    freed += bytes;
                    goes.then_some(name)
                };
                by_age.into_iter().map_while(goes).collect()
            }
        };
        for name in going {
            kept.remove(&name);
        }
        let piece = Weighed { bytes: *bytes, cost_ms: *cost_ms, uses: 1, base: floor, ..Weighed::default() };
        kept.insert(*name, (piece, now));
    }
    (found, saved_ms)
}

/// Numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// 200 builds of a project: its dependencies change seldom and are dear, its sources change each time and are cheap, and one
/// goes back and forth between a few branches.
fn builds(seed: u64) -> Vec<Asked> {
    let mut dice = Dice(seed);
    let mut versions = [0_u64; 12];
    let mut trace = Vec::new();
    for _ in 0..200 {
        let branch = dice.below(4).min(dice.below(4));
        for (step, version) in versions.iter_mut().enumerate() {
            let step = step as u64;
            // The later a step, the oftener it changes; a change is sometimes taken back.
            if dice.below(12) < step {
                *version = if dice.below(3) == 0 { version.saturating_sub(1) } else { *version + 1 };
            }
            let name = step << 32 | (*version << 8) | if step > 6 { branch } else { 0 };
            let bytes = (1 + (step * 7 + *version) % 30) * MB;
            let cost_ms = if step < 4 { 20_000 } else { 300 } + (name % 7) * 100;
            trace.push((name, bytes, cost_ms));
        }
    }
    trace
}

#[test]
fn as_much_is_found_as_with_the_least_recent_going_first_and_more_time_is_saved() {
    let (mut found, mut saved, mut found_by_age, mut saved_by_age) = (0, 0, 0, 0);
    for seed in 1..=8 {
        let trace = builds(seed);
        for cap_bytes in [150 * MB, 300 * MB, 500 * MB] {
            let (ours, ours_ms) = play(&trace, cap_bytes, Rule::Worth);
            let (theirs, theirs_ms) = play(&trace, cap_bytes, Rule::LeastRecent);
            assert!(ours >= theirs, "seed {seed}, cap {cap_bytes}: {ours} found, {theirs} by age");
            found += ours;
            saved += ours_ms;
            found_by_age += theirs;
            saved_by_age += theirs_ms;
        }
    }
    assert!(found > found_by_age && saved > saved_by_age, "{found} {found_by_age} {saved} {saved_by_age}");
}

#[test]
fn more_than_fits_in_a_circle_is_found_in_part() {
    // The least recent going first, nothing is ever found of this.
    let trace: Vec<Asked> = (0..1000).map(|number| (number % 12, 10 * MB, 100)).collect();
    assert_eq!(play(&trace, 100 * MB, Rule::LeastRecent).0, 0);
    assert!(play(&trace, 100 * MB, Rule::Worth).0 > 300);
}
