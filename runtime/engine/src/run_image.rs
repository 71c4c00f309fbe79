//! Running an image: `rb run IMAGE [COMMAND]`.

use std::net::IpAddr;
use std::sync::Arc;

use rb_api::{EventSink, PullPolicy};
use rb_exec::{
    ExitStatus, ExtraMount, Forward, Isolation, KillSwitch, OpenFile, Output, Spec, Stdin, Stdio, Stream,
    Terminal, UserSpec,
};
use rb_llb::NetworkMode;
use rb_oci::{ImageConfig, Platform, Reference};
use rb_snapshot::{Active, Editor, SnapshotError};

use crate::LocalEngine;
use crate::error::EngineError;
use crate::fetch::{self, Told};
use crate::network::{set_under, variables};
use crate::ops::Authorities;
use crate::pinned::{Origin, PinnedImage};
use crate::value::Tree;

/// What to run of an image.
#[derive(Debug, Clone, Default)]
pub struct RunRequest {
    /// Name or digest of the image.
    pub image: String,
    /// Replaces the image's CMD; empty means that one.
    pub args: Vec<String>,
    /// `NAME=value`, over the image's.
    pub env: Vec<String>,
    /// Working directory instead of the image's.
    pub workdir: Option<String>,
    /// User instead of the image's.
    pub user: Option<String>,
    /// Whether a registry is asked for it.
    pub pull: PullPolicy,
    /// What network it has.
    pub network: NetworkMode,
    /// What it is given beside the image.
    pub given: RunGiven,
}

/// What a command of an image is given beside the image.
#[derive(Debug, Clone, Default)]
pub struct RunGiven {
    /// Replaces the image's ENTRYPOINT, and leaves its CMD out; empty means none at all.
    pub entrypoint: Option<Vec<String>>,
    /// Folders and files of this machine, and file systems in memory.
    pub mounts: Vec<ExtraMount>,
    /// Ports of this machine that lead to the command's.
    pub forwards: Vec<Forward>,
    /// Host name; empty means `localhost`.
    pub hostname: String,
    /// More lines for `/etc/hosts`.
    pub hosts: Vec<(String, IpAddr)>,
    /// Nothing of the image can be written to.
    pub readonly_root: bool,
    /// It reads this process's standard input; else that is empty.
    pub stdin: bool,
    /// A terminal of its own.
    pub terminal: Option<Terminal>,
    /// An init of ours is its parent.
    pub init: bool,
}

/// Who hears what a command writes.
type Hears<'h> = &'h mut dyn FnMut(Stream, &[u8]);

/// An image whose files are here.
#[derive(Debug, Clone)]
pub struct Runnable {
    config: ImageConfig,
    tree: Tree,
}

impl Runnable {
    /// Returns what its containers run with.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }
}

impl LocalEngine {
    /// Brings the image of a request and its files here. One that is not in the image store is pulled into it, unless the
    /// request says never; `events` hears of that.
    pub async fn fetch_to_run(
        &self,
        request: &RunRequest,
        events: &EventSink,
    ) -> Result<Runnable, EngineError> {
        let image = self.image_to_run(request, events).await?;
        let tree = match fetch::unpacked(&self.parts, &image)? {
            Some(tree) => tree,
            None => {
                let told = Told::begin(events, &image.name());
                let tree = fetch::tree(&self.parts, &image, &told.listener()).await;
                told.end(&tree);
                tree.map_err(EngineError::of)?
            }
        };
        Ok(Runnable { config: image.config, tree })
    }

