//! A shell in a step that failed, with all that the step saw; or in a tree on `FROM @host`, as a further step would see it.
//!
//! In: a row that [`kept`](super::kept) wrote, and the client's session. Out: a command that runs on what the step has
//! left, with the step's mounts, caches, variables, user, working directory, network and privileges; secrets and agents as
//! far as the client lends them again. A tree is opened by the key of a root that this engine has made.
//! **Invariant:** what the command changes is thrown away with it, but for caches: the step can be opened again as it was.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use rb_exec::{ExitStatus, KillSwitch, Output, Spec, Stdin, Stdio, Stream, Terminal};
use rb_llb::extension::HINT_CACHE;
use rb_llb::{ExecMeta, ExecOp, Mount, MountKind, Op, Vertex};
use rb_oci::Digest;
use rb_session::{DEFAULT_SSH, Session};
use rb_solver::Context;

use super::exec::Way;
use super::kept::{Kept, Origin};
use super::lay::{Lent, lay};
use super::terms::{self, Terms};
use super::{caches, secrets};
use crate::LocalEngine;
use crate::error::EngineError;
use crate::network::set_under;
use crate::parts::Parts;
use crate::value::Value;

/// Shells that a step's own command may be run by.
const SHELLS: [&str; 8] = ["sh", "bash", "ash", "dash", "ksh", "mksh", "zsh", "fish"];

/// What is to run in a step.
#[derive(Clone, Debug, Default)]
pub struct ShellRequest {
    /// The command; empty for a shell: the step's own, or `/bin/sh`.
    pub command: Vec<String>,
    /// A terminal of its own; else the streams are this process's.
    pub terminal: Option<Terminal>,
}

/// A root of a job, as a step that would follow.
#[derive(Clone, Debug)]
pub struct OpenTarget {
    /// What it is called: `+app`.
    pub name: String,
    /// Content key of the root.
    pub key: Digest,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// As whom; empty is root.
    pub user: String,
}

/// A step that failed, found and not yet entered; or one that would follow.
pub struct OpenStep {
    /// What it is called: `+app | RUN make`.
    pub name: String,
    /// What it saw and will not see again, since the client does not lend it: ``the secret `token` ``.
    pub lacks: Vec<String>,
    vertex: Vertex,
    op: ExecOp,
    inputs: Vec<Value>,
    scope: String,
    session: Arc<dyn Session>,
}

impl LocalEngine {
    /// Finds a step that failed and is kept.
    pub fn open_failed(&self, id: u64, session: Arc<dyn Session>) -> Result<OpenStep, EngineError> {
        let gone = || EngineError::NotKept { id };
        let row = self.parts.store.failure(id)?.ok_or_else(gone)?;
        let kept = Kept::read(&row).ok_or_else(gone)?;
        let (vertex, inputs) = kept.step(&row).ok_or_else(gone)?;
        let Op::Exec(mut op) = vertex.op.clone() else { return Err(gone()) };
        let lacks = do_without(&mut op, &*session);
        Ok(OpenStep { name: kept.name, lacks, vertex, op, inputs, scope: kept.scope, session })
    }

    /// Opens a root that a job of this engine has made on `FROM @host`. What is shown there of this machine was allowed as it
    /// was made.
    pub fn open_target(
        &self,
        target: OpenTarget,
        session: Arc<dyn Session>,
    ) -> Result<OpenStep, EngineError> {
        let OpenTarget { name, key, env, cwd, user } = target;
        let tree = self.parts.on_host.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let tree =
            tree.ok_or_else(|| EngineError::Worker { reason: format!("no root of this process is {key}") })?;
        let root = Mount { dest: "/".to_owned(), input: Some(0), output: Some(0), ..Mount::default() };
        let cwd = if cwd.is_empty() { "/".to_owned() } else { cwd };
        let meta = ExecMeta { env, cwd, user, ..ExecMeta::default() };
        let op = ExecOp { meta, mounts: vec![root], ..ExecOp::default() };
        let vertex = Vertex {
            digest: key,
            op: Op::Exec(op.clone()),
            inputs: Vec::new(),
            platform: None,
            constraints: None,
            bytes: Bytes::new(),
        };
        let (inputs, scope) = (vec![Value::Tree(tree)], String::new());
        Ok(OpenStep { name, lacks: Vec::new(), vertex, op, inputs, scope, session })
    }

    /// Runs a command, or a shell, in a step that failed. Returns how it ended; `kill` ends it with all its processes.
    pub async fn enter(
        &self,
        step: OpenStep,
        request: ShellRequest,
        kill: KillSwitch,
    ) -> Result<ExitStatus, EngineError> {
        let OpenStep { name, lacks: _, vertex, op, inputs, scope, session } = step;
        let parts = Arc::clone(&self.parts);
        let cx = Context::detached(vertex.digest);
        let held = caches::hold(&cx, &op, &inputs, &parts, scope).await.map_err(EngineError::of)?;
        let work = move || {
            let run = Run { vertex, name, op: &op, inputs: &inputs, held };
            let lay_down = |spec: &mut Spec| {
                spec.args = if request.command.is_empty() { vec![shell_of(&op)] } else { request.command };
                spec.stdio = Stdio { stdin: Stdin::Inherit, output: Output::Inherit };
                if request.terminal.is_some() {
                    set_under(&mut spec.env, [("TERM", "xterm".to_owned())]);
                }
                spec.terminal = request.terminal;
            };
            run_in(&parts, &*session, run, lay_down, &kill, &mut |_, _| {})
        };
        crate::blocking(work).await.map_err(EngineError::of)
    }
}

