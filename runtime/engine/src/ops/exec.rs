//! Running a command: mounts are made of inputs, the sandbox runs, changed trees become results.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rb_exec::{
    Bind, ExecError, ExitStatus, ExtraMount, KillSwitch, Network, OverlayMount, RootDriver, RootMount,
    Rootless, Spec, Stream, Upper, UserSpec,
};
use rb_llb::{ExecOp, Mount, MountKind, NetworkMode, SecurityMode, Vertex};
use rb_oci::{Digest, Hasher};
use rb_snapshot::{Active, DriverKind, Follow};
use rb_solver::{Context, OpError};

use super::{mounts, unsupported};
use crate::error::EngineError;
use crate::job::{JobContext, LogTail};
use crate::parts::Parts;
use crate::value::{HostMounts, Tree, Value};

/// Digest of what is run. Proxy variables stay outside, as in BuildKit: they say how to reach, not what.
pub(super) fn digest(vertex: &Vertex, op: &ExecOp) -> Digest {
    if op.meta.proxy_env.is_none() {
        return vertex.op_digest();
    }
    let mut op = op.clone();
    op.meta.proxy_env = None;
    rb_llb::Op::Exec(op).digest_without_inputs(vertex.platform.as_ref())
}

/// Inputs of which the step sees only a part, read-only: their key is the content of that part.
pub(super) fn slow_inputs(op: &ExecOp, inputs: usize) -> Vec<bool> {
    let narrow = |mount: &Mount| mount.readonly && mount.dest != "/" && mount.kind == MountKind::Bind;
    let used = |index: usize| op.mounts.iter().filter(move |mount| mount.input == Some(index));
    (0..inputs).map(|index| used(index).next().is_some() && used(index).all(narrow)).collect()
}

/// Digests the parts of an input that the step sees.
pub(super) fn content(
    parts: &Parts,
    op: &ExecOp,
    index: usize,
    value: &Value,
) -> Result<Digest, EngineError> {
    let view = mounts::view(parts, value)?;
    let mut hasher = Hasher::default();
    for mount in op.mounts.iter().filter(|mount| mount.input == Some(index)) {
        let selector = if mount.selector.is_empty() { "/" } else { &mount.selector };
        hasher.update(view.content_digest(selector, Follow::Yes)?.as_bytes());
    }
    if let Value::Tree(Tree { host: Some(host), .. }) = value {
        hasher.update(host.key.as_bytes());
    }
    Ok(hasher.finish().0)
}

