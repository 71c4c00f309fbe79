use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use super::*;

/// A repository of its own, with a fixed author and clock, and none of the machine's configuration.
struct Repository(tempfile::TempDir);

impl Repository {
    fn empty() -> Self {
        let repository = Self(tempfile::tempdir().expect("a temporary folder"));
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    /// With one commit.
    fn new() -> Self {
        let repository = Self::empty();
        repository.commit("first");
        repository
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn commit(&self, message: &str) {
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
    }

    /// Runs git and returns what it said.
    fn git(&self, words: &[&str]) -> String {
        let output = configured(Command::new("git").current_dir(self.path()).args(words))
            .output()
            .expect("git is installed");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }

    fn facts(&self) -> GitFacts {
        facts_of(self.path())
    }
}

fn configured(command: &mut Command) -> &mut Command {
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), format!("{} Æ", who.to_lowercase()))
            .env(format!("GIT_{who}_EMAIL"), format!("{}@example.com", who.to_lowercase()));
    }
    command
        .env("GIT_AUTHOR_DATE", "1600000000 +0200")
        .env("GIT_COMMITTER_DATE", "1700000000 -0500")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
}

/// What [`Outside`] does, by std, since a test has threads.
fn here(command: &HostCommand) -> Result<Said, ExecError> {
    run_with(command, &[])
}

fn run_with(command: &HostCommand, env: &[(&str, &str)]) -> Result<Said, ExecError> {
    let (program, arguments) = command.args.split_first().expect("a program");
    let output = configured(Command::new(program).args(arguments).current_dir(&command.cwd))
        .envs(env.iter().copied())
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .output()
        .expect("runs");
    let status = match output.status.code() {
        Some(code) => ExitStatus::Exited(code),
        None => ExitStatus::Signaled(output.status.signal().unwrap_or_default()),
    };
    Ok(Said { status, stdout: output.stdout, stderr: output.stderr })
}

fn facts_of(dir: &Path) -> GitFacts {
    match look(&here, dir).expect("git answers") {
        Found::Facts(facts) => *facts,
        Found::Nothing(absence) => panic!("{absence:?}"),
    }
}

#[test]
fn a_commit_on_a_branch() {
    let repository = Repository::empty();
    repository.commit("first\n\nCo-authored-by: A B <ab@example.com>\nCo-authored-by: <none>\n\
        co-authored-by: C <c@example.com>\n Co-authored-by: D <d@example.com>\nCo-authored-by: E <ab@example.com>");
    repository.git(&["remote", "add", "origin", "https://me:secret@example.com/org/repo.git"]);
    let hash = repository.git(&["rev-parse", "HEAD"]);
    let facts = repository.facts();
    assert_eq!(
        facts,
        GitFacts {
            short_hash: hash[..8].to_owned(),
            hash,
            branch: "main".to_owned(),
            tag: String::new(),
            refs: vec!["main".to_owned()],
            origin_url: "https://me:secret@example.com/org/repo.git".to_owned(),
            origin_url_scrubbed: "https://me:xxxxx@example.com/org/repo.git".to_owned(),
            project_name: "org/repo".to_owned(),
            commit_timestamp: "1700000000".to_owned(),
            author_timestamp: "1600000000".to_owned(),
            author: "author@example.com".to_owned(),
            author_email: "author@example.com".to_owned(),
            author_name: "author Æ".to_owned(),
            co_authors: vec!["ab@example.com".to_owned(), "d@example.com".to_owned()],
        }
    );
    // The same from below, and from another working tree.
    let below = repository.path().join("a/b");
    std::fs::create_dir_all(&below).expect("makes folders");
    assert_eq!(facts_of(&below), facts);
    let other = tempfile::tempdir().expect("a temporary folder");
    let tree = other.path().join("tree");
    repository.git(&["worktree", "add", "-q", "-b", "side/way", &tree.display().to_string()]);
    let there = facts_of(&tree);
    assert_eq!((there.branch.as_str(), there.hash), ("side/way", facts.hash));
    assert_eq!(there.refs, ["main", "way"]);
}

#[test]
fn branches_and_tags_are_those_git_says() {
    type Case = (&'static str, &'static [&'static [&'static str]], &'static [&'static str]);
    let cases: &[Case] = &[
        ("plain", &[], &["main"]),
        ("detached", &[&["checkout", "-q", "--detach"]], &["main"]),
        ("a path", &[&["checkout", "-q", "-b", "feature/x"]], &["x", "main"]),
        ("light tags", &[&["tag", "b"], &["tag", "a"]], &["main", "a", "b"]),
        ("annotated", &[&["tag", "a"], &["tag", "-a", "-m", "x", "z"]], &["main", "a", "z"]),
        ("deep", &[&["tag", "release/1.0"]], &["main", "1.0"]),
        ("ambiguous", &[&["tag", "main"]], &["main"]),
        (
            "remotes",
            &[
                &["update-ref", "refs/remotes/origin/main", "HEAD"],
                &["update-ref", "refs/remotes/origin/dev", "HEAD"],
                &["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"],
            ],
            &["main", "dev"],
        ),
        (
            "elsewhere",
            &[&["tag", "old"], &["branch", "older"], &["commit", "-q", "--allow-empty", "-m", "next"]],
            &["main"],
        ),
        ("packed", &[&["tag", "-a", "-m", "x", "t"], &["pack-refs", "--all"]], &["main", "t"]),
        (
            "unlike",
            &[&["config", "core.warnAmbiguousRefs", "true"], &["branch", "tags/x"], &["tag", "x"]],
            &["main", "x"],
        ),
    ];
    for (name, steps, refs) in cases {
        let repository = Repository::new();
        for step in *steps {
            repository.git(step);
        }
        let facts = repository.facts();
        assert_eq!(facts.branch, repository.git(&["rev-parse", "--abbrev-ref", "HEAD"]), "{name}");
        assert_eq!(facts.short_hash, repository.git(&["rev-parse", "--short=8", "HEAD"]), "{name}");
        let tag = configured(Command::new("git").current_dir(repository.path()).args([
            "describe",
            "--exact-match",
            "--tags",
        ]))
        .output()
        .expect("git is installed");
        assert_eq!(facts.tag, String::from_utf8_lossy(&tag.stdout).trim(), "{name}");
        assert_eq!(facts.refs, *refs, "{name}");
    }
}

