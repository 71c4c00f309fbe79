//! Builder images and buildpackages: what their labels say.
//!
//! In: the labels of an image's config. Out: [`Builder`]: the orders, the modules with the diff id of the layer that each lies
//! in, the lifecycle's APIs, the names of base images. What labels do not say (`clear-env`, `sbom-formats`, `exec-env`) stands
//! in the module's own file. Source: distribution spec, "Builder"; what pack writes.

use std::collections::BTreeMap;

use rb_oci::{Digest, ImageConfig};
use serde::Deserialize;

use crate::decode::{self, DecodeError};
use crate::labels::{RunImageNames, StackRecord, null_is_empty};
use crate::{
    ApiError, ApiVersion, BuildpackApi, Exit, ModuleInfo, ModuleKey, ModuleKind, Order, OrderElement,
    OrderFile, PlatformApi, Stack, System, Target,
};

/// What a builder is.
pub const BUILDER_METADATA: &str = "io.buildpacks.builder.metadata";
/// The layers of its buildpacks.
pub const BUILDPACK_LAYERS: &str = "io.buildpacks.buildpack.layers";
/// The layers of its extensions.
pub const EXTENSION_LAYERS: &str = "io.buildpacks.extension.layers";
/// Its order.
pub const BUILDPACK_ORDER: &str = "io.buildpacks.buildpack.order";
/// Its order of extensions.
pub const EXTENSION_ORDER: &str = "io.buildpacks.buildpack.order-extensions";
/// What it adds to each group.
pub const SYSTEM: &str = "io.buildpacks.buildpack.system";
/// What a buildpackage is.
pub const BUILDPACKAGE_METADATA: &str = "io.buildpacks.buildpackage.metadata";

/// What the labels of a builder say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Builder {
    /// What it is.
    pub metadata: BuilderMetadata,
    /// What it tries.
    pub order: OrderFile,
    /// What it adds to each group.
    pub system: System,
    /// Its modules.
    pub modules: BTreeMap<ModuleKey, ModuleLayer>,
    /// Whom steps run as.
    pub user: (u32, u32),
}

/// [`BUILDER_METADATA`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct BuilderMetadata {
    /// One sentence.
    pub description: String,
    /// Its buildpacks.
    #[serde(deserialize_with = "null_is_empty")]
    pub buildpacks: Vec<ModuleInfo>,
    /// Its extensions.
    #[serde(deserialize_with = "null_is_empty")]
    pub extensions: Vec<ModuleInfo>,
    /// Names of its base, from before `images`.
    pub stack: StackRecord,
    /// Its lifecycle.
    pub lifecycle: Lifecycle,
    /// Names of its bases.
    #[serde(deserialize_with = "null_is_empty")]
    pub images: Vec<RunImageNames>,
}

/// The lifecycle of a builder.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Lifecycle {
    /// Its version.
    pub version: String,
    /// What it supports.
    pub apis: LifecycleApis,
}

/// What a lifecycle supports.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct LifecycleApis {
    /// Of modules.
    pub buildpack: SupportedApis,
    /// Of platforms.
    pub platform: SupportedApis,
}

/// What a lifecycle supports of one API.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SupportedApis {
    /// Those that will go.
    #[serde(deserialize_with = "null_is_empty")]
    pub deprecated: Vec<ApiVersion>,
    /// All.
    #[serde(deserialize_with = "null_is_empty")]
    pub supported: Vec<ApiVersion>,
}

/// A module of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleLayer {
    /// The API that it speaks.
    pub api: BuildpackApi,
    /// The diff id of the layer that it lies in.
    pub layer: Digest,
    /// Systems that it is for.
    pub targets: Vec<Target>,
    /// The same, from before there were targets.
    pub stacks: Vec<Stack>,
    /// What a composite stands for.
    pub order: Order,
    /// Its name for people.
    pub name: String,
    /// Where to read of it.
    pub homepage: String,
}

/// An image is no builder or buildpackage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuilderError {
    /// A label cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It lacks a label that all have.
    #[error("the image has no label `{0}`")]
    NoLabel(&'static str),
    /// A module speaks an API that is not supported.
    #[error("{kind} {key}: {source}")]
    Api {
        /// Its kind.
        kind: ModuleKind,
        /// Which.
        key: ModuleKey,
        /// Why.
        source: ApiError,
    },
    /// A module's layer is named by something else than a digest.
    #[error("{kind} {key}: `{layer}` is not the digest of a layer")]
    Layer {
        /// Its kind.
        kind: ModuleKind,
        /// Which.
        key: ModuleKey,
        /// What it says.
        layer: String,
    },
    /// It does not say whom steps run as, or says root.
    #[error("the builder's variable `{0}` has to be the number of a user or group that is not root's")]
    User(&'static str),
}

impl BuilderError {
    /// Returns the lifecycle's exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Api { source, .. } => source.exit(),
            Self::Decode(_) | Self::NoLabel(_) | Self::Layer { .. } | Self::User(_) => Exit::Failed,
        }
    }
}