/// Runs the command to its end, or to the end of interest in it.
pub(super) async fn run(
    cx: &Context,
    op: &ExecOp,
    inputs: Vec<Value>,
    job: &Arc<JobContext>,
) -> Result<Vec<Value>, OpError> {
    let kill = KillSwitch::new();
    let work = {
        let (op, job, kill, cx) = (op.clone(), Arc::clone(job), kill.clone(), cx.clone());
        crate::blocking(move || run_blocking(&cx, &op, &inputs, &job, &kill))
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

/// A mount of the step whose changes are kept, or that is thrown away after the run.
struct Writable {
    active: Active,
    base: Tree,
    output: Option<u32>,
}

fn run_blocking(
    cx: &Context,
    op: &ExecOp,
    inputs: &[Value],
    job: &JobContext,
    kill: &KillSwitch,
) -> Result<Vec<Value>, EngineError> {
    let parts = &job.parts;
    refuse_what_comes_later(op)?;
    let input = |mount: &Mount| match mount.input {
        None => Ok(Value::Tree(Tree::scratch())),
        Some(index) => inputs.get(index).cloned().ok_or_else(|| EngineError::Definition {
            reason: format!("the mount at {} uses input {index}, which is not there", mount.dest),
        }),
    };
    let mut writables = Vec::new();
    let mut read_only_outputs = Vec::new();
    let mut root = None;
    let mut extra = Vec::new();
    for mount in &op.mounts {
        match &mount.kind {
            MountKind::Tmpfs { size_bytes } => {
                let size_bytes = u64::try_from(*size_bytes).ok().filter(|size| *size > 0);
                let target = mount.dest.clone();
                extra.push(ExtraMount::Tmpfs { target, size_bytes, mode: 0o1777 });
            }
            MountKind::Bind => {
                let is_root = mount.dest == "/";
                let tree = mounts::tree(parts, &input(mount)?, if is_root { &mount.selector } else { "" })?;
                let layers = parts.snapshots.layers(tree.snapshot)?;
                if is_root {
                    extra.extend(host_binds(tree.host.as_ref()));
                }
                // A read-only root still gets a layer of its own, which is thrown away: what is mounted in it needs
                // places to stand on.
                let stack = if mount.readonly && is_root {
                    read_only_outputs.extend(mount.output.map(|output| (output, tree.clone())));
                    let active = parts.snapshots.prepare(tree.snapshot)?;
                    let stack = stack_of(&active);
                    writables.push(Writable { active, base: tree, output: None });
                    stack
                } else if mount.readonly {
                    read_only_outputs.extend(mount.output.map(|output| (output, tree.clone())));
                    RootMount { layers, writable: None, driver: RootDriver::Overlay }
                } else {
                    let active = parts.snapshots.prepare(tree.snapshot)?;
                    let stack = stack_of(&active);
                    writables.push(Writable { active, base: tree, output: mount.output });
                    stack
                };
                if is_root {
                    root = Some((stack, mount.readonly));
                } else {
                    let (selector, target) = (mount.selector.clone(), mount.dest.clone());
                    extra.push(ExtraMount::Overlay(OverlayMount {
                        root: stack,
                        selector,
                        target,
                        readonly: mount.readonly,
                    }));
                }
            }
            MountKind::Cache { .. } => return Err(unsupported("a cache mount", None)),
            MountKind::Secret(_) => return Err(unsupported("a secret mount", None)),
            MountKind::Ssh(_) => return Err(unsupported("an ssh mount", None)),
        }
    }
    let (root, readonly_root) =
        root.ok_or_else(|| EngineError::Definition { reason: "a step has no mount at `/`".to_owned() })?;
    let mut spec = Spec::new(root, op.meta.args.clone());
    spec.readonly_root = readonly_root;
    spec.mounts = extra;
    spec.env = op.meta.env.clone();
    spec.cwd = op.meta.cwd.clone();
    spec.user = UserSpec(op.meta.user.clone());
    spec.hostname =
        if op.meta.hostname.is_empty() { "buildkitsandbox".to_owned() } else { op.meta.hostname.clone() };
    spec.network = network(op.network);
    spec.hosts = hosts(op)?;
    let status = run_logged(cx, &spec, job, kill)?;
    check_exit(op, status, cx, job)?;
    collect(parts, writables, read_only_outputs)
}

/// This version has no network namespace that reaches outside, so a sandboxed network is the host's (README, limits).
fn network(mode: NetworkMode) -> Network {
    match mode {
        NetworkMode::Sandbox | NetworkMode::Host => Network::Host,
        NetworkMode::None => Network::None,
    }
}

fn refuse_what_comes_later(op: &ExecOp) -> Result<(), EngineError> {
    if op.security == SecurityMode::Insecure {
        return Err(unsupported("a privileged step (`security.insecure`)", None));
    }
    if !op.secret_env.is_empty() {
        return Err(unsupported("a secret in the environment", None));
    }
    if !op.cdi_devices.is_empty() {
        return Err(unsupported("a device in a step", None));
    }
    Ok(())
}

/// How the sandbox mounts a layer that is being written.
pub(crate) fn stack_of(active: &Active) -> RootMount {
    match active.driver() {
        DriverKind::Overlay => {
            let writable = Upper { upper: active.upper().to_owned(), work: active.work().to_owned() };
            RootMount::overlay(active.lowers().to_vec(), Some(writable))
        }
        DriverKind::Copy => RootMount::directory(active.upper()),
    }
}

/// What of this machine shows in a tree, as mounts.
fn host_binds(host: Option<&HostMounts>) -> impl Iterator<Item = ExtraMount> + use<> {
    let binds = host.map(|host| host.binds.clone()).unwrap_or_default();
    binds.into_iter().map(|path| {
        let target = path.to_string_lossy().into_owned();
        ExtraMount::Bind(Bind { source: path, target, readonly: true, recursive: true })
    })
}

fn hosts(op: &ExecOp) -> Result<Vec<(String, std::net::IpAddr)>, EngineError> {
    let parse = |entry: &rb_llb::HostAddress| {
        let address = entry.ip.parse().map_err(|_| EngineError::Definition {
            reason: format!("`{}` is not an IP address for host `{}`", entry.ip, entry.host),
        });
        address.map(|address| (entry.host.clone(), address))
    };
    op.meta.extra_hosts.iter().map(parse).collect()
}

/// Runs the sandbox; output goes to whoever listens, and its end is kept for the error.
fn run_logged(
    cx: &Context,
    spec: &Spec,
    job: &JobContext,
    kill: &KillSwitch,
) -> Result<ExitStatus, EngineError> {
    let mut tail = LogTail::default();
    let outcome = rb_exec::run(spec, kill, &mut |stream, bytes| {
        tail.push(bytes);
        let stream = match stream {
            Stream::Stdout => rb_solver::Stream::Stdout,
            Stream::Stderr => rb_solver::Stream::Stderr,
        };
        cx.log(stream, Bytes::copy_from_slice(bytes));
    });
    job.keep_tail(cx.vertex(), tail);
    Ok(outcome?.status)
}

fn check_exit(op: &ExecOp, status: ExitStatus, cx: &Context, job: &JobContext) -> Result<(), EngineError> {
    let fine = match status {
        ExitStatus::Exited(code) if op.meta.valid_exit_codes.is_empty() => code == 0,
        ExitStatus::Exited(code) => op.meta.valid_exit_codes.contains(&code),
        ExitStatus::Signaled(_) => false,
    };
    if fine {
        return Ok(());
    }
    if cx.is_cancelled() {
        return Err(EngineError::Exec(ExecError::Cancelled));
    }
    let log_tail = job.take_tail(&cx.vertex());
    let help = hint(status, &log_tail, &job.parts);
    Err(EngineError::Exit { outcome: format!("the command {}", in_words(status)), log_tail, help })
}

fn in_words(status: ExitStatus) -> String {
    match status {
        ExitStatus::Exited(code) => format!("ended with exit code {code}"),
        ExitStatus::Signaled(signal) => format!("was killed by signal {signal}"),
    }
}

/// What may be behind a failure that the command cannot know.
fn hint(status: ExitStatus, log_tail: &[String], parts: &Parts) -> Option<String> {
    const NEARLY_NOTHING_BYTES: u64 = 1 << 20;
    let root = parts.store.root();
    let says = |words: &str| log_tail.iter().any(|line| line.contains(words));
    let free = rustix::fs::statvfs(root).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize);
    if free < NEARLY_NOTHING_BYTES {
        return Some(format!("the disk of the state directory {} is full", root.display()));
    }
    if parts.privileges.mode == Rootless::SingleId && says("Invalid argument") {
        let why = "without subordinate ids a build knows no user but root, so `chown` to another one fails";
        return Some(format!("{why}; `rb doctor` says how to get them"));
    }
    (status == ExitStatus::Exited(141)).then(|| {
        "141 means that a command wrote to a pipe that nobody read any more; RUN fails when any part of a pipe does".to_owned()
    })
}

/// Turns what the step changed into results, in the order of its outputs.
fn collect(
    parts: &Parts,
    writables: Vec<Writable>,
    read_only: Vec<(u32, Tree)>,
) -> Result<Vec<Value>, EngineError> {
    let mut outputs = read_only;
    for Writable { active, base, output } in writables {
        let Some(output) = output else { continue };
        let diff = rb_snapshot::diff(&active)?;
        let (snapshot, content) = parts.snapshots.commit(active, &diff, base.content)?;
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
