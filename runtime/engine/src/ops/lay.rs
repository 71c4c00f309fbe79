//! What a step sees, made ready: its root and mounts of inputs, what is lent to it, its variables and network.
//!
//! In: the op, its inputs, and what was lent. Out: [`Laid`], which holds all that is there for this run alone.
//! **Invariant:** no layer of an input is written to; what is thrown away lies in layers of its own.

use rb_exec::{
    Bind, ExecError, ExtraMount, Isolation, OverlayMount, RootDriver, RootMount, Spec, Upper, UserSpec,
};
use rb_llb::{ExecOp, Mount, MountKind, NetworkMode, ProxyEnv, SecurityMode};
use rb_session::Session;
use rb_snapshot::{Active, DriverKind};

use super::authorities::Authorities;
use super::exec::Way;
use super::times::Times;
use super::{agents, budget, caches, chroot, devices, mounts, secrets};
use crate::error::EngineError;
use crate::network::{self, StepNetwork};
use crate::parts::Parts;
use crate::value::{HostMounts, Tree, Value};

/// A mount of the step whose changes are kept, or that is thrown away after the run.
pub(super) struct Writable {
    /// Which of the op's.
    pub(super) mount: usize,
    pub(super) active: Active,
    pub(super) base: Tree,
    pub(super) output: Option<u32>,
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
    pub(super) today: Vec<Active>,
    pub(super) agents: agents::Agents,
    authorities: Option<Authorities>,
    pub(super) writables: Vec<Writable>,
    pub(super) read_only_outputs: Vec<(u32, Tree)>,
    /// What is mounted where nothing is written, by the number of the mount.
    pub(super) shown: Vec<(usize, Tree)>,
}

impl Laid<'_> {
    /// Takes out of the layers what was put in for the run.
    pub(super) fn tidy(&self) -> Result<(), EngineError> {
        self.times.unshow(self.writables.iter().map(|writable| &writable.active))?;
        let Some(authorities) = &self.authorities else { return Ok(()) };
        self.writables.iter().try_for_each(|writable| authorities.remove(&writable.active))
    }
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

/// How a step reaches the network: as its definition says, then as this machine does, if the step has one at all.
pub(super) fn proxies(op: &ExecOp, machine: &StepNetwork) -> ProxyEnv {
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
