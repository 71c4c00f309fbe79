//! Running a command: what it sees is laid out (`lay`), the sandbox runs on the step's `terms`, changed trees become results; those of
//! a command that failed (`exit`) are `kept`.

use std::sync::Arc;

use bytes::Bytes;
use rb_exec::{Emulator, ExecOutcome, KillSwitch, Spec, Stream};
use rb_llb::extension::{EXEC_BY_CONTENT, HINT_CACHE};
use rb_llb::{ContentCache, ExecOp, Mount, MountKind, NetworkMode, SecurityMode, Vertex, VertexMeta};
use rb_oci::Digest;
use rb_solver::{Context, OpError};

use super::lay::{Lent, Writable, lay, proxies};
use super::terms::Terms;
use super::{agents, budget, caches, exit, kept, mounts, resume, secrets};
use crate::error::EngineError;
use crate::job::{JobContext, LogTail};
use crate::network;
use crate::parts::Parts;
use crate::value::{Tree, Value};

/// Digest of what is run. Proxy variables stay outside, as in BuildKit: they say how to reach, not what. So do ids of caches that
/// hold hints.
pub(super) fn digest(vertex: &Vertex, op: &ExecOp) -> Digest {
    match in_key(op) {
        None => vertex.op_digest(),
        Some(op) => rb_llb::Op::Exec(op).digest_without_inputs(vertex.platform.as_ref()),
    }
}

/// Returns what of a command is in its key, where that is not all of it.
pub(super) fn in_key(op: &ExecOp) -> Option<ExecOp> {
    let is_hint = |mount: &Mount| hint_id(&mount.kind).is_some();
    if op.meta.proxy_env.is_none() && !op.mounts.iter().any(is_hint) {
        return None;
    }
    let mut op = op.clone();
    op.meta.proxy_env = None;
    for mount in op.mounts.iter_mut().filter(|mount| is_hint(mount)) {
        if let MountKind::Cache { id, .. } = &mut mount.kind {
            HINT_CACHE.clone_into(id);
        }
    }
    Some(op)
}

/// Returns what stands for the id of a cache that holds hints.
fn hint_id(kind: &MountKind) -> Option<&'static str> {
    match kind {
        MountKind::Cache { id, .. } => id.starts_with(HINT_CACHE).then_some(HINT_CACHE),
        MountKind::Bind | MountKind::Secret(_) | MountKind::Ssh(_) | MountKind::Tmpfs { .. } => None,
    }
}

/// Inputs whose key is the content of what the step sees of them: read-only ones, unless the op or the vertex says otherwise of a
/// mount.
pub(super) fn slow_inputs(op: &ExecOp, meta: &VertexMeta, inputs: usize) -> Vec<bool> {
    let by_content = meta.description.get(EXEC_BY_CONTENT);
    let narrow = |mount: &Mount| match mount.content_cache {
        _ if mount.kind != MountKind::Bind => false,
        _ if by_content == Some(&mount.dest) => true,
        ContentCache::Default => mount.readonly && mount.dest != "/",
        ContentCache::On => true,
        ContentCache::Off => false,
    };
    let used = |index: usize| op.mounts.iter().filter(move |mount| mount.input == Some(index));
    (0..inputs).map(|index| used(index).next().is_some() && used(index).all(narrow)).collect()
}

/// How a step is run, beside what its op says.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) terms: Terms,
    pub(super) emulator: Option<Emulator>,
    /// The step itself.
    pub(super) vertex: Vertex,
    /// What it is called.
    pub(super) name: String,
    /// By what it is found again, should it fail.
    pub(super) origin: kept::Origin,
}

