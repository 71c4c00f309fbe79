//! Commits and tags that have to be signed, asked for by a definition (`git.sig.…`), with signatures that git itself makes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use rb_diag::SourceMap;
use rb_llb::{NodeMeta, State, attr};

use super::git_host::{GitHost, Repository};
use crate::env::{Run, TestEnv};

/// Keys of ssh, in a folder that is gone when dropped.
struct Keys(tempfile::TempDir);

impl Keys {
    /// Makes two; none where there is no program for it.
    fn made() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["own", "other"] {
            let file = folder.path().join(name).display().to_string();
            let words = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &file];
            if !Command::new("ssh-keygen").args(words).status().is_ok_and(|status| status.success()) {
                eprintln!("stepping aside: this needs ssh-keygen (Debian: openssh-client)");
                return None;
            }
        }
        Some(Self(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn public(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.pub"))).expect("is there")
    }

    /// Runs git with a key to sign with.
    fn git(&self, repository: &Repository, key: &str, words: &[&str]) {
        let key = format!("user.signingkey={}", self.path(key).display());
        repository.git(&[&["-c", "gpg.format=ssh", "-c", &key], words].concat());
    }
}

/// Solves a definition of the repository's `name`, with these attributes.
fn solved(env: &TestEnv, host: &GitHost, name: &str, attrs: &[(&str, &str)]) -> Run {
    let identifier = format!("git://{}/team/app#{name}", host.host);
    let url = format!("{}#{name}", host.url("team/app"));
    let attrs: BTreeMap<String, String> = [(attr::GIT_FULL_URL, url.as_str())]
        .iter()
        .chain(attrs)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let state = State::source(&identifier, attrs, None, NodeMeta::named("sources"));
    env.write("t.pb", state.marshal(&SourceMap::default()).expect("marshals").to_bytes());
    std::fs::remove_dir_all(env.project().join("out")).ok();
    let mut run = env.rb(["solve", "t.pb", "-o", "type=local,dest=out"]);
    // Where lines end depends on how long the names are.
    run.stderr = run.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    run
}

#[test]
fn only_what_one_of_the_keys_signed_is_used() {
    let Some(keys) = Keys::made() else { return };
    let host = GitHost::start();
    let repository = host.repository("team/app");
    repository.write("README", "signed\n");
    repository.git(&["add", "--all", "."]);
    keys.git(&repository, "own", &["commit", "--quiet", "-S", "--message=x"]);
    repository.git(&["branch", "plain"]);
    repository.git(&["checkout", "--quiet", "plain"]);
    repository.write("README", "not signed\n");
    repository.commit();
    keys.git(&repository, "own", &["tag", "-s", "-m", "x", "v1"]);
    let env = TestEnv::new();
    let (own, other) = (keys.public("own"), keys.public("other"));
    let (by_own, by_other) =
        ((attr::GIT_SIGNATURE_KEYS, own.as_str()), (attr::GIT_SIGNATURE_KEYS, other.as_str()));
    // Both branches are here, by who does not ask for a signature: that helps nobody who does.
    for name in ["main", "plain"] {
        solved(&env, &host, name, &[]).expect(0);
    }
    solved(&env, &host, "main", &[by_own]).expect(0);
    assert_eq!(env.read("out/README"), "signed\n");
    for _ in 0..2 {
        solved(&env, &host, "main", &[by_other]).expect(2).says("by none of the keys");
        solved(&env, &host, "plain", &[by_own]).expect(2).says("the commit is not signed");
        assert!(!env.has("out/README"));
    }
    // A tag signs what it names, unless it is not to count.
    solved(&env, &host, "v1", &[by_own, (attr::GIT_SIGNATURE_REQUIRE_TAG, "true")]).expect(0);
    assert_eq!(env.read("out/README"), "not signed\n");
    solved(&env, &host, "v1", &[by_own, (attr::GIT_SIGNATURE_IGNORE_TAG, "true")])
        .expect(2)
        .says("not signed");
    solved(&env, &host, "v1", &[by_other]).expect(2);
    // What is asked for without a key, or by a word that nobody knows, is not passed over.
    solved(&env, &host, "main", &[(attr::GIT_SIGNATURE_REQUIRE_TAG, "true")])
        .expect(2)
        .says("a signature needs a key");
    solved(&env, &host, "main", &[by_own, ("git.sig.mode", "lax")]).expect(2).says("git.sig.mode");
}
