//! `rb --ssh` and `RUN --ssh`.

use std::path::PathBuf;
use std::process::Command;

use crate::env::TestEnv;

/// A target that lists the keys it is lent, on this machine's own programs, and a new key; nothing after saying what is missing.
fn project() -> Option<(TestEnv, PathBuf)> {
    let env = TestEnv::new();
    let key = env.state().parent().expect("lies in a folder").join("home/key");
    let file = key.to_str().expect("is text");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "me@here", "-f", file])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("stepping aside: this needs ssh-keygen and ssh-add (Debian: openssh-client)");
        return None;
    }
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    RUN --ssh ssh-add -l && echo $SSH_AUTH_SOCK\n",
    );
    Some((env, key))
}

#[test]
fn a_step_is_lent_a_key_and_told_how_to_get_one() {
    let Some((env, key)) = project() else { return };
    env.rb(["+t"]).expect(2).says("there is no ssh agent `default`").says("--ssh default");
    let lent = format!("default={}", key.display());
    env.rb(["--ssh", &lent, "+t"]).expect(0).says("me@here").says("/run/buildkit/ssh_agent.0");
    // It is in no key: the result stands for who has none.
    env.rb(["--expect-cached", "+t"]).expect(0);
    env.rb(["--ssh", "default", "+t"]).expect(2).says("SSH_AUTH_SOCK is not set");
    env.rb(["--ssh", "default=/etc/passwd", "+t"]).expect(2).says("is not a private key of OpenSSH");
}

#[test]
fn the_agent_of_the_shell_is_lent_to_who_asks() {
    let Some((env, key)) = project() else { return };
    let socket = env.state().parent().expect("lies in a folder").join("agent");
    let socket = socket.to_str().expect("is text");
    let mut agent = Command::new("ssh-agent")
        .args(["-D", "-a", socket])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let added = || {
        let mut add = Command::new("ssh-add");
        add.arg("-q").arg(&key).env("SSH_AUTH_SOCK", socket).status().is_ok_and(|status| status.success())
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !added() {
        assert!(std::time::Instant::now() < deadline, "the agent does not come");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let run = env.rb_with(&[("SSH_AUTH_SOCK", socket)], ["+t"]);
    agent.kill().expect("kills");
    agent.wait().expect("waits");
    run.expect(0).says("me@here");
    env.rb_with(&[("SSH_AUTH_SOCK", socket)], ["--ssh=default", "+t"]).expect(2).says("no ssh agent answers");
}
