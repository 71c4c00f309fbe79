//! Exec nodes: mounts in BuildKit's order, and which output is which mount.

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_oci::Platform;

use super::{InputList, Node, NodeMeta, State, platform_or_host};
use crate::{
    CacheSharing, CdiDevice, ContentCache, ExecMeta, ExecOp, LlbError, Mount, MountKind, NetworkMode, Op,
    SecretEnv, SecretMount, SecurityMode, SshMount,
};

/// What a command made.
#[derive(Clone)]
pub struct ExecState {
    node: Arc<Node>,
    /// Numbers that the caller gave, and those the op has.
    outputs: BTreeMap<u32, u32>,
    /// What lies at each path afterwards: a new output, or what was mounted read-only.
    mounts: BTreeMap<String, State>,
}

impl ExecState {
    /// Returns output `index`, by the number that the mount had when the node was made. A number that no mount had
    /// is told of when the state is digested or marshalled.
    pub fn output(&self, index: u32) -> State {
        self.node.output(self.outputs.get(&index).copied().unwrap_or(u32::MAX))
    }

    /// Returns the tree at `/` afterwards; where it was read-only that is the tree from before.
    pub fn root(&self) -> State {
        self.mount("/").unwrap_or_else(|| self.output(0))
    }

    /// Returns the tree at `dest` afterwards, if one was mounted there that can be had.
    pub fn mount(&self, dest: &str) -> Option<State> {
        self.mounts.get(dest).cloned()
    }
}

/// Makes an exec node of mounts in any order.
pub(super) fn state(
    given: &[State],
    mut op: ExecOp,
    platform: Option<&Platform>,
    meta: NodeMeta,
) -> ExecState {
    let platform = platform_or_host(platform);
    let (mut outputs, mut places) = (BTreeMap::new(), Vec::new());
    match settle(given, &mut op, &mut outputs, &mut places) {
        Ok(inputs) => {
            let visit: Vec<usize> = (0..inputs.len()).collect();
            let node = Node::new(&Op::Exec(op), &inputs, &visit, Some(&platform), meta);
            let after = |(dest, place)| match place {
                Place::Output(output) => (dest, node.output(output)),
                Place::Before(state) => (dest, state),
            };
            let mounts = places.into_iter().map(after).collect();
            ExecState { node, outputs, mounts }
        }
        Err(error) => {
            let node = Node::failed(&Op::Exec(op), error, meta);
            ExecState { node, outputs: BTreeMap::new(), mounts: BTreeMap::new() }
        }
    }
}

enum Place {
    Output(u32),
    Before(State),
}

/// Puts the op into the form BuildKit's client gives it and returns its inputs.
///
/// Trees, caches and memory come first, by path; then secrets, then agents, as they were given. Inputs and outputs are
/// numbered in the order of the mounts.
fn settle(
    given: &[State],
    op: &mut ExecOp,
    outputs: &mut BTreeMap<u32, u32>,
    places: &mut Vec<(String, Place)>,
) -> Result<Vec<State>, LlbError> {
    if op.meta.cwd.is_empty() {
        return Err(LlbError::Invalid("an exec operation needs a working directory"));
    }
    let rank = |mount: &Mount| match mount.kind {
        MountKind::Bind | MountKind::Cache { .. } | MountKind::Tmpfs { .. } => 0,
        MountKind::Secret(_) => 1,
        MountKind::Ssh(_) => 2,
    };
    op.mounts.sort_by(|a, b| match (rank(a), rank(b)) {
        (0, 0) => a.dest.cmp(&b.dest),
        (a, b) => a.cmp(&b),
    });
    set_agent_paths(op);
    let mut inputs = InputList::default();
    let mut next_output = 0;
    for mount in &mut op.mounts {
        let before = mount.input.and_then(|at| given.get(at).cloned()).unwrap_or_default();
        mount.input = inputs.index(given, mount.input, "input of a mount")?;
        if mount.kind != MountKind::Bind {
            mount.output = None;
            continue;
        }
        if let Some(asked) = mount.output {
            if outputs.insert(asked, next_output).is_some() {
                return Err(LlbError::Invalid("two mounts have the same output"));
            }
            mount.output = Some(next_output);
            places.push((mount.dest.clone(), Place::Output(next_output)));
            next_output += 1;
        } else if mount.readonly {
            places.push((mount.dest.clone(), Place::Before(before)));
        }
    }
    Ok(inputs.states)
}

/// Gives agents without a path their default one, and tells the command of the first.
fn set_agent_paths(op: &mut ExecOp) {
    let agents = op.mounts.iter_mut().filter(|mount| matches!(mount.kind, MountKind::Ssh(_)));
    let mut first = None;
    for (at, mount) in agents.enumerate() {
        if mount.dest.is_empty() {
            mount.dest = format!("/run/buildkit/ssh_agent.{at}");
        }
        first.get_or_insert_with(|| mount.dest.clone());
    }
    let is_set = op.meta.env.iter().any(|line| line.split('=').next() == Some("SSH_AUTH_SOCK"));
    if let (Some(path), false) = (first, is_set) {
        op.meta.env.push(format!("SSH_AUTH_SOCK={path}"));
    }
}

