//! `rb build`: Dockerfiles as they are, built with docker's own words.

mod common;
mod contexts;
mod flags;
mod many;
pub(super) mod rawjson;
mod requests;
mod results;

use std::process::Stdio;

use crate::env::{Run, TestEnv, ended};

/// A project with a base image beside it, `../base`, and the folder `app` for contexts; none where there is no busybox.
pub(super) fn project() -> Option<TestEnv> {
    let env = TestEnv::new();
    env.busybox_layout("base").then_some(env)
}

/// The flag that gives `FROM base` its image.
pub(super) const BASE: [&str; 2] = ["--build-context", "base=oci-layout://base"];

/// Runs `rb build` with the base.
pub(super) fn build(env: &TestEnv, words: &[&str]) -> Run {
    env.rb(["build"].iter().chain(&BASE).chain(words))
}

/// Runs `rb build` with the base, and something on stdin.
pub(super) fn build_fed(env: &TestEnv, words: &[&str], stdin: &[u8]) -> Run {
    use std::io::{Seek as _, Write as _};
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(stdin).and_then(|()| file.rewind()).expect("writes");
    let mut command = env.command(["build"].iter().chain(&BASE).chain(words));
    ended(command.stdin(Stdio::from(file)))
}

/// A tar of files.
pub(super) fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o640);
        header.set_mtime(1);
        header.set_uid(7);
        header.set_gid(8);
        tar.append_data(&mut header, path, text.as_bytes()).expect("in memory");
    }
    tar.into_inner().expect("in memory")
}

/// The config of an image in the store.
pub(super) fn config(env: &TestEnv, name: &str) -> serde_json::Value {
    let told = env.rb(["image", "inspect", name]).expect(0).stdout;
    let told: serde_json::Value = serde_json::from_str(&told).expect("is JSON");
    told[0]["config"].clone()
}
