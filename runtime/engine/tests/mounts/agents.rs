//! Ssh agents: what a step can do with one, and where nothing of it is.

use std::process::Command;

use rb_api::SolveError;
use rb_diag::ErrorKind;
use rb_llb::{ExecOp, MountKind, SshMount, State};
use rb_session::{SshAgent, SshKey};

use super::{Kit, files, mount, step};

fn agent(id: &str, optional: bool) -> MountKind {
    MountKind::Ssh(SshMount { id: id.to_owned(), optional, ..SshMount::default() })
}

/// A kit whose client lends a new key, and that key's file; nothing after saying what is missing.
fn kit() -> Option<(Kit, Vec<u8>)> {
    let mut kit = Kit::new()?;
    let file = kit.dir.join("key");
    let path = file.to_str().expect("is text").to_owned();
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "me@here", "-f", &path])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("stepping aside: this needs ssh-keygen and ssh-add (openssh-client)");
        return None;
    }
    let key = std::fs::read(&file).expect("reads");
    std::fs::remove_file(&file).expect("removes");
    let lent = SshAgent::of_keys(vec![SshKey::parse(&key).expect("is a key")]);
    kit.session = kit.session.with_ssh("default", lent);
    Some((kit, key))
}

#[test]
fn a_step_signs_and_nothing_stays() {
    let Some((kit, key)) = kit() else { return };
    let script = "test \"$SSH_AUTH_SOCK\" = /run/buildkit/ssh_agent.0; ssh-add -L > /tmp/me.pub; ssh-add -T /tmp/me.pub; \
        ! ssh-add -D 2>/dev/null; ssh-add -l | wc -l > /out/said; stat -c '%a %u %g' $SSH_AUTH_SOCK >> /out/said";
    let (out, root) = step(script, vec![(mount("", agent("", false)), State::scratch())], ExecOp::default());
    assert_eq!(kit.said(&out), "1\n600 0 0\n");
    kit.solve(&[root]);
    assert!(!kit.dir.join("out/0/run/buildkit").exists());
    let text = String::from_utf8(key).expect("is text");
    let secret = text.lines().nth(2).expect("has lines");
    let holds = |path: &std::path::PathBuf| {
        std::fs::read(path)
            .unwrap_or_default()
            .windows(secret.len())
            .any(|window| window == secret.as_bytes())
    };
    let holding: Vec<_> = files(&kit.dir).into_iter().filter(holds).collect();
    assert!(holding.is_empty() && !kit.logs().contains(secret), "{holding:?}");
}

#[test]
fn an_agent_is_not_in_the_key_and_may_be_missing() {
    let Some((mut kit, _)) = kit() else { return };
    let with =
        |script, kind| step(script, vec![(mount("/agent", kind), State::scratch())], ExecOp::default()).0;
    let listing = with("ssh-add -l > /out/said", agent("default", false));
    assert_eq!(kit.solve(std::slice::from_ref(&listing)), 1);
    kit.session = rb_session::LocalSession::default();
    assert_eq!(kit.solve(&[listing]), 0);
    assert_eq!(kit.said(&with("test ! -e /agent; echo none > /out/said", agent("other", true))), "none\n");
    let error = kit.try_solve(&[with("true", agent("other", false))]).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::Input));
    let SolveError::Vertex { message, help, .. } = error else { panic!() };
    assert!(message.contains("no ssh agent `other`"), "{message}");
    assert!(help.is_some_and(|help| help.contains("--ssh other")));
}