    /// Runs a command of an image with this process's standard streams, in a layer that is thrown away afterwards.
    ///
    /// Returns how it ended. `kill` ends it with all its processes.
    pub async fn run_image(
        &self,
        request: RunRequest,
        image: Runnable,
        kill: KillSwitch,
    ) -> Result<ExitStatus, EngineError> {
        let engine = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let stdin = if request.given.stdin { Stdin::Inherit } else { Stdin::Null };
            let stdio = Stdio { stdin, output: Output::Inherit };
            engine.run_tree(&request, &image, &kill, (stdio, &mut |_, _| {}))
        });
        task.await.map_err(|error| EngineError::Worker { reason: error.to_string() })?
    }

    /// Runs a command of an image that speaks with this process: it reads `stdin`, and `hear` hears what it writes, from a thread of its
    /// own. Else as [`Self::run_image`].
    pub async fn run_image_heard(
        &self,
        request: RunRequest,
        image: Runnable,
        kill: KillSwitch,
        stdin: OpenFile,
        mut hear: impl FnMut(Stream, &[u8]) + Send + 'static,
    ) -> Result<ExitStatus, EngineError> {
        let engine = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let stdio = Stdio { stdin: Stdin::From(stdin), output: Output::Pipes };
            engine.run_tree(&request, &image, &kill, (stdio, &mut hear))
        });
        task.await.map_err(|error| EngineError::Worker { reason: error.to_string() })?
    }

    async fn image_to_run(
        &self,
        request: &RunRequest,
        events: &EventSink,
    ) -> Result<PinnedImage, EngineError> {
        let name = &request.image;
        let found = match (self.find_image(name), name.parse::<Reference>()) {
            // A digest, or the beginning of one.
            (Ok(found), Err(_)) => found,
            (Ok(found), Ok(_)) if request.pull != PullPolicy::Always => found,
            (Err(EngineError::NoSuchImage { .. }) | Ok(_), Ok(_)) if request.pull != PullPolicy::Never => {
                let pulled = self.pull_image(name, None, request.pull, events).await?;
                self.find_image(&pulled.digest.to_string())?
            }
            (found, _) => found?,
        };
        let (_, image) = self.read_image(&self.image_for(&found, &Platform::host())?)?;
        Ok(PinnedImage { origin: Origin::Store, ..PinnedImage::of_layout(image) })
    }

    fn run_tree(
        &self,
        request: &RunRequest,
        image: &Runnable,
        kill: &KillSwitch,
        (stdio, hear): (Stdio, Hears<'_>),
    ) -> Result<ExitStatus, EngineError> {
        let (config, tree) = (&image.config.config, &image.tree);
        let given = &request.given;
        let command = if request.args.is_empty() && given.entrypoint.is_none() {
            config.cmd.clone().unwrap_or_default()
        } else {
            request.args.clone()
        };
        let entrypoint = given.entrypoint.as_ref().or(config.entrypoint.as_ref());
        let args = [entrypoint.cloned().unwrap_or_default(), command].concat();
        if args.is_empty() {
            return Err(EngineError::NoCommand { name: request.image.clone() });
        }
        let mut with_env = config.clone();
        for (name, value) in request.env.iter().filter_map(|entry| entry.split_once('=')) {
            with_env.set_env(name, value);
        }
        let parts = Arc::clone(&self.parts);
        let active = parts.snapshots.prepare(tree.snapshot)?;
        let mut spec = Spec::new(crate::ops::stack_of(&active), args);
        spec.env = with_env.env;
        spec.cwd = request.workdir.clone().or_else(|| config.working_dir.clone()).unwrap_or_default();
        spec.user = UserSpec(request.user.clone().or_else(|| config.user.clone()).unwrap_or_default());
        let network = match parts.steps.isolation {
            Isolation::Sandbox => request.network,
            // There is but one.
            Isolation::Chroot => parts.network.mode(request.network),
        };
        spec.network = parts.networks.make(network).map_err(rb_exec::ExecError::from)?;
        spec.stdio = stdio;
        spec.terminal = given.terminal.clone();
        spec.mounts = given.mounts.clone();
        spec.forwards = given.forwards.clone();
        spec.init = given.init;
        spec.hostname = given.hostname.clone();
        spec.hostname_file = true;
        spec.hosts = given.hosts.clone();
        spec.readonly_root = given.readonly_root;
        parts.steps.lay_down(&mut spec);
        if given.terminal.is_some() {
            // As docker, whatever this terminal is: images know it.
            set_under(&mut spec.env, [("TERM", "xterm".to_owned())]);
        }
        if let Some(workdir) = &request.workdir {
            make_workdir(&active, workdir)?;
        }
        if !spec.network.is_none() {
            let proxies = variables(&parts.network.proxies);
            set_under(&mut spec.env, proxies.map(|(name, value)| (name, value.to_owned())));
            if let Some(mut authorities) = Authorities::of(&parts) {
                authorities.add(&active)?;
                authorities.name_in(&mut spec.env);
            }
        }
        let outcome = rb_exec::run(&spec, kill, hear)?;
        Ok(outcome.status)
    }
}

/// Makes a working directory that somebody asked for by name, as docker does; the layer is thrown away with it.
fn make_workdir(active: &Active, workdir: &str) -> Result<(), EngineError> {
    match Editor::new(active)?.mkdir(workdir, 0o755, true, None, None) {
        // Something else is there; that it cannot be entered is said by who tries.
        Err(SnapshotError::NotADirectory { .. }) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
