//! Reasons of small builds.

use rb_api::{FileEntry, FileKind, GoneBecause};

use super::*;

/// A build that grows: each vertex works on those named.
#[derive(Default)]
struct Build(Document);

impl Build {
    fn add(mut self, name: &str, own: &[(PartKind, &str, &str)], inputs: &[usize]) -> Self {
        let mut step = RecordStep::of(name, Digest::of(name), Verdict::Ran);
        step.step = name.contains(" | ") && !own.iter().any(|(kind, ..)| *kind == PartKind::Files);
        step.miss = Some(Miss::NeverSeen);
        step.inputs = inputs.iter().map(|input| (Some(*input), 0)).collect();
        for (kind, name, value) in own {
            step.own.push(self.0.parts.len());
            self.0.parts.push(KeyPart::new(*kind, *name, *value));
        }
        self.0.steps.push(step);
        self
    }

    /// The last vertex takes these files, by these rules.
    fn files(mut self, word: &str, rules: &[&str]) -> Self {
        let step = self.0.steps.last_mut().expect("there is one");
        step.files = Some(Digest::of(word));
        for rule in rules {
            step.about.push(self.0.parts.len());
            self.0.parts.push(KeyPart::new(PartKind::Exclude, *rule, ""));
        }
        self
    }

    /// The first counted step was found.
    fn first_cached(mut self) -> Self {
        let first = self.0.steps.iter_mut().find(|step| step.step).expect("there is one");
        (first.verdict, first.miss) = (Verdict::Cached, None);
        self
    }

    fn last(mut self, with: impl Fn(&mut RecordStep)) -> Self {
        with(self.0.steps.last_mut().expect("there is one"));
        self
    }
}

fn file(path: &str, content: &str) -> FileEntry {
    let digest = *Digest::of(content).as_bytes();
    FileEntry { path: path.to_owned(), kind: FileKind::File { mode: 0o644, size_bytes: 1, digest } }
}

/// Lists are named by the digests of words: `a=1 b=2` is two files.
fn list(words: &[&str]) -> impl Fn(&Digest) -> Option<Files> + use<> {
    let lists: Vec<(Digest, Files)> = words
        .iter()
        .map(|text| {
            let entries = text.split(' ').filter_map(|word| word.split_once('='));
            let entries: Vec<FileEntry> = entries.map(|(path, content)| file(path, content)).collect();
            (Digest::of(text), Files::of(entries))
        })
        .collect();
    move |digest| lists.iter().find(|(name, _)| name == digest).map(|(_, files)| files.clone())
}

fn told(was: &Build, now: &Build, words: &[&str]) -> Vec<(String, Vec<usize>)> {
    let files = list(words);
    let was = Side { document: &was.0, files: &files };
    let reasons = explain(Some(&was), &Side { document: &now.0, files: &files }, Which::Ran);
    reasons.into_iter().map(|reason| (reason.cause.words(), reason.steps)).collect()
}

fn recipe(command: &str, word: &str, rules: &[&str]) -> Build {
    Build::default()
        .add("host", &[(PartKind::Toolchain, "", "1")], &[])
        .add("+t | COPY f", &[(PartKind::Files, "", word)], &[])
        .files(word, rules)
        .add("+t | COPY f", &[(PartKind::Action, "copies", "/f")], &[0, 1])
        .add("+t | RUN a", &[(PartKind::Command, "", command)], &[2])
        .add("+t | RUN b", &[(PartKind::Command, "", "b")], &[3])
}

#[test]
fn each_chain_ends_where_something_was_changed() {
    let was = recipe("a", "f=1", &[]);
    assert_eq!(
        told(&was, &recipe("c", "f=1", &[]).first_cached(), &["f=1"]),
        [("the command has changed: `a` -> `c`".to_owned(), vec![3, 4])]
    );
    let found = told(&was, &recipe("a", "f=2", &[]), &["f=1", "f=2"]);
    assert_eq!(found.len(), 1);
    assert!(found[0].0.starts_with("file `f` has changed: ") && found[0].1 == [2, 3, 4], "{found:?}");
}

