//! `--expect-cached`: all or nothing, and why not all.

use crate::env::TestEnv;

const TEXT: &str = "VERSION 1\n\
    t:\n    FROM @host\n    COPY in /in\n    RUN cat /in > /out\n    RUN wc -l /out\n    SAVE ARTIFACT /out AS LOCAL out\n\
    asks:\n    FROM @host\n    COPY in /in\n    ARG N=$(wc -l < /in)\n    RUN echo $N > /n\n    SAVE ARTIFACT /n AS LOCAL n\n\
    waits:\n    WAIT\n        BUILD +t\n    END\n    FROM @host\n    RUN echo after > /after\n    SAVE ARTIFACT /after AS LOCAL after\n\
    here:\n    LOCALLY\n    RUN touch ran-here\n\
    always:\n    FROM @host\n    RUN --no-cache date\n\
    decides:\n    FROM @host\n    COPY in /in\n    IF grep -q one /in\n        RUN echo yes\n    END\n";

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT).write("in", "one\n");
    env
}

#[test]
fn nothing_runs_and_every_step_is_named_with_its_reason() {
    let env = env();
    let run = env.rb(["--expect-cached", "+t"]).expect(1);
    run.says("+t: `COPY in /in` would have to run")
        .says("never built before")
        .says("Buildfile:4")
        .says("1 step would have to run, and 3 more depend");
    assert!(!env.has("out"));
    env.rb(["+t"]).expect(0);
    std::fs::remove_file(env.project().join("out")).expect("removes");
    env.rb(["--expect-cached", "+t"]).expect(0).says("nothing to do");
    assert_eq!(env.read("out"), "one\n");
    env.write("in", "two\n");
    let run = env.rb(["--expect-cached", "+t"]).expect(1);
    run.says("`COPY in /in` would have to run").says("has changed").hides("RUN wc -l /out` would");
    assert_eq!(env.read("out"), "one\n");
    // That it was asked for changed nothing: it runs now, for the same reason.
    env.rb(["+t"]).expect(0).says("steps run");
    assert_eq!(env.read("out"), "two\n");
    env.rb(["--expect-cached", "--no-cache", "+t"]).expect(2);
}

#[test]
fn questions_waits_and_commands_of_this_machine_count() {
    let env = env();
    env.rb(["--expect-cached", "+asks"]).expect(1).says("would have to run");
    // All that a question needs is there, and it was never asked: it is told with its line.
    env.rb(["+t"]).expect(0);
    let run = env.rb(["--expect-cached", "+asks", "+decides"]).expect(1);
    run.says("would have to run")
        .says("Buildfile:11")
        .says("$(wc -l < /in)")
        .says("Buildfile:30")
        .says("IF grep");
    env.rb(["+asks", "+waits"]).expect(0);
    for name in ["n", "after", "out"] {
        std::fs::remove_file(env.project().join(name)).expect("removes");
    }
    env.rb(["--expect-cached", "+asks", "+waits"]).expect(0);
    assert_eq!(
        (env.read("n"), env.read("after"), env.read("out")),
        ("1\n".into(), "after\n".into(), "one\n".into())
    );
    env.rb(["--expect-cached", "+here"]).expect(1).says("would run on this machine");
    assert!(!env.has("ran-here"));
    env.rb(["+always"]).expect(0);
    env.rb(["--expect-cached", "+always"]).expect(1).says("it was told not to use the cache");
}

#[test]
fn the_reason_is_there_for_programs_and_in_the_record() {
    let env = env();
    env.rb(["+t"]).expect(0);
    env.write("in", "three\n");
    let run = env.rb(["--progress=json", "--expect-cached", "+t"]).expect(1);
    let lines = run.stderr.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let errors: Vec<_> = lines.filter(|line| line["event"] == "error").collect();
    assert_eq!(errors[0]["miss"]["why"], "input_changed", "{errors:?}");
    assert_eq!(errors[0]["line"], 4);
}
