//! The suite: cases as data in `tests/suite/<area>/*.build`, run on a world of maps.
//!
//! A case starts with `--- name`, then lines of what is asked and expected, then files:
//! ```text
//! --- a typo is told with the nearest name
//! > +app --MODE=debug
//! # error: 3:10-16 unknown_target: there is no target `bulid`
//! # help: did you mean `+build`?
//! VERSION 1
//! …
//! === lib/Buildfile
//! …
//! ```
//! The first file is `Buildfile`; `=== path` starts another. A place is `line:column-column`, or
//! `line:column-line:column`, before it `path:` for another file, or `-` for none; behind it stands the end of the
//! code and a part of the message. Errors and warnings must be exactly those named. A case without errors is held
//! against a snapshot of all that is planned. Further lines: `# trail:`, `# kind:` (of the error above),
//! `# image: NAME CONFIG`, `# symlink: PATH`, `# unreadable: PATH`, `# command: EXIT-CODE TEXT => OUTPUT` (what has to
//! run for an answer), `# asked: WHAT` (all that was asked of the world, in order; `nothing`), `# built: PATH => TEXT`
//! (a file of whatever is made by copying, and by commands without an answer of their own), `# builder: NAME CODE ID@VERSION…` (a
//! builder of buildpacks whose detections end with this exit code), `# git: yes`,
//! `# option: push|ci|strict|allow-privileged|here=FOLDER`, `# default: NAME=VALUE` (from around the command line), `# row: 3.2`
//! (the rows of the language's reference that the case shows; `rows.txt` lists them), `# failing: LABEL` (what cannot be
//! made). Every diagnostic has a help.

#![allow(clippy::unwrap_used, reason = "a harness fails by panicking")]

mod builder;
mod harness;
mod language;
mod limits;
mod list;
mod rows;

use std::collections::BTreeSet;
use std::path::Path;

use harness::{Case, cases};

fn run(area: &str) -> BTreeSet<&'static str> {
    let mut codes = BTreeSet::new();
    let mut failures = Vec::new();
    for case in cases(&suite().join(area)) {
        match case.run(&mut codes) {
            Ok(Some(plan)) => snapshot(area, &case, &plan),
            Ok(None) => {}
            Err(failure) => failures.push(format!("{area}/{} · {}\n{failure}", case.file, case.name)),
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
    codes
}

fn suite() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite"))
}

fn snapshot(area: &str, case: &Case, plan: &str) {
    let slug = |text: &str| {
        let plain = |next: char| if next.is_ascii_alphanumeric() { next.to_ascii_lowercase() } else { '_' };
        text.chars().map(plain).collect::<String>()
    };
    let name = format!("{}__{}", slug(case.file.trim_end_matches(".build")), slug(&case.name));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(suite().join(area).join("snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, plan));
}

macro_rules! areas {
    ($($area:ident),*) => {
        $(#[test] fn $area() { run(stringify!($area)); })*

        const AREAS: &[&str] = &[$(stringify!($area)),*];

        /// A code that no case shows is a code nobody knows to work.
        #[test]
        fn every_code_occurs_in_the_suite() {
            let mut seen = BTreeSet::new();
            $(seen.extend(run(stringify!($area)));)*
            let unseen: Vec<_> =
                rb_buildfile::CODES.iter().map(|(code, _)| *code).filter(|code| !seen.contains(code)).collect();
            assert!(unseen.is_empty(), "no case shows {unseen:?}");
            let areas = std::fs::read_dir(suite()).unwrap().filter_map(Result::ok);
            let folders: Vec<_> = areas.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name()).collect();
            assert_eq!(folders.len(), AREAS.len(), "{folders:?}");
        }
    };
}

areas!(
    arguments,
    artifacts,
    buildpacks,
    calls,
    commands,
    control,
    copy,
    dockerfiles,
    effects,
    from,
    functions,
    locally,
    metadata,
    mounts,
    references,
    text,
    words
);
