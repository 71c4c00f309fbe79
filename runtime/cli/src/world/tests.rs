use std::fs;
use std::path::Path;
use std::sync::Arc;

use rb_frontend::{ProjectRef, Workspace as _, WorldError};
use rustix::fs::Mode;

use super::*;

fn tree(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for file in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("makes folders");
        fs::write(path, "VERSION 1\n").expect("writes");
    }
    dir
}

fn message(result: Result<impl std::fmt::Debug, WorldError>) -> (String, String) {
    match result.expect_err("must fail") {
        error @ WorldError::NotFound { .. } => {
            let WorldError::NotFound { help, .. } = &error else { unreachable!() };
            (error.to_string(), help.clone().unwrap_or_default())
        }
        error => (error.to_string(), String::new()),
    }
}

#[test]
fn the_root_is_where_git_is() {
    let dir = tree(&[".git/HEAD", "a/b/Buildfile"]);
    let (place, target) = Place::of_target(dir.path(), "a/b+t").expect("found");
    assert_eq!(place.root, dir.path().canonicalize().expect("exists"));
    assert_eq!(target.to_string(), "./a/b+t");
    let (same, _) = Place::of_target(&dir.path().join("a"), "./b/../b/+t").expect("found");
    assert_eq!(same, place);
}

#[test]
fn without_git_the_root_is_the_targets_folder() {
    let dir = tree(&["app/Buildfile", "lib/Buildfile"]);
    let (place, target) = Place::of_target(dir.path(), "app+t").expect("found");
    assert!(place.root.ends_with("app"));
    assert_eq!(target.to_string(), "+t");
    let workspace = DiskWorkspace::new(place.root, dir.path().to_owned());
    let lib = workspace.read_buildfile(&target.project.join("../lib")).expect("reads the neighbour");
    assert_eq!(lib.name, "lib/Buildfile");
}

#[test]
fn a_build_file_is_read_once() {
    let dir = tree(&["Buildfile"]);
    let workspace = DiskWorkspace::new(dir.path().to_owned(), dir.path().to_owned());
    let root = ProjectRef::Local { dir: String::new() };
    let first = workspace.read_buildfile(&root).expect("reads");
    fs::write(dir.path().join("Buildfile"), "VERSION 0.8\n").expect("writes");
    let second = workspace.read_buildfile(&root).expect("reads");
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(first.name, "Buildfile");
}

#[test]
fn errors_name_the_nearest() {
    let dir = tree(&["services/api/buildfile", "x/Dockerfile", "y/z"]);
    let (text, help) = message(Place::of_target(dir.path(), "./servces/api+t"));
    assert_eq!(text, "folder `./servces` does not exist");
    assert_eq!(help, "did you mean `./services`?");
    let workspace = DiskWorkspace::new(dir.path().to_owned(), dir.path().to_owned());
    let at = |dir: &str| message(workspace.read_buildfile(&ProjectRef::Local { dir: dir.to_owned() }));
    assert_eq!(at("services/api").0, "a Buildfile in `services/api` does not exist");
    assert!(at("services/api").1.contains("there is `buildfile`"), "{}", at("services/api").1);
    assert!(at("x").1.contains("`rb x:Dockerfile+STAGE`"), "{}", at("x").1);
    assert_eq!(at("y").1, "looked for Buildfile, Earthfile, build.earth");
    assert_eq!(at("sevices").1, "did you mean `services`?");
}

#[test]
fn what_would_block_is_not_read() {
    let dir = tree(&["file"]);
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0)
        .expect("makes a pipe");
    let read = |path: &Path, limit| read_regular(path, limit).map_err(|error| error.to_string());
    assert_eq!(read(&pipe, 10), Err("is not a regular file".to_owned()));
    assert_eq!(read(dir.path(), 10), Err("is a folder".to_owned()));
    assert_eq!(read(Path::new("/dev/zero"), 10), Err("is not a regular file".to_owned()));
    assert_eq!(read(&dir.path().join("file"), 10), Ok(b"VERSION 1\n".to_vec()));
    assert_eq!(read(&dir.path().join("file"), 9), Err("is larger than 0 MiB".to_owned()));
}

#[test]
fn what_is_no_target_or_no_text_is_an_error() {
    let dir = tree(&["Buildfile"]);
    assert_eq!(message(Place::of_target(dir.path(), "./+")).0, "`./+` names no target: write `./+NAME`");
    assert_eq!(message(Place::of_target(dir.path(), "Buildfile+t")).0, "`Buildfile` is not a folder");
    fs::write(dir.path().join("Buildfile"), b"VERSION 1\n\xff").expect("writes");
    let workspace = DiskWorkspace::new(dir.path().to_owned(), dir.path().to_owned());
    let root = ProjectRef::Local { dir: String::new() };
    assert_eq!(message(workspace.read_buildfile(&root)).0, "`Buildfile` is not valid UTF-8 in line 2");
    fs::File::create(dir.path().join("Buildfile")).and_then(|file| file.set_len(17 << 20)).expect("writes");
    assert_eq!(message(workspace.read_buildfile(&root)).0, "`Buildfile` is larger than 16 MiB");
}

#[test]
fn what_a_link_leads_out_is_not_read() {
    let dir = tree(&["out/Buildfile", "out/deep/f", "ws/in/f"]);
    let root = dir.path().canonicalize().expect("exists").join("ws");
    for (target, link) in
        [("../out", "link"), ("../out/deep/f", "file"), ("../out/Buildfile", "Buildfile"), ("in", "alias")]
    {
        std::os::unix::fs::symlink(target, root.join(link)).expect("links");
    }
    let workspace = DiskWorkspace::new(root.clone(), root.clone()).with_secret_files(vec![root.join("in/f")]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let top = ProjectRef::Local { dir: String::new() };
    let refused = |text: String| {
        assert!(text.ends_with("lies outside of the workspace: a symbolic link leads there"), "{text}");
    };
    refused(message(workspace.read_buildfile(&top)).0);
    refused(message(workspace.read_buildfile(&top.join("link"))).0);
    runtime.block_on(async {
        refused(message(workspace.read(&top, "file").await).0);
        refused(message(workspace.read(&top, "link/deep/f").await).0);
        refused(message(workspace.stat(&top, "link/deep").await).0);
        refused(message(workspace.list(&top, "link").await).0);
        // A link itself may be looked at, and one that stays inside be followed.
        let kind = |entry: Option<rb_frontend::WorkspaceEntry>| entry.map(|entry| entry.kind);
        let link = workspace.stat(&top, "link").await.expect("is there");
        assert_eq!(kind(link), Some(rb_frontend::FileKind::Symlink));
        assert!(workspace.read(&top, "alias/f").await.is_ok());
        let command = |cwd: &str| rb_frontend::HostCommand {
            label: "+t | RUN x".to_owned(),
            args: vec!["x".to_owned()],
            env: Vec::new(),
            project: top.clone(),
            cwd: cwd.to_owned(),
            capture: false,
        };
        refused(message(workspace.run(&command("link/deep")).await).0);
        let secret = message(workspace.stat(&top, "in/f").await).0;
        assert_eq!(secret, "`in/f` holds secrets and is not copied: `RUN --secret` lends one to a step");
    });
    // What is written in the reference itself counts.
    assert!(workspace.read_buildfile(&top.join("../out")).is_ok());
}
