//! The image of an app: its layers in order, and its config.
//!
//! In: what the build left, and the diff ids of packed layers. Out: [`layers`], what is to be packed in which order and what its
//! history says; [`config`], the config above that of the base; [`entrypoint`]. Packing and pushing are others' work.
//! **Invariant:** for equal input the config is the lifecycle's.
//! Source: platform spec, "Phase: export"; the lifecycle's exporter, where both differ (`PATH`, two more variables).

use std::collections::BTreeMap;

use rb_oci::{Digest, History, ImageConfig};

use crate::environment::{LIFECYCLE_FOLDER, PROCESS_FOLDER};
use crate::json::JsonError;
use crate::labels::{
    BUILD_METADATA, EXECUTION_ENVIRONMENT, LIFECYCLE_METADATA, LayerSha, PROJECT_METADATA, RunImageRecord,
    StackRecord, StoreRecord,
};
use crate::{
    BuildMetadata, BuildpackLayers, Exit, GroupElement, Label, LauncherMetadata, LayerFile,
    LifecycleMetadata, PlatformApi, ProjectMetadata, escape_id,
};

/// When files of images were changed and, unless the user says otherwise, images were made.
pub const EPOCH: &str = "1980-01-01T00:00:01Z";
/// The same, in seconds since 1970.
pub const EPOCH_SECONDS: i64 = 315_532_801;

/// A layer above the base.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AppLayer {
    /// A launch layer of a buildpack.
    Buildpack {
        /// The buildpack's id.
        id: String,
        /// Its version.
        version: String,
        /// The layer's name.
        name: String,
    },
    /// Bills of materials: `<layers>/sbom/launch`.
    Sbom,
    /// Part of the app, from 1; the last is what no slice names.
    Slice {
        /// Which.
        number: usize,
        /// Whether it is the only one.
        only: bool,
    },
    /// The launcher.
    Launcher,
    /// `<layers>/config`.
    Config,
    /// Links to the launcher, one for each type of process.
    ProcessTypes,
}

impl AppLayer {
    /// Returns what the image's history says of it.
    pub fn created_by(&self) -> String {
        match self {
            Self::Buildpack { id, version, name } => {
                format!("Layer: '{name}', Created by buildpack: {id}@{version}")
            }
            Self::Sbom => "Software Bill-of-Materials".to_owned(),
            Self::Slice { only: true, .. } => "Application Layer".to_owned(),
            Self::Slice { number, only: false } => format!("Application Slice: {number}"),
            Self::Launcher => "Buildpacks Application Launcher".to_owned(),
            Self::Config => "Buildpacks Launcher Config".to_owned(),
            Self::ProcessTypes => "Buildpacks Process Types".to_owned(),
        }
    }

    /// Returns the folder that is packed, relative to that of all layers, if it is one of those.
    pub fn folder(&self) -> Option<String> {
        match self {
            Self::Buildpack { id, name, .. } => Some(format!("{}/{name}", escape_id(id))),
            Self::Sbom => Some("sbom/launch".to_owned()),
            Self::Config => Some("config".to_owned()),
            Self::Slice { .. } | Self::Launcher | Self::ProcessTypes => None,
        }
    }
}

/// A buildpack that has built.
#[derive(Clone, Debug)]
pub struct BuiltBuildpack<'a> {
    /// Which.
    pub element: &'a GroupElement,
    /// What it says of its layers.
    pub layers: &'a BTreeMap<String, LayerFile>,
    /// What it keeps for its next build, if it wrote a `store.toml`.
    pub store: Option<StoreRecord>,
}

impl BuiltBuildpack<'_> {
    fn launch_layers(&self) -> impl Iterator<Item = (&String, &LayerFile)> {
        self.layers.iter().filter(|(_, layer)| layer.launch)
    }
}

/// What the layers of an image depend on.
#[derive(Clone, Debug, Default)]
pub struct AppLayers<'a> {
    /// The buildpacks, in order.
    pub buildpacks: &'a [BuiltBuildpack<'a>],
    /// Whether there are bills of materials.
    pub sbom: bool,
    /// How many slices there are, beside what is left.
    pub slices: usize,
    /// Whether there is any process.
    pub processes: bool,
}

