//! Bundles of a real git: what is made of a repository, and what is read from one; what is not in it is not there.

use std::path::{Path, PathBuf};

use rb_oci::Digest;
use rb_sources::git::{self, GitError, GitRequest};

use super::git::{Bench, project, request};
use super::git_host::{GitHost, Repository};

/// Asks for the bundle of a reference.
fn bundle_of(bench: &Bench, url: &str) -> Vec<u8> {
    let wanted = request(url, &[("git.checkoutbundle", "true")]);
    let tree = bench.tree(&wanted).expect("is made");
    assert_eq!(tree.list(), ["bundle 666"]);
    std::fs::read(tree.folder.join("bundle")).expect("is read")
}

/// A bench whose requests are answered from a bundle, and the attributes that say so.
struct Given {
    bench: Bench,
    digest: Digest,
}

impl Given {
    fn new(bytes: &[u8]) -> Self {
        let mut bench = Bench::new();
        let (digest, path) = (Digest::of(bytes), bench.dir.path().join("given"));
        std::fs::write(&path, bytes).expect("writes");
        bench.bundle = Some((digest, path));
        Self { bench, digest }
    }

    fn request(&self, url: &str, commit: &str, more: &[(&str, &str)]) -> GitRequest {
        let blob = format!("oci-layout+blob://a/b@{}", self.digest);
        request(url, &[&[("git.bundle", blob.as_str()), ("git.checksum", commit)], more].concat())
    }
}

/// Returns what git lists of a bundle.
fn heads(bytes: &[u8]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("b");
    std::fs::write(&path, bytes).expect("writes");
    run(folder.path(), &["bundle", "list-heads", &path.display().to_string()])
        .lines()
        .map(ToOwned::to_owned)
        .collect()
}

fn run(folder: &Path, words: &[&str]) -> String {
    let done = std::process::Command::new("git").args(words).current_dir(folder).output().expect("runs");
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("is text")
}

/// Has git make a bundle.
fn made(repository: &Repository, words: &[&str]) -> Vec<u8> {
    let path = PathBuf::from(format!("{}.bundle", repository.path.display()));
    repository.git(&[&["bundle", "create", &path.display().to_string()], words].concat());
    std::fs::read(&path).expect("is read")
}

#[test]
fn a_bundle_has_one_name_and_all_that_led_to_it() {
    let host = GitHost::start();
    let (_project, first, second) = project(&host);
    let url = host.url("team/project");
    let bench = Bench::new();
    // The files alone, without history, are here before.
    bench.tree(&request(&format!("{url}#main"), &[])).expect("is fetched");
    let main = bundle_of(&bench, &format!("{url}#main"));
    assert_eq!(heads(&main), [format!("{second} refs/heads/main")]);
    assert_eq!(heads(&bundle_of(&bench, &url)), [format!("{second} refs/heads/main")]);
    assert_eq!(heads(&bundle_of(&bench, &format!("{url}#v1"))), [format!("{first} refs/heads/v1")]);
    assert_eq!(heads(&bundle_of(&bench, &format!("{url}#refs/tags/v1"))), [format!("{first} refs/tags/v1")]);
    assert_eq!(heads(&bundle_of(&bench, &format!("{url}#{first}"))), [format!("{first} refs/heads/main")]);
    // It needs nothing else.
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("b"), &main).expect("writes");
    run(folder.path(), &["clone", "--quiet", "--branch=main", "b", "clone"]);
    let commits = run(&folder.path().join("clone"), &["rev-list", "HEAD"]);
    assert!(commits.contains(&first) && commits.contains(&second), "{commits}");
    let fresh = bundle_of(&Bench::new(), &format!("{url}#main"));
    assert_eq!(heads(&fresh), heads(&main));
}

#[test]
fn what_wants_a_bundle_has_a_key_of_its_own() {
    let host = GitHost::start();
    let (_project, first, _) = project(&host);
    let url = host.url("team/project");
    let bench = Bench::new();
    let key = |more: &str, attrs: &[(&str, &str)]| {
        let request = request(&format!("{url}{more}"), attrs);
        request.key(&bench.pin(&request).expect("is pinned"))
    };
    let wanted = [("git.checkoutbundle", "true")];
    assert_ne!(key("#v1", &wanted), key("#v1", &[]));
    assert_ne!(key("#v1", &wanted), key("#refs/tags/v1", &wanted), "they are called differently");
    assert_ne!(key("#v1", &wanted), key(&format!("#{first}"), &wanted));
    assert_eq!(
        key("#v1", &wanted),
        key("#refs/heads/v1", &[wanted[0], ("git.fetchbycommit", "true"), ("git.checksum", &first)])
    );
}

