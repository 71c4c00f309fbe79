//! Labels of builders and packages, as pack writes them.
//!
//! In: what they are made of. Out: JSON, with the fields in the order of pack's own, which Go gives them; what Go never filled
//! is `null` where pack writes that. Source: distribution spec, "Labels".

use std::collections::BTreeMap;

use rb_oci::Digest;
use serde::Serialize;
use serde_json::Value;

use super::builder_file::BuilderFile;
use super::descriptor::Descriptor;
use super::lifecycle::LifecycleFile;
use crate::builder::{
    BUILDER_METADATA, BUILDPACK_LAYERS, BUILDPACK_ORDER, EXTENSION_LAYERS, EXTENSION_ORDER, SYSTEM,
};
use crate::json::{self, JsonError};
use crate::{ModuleInfo, ModuleKind, Order, OrderElement, Stack, SystemBuildpacks, Target};

/// Requirements of old builders.
const MIXINS: &str = "io.buildpacks.stack.mixins";

#[derive(Serialize)]
pub(super) struct Info<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    homepage: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    keywords: &'a [String],
    #[serde(rename = "exec-env", skip_serializing_if = "<[_]>::is_empty")]
    exec_env: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License<'a>>,
    #[serde(rename = "clear-env", skip_serializing_if = "std::ops::Not::not")]
    clear_env: bool,
}

/// Its names in JSON are Go's, since nobody gave it others.
#[derive(Serialize)]
struct License<'a> {
    #[serde(rename = "Type")]
    kind: &'a str,
    #[serde(rename = "URI")]
    uri: &'a str,
}

impl<'a> Info<'a> {
    fn of(info: &'a ModuleInfo) -> Self {
        let license = |license: &'a crate::License| License { kind: &license.kind, uri: &license.uri };
        Self {
            id: &info.id,
            name: &info.name,
            version: &info.version,
            description: &info.description,
            homepage: &info.homepage,
            keywords: &info.keywords,
            exec_env: &info.exec_env,
            licenses: info.licenses.iter().map(license).collect(),
            clear_env: info.clear_env,
        }
    }
}

#[derive(Serialize)]
struct Group<'a> {
    group: Vec<Element<'a>>,
}

#[derive(Serialize)]
struct Element<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(rename = "exec-env", skip_serializing_if = "<[_]>::is_empty")]
    exec_env: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
}

fn elements(all: &[OrderElement]) -> Vec<Element<'_>> {
    fn element(one: &OrderElement) -> Element<'_> {
        let OrderElement { id, version, optional, exec_env } = one;
        Element { id, version, exec_env, optional: *optional }
    }
    all.iter().map(element).collect()
}

fn groups(order: &Order) -> Vec<Group<'_>> {
    order.iter().map(|group| Group { group: elements(&group.group) }).collect()
}

/// Go's `null` where there is nothing.
fn filled<T>(all: Vec<T>) -> Option<Vec<T>> {
    (!all.is_empty()).then_some(all)
}

#[derive(Serialize)]
struct SystemLabel<'a> {
    pre: Side<'a>,
    post: Side<'a>,
}

#[derive(Serialize)]
struct Side<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    buildpacks: Vec<Element<'a>>,
}

impl<'a> Side<'a> {
    fn of(side: &'a SystemBuildpacks) -> Self {
        Self { buildpacks: elements(&side.buildpacks) }
    }
}

#[derive(Serialize)]
struct Distribution<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
}

#[derive(Serialize)]
struct TargetLabel<'a> {
    os: &'a str,
    arch: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    variant: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    distros: Vec<Distribution<'a>>,
}

impl<'a> TargetLabel<'a> {
    fn of(target: &'a Target) -> Self {
        let distros = target.distros.iter();
        let distros = distros.map(|one| Distribution { name: &one.name, version: &one.version }).collect();
        Self { os: &target.os, arch: &target.arch, variant: &target.variant, distros }
    }
}

/// Which layer each module lies in.
#[derive(Clone, Debug, Default)]
pub struct ModuleLayers(BTreeMap<String, BTreeMap<String, Value>>);

impl ModuleLayers {
    /// Says where a module lies.
    pub fn add(&mut self, module: &Descriptor, layer: &Digest) -> Result<(), JsonError> {
        #[derive(Serialize)]
        struct Layer<'a> {
            api: String,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            stacks: &'a [Stack],
            #[serde(skip_serializing_if = "Vec::is_empty")]
            targets: Vec<TargetLabel<'a>>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            order: Vec<Group<'a>>,
            #[serde(rename = "layerDiffID")]
            layer: &'a Digest,
            #[serde(skip_serializing_if = "str::is_empty")]
            homepage: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            name: &'a str,
        }
        let text = json::text(&Layer {
            api: module.api.to_string(),
            stacks: &module.stacks,
            targets: module.targets.iter().map(TargetLabel::of).collect(),
            order: groups(&module.order),
            layer,
            homepage: &module.info.homepage,
            name: &module.info.name,
        })?;
        // As text, so that the fields keep their order.
        let versions = self.0.entry(module.info.id.clone()).or_default();
        versions.insert(module.info.version.clone(), Value::String(text));
        Ok(())
    }

    /// Returns the label.
    pub fn label(&self) -> Result<String, JsonError> {
        let versions = |versions: &BTreeMap<String, Value>| -> Result<String, JsonError> {
            let entry = |(version, layer): (&String, &Value)| {
                let layer = layer.as_str().unwrap_or_default();
                Ok(format!("{}:{layer}", json::text(version)?))
            };
            Ok(versions.iter().map(entry).collect::<Result<Vec<_>, JsonError>>()?.join(","))
        };
        let entry = |(id, all): (&String, &BTreeMap<String, Value>)| {
            Ok(format!("{}:{{{}}}", json::text(id)?, versions(all)?))
        };
        let all = self.0.iter().map(entry).collect::<Result<Vec<_>, JsonError>>()?;
        Ok(format!("{{{}}}", all.join(",")))
    }
}