#[test]
fn what_lies_elsewhere_and_is_not_fetched_yet_is_a_cause() {
    let build = |own: &[(PartKind, &str, &str)]| {
        let mut build = Build::default()
            .add("https://a.example/f", own, &[])
            .add("+t | ADD f", &[(PartKind::Action, "copies", "/f")], &[0])
            .add("+t | RUN a", &[(PartKind::Command, "", "a")], &[1]);
        build.0.steps[0].step = false;
        build
    };
    let was = build(&[(PartKind::Files, "", "1")]);
    let mut now = build(&[]);
    for step in &mut now.0.steps {
        (step.verdict, step.miss) = (Verdict::Cancelled, None);
    }
    let none = |_: &Digest| None;
    let (was, now) = (Side { document: &was.0, files: &none }, Side { document: &now.0, files: &none });
    let reasons = explain(Some(&was), &now, Which::Would);
    let [Reason { cause: Cause::Elsewhere { source }, origin: 0, steps }] = reasons.as_slice() else {
        panic!("{reasons:?}");
    };
    assert_eq!((source.as_str(), steps.as_slice()), ("https://a.example/f", &[1, 2][..]));
}

#[test]
fn rules_and_files_are_told_apart() {
    let was = recipe("a", "f=1 x/b.log=1", &[]);
    let lists = ["f=1 x/b.log=1", "f=1", "f=1 new=1"];
    let words = |word: &str, rules: &[&str]| {
        told(&was, &recipe("a", word, rules), &lists).into_iter().map(|(words, _)| words).collect::<Vec<_>>()
    };
    assert_eq!(
        words("f=1", &["**/*.log"]),
        ["the ignore rule `**/*.log` was added, which leaves out `x/b.log`"]
    );
    assert_eq!(words("f=1", &["x"]), ["the ignore rule `x` was added, which leaves out `x/b.log`"]);
    assert_eq!(words("f=1", &["y"]), ["file `x/b.log` was removed"]);
    assert_eq!(words("f=1 new=1", &["*.log"]), ["file `new` was added", "file `x/b.log` was removed"]);
    // Without a list nothing is guessed.
    let found = told(&was, &recipe("a", "f=3", &[]), &lists);
    assert!(found[0].0.contains("which ones is not known"), "{found:?}");
}

#[test]
fn what_the_engine_knows_for_certain_counts_first() {
    let was = recipe("a", "f=1", &[]);
    let gone = Miss::Gone { because: Some(GoneBecause::Removed), at_unix: Some(0) };
    let now = recipe("a", "f=1", &[]).last(|step| step.miss = Some(gone.clone()));
    let found = told(&was, &now, &[]);
    assert_eq!(
        found.iter().find(|(_, steps)| *steps == [4]).map(|(words, _)| words.as_str()),
        Some("its result was evicted at 1970-01-01 00:00:00 UTC, to make room or on demand")
    );
    // The others ran too, and nothing says why.
    assert!(found.iter().any(|(words, _)| words.starts_with("not known")), "{found:?}");
    let failed = recipe("a", "f=1", &[]).last(|step| {
        step.verdict = Verdict::Failed;
        step.message = Some("exit code 3".to_owned());
    });
    let found = told(&failed, &recipe("a", "f=1", &[]), &[]);
    assert!(found.iter().any(|(words, _)| words == "it failed in the last build: exit code 3"), "{found:?}");
}

/// A build that failed at `RUN a`, and did something with what that left.
fn failed() -> Build {
    Build::default()
        .add("+t | RUN a", &[(PartKind::Command, "", "a")], &[])
        .last(|step| step.verdict = Verdict::Failed)
        .add("[internal] left", &[(PartKind::Definition, LEFT_SCHEME, "sha256:0")], &[])
        .last(|step| std::mem::swap(&mut step.own, &mut step.about))
        .add("+t | SAVE b", &[(PartKind::Action, "copies", "/[b]")], &[1])
        .add("+t | RUN c", &[(PartKind::Command, "", "old")], &[2])
}

