//! GIT CLONE, from a host of the test's: what comes, what runs again, what is shown to whom and kept nowhere.

use std::path::Path;
use std::process::Command;

use crate::env::{Run, TestEnv, Who};

mod bundle;
mod https;
mod signed;
pub(crate) mod ssh;

#[path = "../../runtime/sources/tests/support/git_host.rs"]
#[allow(dead_code, reason = "tests of others use the rest")]
pub(crate) mod git_host;

use git_host::{GitHost, Manners};

/// A project that clones `team/app` and looks at it.
fn env(who: Who, host: &GitHost, more: &str) -> TestEnv {
    let env = TestEnv::of(who);
    let text = format!(
        "VERSION 1\nt:\n    FROM scratch\n    WORKDIR /w\n    GIT CLONE {more}{} app\n    SAVE ARTIFACT app AS LOCAL out\n",
        host.url("team/app")
    );
    env.write("Buildfile", text);
    env.hand_over();
    env
}

pub(crate) fn state_of(env: &TestEnv) -> String {
    let mut found = String::new();
    let mut folders = vec![env.state()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    found
                        .push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default()));
                }
                _ => {}
            }
        }
    }
    found
}

fn git(folder: &Path, words: &[&str]) -> String {
    let done = Command::new("git").args(["-c", "safe.directory=*"]).args(words).current_dir(folder).output();
    let done = done.expect("git runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

#[test]
fn a_branch_comes_and_what_it_does_not_change_is_not_made_again() {
    let host = GitHost::start();
    let repository = host.repository("team/app");
    repository.write("README", "one\n");
    let first = repository.commit();
    let env = env(Who::Tester, &host, "");
    env.rb(["+t"]).expect(0);
    assert_eq!(env.read("out/README"), "one\n");
    assert_eq!(git(&env.project().join("out"), &["rev-parse", "HEAD"]), first);
    assert_eq!(git(&env.project().join("out"), &["status", "--porcelain"]), "");
    host.asked();
    env.rb(["--expect-cached", "+t"]).expect(0);
    assert_eq!(
        host.asked().len(),
        2,
        "the branch alone is asked about: what the host can do, and where it is"
    );
    // Nobody needs the host where nobody is to be asked.
    env.rb(["--pull=never", "--expect-cached", "+t"]).expect(0);
    assert!(host.asked().is_empty());
    repository.write("README", "two\n");
    repository.commit();
    env.rb(["--dry-run", "+t"]).expect(0);
    env.rb(["+t"]).expect(0);
    assert_eq!(env.read("out/README"), "two\n");
}

#[test]
fn an_ordinary_user_reads_repositories_too() {
    for who in [Who::SingleId, Who::SubIds] {
        let host = GitHost::start();
        host.repository("team/app").write("a", "a\n");
        let repository = host.repository("team/app");
        repository.commit();
        let env = env(who, &host, "");
        if rustix_is_root() {
            env.rb(["+t"]).expect(0);
            assert_eq!(env.read("out/a"), "a\n", "{who:?}");
        }
    }
}

/// Only root can become the users of these tests.
fn rustix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

#[test]
fn a_token_is_a_secret() {
    let host = GitHost::start();
    let repository = host.repository("team/app");
    repository.write("README", "one\n");
    repository.commit();
    // x-access-token:hunter2-token
    let wanted = "basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMi10b2tlbg==";
    host.set(Manners { wanted: Some(wanted.to_owned()), ..Manners::default() });
    let env = env(Who::Tester, &host, "");
    let refused = env.rb(["+t"]).expect(2);
    let refused: Run = refused.says("wants to know who asks").says("--secret GIT_AUTH_TOKEN=TOKEN");
    assert!(refused.stderr.contains("GIT CLONE"), "the line is shown: {}", refused.stderr);
    env.rb(["--secret", "GIT_AUTH_TOKEN=hunter2-token", "+t"]).expect(0).hides("hunter2").hides("aHVudGVy");
    let kept = state_of(&env);
    assert!(!kept.contains("hunter2-token") && !kept.contains("aHVudGVyMi10b2tlbg"));
    assert!(!env.read("out/.git/config").contains("hunter2"));
    env.rb(["--secret", "GIT_AUTH_TOKEN=wrong", "+t"]).expect(2).says("does not take what was shown");
}

#[test]
fn what_is_not_there_says_what_is_near() {
    let host = GitHost::start();
    let repository = host.repository("team/app");
    repository.write("README", "one\n");
    repository.commit();
    repository.git(&["branch", "release"]);
    let env = env(Who::Tester, &host, "--branch=relaese ");
    env.rb(["+t"]).expect(2).says("has no branch or tag `relaese`").says("did you mean `release`?");
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM scratch\n    GIT CLONE file:///etc x\n    SAVE ARTIFACT x AS LOCAL y\n",
    );
    env.rb(["+t"]).expect(2).says("is no address of a repository");
}
