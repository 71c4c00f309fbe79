//! Clocks that jump, by years, forth and back: nothing stale is taken for current, and nothing breaks.
//!
//! The machine's clock stays: `rb` is told another time by libfaketime (Debian: faketime), and so its stamps disagree with
//! those of the files, as they do after a jump. Steps see the true time. And files get times of other years.

use std::fs::{File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Dice, LAYOUT, Project, check_nothing_left, rounds};
use crate::env::{Run, TestEnv};

const YEAR: u64 = 365 * 24 * 3600;

/// The library that tells programs another time.
fn library() -> Option<String> {
    let mut places = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let found = places.find_map(|place| {
        let path = place.join("faketime/libfaketimeMT.so.1");
        path.exists().then(|| path.to_string_lossy().into_owned())
    });
    if found.is_none() {
        eprintln!("stepping aside: there is no libfaketime (Debian: faketime)");
    }
    found
}

/// Runs `rb` with a clock that is so many seconds ahead, or behind; the clock of durations stays as it is.
fn rb_at(env: &TestEnv, library: &str, offset: &str, args: &[&str]) -> Run {
    let variables = [
        ("LD_PRELOAD", library),
        ("FAKETIME", offset),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ];
    env.rb_with(&variables, args)
}

fn offset(dice: &mut Dice) -> String {
    let seconds = dice.below(30 * YEAR);
    let sign = if dice.below(2) == 0 { '+' } else { '-' };
    format!("{sign}{seconds}s")
}

fn set_modified(path: &Path, time: SystemTime) {
    let file = File::options().write(true).open(path).expect("opens");
    file.set_times(FileTimes::new().set_modified(time)).expect("sets times");
}

#[test]
fn builds_are_right_whatever_the_clock_says() {
    let Some(library) = library() else { return };
    let mut dice = Dice::of("clock");
    let mut project = Project::new();
    rb_at(&project.env, &library, "+0s", LAYOUT.as_slice()).expect(0);
    project.check();
    for round in 0..rounds(1) {
        let offset = offset(&mut dice);
        if dice.below(4) > 0 {
            project.edit(&mut dice);
        } else {
            project.remove_outputs();
        }
        let run = rb_at(&project.env, &library, &offset, LAYOUT.as_slice());
        assert_eq!(run.code, 0, "round {round}, {offset}: {}", run.stderr);
        project.check();
        // And right after it, at the true time, with as little as one file of the same size changed.
        project.edits += 1;
        project.put(dice.below(100), project.edits);
        project.build();
    }
    let images = project.env.rb(["image", "ls", "--json"]).expect(0).stdout;
    assert!(images.contains("app:latest"), "{images}");
    check_nothing_left(&project.env.state());
    project.check_against_fresh_state();
}

#[test]
fn a_clock_that_jumps_while_rb_runs_breaks_nothing() {
    let Some(library) = library() else { return };
    let mut dice = Dice::of("jumps");
    let mut project = Project::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("faketime");
    for round in 0..rounds(1) {
        project.edit(&mut dice);
        std::fs::write(&file, offset(&mut dice)).expect("writes");
        let variables = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &file.to_string_lossy()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ];
        let stop = std::sync::atomic::AtomicBool::new(false);
        let run = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(15));
                    let new = file.with_extension("new");
                    std::fs::write(&new, offset(&mut dice)).expect("writes");
                    std::fs::rename(&new, &file).expect("renames");
                }
            });
            let run = project.env.rb_with(&variables, LAYOUT);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            run
        });
        assert_eq!(run.code, 0, "round {round}: {}", run.stderr);
        project.check();
        project.build();
    }
    check_nothing_left(&project.env.state());
    project.check_against_fresh_state();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the times of files are around the true one")]
fn files_of_other_years_are_read_as_what_they_are() {
    let mut dice = Dice::of("times of files");
    let mut project = Project::new();
    let now = SystemTime::now();
    let long = |years: u64| Duration::from_secs(years * YEAR);
    let times = [SystemTime::UNIX_EPOCH, now - long(10), now, now + long(10), now + long(100)];
    project.build();
    for _ in 0..rounds(1) {
        // Neither size nor time of last modification tells that the content is another.
        let (time, number) = (*dice.pick(&times), dice.below(100));
        for _ in 0..2 {
            project.edits += 1;
            project.put(number, project.edits);
            set_modified(&project.env.project().join(format!("src/f{number:03}")), time);
            project.build();
        }
    }
    project.check_against_fresh_state();
}