/// Runs the command to its end, or to the end of interest in it; again, if it fails and its terms say so.
pub(super) async fn run(
    cx: &Context,
    op: &ExecOp,
    inputs: Vec<Value>,
    job: &Arc<JobContext>,
    way: Way,
) -> Result<Vec<Value>, OpError> {
    for attempt in 1.. {
        let is_last = way.terms.pause_after(attempt).is_none();
        let failed = match attempt_at(cx, op, &inputs, job, (&way, is_last)).await? {
            Err(failed @ EngineError::Exit { .. }) if !cx.is_cancelled() => failed,
            done => return done.map_err(crate::op_error),
        };
        let Some(pause) = way.terms.pause_after(attempt) else { return Err(crate::op_error(failed)) };
        let line = format!("{}: {failed}; the next begins in {pause:?}\n", way.terms.which(attempt));
        cx.log(rb_solver::Stream::Stderr, Bytes::from(line));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cx.cancelled() => break,
        }
    }
    Err(OpError::cancelled())
}

async fn attempt_at(
    cx: &Context,
    op: &ExecOp,
    inputs: &[Value],
    job: &Arc<JobContext>,
    (way, is_last): (&Way, bool),
) -> Result<Result<Vec<Value>, EngineError>, OpError> {
    let kill = KillSwitch::new();
    let mut given = secrets::ask(op, &*job.session).map_err(crate::op_error)?;
    given.hide(network::passwords(&proxies(op, &job.parts.network)));
    let held = caches::hold(cx, op, inputs, &job.parts, job.session.cache_scope()).await?;
    let room = budget::enter(cx, op, job, way).await?;
    let work = {
        let (op, job, kill, cx) = (op.clone(), Arc::clone(job), kill.clone(), cx.clone());
        let (inputs, way) = (inputs.to_vec(), way.clone());
        // The caches are given back when the thread has ended, and every process of the sandbox with it.
        let lent = Lent { given, held, way, is_last, room };
        crate::blocking(move || Ok(run_blocking(&cx, &op, &inputs, &job, lent, &kill)))
    };
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => done,
        () = cx.cancelled() => {
            kill.kill();
            // The processes are gone and their mounts with them once the thread has returned.
            work.await
        }
    }
}

fn run_blocking(
    cx: &Context,
    op: &ExecOp,
    inputs: &[Value],
    job: &JobContext,
    mut lent: Lent,
    kill: &KillSwitch,
) -> Result<Vec<Value>, EngineError> {
    let parts = &job.parts;
    let mut laid = lay(parts, &*job.session, op, inputs, &mut lent)?;
    laid.spec.memory = lent.room.as_ref().map(budget::Room::meter);
    laid.times.begin()?;
    let outcome = run_logged(cx, &laid.spec, job, &lent.given, kill);
    let ended = laid.times.end();
    let outcome = outcome?;
    laid.today.clear();
    laid.agents = agents::Agents::default();
    // Others need not wait until the results are kept.
    let scope = lent.held.let_go();
    let failed = exit::check(op, &outcome, &laid.spec, &lent.way.terms, cx, job).err();
    let failed = failed.map(|failed| resume::told(&lent.way.origin, failed));
    if let Some(room) = lent.room.take() {
        room.ended(failed.is_none());
    }
    let tidied = laid.tidy();
    let Some(failed) = failed else {
        ended?;
        tidied?;
        return collect(parts, laid.writables, laid.read_only_outputs);
    };
    if !lent.is_last || tidied.is_err() {
        return Err(failed);
    }
    Err(kept::keep(job, &lent.way, kept::Seen { scope, inputs, laid }, failed))
}

/// Refuses what this version cannot do, and what the job does not allow. Asked before a result is looked up, so that no
/// stored result stands in for what is refused.
pub(super) fn refuse(op: &ExecOp, job: &JobContext) -> Result<(), EngineError> {
    if op.security == SecurityMode::Insecure && !job.allow_insecure {
        return Err(EngineError::InsecureStep);
    }
    if op.network == NetworkMode::Host && !job.allow_host_network && !job.parts.network.on_host {
        return Err(EngineError::HostNetworkStep);
    }
    Ok(())
}