#[test]
fn what_was_done_after_a_failure_is_compared_with_nothing() {
    let whole = || {
        Build::default()
            .add("+t | RUN a", &[(PartKind::Command, "", "a")], &[])
            .add("+t | ENV more", &[(PartKind::Env, "M", "1")], &[0])
            .add("+t | SAVE b", &[(PartKind::Action, "copies", "/b")], &[1])
            .add("+t | RUN c", &[(PartKind::Command, "", "new")], &[2])
    };
    let found = told(&failed(), &whole(), &[]);
    assert_eq!(found, [("it failed in the last build".to_owned(), vec![0, 1, 2, 3])]);
    // What failed and no longer does says nothing of what comes after it.
    let found = told(&failed(), &whole().first_cached(), &[]);
    assert!(found.iter().all(|(words, _)| !words.contains("changed")), "{found:?}");
    assert!(told(&whole(), &failed(), &[]).iter().all(|(_, steps)| *steps == [0]));
    // A statement before the one that failed is new all the same.
    let now = Build::default().add("+t | ENV first", &[(PartKind::Env, "M", "1")], &[]).add(
        "+t | RUN a",
        &[(PartKind::Command, "", "a")],
        &[0],
    );
    assert_eq!(told(&failed(), &now, &[]), [("the step is new".to_owned(), vec![0, 1])]);
}

#[test]
fn without_a_record_all_is_new() {
    let now = recipe("a", "f=1", &[]);
    let files = list(&[]);
    let reasons = explain(None, &Side { document: &now.0, files: &files }, Which::Ran);
    assert_eq!(reasons.len(), 1);
    assert_eq!(
        (reasons[0].cause.words().as_str(), &*reasons[0].steps),
        ("never built before", &[2, 3, 4][..])
    );
}

#[test]
fn a_record_whose_inputs_make_no_sense_is_no_danger() {
    let was = recipe("a", "f=1", &[]);
    let now = recipe("a", "f=1", &[]).last(|step| {
        step.inputs = vec![(Some(4), 0), (Some(99), 7), (None, 0)];
        step.own = vec![1_000];
    });
    told(&was, &now, &[]);
    told(&now, &was, &[]);
}

#[test]
fn the_files_of_a_dockerfiles_context_are_told_and_what_a_frontend_makes_of_nothing_is_not() {
    let build = |word: &str, text: &str, number: &str| {
        let mut build = Build::default()
            .add("[internal] load build context", &[(PartKind::Files, "", word)], &[])
            .files(word, &[])
            .add(&format!("[a {number}] COPY f /"), &[(PartKind::Action, "copies", "/f")], &[0])
            .add("[internal] preparing inline document", &[(PartKind::Action, "makes", text)], &[])
            .add(&format!("[a {number}] COPY <<E /e"), &[(PartKind::Action, "copies", "/e")], &[1, 2]);
        for (at, step) in build.0.steps.iter_mut().enumerate() {
            step.step = at % 2 == 1;
        }
        build
    };
    let lists = ["f=1", "f=2"];
    // That steps have other numbers makes none of them new.
    let found = told(&build("f=1", "x", "1/2"), &build("f=2", "x", "2/3"), &lists);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0.starts_with("file `f` has changed"), "{found:?}");
    assert_eq!(found[0].1, [1, 3]);
    let found = told(&build("f=1", "x", "1/2"), &build("f=1", "y", "1/2"), &lists);
    let words: Vec<&str> = found.iter().map(|(words, _)| words.as_str()).collect();
    assert!(words.contains(&"the text that it writes has changed"), "{found:?}");
}