/// A command in what a step sees.
pub(super) struct Run<'a> {
    pub(super) vertex: Vertex,
    pub(super) name: String,
    pub(super) op: &'a ExecOp,
    pub(super) inputs: &'a [Value],
    pub(super) held: caches::Held,
}

/// Runs it as `lay_down` says; what it changes is thrown away, but for caches.
pub(super) fn run_in(
    parts: &Parts,
    session: &dyn Session,
    run: Run<'_>,
    lay_down: impl FnOnce(&mut Spec),
    kill: &KillSwitch,
    hear: &mut dyn FnMut(Stream, &[u8]),
) -> Result<ExitStatus, EngineError> {
    let Run { vertex, name, op, inputs, held } = run;
    let given = secrets::ask(op, session)?;
    let emulator = terms::emulator(&vertex, &parts.steps.emulators)?;
    let way = Way { terms: Terms::default(), emulator, vertex, name, origin: Origin::default() };
    let mut lent = Lent { given, held, way, is_last: false, room: None };
    let mut laid = lay(parts, session, op, inputs, &mut lent)?;
    lay_down(&mut laid.spec);
    laid.times.begin()?;
    let outcome = rb_exec::run(&laid.spec, kill, hear);
    laid.times.end()?;
    Ok(outcome?.status)
}

/// Lets a step do without the secrets and agents that are not lent; returns which those are.
fn do_without(op: &mut ExecOp, session: &dyn Session) -> Vec<String> {
    let mut lacks = Vec::new();
    for mount in &mut op.mounts {
        match &mut mount.kind {
            MountKind::Secret(secret) => {
                secret.optional = true;
                // Nobody misses a hint.
                let is_missed = session.secret(&secret.id).is_none() && !secret.id.starts_with(HINT_CACHE);
                lacks.extend(is_missed.then(|| format!("the secret `{}`", secret.id)));
            }
            MountKind::Ssh(agent) => {
                agent.optional = true;
                let id = if agent.id.is_empty() { DEFAULT_SSH } else { &agent.id };
                lacks.extend(session.ssh(id).is_none().then(|| format!("the ssh agent `{id}`")));
            }
            MountKind::Bind | MountKind::Cache { .. } | MountKind::Tmpfs { .. } => {}
        }
    }
    for secret in &mut op.secret_env {
        secret.optional = true;
        lacks.extend(session.secret(&secret.id).is_none().then(|| format!("the secret `{}`", secret.id)));
    }
    lacks.dedup();
    lacks
}

/// Returns the shell that a step's command is run by, or the one that is everywhere.
fn shell_of(op: &ExecOp) -> String {
    let is_shell = |program: &&String| {
        let name = program.rsplit('/').next().unwrap_or_default();
        SHELLS.contains(&name)
    };
    op.meta.args.first().filter(is_shell).cloned().unwrap_or_else(|| "/bin/sh".to_owned())
}

#[cfg(test)]
mod tests {
    use rb_llb::{SecretEnv, SecretMount, SshMount};
    use rb_session::{LocalSession, Secret};

    use super::*;

    #[test]
    fn a_step_is_opened_with_its_own_shell() {
        let shell = |args: &[&str]| {
            let args = args.iter().map(|arg| (*arg).to_owned()).collect();
            shell_of(&ExecOp { meta: ExecMeta { args, ..ExecMeta::default() }, ..ExecOp::default() })
        };
        assert_eq!(shell(&["/bin/sh", "-c", "make"]), "/bin/sh");
        assert_eq!(shell(&["/usr/bin/bash", "-c", "make"]), "/usr/bin/bash");
        assert_eq!(shell(&["make", "all"]), "/bin/sh");
        assert_eq!(shell(&[]), "/bin/sh");
    }

    #[test]
    fn what_is_not_lent_again_is_told_and_done_without() {
        let kind = MountKind::Secret(SecretMount { id: "file".to_owned(), ..SecretMount::default() });
        let variable = |id: &str| SecretEnv { id: id.to_owned(), name: id.to_owned(), optional: false };
        let ssh = Mount { kind: MountKind::Ssh(SshMount::default()), ..Mount::default() };
        let hint = SecretMount { id: format!("{HINT_CACHE}x"), optional: true, ..SecretMount::default() };
        let hint = Mount { kind: MountKind::Secret(hint), ..Mount::default() };
        let mut op = ExecOp {
            mounts: vec![Mount { kind, ..Mount::default() }, ssh, hint],
            secret_env: vec![variable("lent"), variable("other")],
            ..ExecOp::default()
        };
        let session = LocalSession::default().with_secret("lent", Secret::new("x"));
        let lacks = do_without(&mut op, &session);
        assert_eq!(lacks, ["the secret `file`", "the ssh agent `default`", "the secret `other`"]);
        let given = secrets::ask(&op, &session).expect("does without");
        // A variable that is not lent is empty.
        assert_eq!((given.mounts.len(), given.env.len()), (0, 2));
    }
}
