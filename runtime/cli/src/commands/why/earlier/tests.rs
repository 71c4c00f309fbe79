//! Targets that were built together, one after the other, by an older rb, and never.

use rb_api::{KeyPart, Miss, PartKind};
use rb_frontend::TargetRef;
use rb_oci::Digest;
use rb_store::Store;
use serde_json::json;

use super::super::super::record::document::{FORMAT, RecordStep, Verdict};
use super::*;

/// A build of targets, each a `lib` that all share and a command of its own; `format` 1 keeps no parts.
fn build(format: u32, lib: &str, targets: &[(&str, &str)]) -> Document {
    let mut document = Document {
        format,
        command: "build".to_owned(),
        target: targets.iter().map(|(target, _)| *target).collect::<Vec<_>>().join(" "),
        workspace: (format == FORMAT).then(|| "/ws".to_owned()),
        outcome: "done".to_owned(),
        ..Document::default()
    };
    let mut add = |name: String, command: &str, inputs: Vec<(Option<usize>, u32)>| {
        let mut step = RecordStep::of(&name, Digest::of(&name), Verdict::Ran);
        step.miss = Some(Miss::NeverSeen);
        if format == FORMAT {
            step.own = vec![document.parts.len()];
            step.inputs = inputs;
            document.parts.push(KeyPart::new(PartKind::Command, "", command));
        }
        document.steps.push(step);
    };
    add("+lib | RUN lib".to_owned(), lib, Vec::new());
    for (target, command) in targets {
        add(format!("{target} | RUN it"), command, vec![(Some(0), 0)]);
    }
    document
}

/// A state directory with builds, the oldest first.
fn state(builds: &[Document]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::open(root.path()).expect("opens");
    for (second, document) in builds.iter().enumerate() {
        let began = std::time::Duration::from_secs(second as u64 + 1);
        store.put_build(began, &serde_json::to_vec(document).expect("serialises")).expect("puts");
    }
    root
}

/// What is told of a build by these earlier ones: causes, and the targets of what runs because of them.
fn told(builds: &[Document], now: &Document, targets: &[&str]) -> Vec<(String, Vec<String>)> {
    let root = state(builds);
    let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
    let earlier = Earlier::of(root.path(), Path::new("/ws"), &targets, None).expect("reads");
    let reasons = earlier.reasons(root.path(), (now, &Lists::new()), Which::Ran);
    let target = |at: &usize| now.steps[*at].target().to_owned();
    reasons.iter().map(|reason| (reason.cause.words(), reason.steps.iter().map(target).collect())).collect()
}

fn command(was: &str, now: &str) -> String {
    format!("the command has changed: `{was}` -> `{now}`")
}

#[test]
fn each_target_is_compared_with_the_last_build_that_has_it() {
    let both = build(FORMAT, "l", &[("./a+t", "one"), ("./b+t", "one")]);
    let first = build(FORMAT, "l", &[("./a+t", "two")]);
    let now = build(FORMAT, "l", &[("./a+t", "three"), ("./b+t", "three"), ("./c+t", "new")]);
    let found = told(&[both, first], &now, &["./a+t", "./b+t", "./c+t"]);
    let has = |words: &str, target: &str| {
        found.iter().any(|(told, steps)| told == words && steps.iter().any(|step| step == target))
    };
    assert!(has(&command("two", "three"), "./a+t"), "{found:?}");
    assert!(has(&command("one", "three"), "./b+t"), "{found:?}");
    assert!(has("never built before", "./c+t"), "{found:?}");
    assert!(!found.iter().any(|(told, steps)| told.contains("never") && steps.len() > 1), "{found:?}");
}

#[test]
fn what_a_target_needs_is_compared_with_that_targets_build() {
    let old = build(FORMAT, "l1", &[("./b+t", "x")]);
    let new = build(FORMAT, "l2", &[("./a+t", "x")]);
    // What both need was made by the newer build; `b` has not seen it.
    let mut now = build(FORMAT, "l2", &[("./a+t", "x"), ("./b+t", "x")]);
    for step in &mut now.steps[..2] {
        (step.verdict, step.miss) = (Verdict::Cached, None);
    }
    let found = told(&[old, new], &now, &["./a+t", "./b+t"]);
    assert_eq!(found, [(command("l1", "l2"), vec!["./b+t".to_owned()])]);
}

