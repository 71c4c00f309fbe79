//! A state directory on a disk that is mounted read-only: what only reads files works there, and the rest says why it does not.

use std::process::Command;

use crate::env::{Run, TestEnv, ended, is_root};

/// Runs `rb` where nothing can be written below the state directory. Nothing where this machine allows no such mount.
fn locked(env: &TestEnv, args: &[&str]) -> Run {
    let plain = env.command(args);
    // A mount namespace of its own: elsewhere the folder stays as it is.
    let script = format!(
        "mount --bind {s} {s} && mount -o remount,bind,ro {s} && exec \"$0\" \"$@\"",
        s = env.state().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(plain.get_program());
    command.args(plain.get_args()).current_dir(env.project()).env_clear().stdin(std::process::Stdio::null());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    ended(&mut command)
}

/// A project that was built twice, the second time because of `f`; nothing if this user cannot mount.
fn built() -> Option<TestEnv> {
    if !is_root() {
        eprintln!("stepping aside: only root mounts a folder read-only");
        return None;
    }
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\nt:\n    FROM @host\n    COPY f f\n    RUN cat f; echo said\n");
    for content in ["1\n", "2\n"] {
        env.write("f", content);
        env.rb(["+t"]).expect(0);
    }
    Some(env)
}

#[test]
fn records_and_logs_are_read() {
    let Some(env) = built() else { return };
    for args in [&["history", "ls"][..], &["history", "show", "@1"], &["history", "ls", "--json"]] {
        let told = locked(&env, args).expect(0).stdout;
        assert!(told.contains("+t"), "{args:?}: {told}");
    }
    for args in [&["logs"][..], &["logs", "-f"], &["logs", "+t"], &["history", "logs", "@1"]] {
        let told = locked(&env, args).expect(0).stdout;
        assert!(told.contains("said"), "{args:?}: {told}");
    }
    locked(&env, &["logs", "--list"]).expect(0);
    locked(&env, &["history", "export", "@1"]).expect(0);
    locked(&env, &["status"]).expect(0);
}

#[test]
fn why_explains_what_the_records_tell() {
    let Some(env) = built() else { return };
    for args in [&["why", "--last", "+t"][..], &["why", "--between", "@2", "@1", "+t"], &["why", "+t"]] {
        let told = locked(&env, args).expect(0).stdout;
        assert!(told.contains("file `f` has changed: "), "{args:?}: {told}");
        let is_looked = args.len() == 2;
        assert_eq!(told.contains("what would run now is not known"), is_looked, "{args:?}: {told}");
    }
    let told = locked(&env, &["why", "--json", "+t"]).expect(0).stdout;
    assert!(told.contains("\"compared\": \"last\"") && told.contains("read-only disk"), "{told}");
    locked(&env, &["why", "--since", "@2", "+t"]).expect(3).says("its disk is read-only");
}

#[test]
fn what_needs_the_database_says_so() {
    let Some(env) = built() else { return };
    for args in [&["image", "ls"][..], &["cache", "du"], &["+t"], &["--dry-run", "+t"]] {
        let run = locked(&env, args).expect(3).says("its disk is read-only").says("rb why --last");
        assert!(run.stderr.contains(&env.state().display().to_string()), "{}", run.stderr);
    }
}
