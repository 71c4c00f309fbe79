//! `COPY` and `ADD` with all their flags.

use crate::bench::Bench;

#[test]
fn a_linked_copy_does_not_depend_on_what_is_below() {
    let file = "FROM a\nRUN x\nCOPY --link f /d/\nCOPY --link --chmod=644 g /d/";
    let outcome = Bench::of(file).outcome();
    let dump = outcome.dump();
    assert!(dump.contains("copy v2.0:/f -> scratch:/d/"), "{dump}");
    assert_eq!(dump.matches("merge").count(), 1, "{dump}");
    let graph = outcome.graph();
    let groups: Vec<(String, bool)> = graph
        .vertices()
        .filter_map(|vertex| graph.meta(&vertex.digest).progress_group.clone())
        .map(|group| (group.name, group.weak))
        .collect();
    let name = "[stage-0 3/4] COPY --link f /d/".replace("stage-0 ", "");
    assert_eq!(groups, [(name.clone(), true), (name, false)]);
    assert!(outcome.names().contains(&"[3/4] LINK COPY --link f /d/".to_owned()));
}

#[test]
fn parents_keep_what_follows_the_pivot() {
    let dump =
        Bench::of("FROM a\nCOPY --parents ./x/./y/z a/b /p/\nCOPY --parents x/*.c /p/").outcome().dump();
    assert!(dump.contains("include=[y/z] required=[/x/y/z]"), "{dump}");
    assert!(dump.contains("include=[a/b] required=[/a/b]"), "{dump}");
    assert!(dump.contains("include=[x/*.c]\n"), "{dump}");
}

#[test]
fn owners_and_modes_are_numbers_or_names() {
    let file = "FROM a\nARG M=+x\nCOPY --chown=app:0 --chmod=$M a /\nADD --chown=5 --chmod=4755 b /";
    let outcome = Bench::of(file).outcome();
    let dump = outcome.dump();
    assert!(dump.contains("app") && dump.contains("+x") && dump.contains("4755"), "{dump}");
    assert_eq!(
        outcome.history()[1..],
        ["COPY --chown=app:0 --chmod=+x a / # buildkit", "ADD --chown=5 --chmod=4755 b / # buildkit"]
    );
}

#[test]
fn what_is_added_is_unpacked_where_it_is_local_or_asked_for() {
    let unpacks = |line: &str| Bench::of(&format!("FROM a\n{line}")).outcome().dump().contains("unpack");
    assert!(unpacks("ADD a.tar /"));
    assert!(!unpacks("ADD --unpack=false a.tar /"));
    assert!(!unpacks("ADD https://h.io/a.tar /"));
    assert!(unpacks("ADD --unpack=true https://h.io/a.tar /"));
    assert!(!unpacks("COPY a.tar /"));
}

#[test]
fn repositories_and_files_of_the_web_are_sources() {
    let checksum = "0123456789012345678901234567890123456789";
    let file = format!(
        "FROM a\nADD --checksum={checksum} --keep-git-dir git@h.io:o/r.git#main:sub /r\nADD https://h.io/f?x=1 https://h.io/r.git?tag=v1&submodules=false /d/"
    );
    let dump = Bench::of(&file).outcome().dump();
    assert!(dump.contains("git://h.io/o/r.git#main:sub"), "{dump}");
    for part in [checksum, "keepgitdir=true", "mountsshsock=default", "fullurl=git@h.io:o/r.git"] {
        assert!(dump.contains(part), "{part}: {dump}");
    }
    assert!(dump.contains("git://h.io/r.git#refs/tags/v1") && dump.contains("skipsubmodules=true"), "{dump}");
    assert!(dump.contains("https://h.io/f?x=1") && dump.contains("filename=f"), "{dump}");
}

#[test]
fn only_what_is_taken_is_asked_of_the_client() {
    let follow = |file: &str| {
        let dump = Bench::of(file).outcome().dump();
        let line = dump.lines().find(|line| line.contains("local://context")).unwrap_or_default().to_owned();
        line.split_whitespace().find(|word| word.starts_with("followpaths")).map(ToOwned::to_owned)
    };
    assert_eq!(
        follow("FROM a AS one\nCOPY x ./y/ /d/\nFROM a\nCOPY --from=one /d /d\nRUN --mount=type=bind,source=z,target=/z x").as_deref(),
        Some(r#"followpaths=["x","y","z"]"#)
    );
    assert_eq!(follow("FROM a\nCOPY x /\nADD . /"), None);
    // What an unused stage would take is not asked for.
    assert_eq!(follow("FROM a AS no\nCOPY no /\nFROM a\nCOPY f /").as_deref(), Some(r#"followpaths=["f"]"#));
    // Memory takes nothing.
    assert_eq!(
        follow("FROM a\nCOPY f /\nRUN --mount=type=tmpfs,target=/t x").as_deref(),
        Some(r#"followpaths=["f"]"#)
    );
}

#[test]
fn what_the_ignore_file_leaves_out_is_told() {
    let bench = Bench::of("FROM a\nCOPY docs/a.md b /\nADD docs /\nCOPY --from=x docs /")
        .file("context/.dockerignore", "docs\n");
    let outcome = bench.outcome();
    assert_eq!(
        outcome.findings(),
        [
            "CopyIgnoredFile: Attempting to Copy file \"docs/a.md\" that is excluded by .dockerignore",
            "CopyIgnoredFile: Attempting to Add file \"docs\" that is excluded by .dockerignore",
        ]
    );
    assert!(outcome.dump().contains(r#"excludepatterns=["docs"]"#), "{}", outcome.dump());
}
