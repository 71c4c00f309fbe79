//! Secrets of a step: files and variables that only it sees.
//!
//! In: what the op asks for, and the client's session. Out: mounts and variables of the sandbox, and a [`Redactor`]
//! that strikes the values out of what the step writes to its streams.
//! **Invariant:** a value is never printed here, enters no key and no layer: files are in memory, and the places they
//! are mounted on vanish with the sandbox.

use rb_exec::{ExtraMount, FileMount, Hidden};
use rb_llb::{ExecOp, MountKind};
use rb_session::{Redactor, Secret, Session};

use crate::error::EngineError;

/// Who may read a secret whose definition does not say.
const DEFAULT_MODE: u32 = 0o400;
/// What a step gets of the client's secrets.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// As files.
    pub(super) mounts: Vec<ExtraMount>,
    /// As variables.
    pub(super) env: Vec<(String, Hidden)>,
    /// Their values.
    values: Vec<Secret>,
}

impl Given {
    /// Has more values struck out, which the step is given in another way.
    pub(super) fn hide(&mut self, values: impl IntoIterator<Item = Secret>) {
        self.values.extend(values);
    }

    /// Returns what strikes the values out of one stream.
    pub(super) fn redactor(&self) -> Redactor {
        Redactor::new(&self.values)
    }
}

/// Asks the client for the secrets of `op`.
///
/// `NoSecret` names one that the client does not lend and the step cannot do without.
pub(super) fn ask(op: &ExecOp, session: &dyn Session) -> Result<Given, EngineError> {
    let mut given = Given::default();
    for mount in &op.mounts {
        let MountKind::Secret(wanted) = &mount.kind else { continue };
        let Some(secret) = find(session, &wanted.id, wanted.optional)? else { continue };
        given.values.push(secret.clone());
        given.mounts.push(ExtraMount::File(FileMount {
            content: Hidden::new(secret),
            target: mount.dest.clone(),
            uid: wanted.uid,
            gid: wanted.gid,
            mode: if wanted.mode == 0 { DEFAULT_MODE } else { wanted.mode },
        }));
    }
    for wanted in &op.secret_env {
        let Some(secret) = find(session, &wanted.id, wanted.optional)? else {
            // As in BuildKit: it is set, and empty.
            given.env.push((wanted.name.clone(), Hidden::new([])));
            continue;
        };
        given.values.push(secret.clone());
        given.env.push((wanted.name.clone(), Hidden::new(secret)));
    }
    Ok(given)
}

fn find(session: &dyn Session, id: &str, optional: bool) -> Result<Option<Secret>, EngineError> {
    match session.secret(id) {
        None if !optional => Err(EngineError::NoSecret { id: id.to_owned() }),
        found => Ok(found),
    }
}