/// Returns the layers above the base and those of extensions, lowest first.
pub fn layers(of: &AppLayers<'_>) -> Vec<AppLayer> {
    let mut all = Vec::new();
    for buildpack in of.buildpacks {
        all.extend(buildpack.launch_layers().map(|(name, _)| AppLayer::Buildpack {
            id: buildpack.element.id.clone(),
            version: buildpack.element.version.clone(),
            name: name.clone(),
        }));
    }
    all.extend(of.sbom.then_some(AppLayer::Sbom));
    all.extend((1..=of.slices + 1).map(|number| AppLayer::Slice { number, only: of.slices == 0 }));
    all.extend([AppLayer::Launcher, AppLayer::Config]);
    all.extend(of.processes.then_some(AppLayer::ProcessTypes));
    all
}

/// Returns what an image says of its layers, given the diff id of each.
pub fn lifecycle_metadata(
    buildpacks: &[BuiltBuildpack<'_>],
    layers: &[(AppLayer, Digest)],
    run_image: RunImageRecord,
) -> Result<LifecycleMetadata, ExportError> {
    let diff_ids: BTreeMap<&AppLayer, String> =
        layers.iter().map(|(layer, diff_id)| (layer, diff_id.to_string())).collect();
    let sha = |layer: AppLayer| diff_ids.get(&layer).map(|sha| LayerSha { sha: sha.clone() });
    let missing = |layer: AppLayer| ExportError::NoLayer(layer.created_by());
    let mut all = LifecycleMetadata {
        sbom: sha(AppLayer::Sbom),
        config: sha(AppLayer::Config).ok_or_else(|| missing(AppLayer::Config))?,
        launcher: sha(AppLayer::Launcher).ok_or_else(|| missing(AppLayer::Launcher))?,
        process_types: sha(AppLayer::ProcessTypes).unwrap_or_default(),
        stack: Some(StackRecord { run_image: run_image.names.clone() }),
        run_image,
        ..LifecycleMetadata::default()
    };
    let slices = layers.iter().filter(|(layer, _)| matches!(layer, AppLayer::Slice { .. }));
    all.app = slices.map(|(_, diff_id)| serde_json::json!({ "sha": diff_id.to_string() })).collect();
    for buildpack in buildpacks {
        let mut records = BTreeMap::new();
        for (name, layer) in buildpack.launch_layers() {
            let GroupElement { id, version, .. } = buildpack.element.clone();
            let of = AppLayer::Buildpack { id, version, name: name.clone() };
            let sha = sha(of.clone()).ok_or_else(|| missing(of))?.sha;
            records.insert(name.clone(), layer.record(sha)?);
        }
        all.buildpacks.push(BuildpackLayers {
            id: buildpack.element.id.clone(),
            version: buildpack.element.version.clone(),
            layers: records,
            store: buildpack.store.clone(),
        });
    }
    Ok(all)
}

/// An image cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// No process is of the type that is to be the default.
    #[error("no process is of type `{0}`, which is to be the default one")]
    NoProcess(String),
    /// A type of process cannot be the name of a link.
    #[error("`{0}` cannot be the type of a process: it is the name of a link")]
    ProcessName(String),
    /// A layer that every image has, or that a buildpack names, was not packed.
    #[error("the layer of `{0}` was not packed")]
    NoLayer(String),
    /// A label cannot be written.
    #[error(transparent)]
    Json(#[from] JsonError),
}

impl ExportError {
    /// Returns the lifecycle's exit code.
    pub fn exit(&self) -> Exit {
        Exit::Export
    }
}

/// Returns what the image starts: the process of the user's type, else of the buildpacks', else the launcher.
pub fn entrypoint(build: &BuildMetadata, wanted: &str) -> Result<String, ExportError> {
    if let Some(bad) = build.processes.iter().find(|process| !process.has_good_name()) {
        return Err(ExportError::ProcessName(bad.kind.clone()));
    }
    let kind = if wanted.is_empty() { &build.buildpack_default_process_type } else { wanted };
    if kind.is_empty() {
        return Ok(format!("{LIFECYCLE_FOLDER}/launcher"));
    }
    if !wanted.is_empty() && build.processes.iter().all(|process| process.kind != wanted) {
        return Err(ExportError::NoProcess(wanted.to_owned()));
    }
    Ok(format!("{PROCESS_FOLDER}/{kind}"))
}

/// What the config of an image depends on.
#[derive(Clone, Debug)]
pub struct AppConfig<'a> {
    /// The API of the platform, which the launcher speaks.
    pub platform: PlatformApi,
    /// Where layers lie.
    pub layers_folder: &'a str,
    /// Where the app lies.
    pub app_folder: &'a str,
    /// The execution environment; empty for none.
    pub execution_environment: &'a str,
    /// The type of process that the user wants as the default; empty for none.
    pub process: &'a str,
    /// When the image was made, RFC 3339.
    pub created: &'a str,
    /// What the build left.
    pub build: &'a BuildMetadata,
    /// Of which layers it is; none of an image that others go on from, which has other layers.
    pub lifecycle: Option<&'a LifecycleMetadata>,
    /// What its launcher is.
    pub launcher: &'a LauncherMetadata,
    /// Where its source is from.
    pub project: &'a ProjectMetadata,
}

