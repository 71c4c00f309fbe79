//! A tree with what commands in it run with: what BuildKit's client calls a state.

use rb_llb::{NetworkMode, State};
use rb_oci::{ImageConfig, Platform};

use crate::environment::Environment;
use crate::image::env_pair;

/// A tree, and how a command finds itself in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filesystem {
    /// The files.
    pub(crate) tree: State,
    /// What commands in it run on; none is what the image is for.
    pub(crate) platform: Option<Platform>,
    /// Their variables.
    pub(crate) environment: Environment,
    /// Where they start; empty is `/`.
    pub(crate) folder: String,
    /// Who they are.
    pub(crate) user: String,
    /// What they take the host to be called.
    pub(crate) hostname: String,
    /// What they reach.
    pub(crate) network: NetworkMode,
}

impl Filesystem {
    /// Takes a tree that says nothing of commands.
    pub(crate) fn of_tree(tree: State) -> Self {
        Self { tree, ..Self::default() }
    }

    /// Takes an image's tree for a platform.
    pub(crate) fn of_image(tree: State, platform: &Platform) -> Self {
        Self { tree, platform: Some(platform.clone()), ..Self::default() }
    }

    /// Takes over what the config of the image says of commands, but for who they are.
    #[must_use]
    pub(crate) fn with_config(mut self, image: &ImageConfig) -> Self {
        for line in &image.config.env {
            match env_pair(line) {
                ("", _) => {}
                (name, value) => self.environment.set(name, value),
            }
        }
        if let Some(folder) = &image.config.working_dir {
            self.folder.clone_from(folder);
        }
        if let Some(platform) = crate::image::platform_of(image) {
            self.platform = Some(platform);
        }
        self
    }
}
