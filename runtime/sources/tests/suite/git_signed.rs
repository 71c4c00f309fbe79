//! Commits and tags that must be signed.

use std::io::Write as _;
use std::process::{Command, Stdio};

use rb_sources::SourceError;
use rb_sources::git;

use super::git::{Bench, request};
use super::git_host::{GitHost, Repository};

/// When all signatures were made, and a year.
const LATER: u64 = 1_577_923_200 + 365 * 24 * 3600;

fn text(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/signatures/");
    std::fs::read_to_string(format!("{folder}{name}")).expect("is there")
}

/// Writes an object as it is, and returns its name.
fn write(repository: &Repository, kind: &str, object: &str) -> String {
    let mut git = Command::new("git")
        .current_dir(&repository.path)
        .args(["hash-object", "-w", "-t", kind, "--stdin", "--literally"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    git.stdin.take().expect("is a pipe").write_all(object.as_bytes()).expect("writes");
    let output = git.wait_with_output().expect("ends");
    String::from_utf8(output.stdout).expect("is text").trim().to_owned()
}

/// Makes a branch with the commit of the fixtures, signed so.
fn commit(repository: &Repository, branch: &str, signature: &str) -> String {
    // All have the tree that is empty.
    write(repository, "tree", "");
    let plain = text("commit.txt");
    let (head, message) = plain.split_once("\n\n").expect("has a message");
    let header = match signature {
        "" => String::new(),
        name => format!("\ngpgsig {}", text(name).trim_end().replace('\n', "\n ")),
    };
    let id = write(repository, "commit", &format!("{head}{header}\n\n{message}"));
    repository.git(&["update-ref", &format!("refs/heads/{branch}"), &id]);
    id
}

/// Verifies a name by keys; says why not.
fn verified(host: &GitHost, name: &str, keys: &str, more: &[(&str, &str)]) -> Result<(), String> {
    let keys = text(keys);
    let attrs = [&[("git.sig.pubkey", keys.as_str())], more].concat();
    let url = format!("{}#{name}", host.url("team/app"));
    let bench = Bench::new();
    let request = request(&url, &attrs);
    let pinned = bench.pin(&request).expect("is there");
    match bench.connected(&request, |connection| git::verify(connection, &request, &pinned, LATER)) {
        Ok(()) => Ok(()),
        Err(SourceError::Signature { source, .. }) => Err(source.to_string()),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_commit_is_signed_by_one_of_the_keys() {
    let host = GitHost::start();
    let repository = host.repository("team/app");
    for (branch, signature) in [
        ("plain", ""),
        ("pgp", "commit.pgp"),
        ("ssh", "commit.ssh"),
        ("ecdsa", "ecdsa.ssh"),
        ("file", "wrong-namespace.ssh"),
        ("odd", "tag.pgp"),
    ] {
        commit(&repository, branch, signature);
    }
    for (branch, keys) in [("pgp", "good.key"), ("ssh", "ed25519.pub"), ("ecdsa", "ecdsa.pub")] {
        verified(&host, branch, keys, &[]).unwrap_or_else(|error| panic!("{branch}: {error}"));
    }
    let told = |branch, keys, words: &str| {
        let told = verified(&host, branch, keys, &[]).expect_err(branch);
        assert!(told.contains(words), "{branch} {keys}: {told}");
    };
    told("plain", "good.key", "the commit is not signed");
    told("pgp", "other.key", "by none of the keys");
    told("odd", "good.key", "by none of the keys");
    told("ssh", "ecdsa.pub", "by none of the keys");
    told("file", "ed25519.pub", "by none of the keys");
    told("ssh", "good.key", "no public key of ssh");
    told("pgp", "ed25519.pub", "no armored OpenPGP key");
}

#[test]
fn a_tag_signs_the_commit_that_it_names() {
    let host = GitHost::start();
    let repository = host.repository("team/app");
    let id = commit(&repository, "plain", "");
    let tag = text("tag.txt");
    assert!(tag.starts_with(&format!("object {id}\n")), "{id}");
    let signed = write(&repository, "tag", &format!("{tag}{}", text("tag.pgp")));
    let changed = write(&repository, "tag", &format!("{tag}more\n{}", text("tag.pgp")));
    let bare = write(&repository, "tag", &tag);
    for (name, object) in [("v1", &signed), ("v2", &changed), ("v3", &bare), ("v4", &id)] {
        repository.git(&["update-ref", &format!("refs/tags/{name}"), object]);
    }
    verified(&host, "v1", "good.key", &[]).expect("is signed");
    verified(&host, "refs/tags/v1", "good.key", &[("git.sig.requiresignedtag", "true")]).expect("is signed");
    let told = |name: &str, more: &[(&str, &str)]| verified(&host, name, "good.key", more).expect_err(name);
    // Its commit is not.
    assert_eq!(told("v1", &[("git.sig.ignoresignedtag", "true")]), "the commit is not signed");
    let require = [("git.sig.requiresignedtag", "true")];
    assert!(told("v2", &require).contains("by none of the keys"));
    assert_eq!(told("v3", &require), "the tag is not signed");
    assert_eq!(told("v4", &require), "a tag is not signed");
    assert_eq!(told("plain", &require), "a tag is not signed");
    assert_eq!(told("v2", &[]), "the commit is not signed");
    // A signed commit makes up for a tag that is not.
    let signed = commit(&repository, "pgp", "commit.pgp");
    repository.git(&["update-ref", "refs/tags/v5", &signed]);
    verified(&host, "v5", "good.key", &[]).expect("is signed");
    verified(&host, &signed, "good.key", &[]).expect("by its own name");
}
