//! `RUN --mount`: folders, caches, memory, secrets and agents that a command sees.
//!
//! In: options as they were read. Out: mounts in LLB's terms, with the trees that they show. What is written into a bind
//! mount is forgotten.

mod options;

use rb_diag::{Diagnostic, Span};
use rb_llb::{
    CacheSharing, MkdirAction, Mount, MountKind, NodeMeta, Owner, SecretEnv, SecretMount, SshMount, State,
    UserSpec,
};

use self::options::{Kind, MountOptions};
use super::Work;
use crate::contexts::{Folder, internal};
use crate::failure::Fallible;
use crate::options::Volume;
use crate::{RunMount, codes, go};

/// The mounts of one command.
#[derive(Debug, Default)]
pub(super) struct RunMounts {
    /// Each with the tree that it shows, if there is one.
    mounts: Vec<(Mount, State)>,
    pub(super) secret_env: Vec<SecretEnv>,
    /// Names of variables that hold secrets.
    pub(super) secret_variables: Vec<String>,
}

impl RunMounts {
    /// Adds the mounts to those of an operation, and their trees to its inputs.
    pub(super) fn add_to(self, inputs: &mut Vec<State>, all: &mut Vec<Mount>) {
        for (mut mount, tree) in self.mounts {
            if !tree.is_scratch() {
                mount.input = Some(inputs.len());
                inputs.push(tree);
            }
            all.push(mount);
        }
    }

    fn add(&mut self, dest: &str, kind: MountKind) {
        self.mounts.push((Mount { dest: dest.to_owned(), kind, ..Mount::default() }, State::scratch()));
    }
}

impl Work<'_> {
    /// Says what the mounts of a command are.
    pub(super) fn mounts(&mut self, mounts: &[RunMount]) -> Fallible<RunMounts> {
        let mut all = RunMounts::default();
        for (number, mount) in mounts.iter().enumerate() {
            let before = self.wrong.len();
            let options = self.mount_options(mount);
            if self.wrong.len() > before {
                continue;
            }
            match options.kind {
                Kind::Secret => {
                    let id = secret(&options, &mut all);
                    let at = (self.at(), options.required);
                    self.state.parameters.secrets.entry(id).or_insert(at);
                }
                Kind::Ssh => {
                    self.heard(ssh(&options, mount.span, &mut all));
                    let id = options
                        .id
                        .clone()
                        .filter(|id| !id.is_empty())
                        .unwrap_or_else(|| "default".to_owned());
                    let at = (self.at(), options.required);
                    self.state.parameters.agents.entry(id).or_insert(at);
                }
                Kind::Bind | Kind::Cache | Kind::Tmpfs => {
                    let found = self.tree_mount(&options, number, mount.span);
                    all.mounts.extend(self.heard(found));
                }
            }
        }
        self.settled()?;
        all.mounts.extend(self.shared.options.volumes.iter().map(|volume| self.lent_volume(volume)));
        let size_bytes = self.shared.options.shm_size_bytes;
        if size_bytes > 0 {
            all.add("/dev/shm", MountKind::Tmpfs { size_bytes });
        }
        Ok(all)
    }

    /// Shows a folder of the client's, as a bind mount would.
    fn lent_volume(&self, volume: &Volume) -> (Mount, State) {
        let folder = Folder {
            name: volume.lent.clone(),
            shared_key: volume.lent.clone(),
            shown: internal(&format!("load volume {}", volume.shown)),
            ..Folder::default()
        };
        let tree = folder.state(self.shared.options, &[volume.path.clone()].into());
        let selector = if volume.path == "/" { String::new() } else { volume.path.clone() };
        let (dest, readonly) = (volume.target.clone(), volume.readonly);
        (Mount { selector, dest, readonly, kind: MountKind::Bind, ..Mount::default() }, tree)
    }

    /// Says what a mount of files is.
    fn tree_mount(&mut self, options: &MountOptions, number: usize, at: Span) -> Fallible<(Mount, State)> {
        let dest = match options.target.starts_with('/') {
            true => options.target.clone(),
            false => rb_path::join("/", &rb_path::join(&self.state.files.folder, &options.target)),
        };
        // The working folder may be one of a base that is not known.
        let is_lost = self.state.lost.all && !options.target.starts_with('/');
        if dest == "/" && !is_lost {
            let message = format!("invalid mount target {}", go::quote(&dest));
            let help = "mount it at a folder, such as `target=/src`";
            return Err(Diagnostic::error(codes::BAD_MOUNT, message).with_label(at, "").with_help(help));
        }
        let tree = self.mounted_tree(options, number);
        let (tree, selector) = match rb_path::join("/", &options.source) {
            root if root == "/" => match cache_folder(options, &tree) {
                Some(owned) => (owned, CACHE_FOLDER.to_owned()),
                None => (tree, String::new()),
            },
            selector => (tree, selector),
        };
        let kind = match options.kind {
            Kind::Cache => {
                let id = options.id.clone().filter(|id| !id.is_empty());
                let id = id.unwrap_or_else(|| rb_path::clean(&options.target));
                let id = format!("{}/{id}", self.shared.options.cache_namespace);
                MountKind::Cache { id, sharing: options.sharing.unwrap_or(CacheSharing::Shared) }
            }
            Kind::Tmpfs => MountKind::Tmpfs { size_bytes: options.size_bytes },
            Kind::Bind | Kind::Secret | Kind::Ssh => MountKind::Bind,
        };
        let readonly = options.readonly.unwrap_or(options.kind == Kind::Bind);
        Ok((Mount { selector, dest, readonly, kind, ..Mount::default() }, tree))
    }

    /// Returns what is mounted, and notes what is taken of it.
    fn mounted_tree(&mut self, options: &MountOptions, number: usize) -> State {
        let source = self.command.sources.get(number).copied().flatten();
        if let Some(source) = source {
            self.converted.taken.take(self.shared.graph.root(source), &options.source);
        }
        match (options.kind, source) {
            (Kind::Tmpfs, _) => State::scratch(),
            (_, Some(source)) => self.tree_of(source),
            (Kind::Cache, None) => State::scratch(),
            (_, None) => {
                self.converted.taken.context.insert(rb_path::join("/", &options.source));
                self.shared.context.clone()
            }
        }
    }

    /// Returns the files of a node that is done.
    pub(super) fn tree_of(&self, source: crate::stages::NodeId) -> State {
        let done = self.converted.stages.get(&source);
        done.expect("the order of stages was checked").files.tree.clone()
    }
}

