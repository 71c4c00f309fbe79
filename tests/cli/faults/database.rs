//! Torn databases: whatever became of `rb.db` and its log, the next build is right, or says what cannot be mended.
//!
//! Where the damage shows only in the midst of a build, it is begun anew, unless a command of it ran on the user's machine.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Dice, LAYOUT, Project, check_nothing_left, rounds, wait_for_end};

const PAGE_BYTES: u64 = 4096;

/// What each database of SQLite begins with.
const MAGIC_BYTES: usize = 16;

/// What is done to a file, at random places.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Truncated,
    Garbage,
    Zeros,
    Removed,
    Emptied,
}

impl Damage {
    const ALL: [Self; 5] = [Self::Truncated, Self::Garbage, Self::Zeros, Self::Removed, Self::Emptied];

    fn of(self, path: &Path, dice: &mut Dice) {
        let Ok(length) = fs::metadata(path).map(|metadata| metadata.len()) else { return };
        let file = File::options().write(true).open(path).expect("opens");
        match self {
            Self::Truncated => file.set_len(dice.below(length)).expect("cuts"),
            Self::Garbage | Self::Zeros => {
                for _ in 0..=dice.below(3) {
                    let page: Vec<u8> = match self {
                        Self::Zeros => vec![0; PAGE_BYTES as usize],
                        _ => (0..PAGE_BYTES).map(|_| dice.below(256) as u8).collect(),
                    };
                    let place = dice.below(length.div_ceil(PAGE_BYTES)) * PAGE_BYTES;
                    // What does not begin as a database is none, and stays where it is: see below.
                    let kept = if place == 0 && matches!(self, Self::Garbage) { MAGIC_BYTES } else { 0 };
                    file.write_all_at(&page[kept..], place + kept as u64).expect("writes");
                }
            }
            Self::Removed => fs::remove_file(path).expect("removes"),
            Self::Emptied => file.set_len(0).expect("cuts"),
        }
    }
}

fn database(project: &Project) -> PathBuf {
    project.env.state().join("rb.db")
}

/// Builds over what was damaged, which has to work at once, with one warning at most. Returns whether there was one.
fn build_over(project: &Project, told: &str) -> bool {
    let run = project.env.rb(LAYOUT);
    let warnings = run.stderr.matches("begins with an empty one, so everything").count();
    assert!(run.code == 0 && warnings <= 1, "{told}: {run:?}");
    project.check();
    warnings == 1
}

/// Has what no build read so far read: damage of it shows only now, and the next build begins with an empty database. Takes
/// away what a build that was begun anew left of its first half, as the next `rb` does. Returns whether there was damage.
fn settle(project: &Project, told: &str) -> bool {
    let state = project.env.state();
    let mut found = false;
    loop {
        wait_for_end(&state);
        let store = rb_store::Store::open(&state).expect("opens");
        if store.warnings().is_empty() && store.snapshots().is_ok() && !store.is_damaged() {
            return found;
        }
        drop(store);
        assert!(!found, "{told}: what was made anew is damaged too");
        found = true;
        project.remove_outputs();
        build_over(project, told);
    }
}

#[test]
fn a_torn_database_is_replaced_and_the_build_is_right() {
    let mut dice = Dice::of("database");
    let mut project = Project::new();
    project.build();
    let mut replaced = 0;
    for round in 0..rounds(2) {
        // Nobody has it open.
        wait_for_end(&project.env.state());
        let (damage, edited) = (*dice.pick(&Damage::ALL), dice.below(2) == 0);
        damage.of(&database(&project), &mut dice);
        if edited {
            project.edit(&mut dice);
        } else {
            project.remove_outputs();
        }
        let told = format!("round {round}: {damage:?}, edited {edited}");
        replaced += u32::from(build_over(&project, &told) | settle(&project, &told));
        check_nothing_left(&project.env.state());
    }
    eprintln!("database: {replaced} were put aside");
    project.check_against_fresh_state();
}

#[test]
fn a_torn_log_of_a_killed_process_takes_back_no_more_than_its_end() {
    let mut dice = Dice::of("log");
    let mut project = Project::new();
    project.build();
    let (mut replaced, mut logs) = (0, 0);
    for round in 0..rounds(2) {
        project.edit(&mut dice);
        let mut child = project.env.spawn(LAYOUT);
        std::thread::sleep(Duration::from_millis(20 + dice.below(300)));
        child.kill().expect("kills");
        child.wait_with_output().expect("ends");
        wait_for_end(&project.env.state());
        let (damage, name) = (*dice.pick(&Damage::ALL), *dice.pick(&["rb.db-wal", "rb.db-wal", "rb.db-shm"]));
        let path = project.env.state().join(name);
        logs += u64::from(path.exists());
        damage.of(&path, &mut dice);
        let told = format!("round {round}: {damage:?} of {name}");
        replaced += u32::from(build_over(&project, &told) | settle(&project, &told));
        check_nothing_left(&project.env.state());
    }
    eprintln!("log: {logs} logs were torn; {replaced} databases were put aside");
    project.check_against_fresh_state();
}

#[test]
fn what_is_no_database_stays_where_it_is_and_is_told() {
    let project = Project::new();
    project.build();
    // Its log would be read for the first pages of what is put in its place.
    wait_for_end(&project.env.state());
    let path = database(&project);
    let refused = |what: &str| {
        let run = project.env.rb(LAYOUT).expect(3).says("damaged").says("rm -r");
        assert!(path.exists(), "{what} is gone: {}", run.stderr);
    };
    fs::write(&path, "my notes: this text is longer than a header\n".repeat(300)).expect("writes");
    refused("a text");
    fs::remove_file(&path).expect("removes");
    fs::create_dir(&path).expect("makes");
    refused("a folder");
    fs::remove_dir(&path).expect("removes");
    let run = project.env.rb(LAYOUT).expect(0).says("begins with an empty one");
    project.check();
    assert_eq!(run.stderr.matches("begins with an empty one").count(), 1);
    assert!(!project.build().stderr.contains("begins with an empty one"));
}

#[test]
fn a_read_only_database_is_written_or_told() {
    let mut project = Project::new();
    project.build();
    let mut permissions = fs::metadata(database(&project)).expect("stats").permissions();
    permissions.set_readonly(true);
    fs::set_permissions(database(&project), permissions).expect("modes");
    project.edit(&mut Dice::of("read-only"));
    // Root may write what is read-only.
    match project.env.rb(LAYOUT) {
        run if run.code == 0 => project.check(),
        run => drop(run.expect(3).says("no permission to write").says("rb.db")),
    }
}