/// How a tree is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Path in the tree; empty is all of it.
    pub selector: String,
    /// Whether it is read-only; it has no output then.
    pub readonly: bool,
    /// Whether what is written is forgotten.
    pub no_output: bool,
    /// Whether the tree's content may stand for it in cache keys.
    pub content_cache: ContentCache,
}

/// Collects the parts of a command, with BuildKit's defaults.
#[derive(Clone, Debug)]
pub struct ExecBuilder {
    inputs: Vec<State>,
    op: ExecOp,
    next_output: u32,
}

impl ExecBuilder {
    /// Starts a command in the tree `root`, which it may change.
    pub fn new(root: &State, meta: ExecMeta) -> Self {
        let op = ExecOp { meta, ..ExecOp::default() };
        Self { inputs: Vec::new(), op, next_output: 0 }.mount("/", root, MountOptions::default())
    }

    /// Makes `/` read-only; [`ExecState::root`] is then the tree from before.
    #[must_use]
    pub fn readonly_root(mut self) -> Self {
        for mount in self.op.mounts.iter_mut().filter(|mount| mount.dest == "/") {
            (mount.readonly, mount.output) = (true, None);
        }
        self
    }

    /// Mounts a tree. Where it may be written and kept, [`ExecState::mount`] gives what became of it.
    #[must_use]
    pub fn mount(mut self, dest: impl Into<String>, tree: &State, options: MountOptions) -> Self {
        let MountOptions { selector, readonly, no_output, content_cache } = options;
        let output = (!readonly && !no_output).then_some(self.next_output);
        self.next_output += 1;
        let mount =
            Mount { selector, dest: dest.into(), output, readonly, content_cache, ..Mount::default() };
        self.push(mount, tree)
    }

    /// Mounts a directory that outlives the build, beginning as `tree`.
    #[must_use]
    pub fn cache(
        self,
        dest: impl Into<String>,
        tree: &State,
        id: impl Into<String>,
        sharing: CacheSharing,
    ) -> Self {
        let kind = MountKind::Cache { id: id.into(), sharing };
        self.push(Mount { dest: dest.into(), kind, ..Mount::default() }, tree)
    }

    /// Mounts a directory that outlives the build, beginning as what lies at `selector` of `tree`.
    #[must_use]
    pub fn cache_at(
        self,
        dest: impl Into<String>,
        tree: &State,
        selector: &str,
        id: impl Into<String>,
        sharing: CacheSharing,
    ) -> Self {
        let kind = MountKind::Cache { id: id.into(), sharing };
        let selector = selector.to_owned();
        self.push(Mount { dest: dest.into(), selector, kind, ..Mount::default() }, tree)
    }

    /// Mounts memory; 0 leaves its size to the engine.
    #[must_use]
    pub fn tmpfs(self, dest: impl Into<String>, size_bytes: i64) -> Self {
        let kind = MountKind::Tmpfs { size_bytes };
        self.push(Mount { dest: dest.into(), kind, ..Mount::default() }, &State::scratch())
    }

    /// Gives a secret as a file.
    #[must_use]
    pub fn secret(self, dest: impl Into<String>, secret: SecretMount) -> Self {
        let kind = MountKind::Secret(secret);
        self.push(Mount { dest: dest.into(), kind, ..Mount::default() }, &State::scratch())
    }

    /// Gives a secret as a variable.
    #[must_use]
    pub fn secret_env(mut self, secret: SecretEnv) -> Self {
        self.op.secret_env.push(secret);
        self
    }

    /// Gives the socket of an ssh agent; an empty path is BuildKit's default.
    #[must_use]
    pub fn ssh(self, dest: impl Into<String>, agent: SshMount) -> Self {
        let kind = MountKind::Ssh(agent);
        self.push(Mount { dest: dest.into(), kind, ..Mount::default() }, &State::scratch())
    }

    /// Chooses the network.
    #[must_use]
    pub fn network(mut self, network: NetworkMode) -> Self {
        self.op.network = network;
        self
    }

    /// Chooses what the command may do.
    #[must_use]
    pub fn security(mut self, security: SecurityMode) -> Self {
        self.op.security = security;
        self
    }

    /// Gives a device.
    #[must_use]
    pub fn device(mut self, device: CdiDevice) -> Self {
        self.op.cdi_devices.push(device);
        self
    }

    fn push(mut self, mut mount: Mount, tree: &State) -> Self {
        if !tree.is_scratch() {
            mount.input = Some(self.inputs.len());
            self.inputs.push(tree.clone());
        }
        self.op.mounts.push(mount);
        self
    }

    /// Makes the node.
    pub fn finish(self, platform: Option<&Platform>, meta: NodeMeta) -> ExecState {
        state(&self.inputs, self.op, platform, meta)
    }
}
