//! Writes the definitions that `tests/conformance/run` has solved by `rb` and by BuildKit: one file per case.
//!
//! In: a folder with `layouts/NAME`, OCI layouts of the trees that cases begin with, and with `repositories.json`. Out: `cases/NAME.pb`
//! beside it. The cases are made by our own builder, each about one operation or option.

#![allow(clippy::unwrap_used, reason = "a tool of tests: what fails is told by the panic")]

mod build;
mod copy;
mod exec;
mod files;
mod merge;
mod mounts;
mod sources;
mod unpack;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rb_diag::SourceMap;
use rb_llb::{
    CopyAction, ExecBuilder, ExecMeta, MkdirAction, MkfileAction, NetworkMode, NodeMeta, State, attr,
};
use rb_oci::Platform;

/// The trees that cases begin with, and the cases.
struct Cases {
    folder: PathBuf,
    made: BTreeMap<String, Vec<u8>>,
}

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("the folder is named"));
    let mut cases = Cases { folder: folder.clone(), made: BTreeMap::new() };
    files::add(&mut cases);
    copy::add(&mut cases);
    unpack::add(&mut cases);
    merge::add(&mut cases);
    build::add(&mut cases);
    exec::add(&mut cases);
    mounts::add(&mut cases);
    sources::add(&mut cases);
    let written = folder.join("cases");
    fs::create_dir_all(&written).unwrap();
    for (name, bytes) in cases.made {
        fs::write(written.join(format!("{name}.pb")), bytes).unwrap();
    }
}

impl Cases {
    /// Adds a case that solves `state`.
    fn add(&mut self, name: &str, state: &State) {
        let definition =
            state.marshal(&SourceMap::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(self.made.insert(name.to_owned(), definition.to_bytes()).is_none(), "{name} is there twice");
    }

    /// The image in `layouts/NAME`.
    fn layout(&self, name: &str) -> State {
        let index = fs::read(self.folder.join("layouts").join(name).join("index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        let attrs = [(attr::OCI_STORE.to_owned(), name.to_owned())];
        State::source(format!("oci-layout://rb/{name}@{digest}"), attrs.into(), Some(&platform()), none())
    }

    /// A tree with one of everything.
    fn rich(&self) -> State {
        self.layout("rich")
    }

    /// Another tree, some of it at the same paths and of other kinds.
    fn other(&self) -> State {
        self.layout("other")
    }

    /// A tree that commands run in.
    fn busybox(&self) -> State {
        self.layout("busybox")
    }
}

/// The user's folder in `NAME`.
fn local(name: &str) -> State {
    State::source(format!("local://{name}"), BTreeMap::new(), Some(&platform()), none())
}

fn platform() -> Platform {
    Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None }
}

fn none() -> NodeMeta {
    NodeMeta::default()
}

/// Copies as a Dockerfile's COPY does, but for patterns.
fn copying(src: &str, dest: &str) -> CopyAction {
    CopyAction { src: src.to_owned(), dest: dest.to_owned(), create_dest_path: true, ..CopyAction::default() }
}

fn file(path: &str, text: &str) -> MkfileAction {
    MkfileAction {
        path: path.to_owned(),
        mode: 0o644,
        data: text.as_bytes().to_vec().into(),
        ..MkfileAction::default()
    }
}

fn folder(path: &str) -> MkdirAction {
    MkdirAction { path: path.to_owned(), mode: 0o755, make_parents: true, ..MkdirAction::default() }
}

/// Runs a script of busybox's shell without network.
fn run(tree: &State, script: &str) -> State {
    let args = ["/bin/sh", "-euc", script].map(ToOwned::to_owned).to_vec();
    let meta = ExecMeta { args, env: vec!["PATH=/bin".to_owned()], ..ExecMeta::default() };
    ExecBuilder::new(tree, meta).network(NetworkMode::None).finish(Some(&platform()), none()).root()
}

/// Runs a script that changes `tree`, mounted at /t, and returns what became of that.
fn change(tools: &State, tree: &State, script: &str) -> State {
    let args = ["/bin/sh", "-euc", &format!("cd /t; {script}")].map(ToOwned::to_owned).to_vec();
    let meta = ExecMeta { args, env: vec!["PATH=/bin".to_owned()], ..ExecMeta::default() };
    let command = ExecBuilder::new(tools, meta).network(NetworkMode::None);
    let done = command.mount("/t", tree, rb_llb::MountOptions::default()).finish(Some(&platform()), none());
    done.mount("/t").expect("it is mounted to be written")
}
