//! `list_targets`.

use rb_buildfile::{ArgSummary, list_targets};
use rb_frontend::{MapWorld, ProjectRef};

use crate::harness::block_on;

const TEXT: &str = "VERSION 1
ARG --global mode=debug
ARG hidden
# build compiles everything
build:
    ARG --required version
    ARG mode=\"a b\"
    FROM ./missing+target
    SAVE ARTIFACT out/app
    SAVE ARTIFACT out/lib /lib
    SAVE IMAGE app:$version app:latest
empty:
";

fn root() -> ProjectRef {
    ProjectRef::Local { dir: String::new() }
}

#[test]
fn targets_come_with_their_arguments_and_outputs() {
    let world = MapWorld::default().with_file("Buildfile", TEXT);
    let targets = block_on(list_targets(&world, &root())).expect("lists");
    assert_eq!(targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>(), ["build", "empty"]);
    let arg = |name: &str, default: Option<&str>, required, global| ArgSummary {
        name: name.to_owned(),
        default: default.map(str::to_owned),
        required,
        global,
        kind: None,
        doc: None,
    };
    let build = &targets[0];
    assert!(build.doc.as_deref().is_some_and(|doc| doc.contains("compiles everything")), "{:?}", build.doc);
    assert_eq!(build.args, [arg("version", None, true, false), arg("mode", Some("\"a b\""), false, false)]);
    assert_eq!(
        build.saves_artifacts.iter().map(|saved| saved.name.as_str()).collect::<Vec<_>>(),
        ["out/app", "/lib"]
    );
    assert_eq!(
        build.saves_images.iter().map(|saved| saved.name.as_str()).collect::<Vec<_>>(),
        ["app:$version", "app:latest"]
    );
    assert_eq!(targets[1].args, [arg("mode", Some("debug"), false, true)]);
}

#[test]
fn errors_of_the_text_and_missing_files_are_told() {
    let world = MapWorld::default().with_file("Buildfile", "VERSION 1\na:\n    RNU x\n");
    assert!(!block_on(list_targets(&world, &root())).expect_err("has an error").is_empty());
    let errors = block_on(list_targets(&MapWorld::default(), &root())).expect_err("has no file");
    assert_eq!(errors[0].code, "rb::resolve::no_buildfile");
}
