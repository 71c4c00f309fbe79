//! The client's ssh agents in a step.
//!
//! In: what the op asks for, and the client's session. Out: mounts of sockets, and what answers at them while the step
//! runs.
//! **Invariant:** an agent enters no key, no layer and no log: a step can have it list and sign, while it runs, and
//! nothing else.

use rb_exec::{ExtraMount, Isolation, Socket, SocketMount};
use rb_llb::{ExecOp, MountKind};
use rb_session::{DEFAULT_SSH, LentAgent, Session};

use crate::error::EngineError;
use crate::parts::Parts;

/// Who may use an agent whose definition does not say.
const DEFAULT_MODE: u32 = 0o600;

/// The agents that a step is lent; when this is dropped, nobody answers any more.
#[derive(Debug, Default)]
pub(super) struct Agents {
    /// Where they are seen.
    pub(super) mounts: Vec<ExtraMount>,
    _lent: Vec<LentAgent>,
}

/// Lends the agents that `op` asks for.
///
/// `NoAgent` names one that the client does not lend and the step cannot do without.
pub(super) fn lend(op: &ExecOp, session: &dyn Session, parts: &Parts) -> Result<Agents, EngineError> {
    let (mut mounts, mut lent) = (Vec::new(), Vec::new());
    for mount in &op.mounts {
        let MountKind::Ssh(wanted) = &mount.kind else { continue };
        let id = if wanted.id.is_empty() { DEFAULT_SSH } else { &wanted.id };
        let Some(agent) = session.ssh(id) else {
            if wanted.optional {
                continue;
            }
            return Err(EngineError::NoAgent { id: id.to_owned() });
        };
        let mode = if wanted.mode == 0 { DEFAULT_MODE } else { wanted.mode };
        let (socket, listener) = match parts.steps.isolation {
            Isolation::Sandbox => Socket::listen(wanted.uid, wanted.gid, mode)?,
            Isolation::Chroot => Socket::listen_at(&parts.store.temp_path(), wanted.uid, wanted.gid, mode)?,
        };
        lent.push(agent.serve(listener).map_err(|source| rb_exec::ExecError::Setup {
            action: format!("lend the ssh agent `{id}`"),
            source,
        })?);
        mounts.push(ExtraMount::Socket(SocketMount { socket, target: mount.dest.clone() }));
    }
    Ok(Agents { mounts, _lent: lent })
}