/// Where an owned cache begins.
const CACHE_FOLDER: &str = "/cache";

/// Returns a tree with a folder of the owner and mode that a cache begins with, if they are given.
fn cache_folder(options: &MountOptions, tree: &State) -> Option<State> {
    let MountOptions { uid, gid, mode, .. } = options;
    if uid.is_none() && gid.is_none() && mode.is_none() {
        return None;
    }
    let id = |id: &Option<u32>| Some(UserSpec::Id(id.unwrap_or(0)));
    let action = MkdirAction {
        path: CACHE_FOLDER.to_owned(),
        mode: mode.unwrap_or(0o755) & 0o777,
        owner: Some(Owner { user: id(uid), group: id(gid) }),
        ..MkdirAction::default()
    };
    Some(tree.mkdir(action, NodeMeta::named(internal("setting cache mount permissions"))))
}

/// Adds a secret: as a file, as a variable, or as both where a path and a name are given. Returns its id.
fn secret(options: &MountOptions, all: &mut RunMounts) -> String {
    let target = Some(&options.target).filter(|target| !target.is_empty());
    let id = match (&options.source, options.id.as_deref().unwrap_or_default()) {
        (source, _) if !source.is_empty() => source.clone(),
        (_, "") => rb_path::base(&options.target).to_owned(),
        (_, id) => id.to_owned(),
    };
    let optional = !options.required;
    if let Some(name) = &options.env {
        all.secret_env.push(SecretEnv { id: id.clone(), name: name.clone(), optional });
        all.secret_variables.push(name.clone());
    }
    let dest = match (target, &options.env) {
        (Some(target), _) => target.clone(),
        (None, Some(_)) => return id,
        (None, None) => format!("/run/secrets/{}", rb_path::base(&id)),
    };
    let (uid, gid) = (options.uid.unwrap_or(0), options.gid.unwrap_or(0));
    let secret = SecretMount { id: id.clone(), uid, gid, mode: options.mode.unwrap_or(0o400), optional };
    all.add(&dest, MountKind::Secret(secret));
    id
}

fn ssh(options: &MountOptions, at: Span, all: &mut RunMounts) -> Fallible<()> {
    if !options.source.is_empty() {
        let found = Diagnostic::error(codes::BAD_MOUNT, "ssh does not support source").with_label(at, "");
        return Err(found.with_help("name the agent with `id=`, as `--ssh` does"));
    }
    let agent = SshMount {
        id: options.id.clone().unwrap_or_default(),
        uid: options.uid.unwrap_or(0),
        gid: options.gid.unwrap_or(0),
        mode: options.mode.unwrap_or(0o600),
        optional: !options.required,
    };
    all.add(&options.target, MountKind::Ssh(agent));
    Ok(())
}