#[test]
fn files_of_a_bundle_are_those_of_the_repository() {
    let host = GitHost::start();
    let (project, first, second) = project(&host);
    let url = host.url("team/project");
    let bytes = made(&project, &["main", "v1", "v2"]);
    let of_host = Bench::new();
    let plain = of_host.tree(&request(&format!("{url}#{second}"), &[])).expect("is fetched").list();
    let given = Given::new(&bytes);
    for name in [second.as_str(), "main", "refs/heads/main", ""] {
        let request = given.request(&format!("{url}#{name}"), &second, &[]);
        // The submodule comes from its own host.
        assert_eq!(given.bench.tree(&request).expect("is there").list(), plain, "{name}");
        let pinned = given.bench.pin(&request).expect("is there");
        assert_eq!(pinned.commit, second);
    }
    for name in ["v1", "v2", "refs/tags/v2"] {
        let request = given.request(&format!("{url}#{name}"), &first, &[]);
        assert_eq!(given.bench.pin(&request).expect("is there").commit, first, "{name}");
        assert_eq!(given.bench.tree(&request).expect("is there").text("README"), "one\n");
    }
    let part = given.request(&format!("{url}#main:src"), &second, &[("git.skipsubmodules", "true")]);
    assert_eq!(given.bench.tree(&part).expect("is there").text("main.c"), "main\n");
    let whole = given.request(
        &format!("{url}#main"),
        &second,
        &[("git.keepgitdir", "true"), ("git.skipsubmodules", "true")],
    );
    let tree = given.bench.tree(&whole).expect("is there");
    assert_eq!(run(&tree.folder, &["-c", "safe.directory=*", "rev-parse", "refs/heads/main"]).trim(), second);
    assert!(tree.text(".git/config").contains(&url), "it says where it is at home");
    // A bundle of a bundle.
    let again = given.request(&format!("{url}#main"), &second, &[("git.checkoutbundle", "true")]);
    let tree = given.bench.tree(&again).expect("is made");
    let bytes = std::fs::read(tree.folder.join("bundle")).expect("is read");
    assert_eq!(heads(&bytes), [format!("{second} refs/heads/main")]);
    // Its host was asked for the submodule alone.
    let ran = given.bench.machine.ran.lock().expect("no panics");
    let asks = |line: &&String| [" fetch ", " ls-remote "].iter().any(|word| line.contains(word));
    let asked: Vec<&String> = ran.iter().filter(asks).filter(|line| line.contains(&host.host)).collect();
    assert!(asked.iter().all(|line| line.contains("/team/library ")) && !asked.is_empty(), "{asked:?}");
}

#[test]
fn what_is_not_in_a_bundle_is_not_there() {
    let host = GitHost::start();
    let (project, first, second) = project(&host);
    let url = host.url("team/project");
    let told = |bytes: &[u8], name: &str, commit: &str| {
        let mut given = Given::new(bytes);
        // What is known of the address is of no help.
        let held = given.bench.bundle.take();
        given.bench.tree(&request(&format!("{url}#main"), &[])).expect("is fetched");
        given.bench.bundle = held;
        given
            .bench
            .tree(&given.request(&format!("{url}#{name}"), commit, &[]))
            .expect_err("is refused")
            .to_string()
    };
    let only_first = made(&project, &["v1"]);
    assert!(
        told(&only_first, &second, &second).contains("there is no commit"),
        "{}",
        told(&only_first, &second, &second)
    );
    assert!(told(&only_first, "main", &second).contains("there is no branch or tag `main` in it"));
    assert!(told(&only_first, "v1", &second).contains("is wanted"));
    assert!(told(b"not a bundle", "main", &second).contains("cannot be read"));
    assert!(told(b"# v2 git bundle\n\n", "main", &second).contains("there is nothing in it"));
    let cut = made(&project, &["main"]);
    assert!(told(&cut[..cut.len() - 30], "main", &second).contains("cannot be read"));
    // It rests on a commit that is not in it.
    let thin = made(&project, &[&format!("{first}..main")]);
    assert!(told(&thin, "main", &second).contains("cannot be read"), "{}", told(&thin, "main", &second));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let hex = "a".repeat(64);
    let (blob, commit) = (format!("docker-image+blob://a/b@sha256:{hex}"), "1".repeat(40));
    let refused = |name: &str, attrs: &[(&str, &str)]| {
        let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        GitRequest::parse(&format!("example.com/a{name}"), &attrs).is_err()
    };
    assert!(refused("", &[("git.bundle", &blob)]));
    assert!(refused("", &[("git.bundle", &blob), ("git.checksum", "1111")]));
    assert!(!refused("#main", &[("git.bundle", &blob), ("git.checksum", "1111")]));
    assert!(!refused("", &[("git.bundle", &blob), ("git.checksum", &commit)]));
    assert!(refused("", &[("git.checkoutbundle", "true"), ("git.keepgitdir", "true")]));
    assert!(refused("#main:src", &[("git.checkoutbundle", "true")]));
    let other = request(
        &format!("example.com/a#{}", "2".repeat(40)),
        &[("git.bundle", &blob), ("git.checksum", &commit)],
    );
    assert!(matches!(git::pinned(&other), Err(GitError::Checksum { .. })));
}
