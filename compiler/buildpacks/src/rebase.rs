//! Rebasing: an app's image on another base, without building.
//!
//! In: the manifests and configs of the app and of the new base. Out: a manifest and a config of the same layers above another
//! base; or why it is refused. No blob of a layer is read.
//! **Invariant:** the layers above the base, and what the config says of the app, stay as they are.
//! Source: platform spec, "Phase: rebase"; the lifecycle's rebaser.

use rb_oci::{Descriptor, Digest, ImageConfig};

use crate::decode::DecodeError;
use crate::json::JsonError;
use crate::labels::{LIFECYCLE_METADATA, LifecycleMetadata, REBASABLE, RunImageNames, StackRecord};
use crate::{BaseTarget, Exit};

/// An image: its config, and the descriptors of its layers, lowest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Layered {
    /// Its config.
    pub config: ImageConfig,
    /// Its layers.
    pub layers: Vec<Descriptor>,
}

/// The base that an app is put on.
#[derive(Clone, Debug)]
pub struct NewBase<'a> {
    /// Its layers and config.
    pub image: &'a Layered,
    /// Its name, such as `example/run:v2`.
    pub name: &'a str,
    /// The same, by digest.
    pub reference: &'a str,
}

/// An image cannot be rebased.
#[derive(Debug, thiserror::Error)]
pub enum RebaseError {
    /// It does not say what it is made of.
    #[error("the image has no label `{LIFECYCLE_METADATA}`: it was not built by buildpacks")]
    NoMetadata,
    /// What it says does not read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It was made to stay as it is.
    #[error("the image says that it cannot be rebased (`{REBASABLE}` is false)")]
    NotRebasable,
    /// The base is for another system.
    #[error("the new base is for another system: {new} in the place of {old}")]
    Target {
        /// What the app stands on.
        old: Box<BaseTarget>,
        /// What it would stand on.
        new: Box<BaseTarget>,
    },
    /// The base is none of those that were meant.
    #[error("`{name}` is none of the bases that the image names: {}", .known.join(", "))]
    Unknown {
        /// The base.
        name: String,
        /// Those that it names.
        known: Vec<String>,
    },
    /// No layer is the topmost of its base.
    #[error("no layer of the image is `{0}`, which is said to be the topmost of its base")]
    NoTopLayer(String),
    /// Its config and its manifest have different numbers of layers.
    #[error("the image has {layers} layers, and its config says {diff_ids}")]
    Layers {
        /// Of the manifest.
        layers: usize,
        /// Of the config.
        diff_ids: usize,
    },
    /// A label cannot be written.
    #[error(transparent)]
    Json(#[from] JsonError),
}

impl RebaseError {
    /// Returns the lifecycle's exit code.
    pub fn exit(&self) -> Exit {
        Exit::Rebase
    }