/// Returns the config of an image above the config of its base, with these layers: what history says of each, and its diff id.
pub fn config(
    base: &ImageConfig,
    layers: &[(String, Digest)],
    app: &AppConfig<'_>,
) -> Result<ImageConfig, ExportError> {
    let mut all = config_above(base, layers.iter().map(|(by, _)| by.as_str()), app)?;
    all.rootfs.diff_ids.extend(layers.iter().map(|(_, diff_id)| *diff_id));
    Ok(all)
}

/// The same without diff ids for the layers, of which `lines` are what history says.
pub(crate) fn config_above<'l>(
    base: &ImageConfig,
    lines: impl Iterator<Item = &'l str>,
    app: &AppConfig<'_>,
) -> Result<ImageConfig, ExportError> {
    let mut all = base.clone();
    let entrypoint = entrypoint(app.build, app.process)?;
    all.config.labels.extend(labels(app)?);
    all.config.set_env("CNB_LAYERS_DIR", app.layers_folder);
    all.config.set_env("CNB_APP_DIR", app.app_folder);
    all.config.set_env("CNB_PLATFORM_API", &app.platform.to_string());
    all.config.set_env("CNB_DEPRECATION_MODE", "quiet");
    let path = all.config.env("PATH").unwrap_or_default();
    let path = format!("{PROCESS_FOLDER}:{LIFECYCLE_FOLDER}:{path}");
    all.config.set_env("PATH", &path);
    all.config.working_dir = Some(app.app_folder.to_owned());
    all.config.entrypoint = Some(vec![entrypoint]);
    all.config.cmd = None;
    all.created = Some(app.created.to_owned());
    all.history = base_history(base);
    all.history.extend(lines.map(|by| History { created_by: Some(by.to_owned()), ..History::default() }));
    for line in &mut all.history {
        line.created = Some(app.created.to_owned());
    }
    Ok(all)
}

/// A line for each layer: those of the base, or blank ones where its history does not fit its layers.
fn base_history(base: &ImageConfig) -> Vec<History> {
    let lines: Vec<History> = base.history.iter().filter(|line| !line.empty_layer).cloned().collect();
    match lines.len() == base.rootfs.diff_ids.len() {
        true => lines,
        false => vec![History::default(); base.rootfs.diff_ids.len()],
    }
}

