//! The launcher of an image: the builder's, or one that is given.
//!
//! In: a builder's tree and version, and a [`PackRequest`]. Out: a [`Launcher`]: where the program is, and what the image says of it.
//! Bills of materials of a launcher lie beside it in the builder, so a given one has none.

use rb_llb::{MkfileAction, NodeMeta, State};

use super::PackRequest;
use super::error::FrontendError;
use super::gate::{Folder, Gate};
use crate::LauncherMetadata;
use crate::environment::LIFECYCLE_FOLDER;
use crate::export::EPOCH_SECONDS;

/// What it is called, there as here.
const NAME: &str = "launcher";

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
