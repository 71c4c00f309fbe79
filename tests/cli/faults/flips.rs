//! Flipped bits in blobs, layers and what lies beside them: found when they are served, dropped, made again.
//!
//! A layer is known by sizes and times of its files, and a flip by somebody's hand moves a time. What a disk changed
//! without a trace is found by reading, which no build does. What steps keep in a cache mount is theirs: `rb` knows neither
//! what it should be nor whether a tool looks at it, so no bit is flipped there, but in what `rb` notes of it beside.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{Dice, LAYOUT, Project, check_nothing_left, files_below, names, rounds};

/// What is damaged.
#[derive(Clone, Copy, Debug)]
enum Where {
    Blobs,
    Layers,
    Manifests,
    Memories,
}

impl Where {
    const ALL: [Self; 4] = [Self::Blobs, Self::Layers, Self::Manifests, Self::Memories];

    fn files(self, state: &Path) -> Vec<PathBuf> {
        let snapshots =
            || names(&state.join("snapshots")).into_iter().map(|id| state.join("snapshots").join(id));
        match self {
            Self::Blobs => files_below(&state.join("blobs")),
            Self::Layers => snapshots().flat_map(|snapshot| files_below(&snapshot.join("fs"))).collect(),
            Self::Manifests => {
                let beside = snapshots()
                    .flat_map(|snapshot| names(&snapshot).into_iter().map(move |name| snapshot.join(name)));
                beside.filter(|path| path.is_file()).collect()
            }
            // Of the caches, what rb itself keeps; what steps leave there is theirs.
            Self::Memories => {
                let all = files_below(&state.join("caches")).into_iter();
                all.filter(|path| path.extension().is_some_and(|end| end == "seen" || end == "used"))
                    .collect()
            }
        }
    }
}

/// Flips one bit in place; an empty file stays.
fn flip(path: &Path, dice: &mut Dice) {
    let file = File::options().read(true).write(true).open(path).expect("opens");
    let length = file.metadata().expect("stats").len();
    if length == 0 {
        return;
    }
    let (place, mut byte) = (dice.below(length), [0]);
    file.read_exact_at(&mut byte, place).expect("reads");
    file.write_all_at(&[byte[0] ^ 1 << dice.below(8)], place).expect("writes");
}

/// Damages some files of one kind, and builds with or without an edit.
fn round(project: &mut Project, part: Where, dice: &mut Dice) -> String {
    let files = part.files(&project.env.state());
    let count = 1 + dice.below(3);
    let hit: Vec<PathBuf> =
        (0..count).filter(|_| !files.is_empty()).map(|_| dice.pick(&files).clone()).collect();
    hit.iter().for_each(|path| flip(path, dice));
    let (edited, removed) = (dice.below(2) == 0, dice.below(2) == 0);
    if edited {
        project.edit(dice);
    }
    if removed {
        project.remove_outputs();
    }
    format!("{part:?}, edited {edited}, outputs removed {removed}: {hit:?}")
}

#[test]
fn what_was_damaged_is_made_again() {
    let mut dice = Dice::of("flips");
    let mut project = Project::new();
    project.build();
    for number in 0..rounds(4) {
        let part = Where::ALL[usize::try_from(number % 4).expect("fits")];
        let told = round(&mut project, part, &mut dice);
        let run = project.env.rb(LAYOUT);
        assert_eq!(run.code, 0, "round {number}, {told}:\n{}", run.stderr);
        eprintln!("round {number}, {told}");
        project.check();
        if number % 4 == 3 {
            check_nothing_left(&project.env.state());
            project.check_against_fresh_state();
        }
    }
}

#[test]
fn an_image_whose_every_blob_was_damaged_is_packed_again() {
    let mut dice = Dice::of("blobs");
    let project = Project::new();
    project.build();
    let before = project.outputs();
    for removed in [false, true] {
        let blobs = Where::Blobs.files(&project.env.state());
        assert!(blobs.len() >= 3, "{blobs:?}");
        blobs.iter().for_each(|path| flip(path, &mut dice));
        if removed {
            project.remove_outputs();
        }
        project.build();
        assert_eq!(project.outputs(), before);
    }
    project.env.rb(["image", "save", "app", "-o", "app.tar"]).expect(0);
}
