//! Copies that take nearly all over from an earlier one: what is built of them is what a first build builds, and two parts of
//! a layer are one wherever somebody counts.

use std::fs;
use std::path::Path;

use crate::env::TestEnv;

const BUILDFILE: &str = "VERSION 1\nfiles:\n    FROM scratch\n    COPY src /src\n    SAVE ARTIFACT /src AS LOCAL out\n    \
                         SAVE IMAGE app:1\nuser:\n    FROM scratch\n    COPY +files/src /copied\n    \
                         SAVE IMAGE user:1\n";

fn fill(env: &TestEnv) {
    env.write("Buildfile", BUILDFILE);
    for number in 0..60 {
        env.write(&format!("src/{}/{number}", number % 3), format!("{number}\n"));
    }
}

/// How many snapshots there are, and how many of them continue one.
fn snapshots(env: &TestEnv) -> (usize, usize) {
    let rows = rb_store::Store::open(&env.state()).expect("opens").snapshots().expect("reads");
    (rows.len(), rows.iter().filter(|row| row.continues).count())
}

/// Builds the images; returns the digests of their archives.
fn built(env: &TestEnv) -> [String; 2] {
    ["files", "user"].map(|target| {
        let archive = format!("--output=type=oci,dest={target}.tar");
        env.rb([&archive, "--epoch=0", &format!("+{target}")]).expect(0);
        let bytes = fs::read(env.project().join(format!("{target}.tar"))).expect("was written");
        rb_oci::Digest::of(bytes).to_string()
    })
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("lists") {
        let path = entry.expect("lists").path();
        let inside = if path.is_dir() { names_in(&path) } else { Vec::new() };
        let name = path.file_name().expect("has one").to_string_lossy().into_owned();
        names.extend(inside.into_iter().map(|inner| format!("{name}/{inner}")));
        names.push(name);
    }
    names.sort();
    names
}

#[test]
fn edits_give_what_a_first_build_gives_and_write_what_differs() {
    let env = TestEnv::new();
    fill(&env);
    built(&env);
    let (before, _) = snapshots(&env);
    let edits: [&dyn Fn(&TestEnv); 5] = [
        &|env| _ = env.write("src/1/4", "changed\n"),
        &|env| _ = env.write("src/1/4", "changed again\n").write("src/new/one", "new\n"),
        &|env| fs::remove_file(env.project().join("src/2/5")).expect("removes"),
        &|env| fs::remove_dir_all(env.project().join("src/new")).expect("removes"),
        &|env| fs::create_dir(env.project().join("src/empty")).expect("makes"),
    ];
    for (index, edit) in edits.iter().enumerate() {
        edit(&env);
        let clean = TestEnv::new();
        clean.write("Buildfile", BUILDFILE);
        crate::equality::copy_as_it_is(&env.project().join("src"), &clean.project().join("src"));
        assert_eq!(built(&env), built(&clean), "edit {index}");
        // The files of the artifact are all there, and no others.
        env.rb(["+files"]).expect(0);
        assert_eq!(
            names_in(&env.project().join("out")),
            names_in(&env.project().join("src")),
            "edit {index}"
        );
    }
    let (after, continuing) = snapshots(&env);
    assert!(continuing >= edits.len(), "{continuing} of {after} snapshots, {before} of them before");
    env.rb(["cache", "verify"]).expect(0);
}
