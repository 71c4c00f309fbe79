//! Running a command: mounts are made of inputs, `caches`, `secrets` and `agents`, the sandbox runs on the step's `terms`,
//! changed trees become results; those of a command that failed are `kept`.

use std::sync::Arc;

use bytes::Bytes;
use rb_exec::{
    Bind, Emulator, ExecError, ExecOutcome, ExitStatus, ExtraMount, Isolation, KillSwitch, OverlayMount,
    RootDriver, RootMount, Rootless, Spec, Stream, Upper, UserSpec,
};
use rb_llb::extension::HINT_CACHE;
use rb_llb::{ExecOp, Mount, MountKind, NetworkMode, ProxyEnv, SecurityMode, Vertex};
use rb_oci::Digest;
use rb_session::Session;
use rb_snapshot::{Active, DriverKind};
use rb_solver::{Context, OpError};

use super::authorities::Authorities;
use super::terms::Terms;
use super::times::Times;
use super::{agents, budget, caches, chroot, devices, kept, mounts, resume, secrets};
use crate::error::EngineError;
use crate::job::{JobContext, LogTail};
use crate::network::{self, StepNetwork};
use crate::parts::Parts;
use crate::value::{HostMounts, Tree, Value};

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

/// Inputs of which the step sees only a part, read-only: their key is the content of that part.
pub(super) fn slow_inputs(op: &ExecOp, inputs: usize) -> Vec<bool> {
    let narrow = |mount: &Mount| mount.readonly && mount.dest != "/" && mount.kind == MountKind::Bind;
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

/// A mount of the step whose changes are kept, or that is thrown away after the run.
pub(super) struct Writable {
    /// Which of the op's.
    pub(super) mount: usize,
    pub(super) active: Active,
    pub(super) base: Tree,
    output: Option<u32>,
}

/// What a step sees that is neither an input nor a result.
pub(super) struct Lent {
    pub(super) given: secrets::Given,
    pub(super) held: caches::Held,
    pub(super) way: Way,
    /// If it fails, it is not tried again.
    pub(super) is_last: bool,
    /// What it may take of the memory budget, if there is one.
    pub(super) room: Option<budget::Room>,
}

/// A step with all that it sees, ready to run.
pub(super) struct Laid<'a> {
    pub(super) spec: Spec,
    pub(super) times: Times<'a>,
    /// For this run only; they are gone when it has ended.
    today: Vec<Active>,
    agents: agents::Agents,
    authorities: Option<Authorities>,
    pub(super) writables: Vec<Writable>,
    read_only_outputs: Vec<(u32, Tree)>,
    /// What is mounted where nothing is written, by the number of the mount.
    pub(super) shown: Vec<(usize, Tree)>,
}

