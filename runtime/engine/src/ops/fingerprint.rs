//! What a command prints that runs on a tree: a fingerprint of `FROM @host`.

use std::path::Path;

use rb_exec::{ExitStatus, KillSwitch, Spec, Stream};

use super::lay::{host_binds, stack_of};
use super::terms::in_words;
use crate::error::EngineError;
use crate::job::LogTail;
use crate::parts::Parts;
use crate::value::Tree;

/// Runs one command on a tree and returns what it wrote to stdout (at most 1 MiB): a fingerprint of `FROM @host`.
pub(super) fn output_of(
    parts: &Parts,
    tree: &Tree,
    command: &str,
    kill: &KillSwitch,
) -> Result<Vec<u8>, EngineError> {
    const LIMIT: usize = 1 << 20;
    let active = parts.snapshots.prepare(tree.snapshot)?;
    let args = ["/bin/sh", "-ec", command].map(ToOwned::to_owned).to_vec();
    let mut spec = Spec::new(stack_of(&active), args);
    spec.mounts = host_binds(tree.host.as_ref()).collect();
    spec.env = vec!["LC_ALL=C".to_owned()];
    spec.runtime = parts.steps.runtime.clone();
    spec.isolation = parts.steps.isolation;
    spec.cwd = Path::new("/").to_string_lossy().into_owned();
    let (mut stdout, mut tail) = (Vec::new(), LogTail::default());
    let outcome = rb_exec::run(&spec, kill, &mut |stream, bytes| {
        tail.push(bytes);
        if stream == Stream::Stdout {
            stdout.extend_from_slice(&bytes[..bytes.len().min(LIMIT - stdout.len().min(LIMIT))]);
        }
    })?;
    match outcome.status {
        ExitStatus::Exited(0) => Ok(stdout),
        status => {
            let log_tail = tail.into_lines();
            let said = log_tail.last().map(|line| format!(": {line}")).unwrap_or_default();
            let outcome = format!("the fingerprint `{command}` {}{said}", in_words(status));
            Err(EngineError::Exit { outcome, log_tail, help: None })
        }
    }
}