/// A module of a label: id → version → this.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawModule {
    api: String,
    #[serde(rename = "layerDiffID")]
    layer: String,
    #[serde(deserialize_with = "null_is_empty")]
    targets: Vec<Target>,
    #[serde(deserialize_with = "null_is_empty")]
    stacks: Vec<Stack>,
    #[serde(deserialize_with = "null_is_empty")]
    order: Order,
    name: String,
    homepage: String,
}

impl Builder {
    /// Reads the labels of a builder.
    pub fn of_image(config: &ImageConfig) -> Result<Self, BuilderError> {
        let metadata = label(config, BUILDER_METADATA)?.ok_or(BuilderError::NoLabel(BUILDER_METADATA))?;
        let order = label(config, BUILDPACK_ORDER)?.ok_or(BuilderError::NoLabel(BUILDPACK_ORDER))?;
        let order_extensions = label(config, EXTENSION_ORDER)?.unwrap_or_default();
        let id = |name: &'static str| {
            let value = config.config.env(name).and_then(|value| value.parse().ok());
            value.filter(|id: &u32| *id != 0).ok_or(BuilderError::User(name))
        };
        let mut builder = Self {
            metadata,
            order: OrderFile { order, order_extensions },
            system: label(config, SYSTEM)?.unwrap_or_default(),
            modules: modules(config)?,
            user: (id("CNB_USER_ID")?, id("CNB_GROUP_ID")?),
        };
        builder.fill_versions();
        Ok(builder)
    }

    /// Gives those that orders name without a version the one that there is: pack writes labels as people wrote the order.
    fn fill_versions(&mut self) {
        let Self { order: OrderFile { order, order_extensions }, system, modules, .. } = self;
        let fill = |kind: ModuleKind, element: &mut OrderElement| {
            if !element.version.is_empty() {
                return;
            }
            let mut known = modules.keys().filter(|key| key.kind == kind && key.id == element.id);
            if let (Some(only), None) = (known.next(), known.next()) {
                element.version.clone_from(&only.version);
            }
        };
        let of = |group: &mut Order, kind| {
            group.iter_mut().flat_map(|group| &mut group.group).for_each(|element| fill(kind, element));
        };
        of(order, ModuleKind::Buildpack);
        of(order_extensions, ModuleKind::Extension);
        let around = system.pre.buildpacks.iter_mut().chain(&mut system.post.buildpacks);
        around.for_each(|element| fill(ModuleKind::Buildpack, element));
    }

    /// Returns the newest Platform API that its lifecycle knows, too: the launcher of the image is its own.
    pub fn platform(&self) -> Result<PlatformApi, ApiError> {
        PlatformApi::common(&self.metadata.lifecycle.apis.platform.supported)
    }

    /// Returns the names of its bases, the first being the default.
    pub fn run_images(&self) -> Vec<RunImageNames> {
        match &self.metadata.images {
            images if !images.is_empty() => images.clone(),
            _ if self.metadata.stack.run_image == RunImageNames::default() => Vec::new(),
            _ => vec![self.metadata.stack.run_image.clone()],
        }
    }
}

/// A buildpackage: one module, and those that it names.
#[derive(Clone, Debug, PartialEq)]
pub struct Buildpackage {
    /// What it is.
    pub info: ModuleInfo,
    /// All modules in it.
    pub modules: BTreeMap<ModuleKey, ModuleLayer>,
}

impl Buildpackage {
    /// Reads the labels of a buildpackage.
    pub fn of_image(config: &ImageConfig) -> Result<Self, BuilderError> {
        let info =
            label(config, BUILDPACKAGE_METADATA)?.ok_or(BuilderError::NoLabel(BUILDPACKAGE_METADATA))?;
        Ok(Self { info, modules: modules(config)? })
    }
}

fn label<T: serde::de::DeserializeOwned>(config: &ImageConfig, name: &str) -> Result<Option<T>, DecodeError> {
    // What Go never filled is `null`, as a whole label, too.
    let text = config.config.labels.get(name).filter(|text| !["", "null"].contains(&text.as_str()));
    text.map(|text| decode::json(&format!("label {name}"), text.as_bytes())).transpose()
}