/// Runs the sandbox; output goes to whoever listens, and its end is kept for the error.
fn run_logged(
    cx: &Context,
    spec: &Spec,
    job: &JobContext,
    given: &secrets::Given,
    kill: &KillSwitch,
) -> Result<ExecOutcome, EngineError> {
    let mut tail = LogTail::default();
    let mut say = |stream, bytes: &[u8]| {
        tail.push(bytes);
        cx.log(stream, Bytes::copy_from_slice(bytes));
    };
    let (mut stdout, mut stderr) = (given.redactor(), given.redactor());
    let outcome = rb_exec::run(spec, kill, &mut |stream, bytes| match stream {
        Stream::Stdout => stdout.push(bytes, &mut |bytes| say(rb_solver::Stream::Stdout, bytes)),
        Stream::Stderr => stderr.push(bytes, &mut |bytes| say(rb_solver::Stream::Stderr, bytes)),
    });
    stdout.finish(&mut |bytes| say(rb_solver::Stream::Stdout, bytes));
    stderr.finish(&mut |bytes| say(rb_solver::Stream::Stderr, bytes));
    job.keep_tail(cx.vertex(), tail);
    Ok(outcome?)
}

/// Turns what the step changed into results, in the order of its outputs.
fn collect(
    parts: &Parts,
    writables: Vec<Writable>,
    read_only: Vec<(u32, Tree)>,
) -> Result<Vec<Value>, EngineError> {
    let mut outputs = read_only;
    for Writable { mount: _, active, base, output } in writables {
        let Some(output) = output else { continue };
        let diff = rb_snapshot::diff(&active)?;
        // With the list of its files: what a later step builds from them has to be built again when they are others.
        let (snapshot, content) = mounts::commit_with_manifest(parts, active, &diff, base.content, true)?;
        outputs.push((output, Tree { snapshot: Some(snapshot), content, host: base.host }));
    }
    outputs.sort_by_key(|(output, _)| *output);
    let dense = outputs.iter().enumerate().all(|(index, (output, _))| index == *output as usize);
    if !dense {
        return Err(EngineError::Definition {
            reason: "the outputs of a step are not numbered from 0".to_owned(),
        });
    }
    Ok(outputs.into_iter().map(|(_, tree)| Value::Tree(tree)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_by_its_content() {
        let mount = |dest: &str, readonly: bool, content_cache: ContentCache| Mount {
            input: Some(0),
            dest: dest.to_owned(),
            readonly,
            content_cache,
            ..Mount::default()
        };
        let seen = |mounts: Vec<Mount>, by: &str| {
            let description = [(EXEC_BY_CONTENT.to_owned(), by.to_owned())].into();
            let meta = VertexMeta { description, ..VertexMeta::default() };
            slow_inputs(&ExecOp { mounts, ..ExecOp::default() }, &meta, 1)[0]
        };
        let slow = |mounts: Vec<Mount>| seen(mounts, "");
        // Of a tree that is changed the vertex has to say so.
        assert!(seen(vec![mount("/app", false, ContentCache::Default)], "/app"));
        assert!(!seen(vec![mount("/other", false, ContentCache::Default)], "/app"));
        for (dest, readonly, default) in [("/in", true, true), ("/in", false, false), ("/", true, false)] {
            assert_eq!(slow(vec![mount(dest, readonly, ContentCache::Default)]), default);
            assert!(slow(vec![mount(dest, readonly, ContentCache::On)]));
            assert!(!slow(vec![mount(dest, readonly, ContentCache::Off)]));
        }
        // All that is seen of an input has to be known so, and a cache never is.
        assert!(!slow(vec![mount("/a", true, ContentCache::On), mount("/b", true, ContentCache::Off)]));
        let cache = MountKind::Cache { id: "c".to_owned(), sharing: rb_llb::CacheSharing::Shared };
        assert!(!slow(vec![Mount { kind: cache, ..mount("/c", true, ContentCache::On) }]));
        assert!(!slow(Vec::new()));
    }
}
