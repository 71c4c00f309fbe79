//! A process that outlives this one, to write through to the disk what was built, and to remove what is too much.
//!
//! That takes as long as the disk needs, so the user does not wait for it: at the end of the work `rb` starts itself anew, in a
//! session of its own, and goes. In: the state directory's path and what is to be kept as arguments, the directory itself, open, as
//! standard input. Out: rows in the database. It says nothing: what it cannot do, the end of the next build tries again.
//! Where it is ended with its container or by a signal, what is not marked is distrusted after another boot, no more.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rb_engine::LocalEngine;

/// The word that asks for it. Nobody types it.
const WORD: &str = "__sync";

/// How much it gives way to others.
const NICE: i32 = 10;

/// Starts the process, if there is something for it to do. Costs the time to start a program, and no more.
pub(super) fn start(engine: &LocalEngine) {
    let store = engine.store();
    let is_due = store.is_tidying_due().unwrap_or_default();
    let kept = store.policy().filter(|_| is_due).map(ToString::to_string).unwrap_or_default();
    let started =
        engine.begin_sync().map(|directory| directory.map(|directory| spawn(store.root(), &kept, directory)));
    match started {
        Ok(None | Some(Ok(()))) => {}
        Ok(Some(Err(error))) => tracing::warn!(%error, "snapshots are not synced yet"),
        Err(error) => tracing::warn!(%error, "snapshots are not synced yet"),
    }
}

fn spawn(root: &Path, kept: &str, directory: File) -> std::io::Result<()> {
    // What our caller left open would stay open: a pipe that somebody reads to its end.
    rb_sys::process::keep_from_children()?;
    // Not waited for: whoever takes over the orphans of this process does that.
    Command::new("/proc/self/exe")
        .arg0("rb")
        .args([WORD.as_ref(), root.as_os_str(), kept.as_ref()])
        .env_clear()
        .stdin(Stdio::from(directory))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}

/// Does it and returns the exit code, if `argv` asks for it.
pub(super) fn serve(argv: &[OsString]) -> Option<u8> {
    let [_, word, root, kept @ ..] = argv else { return None };
    let kept = kept.first().and_then(|kept| kept.to_str());
    (word == WORD).then(|| u8::from(sync(Path::new(root), kept).is_err()))
}

fn sync(root: &Path, kept: Option<&str>) -> Result<(), Box<dyn std::error::Error>> {
    // Off the terminal and the folder of whoever started us. It is refused to one alone who was started from a shell.
    rustix::process::setsid().ok();
    rustix::process::chdir("/")?;
    // Where it is refused, we are as quick as others.
    rustix::process::nice(NICE).ok();
    let directory = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let kept = kept.filter(|kept| !kept.is_empty()).map(str::parse).transpose()?;
    Ok(rb_engine::sync_apart(root, &directory, kept)?)
}