impl Laid<'_> {
    /// Takes out of the layers what was put in for the run.
    fn tidy(&self) -> Result<(), EngineError> {
        self.times.unshow(self.writables.iter().map(|writable| &writable.active))?;
        let Some(authorities) = &self.authorities else { return Ok(()) };
        self.writables.iter().try_for_each(|writable| authorities.remove(&writable.active))
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
    let failed = check_exit(op, &outcome, &laid.spec, &lent.way.terms, cx, job).err();
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

/// Makes ready what a step sees.
pub(super) fn lay<'a>(
    parts: &'a Parts,
    session: &dyn Session,
    op: &ExecOp,
    inputs: &[Value],
    lent: &mut Lent,
) -> Result<Laid<'a>, EngineError> {
    let input = |mount: &Mount| match mount.input {
        None => Ok(Value::Tree(Tree::scratch())),
        Some(index) => inputs.get(index).cloned().ok_or_else(|| EngineError::Definition {
            reason: format!("the mount at {} uses input {index}, which is not there", mount.dest),
        }),
    };
    let is_cache = |mount: &&Mount| matches!(mount.kind, MountKind::Cache { .. });
    let directories = op.mounts.iter().filter(is_cache);
    let directories = directories.filter_map(|mount| lent.held.directory(parts, mount, inputs));
    let mut times = Times::new(&parts.snapshots, directories)?;
    let (mut today, mut shown) = (Vec::new(), Vec::new());
    let reaches_out = op.network != NetworkMode::None;
    let mut authorities = reaches_out.then(|| Authorities::of(parts)).flatten();
    let mut writables = Vec::new();
    let mut read_only_outputs = Vec::new();
    let mut root = None;
    let agents = agents::lend(op, session, parts)?;
    let mut extra = std::mem::take(&mut lent.given.mounts);
    extra.extend(agents.mounts.iter().cloned());
    for (number, mount) in op.mounts.iter().enumerate() {
        match &mount.kind {
            MountKind::Tmpfs { size_bytes } => {
                let size_bytes = u64::try_from(*size_bytes).ok().filter(|size| *size > 0);
                let target = mount.dest.clone();
                extra.push(ExtraMount::Tmpfs { target, size_bytes, mode: 0o1777 });
            }
            MountKind::Bind => {
                let is_root = mount.dest == "/";
                // As in BuildKit: a root that becomes no output is not written to.
                let readonly = mount.readonly || (is_root && mount.output.is_none());
                let tree = mounts::tree(parts, &input(mount)?, if is_root { &mount.selector } else { "" })?;
                let layers = parts.snapshots.layers(tree.snapshot)?;
                if is_root {
                    extra.extend(host_binds(tree.host.as_ref()));
                }
                let newer = times.layer(&tree, &mount.dest)?;
                let mut authorities = authorities.as_mut().filter(|_| is_root);
                let trusting = match &mut authorities {
                    Some(authorities) => authorities.layer(parts, &tree)?,
                    None => None,
                };
                // A read-only root still gets a layer of its own, which is thrown away: what is mounted in it needs
                // places to stand on. So does an empty tree: there is nothing else to mount. And, where roots are copied,
                // layers that were made where they were mounted; and, in a chroot, whatever is put into its root.
                let is_copied = parts.steps.isolation == Isolation::Chroot
                    || (layers.len() > 1 && parts.snapshots.driver() == DriverKind::Copy);
                let mut stack = if readonly && (is_root || layers.is_empty() || is_copied) {
                    read_only_outputs.extend(mount.output.map(|output| (output, tree.clone())));
                    let active = parts.snapshots.prepare(tree.snapshot)?;
                    times.show(&active, &tree, &mount.dest)?;
                    if let Some(authorities) = authorities {
                        authorities.show(&active)?;
                    }
                    let stack = stack_of(&active);
                    writables.push(Writable { mount: number, active, base: tree, output: None });
                    stack
                } else if readonly {
                    read_only_outputs.extend(mount.output.map(|output| (output, tree.clone())));
                    shown.push((number, tree));
                    RootMount { layers, writable: None, driver: RootDriver::Overlay }
                } else {
                    let active = parts.snapshots.prepare(tree.snapshot)?;
                    times.show(&active, &tree, &mount.dest)?;
                    if let Some(authorities) = authorities {
                        authorities.show(&active)?;
                    }
                    let stack = stack_of(&active);
                    writables.push(Writable { mount: number, active, base: tree, output: mount.output });
                    stack
                };
                for layer in newer.into_iter().chain(trusting) {
                    stack.layers.push(layer.upper().to_owned());
                    today.push(layer);
                }
                if is_root {
                    root = Some((stack, readonly));
                } else {
                    let (selector, target) = (mount.selector.clone(), mount.dest.clone());
                    extra.push(ExtraMount::Overlay(OverlayMount { root: stack, selector, target, readonly }));
                }
            }
            MountKind::Cache { .. } => {
                let held = lent.held.directory(parts, mount, inputs);
                let directory = held.expect("`hold` took one for each cache mount");
                extra.push(ExtraMount::Overlay(OverlayMount {
                    root: RootMount::shared(directory),
                    selector: mount.selector.clone(),
                    target: mount.dest.clone(),
                    readonly: mount.readonly,
                }));
            }
            // Among what was lent, unless it is optional and not there.
            MountKind::Secret(_) | MountKind::Ssh(_) => {}
        }
    }
    let (root, readonly_root) =
        root.ok_or_else(|| EngineError::Definition { reason: "a step has no mount at `/`".to_owned() })?;
    let mut spec = Spec::new(root, op.meta.args.clone());
    spec.readonly_root = readonly_root;
    spec.mounts = extra;
    spec.env = environment(op, &parts.network);
    if let Some(authorities) = &authorities {
        authorities.name_in(&mut spec.env);
    }
    spec.secret_env = std::mem::take(&mut lent.given.env);
    spec.insecure = op.security == SecurityMode::Insecure;
    spec.cwd = op.meta.cwd.clone();
    spec.user = UserSpec(op.meta.user.clone());
    chroot::refuse(op, &parts.steps)?;
    spec.hostname =
        if op.meta.hostname.is_empty() { "buildkitsandbox".to_owned() } else { op.meta.hostname.clone() };
    spec.network = parts.networks.make(parts.network.mode(op.network)).map_err(ExecError::from)?;
    spec.hosts = hosts(op)?;
    lent.way.terms.lay_down(op, &parts.steps, &mut spec);
    devices::give(op, &parts.steps, &mut spec)?;
    spec.emulator = lent.way.emulator.clone();
    Ok(Laid { spec, times, today, agents, authorities, writables, read_only_outputs, shown })
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