/// Returns the labels that an image gets; those of buildpacks win over those of the lifecycle.
pub fn labels(app: &AppConfig<'_>) -> Result<BTreeMap<String, String>, JsonError> {
    let mut all = BTreeMap::from([
        (BUILD_METADATA.to_owned(), app.build.label(app.launcher)?),
        (PROJECT_METADATA.to_owned(), app.project.label()?),
    ]);
    if let Some(lifecycle) = app.lifecycle {
        all.insert(LIFECYCLE_METADATA.to_owned(), lifecycle.label()?);
    }
    all.extend(app.build.labels.iter().map(|Label { key, value }| (key.clone(), value.clone())));
    if app.platform.execution_environments() && !app.execution_environment.is_empty() {
        all.insert(EXECUTION_ENVIRONMENT.to_owned(), app.execution_environment.to_owned());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Process;

    fn build() -> BuildMetadata {
        let process = Process { kind: "web".into(), command: vec!["run".into()], ..Process::default() };
        BuildMetadata {
            processes: vec![process],
            labels: vec![Label { key: "k".into(), value: "v".into() }],
            ..BuildMetadata::default()
        }
    }

    fn digest(letter: &str) -> Digest {
        format!("sha256:{}", letter.repeat(64)).parse().expect("a digest")
    }

    #[test]
    fn layers_in_order() {
        let element = |id: &str| GroupElement { id: id.into(), version: "1".into(), ..Default::default() };
        let layer = |name: &str, launch| (name.to_owned(), LayerFile { launch, ..LayerFile::default() });
        let (first, second) = (element("z/y"), element("a"));
        let (some, one) =
            ([layer("b", true), layer("a", true)].into(), [layer("c", true), layer("d", false)].into());
        let buildpacks = [
            BuiltBuildpack { element: &first, layers: &some, store: None },
            BuiltBuildpack { element: &second, layers: &one, store: Some(StoreRecord::default()) },
        ];
        let all = layers(&AppLayers { buildpacks: &buildpacks, sbom: true, slices: 1, processes: true });
        let history: Vec<_> = all.iter().map(AppLayer::created_by).collect();
        assert_eq!(
            history,
            [
                "Layer: 'a', Created by buildpack: z/y@1",
                "Layer: 'b', Created by buildpack: z/y@1",
                "Layer: 'c', Created by buildpack: a@1",
                "Software Bill-of-Materials",
                "Application Slice: 1",
                "Application Slice: 2",
                "Buildpacks Application Launcher",
                "Buildpacks Launcher Config",
                "Buildpacks Process Types",
            ]
        );
        assert_eq!(all[0].folder().as_deref(), Some("z_y/a"));
        let packed: Vec<_> = all.into_iter().map(|layer| (layer, digest("b"))).collect();
        let metadata =
            lifecycle_metadata(&buildpacks, &packed, RunImageRecord::default()).expect("all are packed");
        assert_eq!(metadata.buildpacks[1].layers.keys().collect::<Vec<_>>(), ["c"]);
        assert_eq!((metadata.app.as_array().map(Vec::len), metadata.sbom.is_some()), (Some(2), true));
        let few = lifecycle_metadata(&buildpacks, &packed[1..], RunImageRecord::default());
        assert!(matches!(few, Err(ExportError::NoLayer(_))));
        assert_eq!(layers(&AppLayers::default())[0].created_by(), "Application Layer");
    }

    #[test]
    fn what_an_image_starts() {
        let mut build = build();
        assert_eq!(entrypoint(&build, "").expect("launcher"), "/cnb/lifecycle/launcher");
        assert_eq!(entrypoint(&build, "web").expect("web"), "/cnb/process/web");
        assert!(matches!(entrypoint(&build, "task"), Err(ExportError::NoProcess(_))));
        build.buildpack_default_process_type = "web".into();
        assert_eq!(entrypoint(&build, "").expect("web"), "/cnb/process/web");
        build.processes[0].kind = "a/b".into();
        assert!(matches!(entrypoint(&build, ""), Err(ExportError::ProcessName(_))));
    }

    #[test]
    fn a_config_stands_on_that_of_its_base() {
        let mut base = ImageConfig::default();
        base.config.env = vec!["PATH=/bin".into(), "X=1".into()];
        base.config.cmd = Some(vec!["sh".into()]);
        base.config.user = Some("1000".into());
        base.config.labels.insert("base".into(), "b".into());
        base.rootfs.diff_ids = vec![digest("a")];
        let line = |by: &str, empty_layer| History {
            created_by: Some(by.into()),
            empty_layer,
            ..History::default()
        };
        base.history = vec![line("base", false), line("nothing", true)];
        let app = AppConfig {
            platform: PlatformApi::LATEST,
            layers_folder: "/layers",
            app_folder: "/workspace",
            execution_environment: "test",
            process: "web",
            created: EPOCH,
            build: &build(),
            lifecycle: Some(&LifecycleMetadata::default()),
            launcher: &LauncherMetadata::default(),
            project: &ProjectMetadata::default(),
        };
        let made = config(&base, &[("Application Layer".into(), digest("b"))], &app).expect("a config");
        assert_eq!(
            made.config.env,
            [
                "PATH=/cnb/process:/cnb/lifecycle:/bin",
                "X=1",
                "CNB_LAYERS_DIR=/layers",
                "CNB_APP_DIR=/workspace",
                "CNB_PLATFORM_API=0.15",
                "CNB_DEPRECATION_MODE=quiet",
            ]
        );
        assert_eq!((made.config.cmd, made.config.user.as_deref()), (None, Some("1000")));
        let names: Vec<_> = made.config.labels.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["base", BUILD_METADATA, EXECUTION_ENVIRONMENT, LIFECYCLE_METADATA, PROJECT_METADATA, "k"]
        );
        assert_eq!(
            made.history.iter().map(|line| line.created_by.as_deref()).collect::<Vec<_>>(),
            [Some("base"), Some("Application Layer")]
        );
        base.history.clear();
        assert_eq!(config(&base, &[], &app).expect("a config").history.len(), 1);
    }
}