    /// Whether `--force` goes on all the same.
    pub fn yields_to_force(&self) -> bool {
        matches!(self, Self::NotRebasable | Self::Target { .. } | Self::Unknown { .. })
    }
}

/// Puts an app on another base. With `force`, what speaks against it is returned beside the result, in order.
pub fn rebase(
    app: &Layered,
    base: &NewBase<'_>,
    force: bool,
) -> Result<(Layered, Vec<RebaseError>), RebaseError> {
    counted(app)?;
    counted(base.image)?;
    let label = app.config.config.labels.get(LIFECYCLE_METADATA).ok_or(RebaseError::NoMetadata)?;
    let mut metadata = LifecycleMetadata::parse(label)?;
    let mut against = Vec::new();
    let known = names(&metadata);
    for objection in objections(app, base, &known) {
        if !force {
            return Err(objection);
        }
        against.push(objection);
    }
    let top = &metadata.run_image.top_layer;
    let own = top
        .parse::<Digest>()
        .ok()
        .and_then(|top| app.config.rootfs.diff_ids.iter().position(|one| *one == top));
    let own = own.ok_or_else(|| RebaseError::NoTopLayer(top.clone()))? + 1;
    if !known.iter().any(|names| names.contains(base.name)) {
        metadata.run_image.names = RunImageNames { image: base.name.to_owned(), mirrors: Vec::new() };
        metadata.stack = Some(StackRecord { run_image: metadata.run_image.names.clone() });
    }
    let new = &base.image.config;
    metadata.run_image.top_layer = new.rootfs.diff_ids.last().map(ToString::to_string).unwrap_or_default();
    metadata.run_image.reference = base.reference.to_owned();
    let mut config = app.config.clone();
    config.history = histories(&app.config, own, new);
    config.rootfs.diff_ids = [&new.rootfs.diff_ids[..], &app.config.rootfs.diff_ids[own..]].concat();
    config.os.clone_from(&new.os);
    config.architecture.clone_from(&new.architecture);
    match new.other.get("os.version") {
        Some(version) => drop(config.other.insert("os.version".to_owned(), version.clone())),
        None => drop(config.other.remove("os.version")),
    }
    let of_base =
        |name: &str| name.starts_with("io.buildpacks.base.") || name.starts_with("io.buildpacks.stack.");
    config.config.labels.retain(|name, _| !of_base(name));
    let labels = new.config.labels.iter().filter(|(name, _)| of_base(name));
    config.config.labels.extend(labels.map(|(name, value)| (name.clone(), value.clone())));
    config.config.labels.insert(LIFECYCLE_METADATA.to_owned(), metadata.label()?);
    let layers = [&base.image.layers[..], &app.layers[own..]].concat();
    Ok((Layered { config, layers }, against))
}

fn counted(image: &Layered) -> Result<(), RebaseError> {
    let (layers, diff_ids) = (image.layers.len(), image.config.rootfs.diff_ids.len());
    if layers == diff_ids { Ok(()) } else { Err(RebaseError::Layers { layers, diff_ids }) }
}

/// Returns the bases that an image names.
fn names(metadata: &LifecycleMetadata) -> Vec<RunImageNames> {
    let stack = metadata.stack.iter().map(|stack| stack.run_image.clone());
    std::iter::once(metadata.run_image.names.clone()).chain(stack).collect()
}

fn objections(app: &Layered, base: &NewBase<'_>, known: &[RunImageNames]) -> Vec<RebaseError> {
    let mut all = Vec::new();
    if app.config.config.labels.get(REBASABLE).is_some_and(|value| value == "false") {
        all.push(RebaseError::NotRebasable);
    }
    let (old, new) = (BaseTarget::of_image(&app.config), BaseTarget::of_image(&base.image.config));
    if !new.replaces(&old) {
        all.push(RebaseError::Target { old: Box::new(old), new: Box::new(new) });
    }
    if !known.iter().any(|names| names.contains(base.name)) {
        let mut names: Vec<String> = known
            .iter()
            .flat_map(|names| {
                std::iter::once(&names.image).chain(&names.mirrors).filter(|name| !name.is_empty()).cloned()
            })
            .collect();
        names.dedup();
        all.push(RebaseError::Unknown { name: base.name.to_owned(), known: names });
    }
    all
}

/// Lines of the new base, then those of the app's own layers; a line for each layer where both histories fit theirs.
fn histories(app: &ImageConfig, own: usize, base: &ImageConfig) -> Vec<rb_oci::History> {
    let lines = |config: &ImageConfig| {
        let lines: Vec<_> = config.history.iter().filter(|line| !line.empty_layer).cloned().collect();
        let count = config.rootfs.diff_ids.len();
        if lines.len() == count { lines } else { vec![rb_oci::History::default(); count] }
    };
    let created = &app.created;
    let mut all = [lines(base), lines(app).split_off(own)].concat();
    all.iter_mut().for_each(|line| line.created.clone_from(created));
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rb_oci::{History, MediaType};

    use super::*;

    fn image(layers: std::ops::Range<usize>, labels: &[(&str, &str)]) -> Layered {
        let digest = |number: usize| format!("sha256:{number:064x}");
        let descriptor = |number| {
            let digest: Digest = digest(number).parse().expect("a digest");
            serde_json::from_value(serde_json::json!({
                "mediaType": MediaType::ImageLayerGzip.to_string(), "digest": digest.to_string(), "size": 1,
            }))
            .expect("a descriptor")
        };
        let mut config =
            ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
        config.rootfs.diff_ids =
            layers.clone().map(|number| digest(number).parse().expect("a digest")).collect();
        config.history = layers
            .clone()
            .map(|number| History { created_by: Some(number.to_string()), ..History::default() })
            .collect();
        config.config.labels =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Layered { config, layers: layers.map(descriptor).collect() }
    }

    fn metadata(top: usize, image: &str) -> String {
        format!(
            r#"{{"runImage":{{"topLayer":"sha256:{top:064x}","reference":"old","image":"{image}","mirrors":["m.example.com/run"]}}}}"#
        )
    }

    fn onto<'a>(image: &'a Layered, name: &'a str) -> NewBase<'a> {
        NewBase { image, name, reference: "new@sha256:1" }
    }

    #[test]
    fn the_app_stays_and_the_base_goes() {
        let label = metadata(1, "run");
        let app = image(0..5, &[(LIFECYCLE_METADATA, &label), ("io.buildpacks.base.old", "x"), ("app", "y")]);
        let base = image(10..13, &[("io.buildpacks.base.new", "z"), ("other", "o")]);
        let (made, against) = rebase(&app, &onto(&base, "m.example.com/run"), false).expect("rebases");
        assert!(against.is_empty());
        assert_eq!(made.layers, [&base.layers[..], &app.layers[2..]].concat());
        assert_eq!(made.config.rootfs.diff_ids.len(), made.layers.len());
        let by: Vec<_> = made.config.history.iter().filter_map(|line| line.created_by.as_deref()).collect();
        assert_eq!(by, ["10", "11", "12", "2", "3", "4"]);
        let labels: Vec<_> = made.config.config.labels.keys().map(String::as_str).collect();
        assert_eq!(labels, ["app", "io.buildpacks.base.new", LIFECYCLE_METADATA]);
        let said = LifecycleMetadata::parse(&made.config.config.labels[LIFECYCLE_METADATA])
            .expect("reads")
            .run_image;
        assert_eq!((said.reference.as_str(), said.names.image.as_str()), ("new@sha256:1", "run"));
        assert_eq!(said.top_layer, format!("sha256:{:064x}", 12));
    }

    #[test]
    fn what_speaks_against_it() {
        let label = metadata(1, "run");
        let app = image(0..3, &[(LIFECYCLE_METADATA, &label), (REBASABLE, "false")]);
        let mut base = image(10..11, &[]);
        base.config.architecture = "arm64".into();
        assert!(matches!(rebase(&app, &onto(&base, "run"), false), Err(RebaseError::NotRebasable)));
        let (made, against) = rebase(&app, &onto(&base, "else"), true).expect("forced");
        assert!(against.len() == 3 && against.iter().all(RebaseError::yields_to_force));
        assert_eq!(made.config.architecture, "arm64");
        let said = LifecycleMetadata::parse(&made.config.config.labels[LIFECYCLE_METADATA]).expect("reads");
        assert_eq!(said.run_image.names, RunImageNames { image: "else".into(), mirrors: Vec::new() });
        assert!(matches!(rebase(&base, &onto(&base, "run"), true), Err(RebaseError::NoMetadata)));
        let lost = image(5..8, &[(LIFECYCLE_METADATA, &label)]);
        assert!(matches!(
            rebase(&lost, &onto(&image(1..2, &[]), "run"), true),
            Err(RebaseError::NoTopLayer(_))
        ));
    }

    proptest! {
        /// There and back again is where it began.
        #[test]
        fn there_and_back(old in 1usize..4, own in 0usize..4, new in 1usize..4) {
            let label = metadata(old - 1, "run");
            let app = image(0..old + own, &[(LIFECYCLE_METADATA, &label)]);
            let (first, second) = (image(0..old, &[]), image(20..20 + new, &[]));
            let there = rebase(&app, &onto(&second, "run"), false).expect("rebases").0;
            let back = rebase(&there, &onto(&first, "run"), false).expect("rebases").0;
            prop_assert_eq!(&back.layers, &app.layers);
            prop_assert_eq!(&back.config.rootfs, &app.config.rootfs);
            prop_assert_eq!(&back.config.history, &app.config.history);
        }
    }
}