/// How a step reaches the network: as its definition says, then as this machine does, if the step has one at all.
fn proxies(op: &ExecOp, machine: &StepNetwork) -> ProxyEnv {
    match op.network {
        NetworkMode::Sandbox | NetworkMode::Host => machine.proxies_under(op.meta.proxy_env.as_ref()),
        NetworkMode::None => op.meta.proxy_env.clone().unwrap_or_default(),
    }
}

/// The variables of a step: its own, and those that say how the network is reached, which win.
fn environment(op: &ExecOp, machine: &StepNetwork) -> Vec<String> {
    let proxies = proxies(op, machine);
    let set: Vec<(&str, &str)> = network::variables(&proxies).collect();
    network::set_over(&op.meta.env, &set)
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
pub(super) fn host_binds(host: Option<&HostMounts>) -> impl Iterator<Item = ExtraMount> + use<> {
    let binds = host.map(|host| host.binds.clone()).unwrap_or_default();
    binds.into_iter().map(|path| {
        let target = path.to_string_lossy().into_owned();
        ExtraMount::Bind(Bind { source: path, target, readonly: true, recursive: true, ..Bind::default() })
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

fn check_exit(
    op: &ExecOp,
    outcome: &ExecOutcome,
    spec: &Spec,
    terms: &Terms,
    cx: &Context,
    job: &JobContext,
) -> Result<(), EngineError> {
    let status = outcome.status;
    let fine = match status {
        _ if outcome.timed_out => false,
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
    let (outcome, help) = terms.outcome(outcome, spec);
    let store = &job.parts.store;
    let left_bytes = rustix::fs::statvfs(store.root()).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize);
    if lacked_room(left_bytes, store.check_space().is_err(), &log_tail) {
        return Err(EngineError::NoRoom { outcome, root: store.root().to_owned(), log_tail });
    }
    let says = |words: &str| log_tail.iter().any(|line| line.contains(words));
    let help = help.or_else(|| chroot::hint(&job.parts.steps, says));
    let help = help.or_else(|| hint(status, &log_tail, &job.parts));
    Err(EngineError::Exit { outcome, log_tail, help })
}

/// Tells whether a command failed for want of room: there is none, or it said so and removed what it had begun.
fn lacked_room(left_bytes: u64, is_little: bool, log_tail: &[String]) -> bool {
    const NEARLY_NOTHING_BYTES: u64 = 1 << 20;
    let says = || log_tail.iter().any(|line| line.contains("No space left on device"));
    left_bytes < NEARLY_NOTHING_BYTES || (is_little && says())
}

/// What may be behind a failure that the command cannot know.
fn hint(status: ExitStatus, log_tail: &[String], parts: &Parts) -> Option<String> {
    let says = |words: &str| log_tail.iter().any(|line| line.contains(words));
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
    fn a_command_lacked_room_if_there_is_none_or_it_said_so() {
        let said = ["cc: fatal error: x.o: No space left on device".to_owned()];
        assert!(lacked_room(0, true, &[]));
        assert!(lacked_room(30 << 20, true, &said));
        assert!(!lacked_room(30 << 20, true, &[]));
        // It may have filled a disk of its own.
        assert!(!lacked_room(1 << 40, false, &said));
    }
}
