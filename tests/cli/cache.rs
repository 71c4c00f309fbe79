//! What is looked up, and what is not.

use crate::env::TestEnv;

fn host(body: &str) -> String {
    format!("VERSION 1\nt:\n    FROM @host\n    WORKDIR /w\n{body}")
}

#[test]
fn no_cache_runs_everything_again() {
    let env = TestEnv::new();
    env.write("Buildfile", host("    RUN echo ran > out\n"));
    env.rb(["+t"]).expect(0);
    env.rb(["+t"]).expect(0).says("nothing to do");
    env.rb(["--no-cache", "+t"]).expect(0).says("steps run");
}

#[test]
fn only_arguments_that_a_step_names_run_it_again() {
    let env = TestEnv::new();
    env.write("Buildfile", host("    ARG USED=1\n    ARG UNUSED=1\n    RUN echo $USED > out\n"));
    env.rb(["+t"]).expect(0);
    env.rb(["+t", "--UNUSED=2"]).expect(0).says("nothing to do");
    env.rb(["+t", "--USED=2"]).expect(0).says("1 step run");
}

#[test]
fn a_mode_is_a_change_only_by_its_executable_bit() {
    let env = TestEnv::new();
    env.write("Buildfile", host("    COPY f .\n    RUN test -x f || true\n")).write("f", "x");
    let mode = |mode| {
        std::fs::set_permissions(env.project().join("f"), std::os::unix::fs::PermissionsExt::from_mode(mode))
            .expect("modes");
    };
    mode(0o644);
    env.rb(["+t"]).expect(0);
    mode(0o600);
    env.rb(["+t"]).expect(0).says("nothing to do");
    mode(0o755);
    env.rb(["+t"]).expect(0).says("steps run");
}

#[test]
fn two_at_once_over_one_state_directory_both_succeed() {
    let env = TestEnv::new();
    env.write("Buildfile", host("    RUN sleep 0.3; echo done > out\n    SAVE ARTIFACT out\n"));
    let children: Vec<_> = (0..4).map(|_| env.spawn(["+t"])).collect();
    for child in children {
        let output = child.wait_with_output().expect("ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    env.rb(["+t"]).expect(0).says("nothing to do");
}

#[test]
fn a_fingerprint_keys_the_host() {
    let env = TestEnv::new();
    let buildfile = |word: &str| {
        format!("VERSION 1\nt:\n    FROM @host --fingerprint='echo {word}'\n    RUN echo built > /out\n")
    };
    env.write("Buildfile", buildfile("one"));
    env.rb(["+t"]).expect(0);
    env.write("Buildfile", buildfile("two"));
    env.rb(["+t"]).expect(0).says("1 step run");
    env.write("Buildfile", buildfile("one"));
    env.rb(["+t"]).expect(0).says("nothing to do");
}

#[test]
fn what_was_removed_from_the_state_directory_by_hand_is_built_again() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        host("    RUN echo made > out\n    RUN cat out > again\n    SAVE ARTIFACT again AS LOCAL again\n"),
    );
    let rebuilt = || {
        std::fs::remove_file(env.project().join("again")).ok();
        env.rb(["+t"]).expect(0);
        assert_eq!(env.read("again"), "made\n");
    };
    rebuilt();
    for damage in ["snapshots", "locks", "tmp", "blobs"] {
        std::fs::remove_dir_all(env.state().join(damage)).expect("removes");
        rebuilt();
    }
    let newest = std::fs::read_dir(env.state().join("snapshots"))
        .expect("lists")
        .next()
        .expect("has one")
        .expect("lists");
    std::fs::remove_dir_all(newest.path()).expect("removes");
    rebuilt();
}

#[test]
fn a_damaged_database_says_what_to_remove() {
    let env = TestEnv::new();
    env.write("Buildfile", host("    RUN true\n"));
    env.rb(["+t"]).expect(0);
    std::fs::write(env.state().join("rb.db"), [b'x'; 8192]).expect("writes");
    let run = env.rb(["+t"]).expect(3).says("damaged").says("rm -r");
    assert!(run.stderr.contains(&*env.state().to_string_lossy()), "{}", run.stderr);
}
