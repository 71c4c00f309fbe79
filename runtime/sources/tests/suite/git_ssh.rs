//! Repositories behind ssh: a program of that name in the test's PATH stands for both ends of the line.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rb_session::GitAccess;
use rb_sources::SourceError;
use rb_sources::git::GitError;

use super::git::{Bench, request};
use super::git_host::GitHost;

/// Puts an `ssh` into a folder of the bench that notes how it is called, then does this.
fn with_ssh(script: &str) -> (Bench, PathBuf) {
    let mut bench = Bench::new();
    let folder = bench.dir.path().join("bin");
    std::fs::create_dir(&folder).expect("makes a folder");
    let noted = folder.join("noted");
    let text = format!(
        "#!/bin/sh\nprintf '%s|%s\\n' \"$SSH_AUTH_SOCK\" \"$*\" >> '{}'\n{script}\n",
        noted.display()
    );
    let ssh = folder.join("ssh");
    std::fs::write(&ssh, text).expect("writes");
    std::fs::set_permissions(&ssh, PermissionsExt::from_mode(0o755)).expect("changes the mode");
    bench.machine.path = Some(folder);
    bench.ssh = Some(("/agent's socket".into(), "/it's known".into()));
    (bench, noted)
}

#[test]
fn ssh_asks_the_lent_agent_and_knows_the_given_hosts() {
    let host = GitHost::start();
    let repository = host.repository("team/app");
    repository.write("a", "one");
    let first = repository.commit();
    repository.write("a", "two");
    repository.commit();
    let root =
        repository.path.parent().and_then(|team| team.parent()).expect("has one").display().to_string();
    let (bench, noted) = with_ssh(&format!("for last; do :; done; cd '{root}' && eval \"exec $last\""));
    let tree = bench.tree(&request("git@git.example:team/app", &[])).expect("comes");
    assert_eq!(tree.list(), ["a 644"]);
    // Of an old server, which does not give what it did not name, all branches come.
    bench.tree(&request(&format!("git@git.example:team/app#{first}"), &[])).expect("comes");
    let noted = std::fs::read_to_string(noted).expect("was called");
    for line in noted.lines() {
        assert!(line.starts_with("/agent's socket|"), "{line}");
        for part in [
            "-F /dev/null",
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "UserKnownHostsFile=\"/it's known\"",
            "GlobalKnownHostsFile=/dev/null",
            "IdentityFile=/dev/null",
            "git@git.example git-upload-pack 'team/app'",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}

#[test]
fn a_command_of_the_users_is_called_for_its_host_alone() {
    let host = GitHost::start();
    let repository = host.repository("team/app");
    repository.write("a", "one");
    repository.commit();
    let root = repository.path.ancestors().nth(2).expect("has one").display().to_string();
    let (mut bench, noted) = with_ssh(&format!("for last; do :; done; cd '{root}' && eval \"exec $last\""));
    let access = GitAccess { ssh_command: Some("ssh -i '/my key'".to_owned()), login: None };
    bench.session = bench.session.clone().with_git_access("ssh://git.example/", access);
    bench.tree(&request("git@git.example:team/app", &[])).expect("comes");
    bench.tree(&request("git@other.example:team/app", &[])).expect("comes");
    let noted = std::fs::read_to_string(noted).expect("was called");
    for line in noted.lines() {
        assert!(line.contains("UserKnownHostsFile=\"/it's known\""), "{line}");
        let is_its = line.contains("git@git.example");
        assert_eq!((line.contains("-i /my key"), line.contains("-F /dev/null")), (is_its, !is_its), "{line}");
    }
    assert!(noted.contains("git@git.example") && noted.contains("git@other.example"), "{noted}");
}

#[test]
fn what_ssh_says_is_told_with_what_to_type() {
    for (said, help) in [
        ("Host key verification failed.", "ssh-keyscan git.example"),
        ("git@git.example: Permission denied (publickey).", "ssh-add"),
    ] {
        let (bench, _) = with_ssh(&format!("echo '{said}' >&2; exit 255"));
        let error = bench.tree(&request("git@git.example:team/app", &[])).expect_err(said);
        let SourceError::Git(error) = error else { panic!("{error}") };
        assert!(matches!(error, GitError::Untrusted { .. } | GitError::Unauthorized { .. }), "{error}");
        assert!(error.help().is_some_and(|text| text.contains(help)), "{error}: {:?}", error.help());
    }
}