fn modules(config: &ImageConfig) -> Result<BTreeMap<ModuleKey, ModuleLayer>, BuilderError> {
    let mut all = BTreeMap::new();
    for (kind, name) in [(ModuleKind::Buildpack, BUILDPACK_LAYERS), (ModuleKind::Extension, EXTENSION_LAYERS)]
    {
        let ids: BTreeMap<String, BTreeMap<String, RawModule>> = label(config, name)?.unwrap_or_default();
        for (id, versions) in ids {
            for (version, raw) in versions {
                let key = ModuleKey { kind, id: id.clone(), version };
                all.insert(key.clone(), raw.read(key)?);
            }
        }
    }
    Ok(all)
}

impl RawModule {
    fn read(self, key: ModuleKey) -> Result<ModuleLayer, BuilderError> {
        let kind = key.kind;
        let Ok(layer) = self.layer.parse() else {
            return Err(BuilderError::Layer { kind, key, layer: self.layer.chars().take(100).collect() });
        };
        let api = self.api.parse().map_err(|source| BuilderError::Api { kind, key, source })?;
        let Self { targets, stacks, order, name, homepage, .. } = self;
        Ok(ModuleLayer { api, layer, targets, stacks, order, name, homepage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(labels: &[(&str, &str)]) -> ImageConfig {
        let mut config = ImageConfig::default();
        config.config.env = vec!["CNB_USER_ID=1000".into(), "CNB_GROUP_ID=1001".into()];
        config.config.labels =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        config
    }

    fn layers(api: &str, layer: &str) -> String {
        format!(
            r#"{{"a/b":{{"1":{{"api":"{api}","layerDiffID":"{layer}","targets":[{{"os":"linux","arch":"amd64"}}],"order":null}}}}}}"#
        )
    }

    const METADATA: &str = r#"{"description":"d","buildpacks":[{"id":"a/b","version":"1"}],"extensions":null,
        "stack":{"runImage":{"image":"old","mirrors":null}},"lifecycle":{"version":"0.20","api":{"buildpack":"0.2"},
        "apis":{"platform":{"deprecated":null,"supported":["0.7","0.13","0.99"]}}},"createdBy":{"name":"x"},"images":null}"#;
    const ORDER: &str = r#"[{"group":[{"id":"a/b","version":"1","optional":true}]}]"#;

    #[test]
    fn what_pack_writes() {
        let layer = format!("sha256:{}", "a".repeat(64));
        let layers = layers("0.10", &layer);
        let labels = [
            (BUILDER_METADATA, METADATA),
            (BUILDPACK_ORDER, ORDER),
            (BUILDPACK_LAYERS, &layers),
            (EXTENSION_ORDER, "null"),
        ];
        let builder = Builder::of_image(&config(&labels)).expect("a builder");
        let module = &builder.modules[&ModuleKey::buildpack("a/b", "1")];
        assert_eq!((module.layer.to_string(), module.targets[0].os.as_str()), (layer, "linux"));
        assert_eq!((builder.user, builder.run_images()[0].image.as_str()), ((1000, 1001), "old"));
        assert_eq!(builder.platform().map(|api| api.to_string()).as_deref(), Ok("0.13"));
        assert!(builder.order.order[0].group[0].optional);
        // An order that names no version.
        let order = ORDER.replace(r#""version":"1","#, "");
        let unversioned = [labels[0], (BUILDPACK_ORDER, &order), labels[2]];
        let filled = Builder::of_image(&config(&unversioned)).expect("a builder");
        assert_eq!(filled.order.order, builder.order.order);
        let mut root = config(&labels);
        root.config.env[0] = "CNB_USER_ID=0".into();
        assert_eq!(Builder::of_image(&root), Err(BuilderError::User("CNB_USER_ID")));
        let labels = [(BUILDPACKAGE_METADATA, r#"{"id":"a/b","version":"1"}"#), labels[2]];
        assert_eq!(Buildpackage::of_image(&config(&labels)).map(|package| package.info.id), Ok("a/b".into()));
    }

    #[test]
    fn what_is_no_builder() {
        assert_eq!(Builder::of_image(&config(&[])), Err(BuilderError::NoLabel(BUILDER_METADATA)));
        let with = |layers: &str| {
            Builder::of_image(&config(&[
                (BUILDER_METADATA, METADATA),
                (BUILDPACK_ORDER, ORDER),
                (BUILDPACK_LAYERS, layers),
            ]))
        };
        assert!(matches!(with(&layers("0.10", "sha256:x")), Err(BuilderError::Layer { .. })));
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(with(&layers("0.2", &digest)).map_err(|error| error.exit().code()), Err(12));
        assert!(matches!(with("[]"), Err(BuilderError::Decode(_))));
    }
}