#[test]
fn a_record_without_parts_is_told_of() {
    let bare = build(1, "l", &[("+t", "one")]);
    let now = build(FORMAT, "l", &[("+t", "two"), ("+u", "two")]);
    let found = told(std::slice::from_ref(&bare), &now, &["+t", "+u"]);
    let of =
        |words: &str| found.iter().find(|(told, _)| told.contains(words)).map(|(_, steps)| steps.clone());
    assert_eq!(of("keeps no parts"), Some(vec!["+lib".to_owned(), "+t".to_owned()]), "{found:?}");
    assert_eq!(of("never built"), Some(vec!["+u".to_owned()]), "{found:?}");
    // One that keeps them counts, however old.
    let whole = build(FORMAT, "l", &[("+t", "one"), ("+u", "two")]);
    let mut found = told(&[whole, bare.clone()], &now, &["+t", "+u"]);
    found.retain(|(words, _)| *words != Cause::Unknown.words());
    assert_eq!(found, [(command("one", "two"), vec!["+t".to_owned()])]);
    let root = state(&[bare]);
    let past = past::find(root.path(), "@1").expect("is there");
    let refused = Earlier::one(past).err().map(|failure| failure.message());
    assert!(refused.is_some_and(|message| message.contains("keeps no parts")));
}

#[test]
fn patterns_mean_what_they_do_on_the_command_line() {
    let local = |dir: &str, glob: &str| WantedTarget::Each {
        project: ProjectRef::Local { dir: dir.to_owned() },
        glob: glob.to_owned(),
        name: "t".to_owned(),
    };
    let fit = |wanted: &WantedTarget| {
        let all = [
            "+t",
            "./svc+t",
            "./svc/a+t",
            "./svc/a/b+t",
            "./svcs/a+t",
            "../x+t",
            "./svc/a+u",
            "z.example/p/svc/a:v1+t",
        ];
        all.into_iter().filter(|target| fits(wanted, target)).collect::<Vec<_>>()
    };
    assert_eq!(fit(&local("svc", "**")), ["./svc/a+t", "./svc/a/b+t"]);
    assert_eq!(fit(&local("svc", "*")), ["./svc/a+t"]);
    assert_eq!(fit(&local("", "*")), ["./svc+t"]);
    assert_eq!(fit(&local("", "**/a")), ["./svc/a+t", "./svcs/a+t"]);
    assert_eq!(fit(&local("..", "*")), ["../x+t"]);
    let elsewhere = |word: &str| {
        let (project, glob) = crate::world::elsewhere(Path::new("/none"), word).expect("names a repository");
        WantedTarget::Each { project, glob: glob.expect("is a pattern"), name: "t".to_owned() }
    };
    assert_eq!(fit(&elsewhere("z.example/p/svc/*:v1")), ["z.example/p/svc/a:v1+t"]);
    assert!(fit(&elsewhere("z.example/p/svc/*:v2")).is_empty());
    let document: Document = serde_json::from_value(json!({
        "format": 2, "command": "build", "target": "", "started_unix_ms": 0, "targets": ["./svc/b+t"],
        "steps": [{"name": "./svc/a+t --X=1 | RUN x", "vertex": Digest::of("x"), "step": true, "verdict": "ran"}],
    }))
    .expect("is read");
    let named = TargetRef { project: ProjectRef::Local { dir: String::new() }, name: "u".to_owned() };
    let wanted = [local("svc", "*"), WantedTarget::One(named)];
    assert_eq!(meant(&wanted, [&document].into_iter()), ["+u", "./svc/a+t", "./svc/b+t"]);
    assert_eq!(meant(&wanted[1..], [&document].into_iter()), ["+u"]);
    let written = |word: &str| as_written(word, [&document].into_iter());
    assert_eq!(written("./svc/a*+t"), ["./svc/a+t"]);
    assert_eq!(written("z.example/p:v1+t"), ["z.example/p:v1+t"]);
}
