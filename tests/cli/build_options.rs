//! Options of a build that hold for all of its targets.

use crate::env::TestEnv;

#[test]
fn as_many_steps_run_at_once_as_jobs_allow() {
    let env = TestEnv::new();
    let step = |name: &str| {
        format!(
            "{name}:\n    FROM @host\n    CACHE --sharing=shared --id=both /both\n    RUN touch /both/{name}; for i in 1 2 3 4 5 6 7 8 9 10; do ls /both > /seen; sleep 0.1; test $(wc -l < /seen) = 2 && exit 0; done; rm /both/{name}; echo alone > /alone\n    SAVE ARTIFACT --if-exists /alone AS LOCAL {name}-alone\n"
        )
    };
    env.write("Buildfile", format!("VERSION 1\n{}{}", step("a"), step("b")));
    env.rb(["--jobs=1", "+a", "+b"]).expect(0);
    assert!(env.has("a-alone") && env.has("b-alone"), "one after the other");
    env.rb(["-j", "0", "+a"]).expect(2);
}

#[test]
fn no_cache_runs_every_target_again() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\na:\n    FROM @host\n    RUN echo a\nb:\n    FROM @host\n    RUN echo b\n",
    );
    env.rb(["+a", "+b"]).expect(0).says("2 steps run");
    env.rb(["+a", "+b"]).expect(0).says("nothing to do");
    env.rb(["--no-cache", "+a", "+b"]).expect(0).says("2 steps run");
    env.rb(["+a", "+b"]).expect(0).says("nothing to do");
}

#[test]
fn arguments_and_secrets_of_the_command_line_reach_all() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 0.8\na:\n    FROM @host\n    ARG N=0\n    RUN --secret S echo a$N$S > /a\n    SAVE ARTIFACT /a AS LOCAL a\n\
         b:\n    FROM @host\n    ARG N=0\n    RUN --secret F echo b$N$F > /b\n    SAVE ARTIFACT /b AS LOCAL b\n",
    );
    env.write("f", "file");
    let run = env
        .rb(["--build-arg", "N=1", "-s", "S=value", "--secret-file", "F=f", "+a", "+b", "--N=2"])
        .expect(0);
    assert_eq!(env.read("a") + &env.read("b"), "a1value\nb2file\n");
    run.hides("a1value");
}
