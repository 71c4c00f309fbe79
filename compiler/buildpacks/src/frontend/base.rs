//! The base that the app will run on: which of several names can be had, and what is known of it.
//!
//! In: names in the order in which they are worth trying. Out: a [`RunBase`], and the [`BaseTarget`] that modules are told of.
//! **Invariant:** an image of another system is refused, not used.

use rb_frontend::ResolvedImage;
use rb_llb::State;
use rb_oci::{ImageConfig, Platform, Reference};

use super::error::FrontendError;
use super::gate::{Folder, Gate, tree_of};
use crate::BaseTarget;
use crate::labels::RunImageNames;

/// A base.
pub(super) struct RunBase {
    pub(super) tree: State,
    pub(super) config: ImageConfig,
    /// By its digest.
    pub(super) reference: String,
    /// By the name that was asked for.
    pub(super) name: String,
    /// What an exported image records of its names.
    pub(super) names: RunImageNames,
    /// What history says of the layers that extensions laid upon it, lowest first. The layers and the history of the config are
    /// those below.
    pub(super) extended: Vec<String>,
}

impl RunBase {
    /// Finds the first of these names that can be had, and what it is a system of.
    pub(super) async fn find(
        gate: Gate<'_>,
        names: Vec<String>,
        on: &Platform,
    ) -> Result<(Self, BaseTarget), FrontendError> {
        let (name, run) = first_there(gate, names, on).await?;
        is_for(&name, &run.config, on)?;
        let tree = tree_of(&run, None, on, &format!("run image {name}"));
        let mut target = BaseTarget::of_image(&run.config);
        if target.distro.is_none() && !run.config.rootfs.diff_ids.is_empty() {
            let etc = Folder::new(tree.clone(), "/etc");
            if gate.exists(&etc, "os-release").await? {
                target =
                    target.with_os_release(&String::from_utf8_lossy(&gate.read(&etc, "os-release").await?));
            }
        }
        let reference = run.identifier.split_once("://").map_or(run.identifier.as_str(), |(_, rest)| rest);
        // As the lifecycle writes it: the tag says no more than the digest.
        let read: Option<Reference> = reference.parse().ok();
        let pinned = read.and_then(|read| Some(format!("{}@{}", read.repository(), read.digest()?)));
        let reference = pinned.unwrap_or_else(|| reference.to_owned());
        let (config, names, extended) = (run.config, RunImageNames::default(), Vec::new());
        Ok((Self { tree, config, reference, name, names, extended }, target))
    }
}

/// Pins the first of these names that can be had; where none can, the first one's error stands.
async fn first_there(
    gate: Gate<'_>,
    names: Vec<String>,
    on: &Platform,
) -> Result<(String, ResolvedImage), FrontendError> {
    let mut first = None;
    for name in names {
        match gate.image(&name, on).await {
            Ok(image) => return Ok((name, image)),
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    Err(first.map_or_else(|| FrontendError::NoRunImage(String::new()), Into::into))
}

/// Refuses an image of another system: a manifest that stands alone is taken without asking what it is for.
pub(super) fn is_for(image: &str, config: &ImageConfig, on: &Platform) -> Result<(), FrontendError> {
    let differs = |is: &str, wanted: &str| !is.is_empty() && is != wanted;
    if differs(&config.os, &on.os) || differs(&config.architecture, &on.architecture) {
        let is = format!("{}/{}", config.os, config.architecture);
        return Err(FrontendError::Platform { image: image.to_owned(), is, wanted: on.to_string() });
    }
    Ok(())
}
