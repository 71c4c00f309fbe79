//! Why steps of an app's build run, or ran: `rb why pack build …`, and `rb why` where one was built last.

use serde_json::Value;

use crate::env::Run;
use crate::pack::{FOR_ALL, Packed};

/// Checks what was printed.
#[track_caller]
fn tells(run: &Run, all: &[&str]) {
    for text in all {
        assert!(run.stdout.contains(text), "`{text}` is not in:\n{}", run.stdout);
    }
}

#[test]
fn a_change_of_the_app_is_told_with_all_that_runs_because_of_it() {
    let Some(packed) = Packed::new() else { return };
    let words = [&["app:1"][..], &FOR_ALL].concat();
    let asked = |first: &[&str], more: &[&str]| {
        let all =
            [&["why"], first, &["pack", "build", "-B", "builder:1", "-p", "app"], &words, more].concat();
        packed.0.rb(all)
    };
    packed.pack("build", &words).expect(0);
    tells(&asked(&[], &[]).expect(0), &["nothing would run now"]);
    packed.0.write("app/new.txt", "here");
    // Who builds is not known before the detections have run; nothing runs for that.
    let now = asked(&[], &[]).expect(0);
    tells(
        &now,
        &["file `new.txt` was added", "would run: detect test/one@1.0", "what app:1 does then is not known"],
    );
    assert_eq!(asked(&[], &[]).expect(0).stdout, now.stdout);
    packed.pack("build", &words).expect(0);
    let last = asked(&["--last"], &[]).expect(0);
    tells(
        &last,
        &[
            "file `new.txt` was added",
            "ran: detect test/two@2.0",
            "ran: build test/one@1.0",
            "ran: build test/two@2.0",
        ],
    );
    tells(
        &asked(&["--last"], &["test/one"]).expect(0).hides("build test/two@2.0"),
        &["ran: build test/one@1.0"],
    );
    let json: Value =
        serde_json::from_str(&asked(&["--last", "--json"], &[]).expect(0).stdout).expect("JSON");
    assert!(json.to_string().contains("new.txt"), "{json}");
    // Values of variables are not kept.
    packed.0.rb(["why"]).expect(2).says("its variables are not kept").says("rb why pack build");
    asked(&["--last"], &["a step", "--nonesuch"])
        .expect(2)
        .says("rb pack build: unexpected argument '--nonesuch'");
}

#[test]
fn what_was_built_last_is_meant_where_nothing_is_named() {
    let Some(packed) = Packed::new() else { return };
    packed.0.write("app/project.toml", PROJECT);
    packed.pack("build", &["app:1"]).expect(0);
    tells(&packed.0.rb(["why"]).expect(0), &["rb pack build app:1: nothing would run now"]);
    packed.0.rb(["plan"]).expect(2).says("what buildpacks would do is not planned");
    packed.0.write("app/app.txt", "you");
    tells(&packed.0.rb(["why"]).expect(0), &["file `app.txt`", "would run: detect test/one@1.0"]);
}

const PROJECT: &str = "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.build.env]]\nname = \"FOR\"\nvalue = \"tests\"\n\
    [[io.buildpacks.build.env]]\nname = \"USERS\"\nvalue = \"all\"\n";
