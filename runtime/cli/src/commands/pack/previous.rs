//! The previous image of an app, found and lent to the build.
//!
//! In: an order, settled. Out: [`Found`], what may be used again of that image: `--previous-image`, else the image that is to be
//! built anew, where it will be. Only its manifest, its config and its bills of materials are read. A layer that is used again is
//! fetched if its bytes have to be here; one that is pushed to where it lies stays there.
//! **Invariant:** without it the same image is built; what stands in its way is told and ends no build.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use rb_buildpacks::frontend::Previous;
use rb_engine::{EngineError, ImageDetails, Place};
use rb_oci::{LayerPart, Platform, names_host};
use rb_registry::RegistryError;
use rb_session::{LocalSession, Secret};
use rb_sources::packed::{self, PackedKind};

use super::build::Ordered;
use super::images::reference;
use super::whole::{Goal, Whole};
use crate::args::{PackBuild, PackLifecycle, PackPull};
use crate::commands::workbench::Workbench;
use crate::report::Failure;

/// How large all bills of materials of an image may be.
const SBOM_BYTES: u64 = 64 << 20;

/// What is used again.
#[derive(Default)]
pub(super) struct Found {
    /// The image for each request, in their order.
    pub(super) images: Vec<Option<Previous>>,
    /// What is to be told before anything begins.
    pub(super) warnings: Vec<String>,
}

impl Found {
    /// Looks for the image on each platform.
    pub(super) fn of(bench: &Workbench, ordered: &Ordered, args: &PackBuild) -> Result<Self, Failure> {
        let mut found = Self::default();
        let is_of_use = !args.choices.clear_cache && args.lifecycle == PackLifecycle::Rb;
        let place = if is_of_use { place(bench, ordered.goal(), args)? } else { None };
        for request in ordered.requests() {
            let Some((name, place)) = &place else {
                found.images.push(None);
                continue;
            };
            let image = match taken(bench, place, &request.platform)? {
                Ok(details) => whole(bench, &details)?,
                Err(error) if is_absent(&error) && args.previous_image.is_none() => Ok(None),
                Err(error) => Err(rb_diag::chain(&error)),
            };
            let image = image.unwrap_or_else(|why| {
                let what = format!("no layer of the previous image `{name}` is used again: {why}");
                found.warnings.push(what);
                None
            });
            found.images.push(image);
        }
        Ok(found)
    }

    /// Lends what is recalled of them.
    pub(super) fn lend(&self, ordered: &Ordered, session: LocalSession) -> LocalSession {
        let all = self.images.iter().zip(ordered.requests());
        let texts = all.flat_map(|(image, request)| {
            image.iter().flat_map(move |image| image.recalled(&request.platform))
        });
        texts.fold(session, |session, (id, text)| session.with_secret(id, Secret::new(text)))
    }
}

/// Returns where the previous image is, if there can be one.
fn place<'a>(
    bench: &Workbench,
    goal: &Goal,
    args: &'a PackBuild,
) -> Result<Option<(&'a str, Place)>, Failure> {
    let name = match (&args.previous_image, goal) {
        (Some(name), _) => name.as_str(),
        (None, Goal::Layout { .. }) => return Ok(None),
        (None, Goal::Store(_) | Goal::Registry(_)) => args.image.as_str(),
    };
    let in_registry = || Ok(Some((name, Place::Registry(reference(name)?))));
    let never = args.choices.pulls.pull_policy == Some(PackPull::Never);
    match goal {
        Goal::Registry(_) => in_registry(),
        Goal::Store(_) | Goal::Layout { .. } if bench.engine.has_image(name)? => {
            Ok(Some((name, Place::Store(name.to_owned()))))
        }
        // A name alone is one of the store, as the image itself is.
        Goal::Store(_) | Goal::Layout { .. }
            if names_host(name) && args.previous_image.is_some() && !never =>
        {
            in_registry()
        }
        Goal::Store(_) | Goal::Layout { .. } => Ok(None),
    }
}

fn taken(
    bench: &Workbench,
    place: &Place,
    platform: &Platform,
) -> Result<Result<ImageDetails, EngineError>, Failure> {
    bench.run_first(async { Ok(bench.engine.take_image(place, platform).await) })
}

/// Returns an image with its bills of materials; or why it cannot be used.
fn whole(bench: &Workbench, details: &ImageDetails) -> Result<Result<Option<Previous>, String>, Failure> {
    let image = match Previous::of_image(&details.config, &details.layers) {
        Ok(Some(image)) => image,
        Ok(None) => return Ok(Ok(None)),
        Err(error) => return Ok(Err(rb_diag::chain(&error))),
    };
    let Some(layer) = image.sbom_layer() else { return Ok(Ok(Some(image))) };
    let blob = bench.run_first(async { Ok(bench.engine.open_layer(layer).await) })?;
    let sboms = blob.map_err(|error| rb_diag::chain(&error)).and_then(sboms);
    Ok(sboms.map(|sboms| Some(image.with_sboms(sboms))))
}

/// Reads the bills of materials in a layer.
fn sboms(layer: impl Read) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let (mut all, mut left_bytes) = (BTreeMap::new(), SBOM_BYTES);
    let read = packed::entries(layer, &mut |entry, content| {
        let path = entry.path.strip_prefix("layers").ok().and_then(Path::to_str);
        let (Some(path), PackedKind::File(size_bytes)) = (path, &entry.kind) else { return Ok(()) };
        left_bytes = left_bytes.checked_sub(*size_bytes).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut text = Vec::new();
        content.read_to_end(&mut text)?;
        all.insert(path.to_owned(), text);
        Ok::<_, io::Error>(())
    });
    read.map(|()| all).map_err(|error| format!("its bills of materials: {}", rb_diag::chain(&error)))
}

/// Tells whether there is no such image. Some registries tell that only to who may ask.
fn is_absent(error: &EngineError) -> bool {
    match error {
        EngineError::NoSuchImage { .. } | EngineError::Image { .. } => true,
        EngineError::Registry(error) | EngineError::Unasked { source: error, .. } => matches!(
            error,
            RegistryError::NotFound { .. }
                | RegistryError::Unauthorized { .. }
                | RegistryError::Denied { .. }
        ),
        _ => false,
    }
}

/// Fetches layers that are used again, for what is made here of their bytes.
pub(super) async fn bring(bench: &Workbench, goal: &Goal, whole: &Whole) -> Result<(), Failure> {
    if let Goal::Registry(_) = goal {
        return Ok(());
    }
    for part in whole.layers.iter().flat_map(|(_, parts)| parts) {
        if let LayerPart::Stored { descriptor, .. } = part {
            bench.engine.open_layer(descriptor).await?;
        }
    }
    Ok(())
}
