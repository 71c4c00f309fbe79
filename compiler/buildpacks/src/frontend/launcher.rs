//! The launcher of an image: the builder's, or one that is given.
//!
//! In: a builder's tree and version, and a [`PackRequest`]. Out: a [`Launcher`]: where the program is, and what the image says of it.
//! A given one is a script, or a program for the image's platform, all of which is there.
//! Bills of materials of a launcher lie beside it in the builder, so a given one has none.

use rb_llb::{MkfileAction, NodeMeta, State};
use rb_oci::Platform;

use super::error::FrontendError;
use super::gate::{Folder, Gate};
use super::{GivenLauncher, PackRequest};
use crate::LauncherMetadata;
use crate::environment::LIFECYCLE_FOLDER;
use crate::export::EPOCH_SECONDS;
use crate::program::{self, ProgramFault, ProgramKind};

/// What it is called, there as here.
const NAME: &str = "launcher";

/// Largest launcher.
pub const LAUNCHER_BYTES: u64 = 16 << 20;

/// A file cannot be the launcher of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LauncherFault {
    /// It is no program.
    #[error(transparent)]
    Program(#[from] ProgramFault),
    /// It is one for other machines.
    #[error("it is for {is}, and the image for {wanted}")]
    Elsewhere {
        /// What it is for.
        is: String,
        /// What the image is for.
        wanted: String,
    },
}

impl LauncherFault {
    /// What to do.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Program(_) => "it is builder, rb, or the path of a program",
            Self::Elsewhere { .. } => "name one for that: `--launcher=FILE`; or take the builder's",
        }
    }
}

impl GivenLauncher {
    /// Takes a program of which nothing is known beside its bytes.
    pub fn of_file(program: Vec<u8>, platform: &Platform) -> Result<Self, LauncherFault> {
        match program::kind(&program)? {
            // A script says nothing of where it runs.
            ProgramKind::Script => {}
            ProgramKind::Elf(is) if is != platform.architecture => {
                return Err(LauncherFault::Elsewhere { is, wanted: platform.architecture.clone() });
            }
            ProgramKind::Elf(_) => program::check(&program)?,
        }
        Ok(Self { program, metadata: LauncherMetadata::default() })
    }

    /// Takes the launcher of rb's own.
    pub fn own(program: Vec<u8>, platform: &Platform) -> Result<Self, LauncherFault> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let metadata = LauncherMetadata { version, ..LauncherMetadata::default() };
        Ok(Self { metadata, ..Self::of_file(program, platform)? })
    }
}

/// The launcher of an image.
#[derive(Clone)]
pub(super) struct Launcher {
    tree: State,
    folder: &'static str,
    pub(super) metadata: LauncherMetadata,
    pub(super) is_of_builder: bool,
}

impl Launcher {
    /// Finds it. A builder without one is told of before anything runs.
    pub(super) async fn find(
        gate: Gate<'_>,
        request: &PackRequest,
        builder: &State,
        version: &str,
    ) -> Result<Self, FrontendError> {
        if let Some(given) = &request.launcher {
            let file = MkfileAction {
                path: format!("/{NAME}"),
                mode: 0o755,
                data: given.program.clone().into(),
                owner: None,
                timestamp: Some(EPOCH_SECONDS * 1_000_000_000),
            };
            let meta = NodeMeta::named("[internal] lay down the launcher");
            let tree = State::scratch().files().mkfile(file).finish(meta);
            return Ok(Self { tree, folder: "", metadata: given.metadata.clone(), is_of_builder: false });
        }
        if !gate.exists(&Folder::new(builder.clone(), LIFECYCLE_FOLDER), NAME).await? {
            let path = "/cnb/lifecycle/launcher";
            return Err(FrontendError::Lacks { image: request.builder.clone(), path });
        }
        let metadata = LauncherMetadata { version: version.to_owned(), ..LauncherMetadata::default() };
        Ok(Self { tree: builder.clone(), folder: LIFECYCLE_FOLDER, metadata, is_of_builder: true })
    }

    /// Returns the tree that it is in, and where.
    pub(super) fn place(&self) -> (State, String) {
        (self.tree.clone(), format!("{}/{NAME}", self.folder))
    }
}
