//! Repositories of strangers who mean harm: nothing of this machine is read, run or written.

use std::process::Command;

use rb_sources::SourceError;
use rb_sources::git::GitError;

use super::git::{Bench, request};
use super::git_host::{GitHost, Repository};

#[test]
fn hostile_submodules_lead_nowhere() {
    let (host, bench) = (GitHost::start(), Bench::new());
    let inner = host.repository("inner");
    inner.write("a", "a");
    let commit = inner.commit();
    let secret = bench.dir.path().join("secret");
    let local = Repository { path: secret.clone() };
    std::fs::create_dir(&secret).expect("makes a folder");
    local.git(&["init", "--quiet", "--initial-branch=main"]);
    local.write("key", "hunter2");
    let stolen = local.commit();
    for (number, (name, path, url, commit)) in [
        ("s", "s", format!("file://{}", secret.display()), &stolen),
        ("s", "s", secret.display().to_string(), &stolen),
        ("s", "s", "--upload-pack=touch /tmp/rb-pwned".to_owned(), &commit),
        ("s", "s", "ext::sh -c touch% /tmp/rb-pwned".to_owned(), &commit),
        ("s", "s", "ssh://-oProxyCommand=touch%20x/a".to_owned(), &commit),
        ("../../x", "s", "../inner".to_owned(), &commit),
        ("s", ".git/hooks", "../inner".to_owned(), &commit),
    ]
    .into_iter()
    .enumerate()
    {
        let outer = host.repository(&format!("outer{number}"));
        let text = format!("[submodule \"{name}\"]\n\tpath = {path}\n\turl = {url}\n");
        outer.write(".gitmodules", &text);
        outer.commit();
        if path == "s" {
            outer.link("s", commit);
        }
        for attrs in [&[][..], &[("git.keepgitdir", "true")]] {
            let error = bench.tree(&request(&host.url(&format!("outer{number}")), attrs)).expect_err(&url);
            assert!(
                matches!(error, SourceError::Git(GitError::Submodule { .. } | GitError::Entry { .. })),
                "{error}"
            );
        }
    }
    assert!(!std::path::Path::new("/tmp/rb-pwned").exists());
    // What holds itself ends.
    let outer = host.repository("self");
    outer.write(".gitmodules", "[submodule \"s\"]\n\tpath = s\n\turl = ../self\n");
    let commit = outer.commit();
    outer.link("s", &commit);
    let tree = bench.tree(&request(&host.url("self"), &[])).expect("comes");
    assert_eq!(tree.list(), [".gitmodules 644", "s 755", "s/.gitmodules 644"]);
}

#[test]
fn a_tree_with_a_repositorys_own_folder_is_refused() {
    let (host, bench) = (GitHost::start(), Bench::new());
    let repository = host.repository("r");
    repository.write("f", "[core]\n\tfsmonitor = touch /tmp/rb-pwned\n");
    repository.commit();
    let blob = repository.git(&["rev-parse", "HEAD:f"]);
    let make = |line: String| {
        let path = repository.path.join(".git/tree.txt");
        std::fs::write(&path, line).expect("writes");
        let mut shell = Command::new("sh");
        shell.args(["-c", "git mktree --missing < .git/tree.txt"]).current_dir(&repository.path);
        let made =
            shell.output().map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned()).expect("runs");
        assert_eq!(made.len(), 40);
        made
    };
    let inner = make(format!("100644 blob {blob}\tconfig\n"));
    for name in [".git", ".GIT"] {
        let tree = make(format!("040000 tree {inner}\t{name}\n"));
        let commit = repository.git(&["commit-tree", &tree, "-m", "x"]);
        repository.git(&["update-ref", "refs/heads/evil", &commit]);
        let error = bench.tree(&request(&format!("{}#evil", host.url("r")), &[])).expect_err(name);
        assert!(error.to_string().contains("cannot be part of a tree"), "{error}");
    }
}