/// Returns the label that says what a package is.
pub fn buildpackage_label(module: &Descriptor, stacks: &[Stack]) -> Result<String, JsonError> {
    #[derive(Serialize)]
    struct Metadata<'a> {
        #[serde(flatten)]
        info: Info<'a>,
        stacks: Option<Vec<&'a Stack>>,
    }
    json::text(&Metadata { info: Info::of(&module.info), stacks: filled(stacks.iter().collect()) })
}

/// What the labels of a builder are made of.
#[derive(Clone, Copy, Debug)]
pub struct BuilderLabels<'a> {
    /// Its file.
    pub file: &'a BuilderFile,
    /// Its buildpacks, in the order in which they were added.
    pub buildpacks: &'a [Descriptor],
    /// Its extensions.
    pub extensions: &'a [Descriptor],
    /// Its lifecycle.
    pub lifecycle: &'a LifecycleFile,
    /// Where modules lie.
    pub layers: &'a [(ModuleKind, ModuleLayers)],
    /// Name and version of who makes it.
    pub made_by: (&'a str, &'a str),
}

impl BuilderLabels<'_> {
    /// Puts the labels among those of the image that builds run in.
    pub fn put(&self, labels: &mut BTreeMap<String, String>) -> Result<(), JsonError> {
        let Self { file, layers, .. } = self;
        for (kind, name) in
            [(ModuleKind::Buildpack, BUILDPACK_LAYERS), (ModuleKind::Extension, EXTENSION_LAYERS)]
        {
            let own = layers.iter().find(|(of, _)| *of == kind);
            let text = own.map_or_else(|| Ok("{}".to_owned()), |(_, layers)| layers.label())?;
            labels.insert(name.to_owned(), text);
        }
        labels.insert(BUILDPACK_ORDER.to_owned(), json::text(&filled(groups(&file.order)))?);
        labels.insert(EXTENSION_ORDER.to_owned(), json::text(&filled(groups(&file.order_extensions)))?);
        let system = &file.system;
        if !(system.pre.buildpacks.is_empty() && system.post.buildpacks.is_empty()) {
            let label = SystemLabel { pre: Side::of(&system.pre), post: Side::of(&system.post) };
            labels.insert(SYSTEM.to_owned(), json::text(&label)?);
        }
        labels.entry(MIXINS.to_owned()).or_insert_with(|| "null".to_owned());
        labels.insert(BUILDER_METADATA.to_owned(), self.metadata()?);
        Ok(())
    }

    fn metadata(&self) -> Result<String, JsonError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata<'a> {
            description: &'a str,
            buildpacks: Option<Vec<Info<'a>>>,
            extensions: Option<Vec<Info<'a>>>,
            stack: StackLabel<'a>,
            lifecycle: super::lifecycle::Label<'a>,
            created_by: Maker<'a>,
            images: Vec<Names<'a>>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct StackLabel<'a> {
            run_image: Names<'a>,
        }
        #[derive(Default, Serialize)]
        struct Names<'a> {
            image: &'a str,
            mirrors: Option<&'a [String]>,
        }
        #[derive(Serialize)]
        struct Maker<'a> {
            name: &'a str,
            version: &'a str,
        }
        let Self { file, buildpacks, extensions, lifecycle, made_by, .. } = self;
        let infos =
            |all: &'_ [Descriptor]| -> Vec<ModuleInfo> { all.iter().map(|one| one.info.clone()).collect() };
        let (buildpacks, extensions) = (infos(buildpacks), infos(extensions));
        let run_image = match file.stack.id.as_str() {
            "" => Names::default(),
            _ => Names { image: &file.stack.run_image, mirrors: file.stack.run_image_mirrors.as_deref() },
        };
        let images = file.run.images.iter();
        json::text(&Metadata {
            description: &file.description,
            buildpacks: filled(buildpacks.iter().map(Info::of).collect()),
            extensions: filled(extensions.iter().map(Info::of).collect()),
            stack: StackLabel { run_image },
            lifecycle: lifecycle.label(),
            created_by: Maker { name: made_by.0, version: made_by.1 },
            images: images.map(|one| Names { image: &one.image, mirrors: one.mirrors.as_deref() }).collect(),
        })
    }
}