#[test]
fn the_newest_annotated_tag_wins() {
    let repository = Repository::new();
    for (tag, date) in [("a", "1700000001 +0000"), ("b", "1700000003 +0000"), ("c", "1700000002 +0000")] {
        let mut command = Command::new("git");
        configured(command.current_dir(repository.path()).args(["tag", "-a", "-m", "x", tag]));
        assert!(command.env("GIT_COMMITTER_DATE", date).status().expect("runs").success());
    }
    assert_eq!(repository.facts().tag, "b");
    assert_eq!(repository.git(&["describe", "--exact-match", "--tags"]), "b");
}

#[test]
fn what_is_not_there_is_empty_or_absent() {
    let repository = Repository::empty();
    assert_eq!(repository.facts(), GitFacts::default());
    repository.git(&["remote", "add", "origin", "git@example.com:org/repo"]);
    let facts = repository.facts();
    assert_eq!((facts.hash.as_str(), facts.project_name.as_str()), ("", "org/repo"));

    let plain = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(look(&here, plain.path()).expect("answers"), Found::Nothing(Absence::NoRepository));
    // A working tree whose repository is not on this machine.
    std::fs::write(plain.path().join(".git"), "gitdir: /nonexistent/repository\n").expect("writes");
    assert_eq!(look(&here, plain.path()).expect("answers"), Found::Nothing(Absence::NoRepository));

    // Without git, `env` alone is found.
    let bin = tempfile::tempdir().expect("a temporary folder");
    std::os::unix::fs::symlink("/usr/bin/env", bin.path().join("env")).expect("links");
    let path = bin.path().display().to_string();
    let answer = look(&|command| run_with(command, &[("PATH", &path)]), repository.path());
    assert_eq!(answer.expect("answers"), Found::Nothing(Absence::NoGit));
}

#[test]
fn a_caller_that_is_git_does_not_confuse() {
    let (one, two) = (Repository::new(), Repository::new());
    two.commit("second");
    let git_dir = one.path().join(".git").display().to_string();
    let env = [("GIT_DIR", git_dir.as_str()), ("GIT_INDEX_FILE", "/nonexistent"), ("GIT_PREFIX", "x/")];
    let found = look(&|command| run_with(command, &env), two.path()).expect("answers");
    assert_eq!(found, Found::Facts(Box::new(two.facts())));
}

#[test]
fn a_hostile_repository_runs_nothing() {
    let repository = Repository::new();
    let marker = repository.path().join("ran");
    let program = repository.path().join("program");
    std::fs::write(&program, format!("#!/bin/sh\ntouch '{}'\n", marker.display())).expect("writes");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("may");
    // A signed commit, so that there would be something to verify.
    let unsigned = repository.git(&["cat-file", "commit", "HEAD"]);
    let signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n";
    let (head, body) = unsigned.split_once("\n\n").expect("a body");
    std::fs::write(repository.path().join("commit"), format!("{head}\n{signature}\n{body}\n"))
        .expect("writes");
    let signed = repository.git(&["hash-object", "-t", "commit", "-w", "commit"]);
    repository.git(&["update-ref", "HEAD", &signed]);
    let text = program.display().to_string();
    for (name, value) in [
        ("log.showSignature", "true"),
        ("gpg.program", text.as_str()),
        ("core.fsmonitor", text.as_str()),
        ("core.pager", text.as_str()),
        ("pager.log", text.as_str()),
        ("core.sshCommand", text.as_str()),
        ("core.editor", text.as_str()),
        ("alias.log", &format!("!{text}")),
        ("diff.external", text.as_str()),
    ] {
        repository.git(&["config", name, value]);
    }
    let facts = repository.facts();
    assert_eq!((facts.hash, facts.author_name.as_str()), (signed, "author Æ"));
    assert!(!marker.exists());

    // A partial clone that lacks the very commit, and would fetch it by running a program.
    repository.git(&["config", "core.repositoryFormatVersion", "1"]);
    repository.git(&["config", "extensions.partialClone", "origin"]);
    repository.git(&["config", "remote.origin.url", &format!("ext::{text}")]);
    repository.git(&["config", "remote.origin.promisor", "true"]);
    repository.git(&["config", "protocol.ext.allow", "always"]);
    std::fs::write(repository.path().join(".git/refs/heads/main"), format!("{}\n", "1".repeat(40)))
        .expect("writes");
    let error = look(&here, repository.path()).expect_err("lacks the commit");
    assert!(matches!(&error, GitError::Failed { command: "log", code: 128, .. }), "{error:?}");
    assert!(!marker.exists());
}

#[test]
fn another_users_repository_is_an_error_that_says_what_to_do() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("stepping aside: this needs root");
        return;
    }
    let repository = Repository::new();
    chown(repository.path(), Some(61005), Some(61005)).expect("root may");
    let error = look(&here, repository.path()).expect_err("git does not trust it");
    let WorldError::Failed { kind, message } = WorldError::from(error) else { panic!("another error") };
    assert_eq!(kind, ErrorKind::Environment);
    let path = repository.path().display();
    assert!(message.ends_with(&format!("git config --global --add safe.directory {path}")), "{message}");
}
