//! Bundles of repositories: made of one, lent in a layout or put into a registry, and read without asking the repository's host.

use std::collections::BTreeMap;
use std::path::Path;

use rb_diag::SourceMap;
use rb_llb::{NodeMeta, State, attr};
use rb_oci::Digest;

use super::git;
use super::git_host::GitHost;
use crate::env::{Run, TestEnv};
use crate::push::folder;
use crate::registry::support::docker_registry::{DockerRegistry, Wants};

/// Solves a definition of the repository's `name`, with these attributes, into `out`.
fn solved(env: &TestEnv, host: &GitHost, name: &str, attrs: &[(&str, &str)], more: &[&str]) -> Run {
    let url = format!("{}#{name}", host.url("team/app"));
    let attrs: BTreeMap<String, String> = [(attr::GIT_FULL_URL, url.as_str())]
        .iter()
        .chain(attrs)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let state = State::source(
        format!("git://{}/team/app#{name}", host.host),
        attrs,
        None,
        NodeMeta::named("sources"),
    );
    env.write("t.pb", state.marshal(&SourceMap::default()).expect("marshals").to_bytes());
    std::fs::remove_dir_all(env.project().join("out")).ok();
    env.rb([&["solve", "t.pb", "-o", "type=local,dest=out"], more].concat())
}

/// Puts a blob into a layout; returns its digest.
fn put(layout: &Path, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("makes folders");
    std::fs::write(layout.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").expect("writes");
    std::fs::write(layout.join("index.json"), "{\"schemaVersion\":2,\"manifests\":[]}").expect("writes");
    std::fs::write(blobs.join(digest.hex()), bytes).expect("writes");
    digest
}

#[test]
fn a_bundle_that_was_made_is_read_where_its_host_is_not() {
    let host = GitHost::start();
    let repository = host.repository("team/app");
    repository.write("README", "one\n");
    let first = repository.commit();
    repository.write("README", "two\n");
    let second = repository.commit();
    let env = TestEnv::new();
    let wanted = (attr::GIT_CHECKOUT_BUNDLE, "true");
    solved(&env, &host, "main", &[wanted], &[]).expect(0);
    let bundle = std::fs::read(env.project().join("out/bundle")).expect("is there");
    git(&env.project(), &["clone", "--quiet", "--branch=main", "out/bundle", "clone"]);
    assert_eq!(git(&env.project().join("clone"), &["rev-list", "main"]), format!("{second}\n{first}"));
    host.asked();
    solved(&env, &host, "main", &[wanted], &[]).expect(0);
    assert_eq!(host.asked().len(), 2, "the branch alone is asked about");

    let other = TestEnv::new();
    let digest = put(&other.project().join("blobs"), &bundle);
    let blob = format!("oci-layout+blob://not/real@{digest}");
    let given =
        [(attr::GIT_BUNDLE, blob.as_str()), (attr::OCI_STORE, "lent"), (attr::GIT_CHECKSUM, second.as_str())];
    let lent = format!("--oci-layout=lent={}", other.project().join("blobs").display());
    host.asked();
    solved(&other, &host, "main", &given, &[]).expect(2).says("lent");
    solved(&other, &host, "main", &given, &[&lent]).expect(0);
    assert_eq!(other.read("out/README"), "two\n");
    // Once it is here, nothing of it is needed again.
    std::fs::remove_dir_all(other.project().join("blobs/blobs")).expect("removes");
    solved(&other, &host, "main", &given, &[&lent]).expect(0);
    solved(&other, &host, &second, &given, &[&lent]).expect(0);
    assert!(host.asked().is_empty(), "its host was asked");
    // What is no bundle is nothing, though the host has it all.
    let (old, first) = (TestEnv::new(), (attr::GIT_CHECKSUM, first.as_str()));
    let digest = put(&old.project().join("blobs"), b"no bundle");
    let nonsense = format!("oci-layout+blob://not/real@{digest}");
    let lent = format!("--oci-layout=lent={}", old.project().join("blobs").display());
    let given = [(attr::GIT_BUNDLE, nonsense.as_str()), (attr::OCI_STORE, "lent"), first];
    solved(&old, &host, "main", &given, &[&lent]).expect(2).says("cannot be read");
    assert!(host.asked().is_empty(), "its host was asked");
}

#[test]
fn a_bundle_lies_in_a_registry() {
    let place = folder();
    let Some(registry) = DockerRegistry::start(&place.path().join("registry"), &Wants::default()) else {
        return;
    };
    let host = GitHost::start();
    let repository = host.repository("team/app");
    repository.write("README", "one\n");
    let commit = repository.commit();
    repository.git(&["bundle", "create", "../app.bundle", "main"]);
    let bundle = std::fs::read(repository.path.join("../app.bundle")).expect("is there");
    let digest = Digest::of(&bundle);
    let url = format!("http://{}/v2/team/bundles/blobs/uploads/", registry.host);
    let file = repository.path.join("../app.bundle").display().to_string();
    let script = "place=$(curl -sf -X POST -D - -o /dev/null \"$1\" | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p') && \
        curl -sf -X PUT -H 'Content-Type: application/octet-stream' --data-binary \"@$3\" \"$place&digest=$2\"";
    let words = ["-c", script, "sh", &url, &digest.to_string(), &file];
    if !std::process::Command::new("sh").args(words).status().is_ok_and(|status| status.success()) {
        eprintln!("stepping aside: this needs curl");
        return;
    }
    let env = TestEnv::new();
    let blob = format!("docker-image+blob://{}/team/bundles@{digest}", registry.host);
    let given = [(attr::GIT_BUNDLE, blob.as_str()), (attr::GIT_CHECKSUM, commit.as_str())];
    solved(&env, &host, "main", &given, &[]).expect(0);
    assert_eq!(env.read("out/README"), "one\n");
    assert!(host.asked().is_empty(), "its host was asked");
}
