//! Running an image of the store: `rb run IMAGE [COMMAND]`.

use std::sync::Arc;

use rb_exec::{ExitStatus, KillSwitch, Network, Output, Spec, Stdin, Stdio, UserSpec};

use crate::LocalEngine;
use crate::error::EngineError;

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
    /// No network but the command's own loopback.
    pub network_none: bool,
}

impl LocalEngine {
    /// Runs a command of an image with this process's standard streams, in a layer that is thrown away afterwards.
    ///
    /// Returns how it ended. `kill` ends it with all its processes.
    pub async fn run_image(&self, request: RunRequest, kill: KillSwitch) -> Result<ExitStatus, EngineError> {
        let engine = self.clone();
        let task = tokio::task::spawn_blocking(move || engine.run_image_blocking(&request, &kill));
        task.await.map_err(|error| EngineError::Worker { reason: error.to_string() })?
    }

    fn run_image_blocking(&self, request: &RunRequest, kill: &KillSwitch) -> Result<ExitStatus, EngineError> {
        let (_, image) = self.read_image(&self.find_image(&request.image)?)?;
        let config = &image.config.config;
        let command = if request.args.is_empty() {
            config.cmd.clone().unwrap_or_default()
        } else {
            request.args.clone()
        };
        let args = [config.entrypoint.clone().unwrap_or_default(), command].concat();
        if args.is_empty() {
            return Err(EngineError::NoCommand { name: request.image.clone() });
        }
        let mut with_env = config.clone();
        for (name, value) in request.env.iter().filter_map(|entry| entry.split_once('=')) {
            with_env.set_env(name, value);
        }
        let parts = Arc::clone(&self.parts);
        let tree = crate::ops::unpacked(&parts, &image)?;
        let active = parts.snapshots.prepare(tree.snapshot)?;
        let mut spec = Spec::new(crate::ops::stack_of(&active), args);
        spec.env = with_env.env;
        spec.cwd = request.workdir.clone().or_else(|| config.working_dir.clone()).unwrap_or_default();
        spec.user = UserSpec(request.user.clone().or_else(|| config.user.clone()).unwrap_or_default());
        spec.network = if request.network_none { Network::None } else { Network::Host };
        spec.stdio = Stdio { stdin: Stdin::Inherit, output: Output::Inherit };
        let outcome = rb_exec::run(&spec, kill, &mut |_, _| {})?;
        Ok(outcome.status)
    }
}
