//! A statement runs again when what it takes of a folder is another, and else is found.

use crate::env::TestEnv;

#[test]
fn of_the_copies_of_a_dockerfile_those_run_whose_files_have_changed() {
    let env = TestEnv::new();
    let text = "FROM scratch AS lock\nCOPY lock *.toml /\nFROM scratch AS src\nCOPY --exclude=*.md src /src\n\
FROM scratch\nCOPY --from=lock / /\nCOPY --from=src / /\n";
    env.write("Dockerfile", text).write("lock", "1").write("a.toml", "1").write("src/main", "1");
    env.write("src/a.md", "1");
    let build = || env.rb(["build", "-o", "out", "."]);
    build().expect(0).says("4 steps run, 0 cached");
    env.write("src/main", "2");
    build().expect(0).says("2 steps run");
    assert_eq!(env.read("out/src/main"), "2");
    env.write("other", "").write("src/a.md", "2");
    build().expect(0).says("nothing to do");
    env.write("a.toml", "2");
    build().expect(0).says("3 steps run");
    assert_eq!((env.read("out/a.toml"), env.read("out/src/main")), ("2".to_owned(), "2".to_owned()));
}

#[test]
fn of_two_copies_the_second_runs_alone() {
    let env = TestEnv::new();
    env.write("Dockerfile", "FROM scratch\nCOPY a /a\nCOPY b /b\n").write("a", "1").write("b", "1");
    env.rb(["build", "-o", "out", "."]).expect(0).says("2 steps run, 0 cached");
    env.write("b", "2");
    env.rb(["build", "-o", "out", "."]).expect(0).says("1 step run, 1 cached");
    assert_eq!((env.read("out/a"), env.read("out/b")), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn of_two_paths_of_a_folder_each_counts_for_its_statement() {
    let env = TestEnv::new();
    let text = "VERSION 1\nt:\n    FROM scratch\n    COPY d/a a\n    COPY d/b b\n    SAVE ARTIFACT /* AS LOCAL out/\n";
    env.write("Buildfile", text).write("d/a", "1").write("d/b", "1");
    env.rb(["+t"]).expect(0);
    env.write("d/b", "2");
    let plan = env.rb(["--expect-cached", "+t"]).expect(1);
    plan.says("file `d/b` has changed");
    env.rb(["+t"]).expect(0).says("1 cached");
    assert_eq!((env.read("out/a"), env.read("out/b")), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn a_link_runs_for_what_it_takes_alone() {
    let env = TestEnv::new();
    let text = "VERSION 1\nt:\n    FROM scratch\n    COPY base /base\n    COPY --link --chown=7:8 file /deep/file\n    \
COPY last /deep/last\n    SAVE ARTIFACT /* AS LOCAL out/\n    SAVE IMAGE linked\n";
    env.write("Buildfile", text).write("base", "1").write("file", "f").write("last", "l");
    env.rb(["+t"]).expect(0).hides("*cached*");
    let layers = || {
        let told = env.rb(["image", "inspect", "linked"]).expect(0).stdout;
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        let layers = told[0]["layers"].as_array().expect("layers").clone();
        layers.into_iter().map(|layer| layer["digest"].to_string()).collect::<Vec<_>>()
    };
    let before = layers();
    env.write("base", "2");
    let run = env.rb(["+t"]).expect(0);
    run.says("*cached* --> COPY --link --chown=7:8 file /deep/file").says("--> LINK COPY --link");
    assert_eq!((env.read("out/base"), env.read("out/deep/file")), ("2".to_owned(), "f".to_owned()));
    assert_eq!(env.read("out/deep/last"), "l");
    // Whoever the file belongs to, what leads to it is root's, and can be passed through.
    let metadata = std::fs::metadata(env.project().join("out/deep")).expect("is there");
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777, 0o755);
    let after = layers();
    assert_eq!(before.len(), 3);
    assert!(before[0] != after[0] && before[1] == after[1], "{before:?} {after:?}");
}

#[test]
fn a_statement_has_the_reason_of_the_file_that_it_takes() {
    let env = TestEnv::new();
    let text = "VERSION 1\nt:\n    FROM scratch\n    COPY d/a a\n    COPY d/b b\n    COPY d d\n    \
SAVE ARTIFACT /* AS LOCAL out/\n";
    env.write("Buildfile", text).write("d/a", "1").write("d/b", "1");
    env.rb(["+t"]).expect(0);
    env.write("d/b", "2");
    let told = env.rb(["why", "+t"]).expect(0).stdout;
    assert!(told.contains("file `d/b` has changed") && !told.contains("d/a"), "{told}");
    env.rb(["+t"]).expect(0);
    env.write("d/a", "2").write("d/b", "3");
    let told = env.rb(["why", "+t"]).expect(0).stdout;
    assert!(told.contains("file `d/a` has changed") && told.contains("file `d/b` has changed"), "{told}");
}
