//! What `rb plan` expects of a build, in seconds, and what that then takes: twenty things are done to a project, one after the other.
//!
//! Machines that do other things besides take longer than ever before, so here only the middle of the twenty is held to; the
//! long form (`tests/soak estimates`), on a machine of its own, holds each to ±30 %.

use std::time::Instant;

use serde_json::Value;

use crate::env::TestEnv;

/// Says that each estimate counts.
const STRICT: &str = "RB_ESTIMATES_STRICT";

/// Two chains that meet, and a third one beside them.
const TEXT: &str = "VERSION 1\nFROM @host\nWORKDIR /w\n\
    gen:\n    COPY a a\n    RUN sleep 0.4; cat a > out\n    SAVE ARTIFACT out\n\
    lib:\n    COPY b b\n    RUN sleep 0.7; cat b > out\n    RUN sleep 0.3; cat out out > made\n    SAVE ARTIFACT made\n\
    app:\n    ARG MODE=fast\n    COPY +gen/out one\n    COPY +lib/made two\n    COPY c c\n    \
    RUN sleep 0.5; cat one two c > out\n    RUN sleep 0.4; echo $MODE >> out\n    SAVE ARTIFACT out AS LOCAL out\n\
    test:\n    ARG MODE=fast\n    FROM +app --MODE=$MODE\n    ENV LEVEL=one\n    COPY d d\n    RUN sleep 0.8; cat out d > report\n\
    docs:\n    COPY e e\n    RUN sleep 0.9; cat e > out\n    SAVE ARTIFACT out AS LOCAL docs\n\
    all:\n    ARG MODE=fast\n    BUILD +test --MODE=$MODE\n    BUILD +docs\n";

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how exact they are")]
fn is_strict() -> bool {
    std::env::var_os(STRICT).is_some()
}

/// Returns how long a build may take, by its plan.
fn expected(env: &TestEnv, words: &[&str]) -> (f64, f64) {
    let plan = env.rb([&["plan", "--json"], words].concat()).expect(0);
    let plan: Value = serde_json::from_str(&plan.stdout).expect("JSON");
    assert_eq!((&plan["complete"], &plan["summary"]["untimed"]), (&true.into(), &0.into()), "{plan:#}");
    let elapsed = &plan["summary"]["elapsed_seconds"];
    (elapsed["least"].as_f64().expect("a number"), elapsed["most"].as_f64().expect("a number"))
}

/// Writes other content into files.
fn touch(env: &TestEnv, files: &[&str]) {
    for file in files {
        env.write(file, format!("{}x", env.read(file)));
    }
}

fn edit(env: &TestEnv, was: &str, now: &str) {
    let text = env.read("Buildfile");
    assert!(text.contains(was), "{text}");
    env.write("Buildfile", text.replace(was, now));
}

type Mutation = (&'static str, &'static dyn Fn(&TestEnv), &'static [&'static str]);

const ALL: &[&str] = &["-j", "2", "+all"];

const MUTATIONS: [Mutation; 20] = [
    ("a", &|env| touch(env, &["a"]), ALL),
    ("b", &|env| touch(env, &["b"]), ALL),
    ("c", &|env| touch(env, &["c"]), ALL),
    ("d", &|env| touch(env, &["d"]), ALL),
    ("e", &|env| touch(env, &["e"]), ALL),
    ("a and b", &|env| touch(env, &["a", "b"]), ALL),
    ("a and e", &|env| touch(env, &["a", "e"]), ALL),
    ("b and d", &|env| touch(env, &["b", "d"]), ALL),
    ("c and e", &|env| touch(env, &["c", "e"]), ALL),
    ("all five", &|env| touch(env, &["a", "b", "c", "d", "e"]), ALL),
    ("a, of +gen", &|env| touch(env, &["a"]), &["+gen"]),
    ("b, of +lib", &|env| touch(env, &["b"]), &["+lib"]),
    ("the command of +gen", &|env| edit(env, "cat a > out", "cat a a > out"), ALL),
    ("the first command of +lib", &|env| edit(env, "cat b > out", "cat b b > out"), ALL),
    ("the command of +docs", &|env| edit(env, "cat e > out", "cat e e > out"), ALL),
    ("an ARG", &|env| edit(env, "ARG MODE=fast", "ARG MODE=slow"), ALL),
    ("an ARG that is typed", &|_| (), &["-j", "2", "+all", "--MODE=typed"]),
    ("an ENV", &|env| edit(env, "LEVEL=one", "LEVEL=two"), ALL),
    ("one at a time", &|env| touch(env, &["a", "b", "e"]), &["-j", "1", "+all"]),
    ("a line that is new", &|env| edit(env, "COPY d d", "COPY --chmod=600 d d"), ALL),
];

#[test]
fn twenty_builds_take_as_long_as_they_are_expected_to() {
    const MARGIN: f64 = 0.3;
    let env = TestEnv::new();
    env.write("Buildfile", TEXT);
    for file in ["a", "b", "c", "d", "e"] {
        env.write(file, format!("{file}\n"));
    }
    for words in [ALL, &["+gen"], &["+lib"]] {
        env.rb(words).expect(0);
    }
    let mut ratios = Vec::new();
    let mut wrong = Vec::new();
    for (case, mutate, words) in MUTATIONS {
        mutate(&env);
        let (least, most) = expected(&env, words);
        let began = Instant::now();
        env.rb(words).expect(0);
        let took = began.elapsed().as_secs_f64();
        // What may run does here.
        let ratio = took / most;
        eprintln!(
            "{case:<28} expected {least:.2} to {most:.2} s, took {took:.2} s: {:+.0} %",
            (ratio - 1.0) * 100.0
        );
        assert!(most > 0.25, "{case}: steps that sleep for longer than that would run");
        if !(1.0 - MARGIN..=1.0 + MARGIN).contains(&ratio) {
            wrong.push(format!("{case}: {ratio:.2}"));
        }
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    let middle = ratios[ratios.len() / 2];
    assert!((0.5..=2.0).contains(&middle), "in the middle builds take {middle:.2} of what is expected");
    assert!(!is_strict() || wrong.is_empty(), "{wrong:#?}");
}
