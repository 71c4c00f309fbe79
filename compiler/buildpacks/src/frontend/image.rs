//! The image: what its layers are packed of, and its config once their diff ids are known.
//!
//! In: what the build left. Out: [`AppImage`]: the base, parts of trees for each layer, and [`Unfinished`], which makes the
//! config. The parts say all that is in a layer's tar, in order: folders that lead to what is packed as they are, what is packed
//! owned by the builder's user. Source: platform spec, "Phase: export"; the lifecycle's layers.

use std::collections::{BTreeMap, BTreeSet};

use rb_frontend::FileKind;
use rb_llb::{CopyAction, CopyMode, NodeMeta, State};
use rb_oci::{Choice, Descriptor, Digest, ImageConfig, LayerPart};

use super::base::RunBase;
use super::error::FrontendError;
use super::gate::{Folder, Gate};
use super::launcher::Launcher;
use super::steps::{APP, LAYERS, Site};
use crate::environment::{LIFECYCLE_FOLDER, PROCESS_FOLDER};
use crate::export::{self, AppConfig, AppLayer, AppLayers, BuiltBuildpack, ExportError};
use crate::labels::{LIFECYCLE_METADATA, LifecycleMetadata, RunImageNames, RunImageRecord, StoreRecord};
use crate::sbom::FORMATS;
use crate::{
    BuildMetadata, GroupElement, LauncherMetadata, LayerFile, PlatformApi, ProjectMetadata, escape_id, slice,
};

/// How many files of an app may be held against slices.
const FILES: usize = 200_000;

/// An image that is not packed yet.
pub struct AppImage {
    /// The base; its layers come first, as they are.
    pub base: State,
    /// The config of the base.
    pub base_config: ImageConfig,
    /// The layers above, lowest first.
    pub layers: Vec<PlannedLayer>,
    /// What makes the config.
    pub unfinished: Unfinished,
    /// Bills of materials of all kinds, in `/sbom`.
    pub sboms: State,
}

/// A layer.
pub struct PlannedLayer {
    /// Which.
    pub layer: AppLayer,
    /// What its tar consists of, in order.
    pub parts: Vec<LayerPart<State>>,
}

/// Layers of another image, each as it is stored and with its diff id.
pub(super) type Reused = BTreeMap<String, (Descriptor, Digest)>;

/// What a buildpack left, in words.
pub(super) struct Left {
    pub(super) element: GroupElement,
    pub(super) layers: BTreeMap<String, LayerFile>,
    /// Launch layers that are those of the previous image, by name.
    pub(super) reused: Reused,
    pub(super) store: Option<StoreRecord>,
    pub(super) folder: Folder,
}

/// The config of an image whose layers have no diff ids yet.
pub struct Unfinished {
    left: Vec<(GroupElement, BTreeMap<String, LayerFile>, Option<StoreRecord>)>,
    layers: Vec<AppLayer>,
    metadata: BuildMetadata,
    launcher: LauncherMetadata,
    base: ImageConfig,
    /// What history says of layers of extensions, which lie above those of the base's config.
    extended: Vec<String>,
    /// Who laid them.
    extensions: Vec<GroupElement>,
    reference: String,
    names: RunImageNames,
    platform: PlatformApi,
    workspace: String,
    execution_environment: String,
    process: String,
    created: String,
}

impl Unfinished {
    /// Returns the config, given the diff ids of the base's layers and of those above.
    pub fn finish(&self, base: &[Digest], own: &[Digest]) -> Result<ImageConfig, ExportError> {
        let buildpacks: Vec<BuiltBuildpack<'_>> = self
            .left
            .iter()
            .map(|(element, layers, store)| BuiltBuildpack { element, layers, store: store.clone() })
            .collect();
        let packed: Vec<(AppLayer, Digest)> = self.layers.iter().cloned().zip(own.iter().copied()).collect();
        // Layers that extensions laid upon the base are of the app: another base keeps them.
        let (base, of_extensions) = match self.extended.is_empty() {
            true => (base, &[][..]),
            false => base.split_at(base.len().min(self.base.rootfs.diff_ids.len())),
        };
        let run_image = RunImageRecord {
            top_layer: base.last().map(ToString::to_string).unwrap_or_default(),
            reference: self.reference.clone(),
            names: self.names.clone(),
        };
        let lifecycle = export::lifecycle_metadata(&buildpacks, &packed, run_image)?;
        let mut config = self.base.clone();
        config.rootfs.diff_ids = base.to_vec();
        let lines =
            self.lines_of_extensions(of_extensions.len()).into_iter().zip(of_extensions.iter().copied());
        let packed = packed.iter().map(|(layer, diff_id)| (layer.created_by(), *diff_id));
        let layers: Vec<(String, Digest)> = lines.chain(packed).collect();
        let project = ProjectMetadata::default();
        export::config(&config, &layers, &self.app(Some(&lifecycle), &project))
    }

    /// Returns what history says of so many layers of extensions: a step that changes nothing makes none, and then it is not known
    /// which is of which.
    fn lines_of_extensions(&self, count: usize) -> Vec<String> {
        if self.extended.len() == count {
            return self.extended.clone();
        }
        let ids: Vec<&str> = self.extensions.iter().map(|one| one.id.as_str()).collect();
        let ids = ids.join(", ");
        (0..count)
            .map(|index| format!("Layer: 'extended-layer-{index}', Created by extension: {ids}"))
            .collect()
    }

    /// Returns the config of the same image with other layers, for each of which a line says what it is.
    pub(super) fn above_base<'l>(
        &'l self,
        lines: impl Iterator<Item = &'l str>,
    ) -> Result<ImageConfig, ExportError> {
        let lines = self.extended.iter().map(String::as_str).chain(lines);
        let mut config =
            export::config_above(&self.base, lines, &self.app(None, &ProjectMetadata::default()))?;
        // Not even that of a base is true of it.
        config.config.labels.remove(LIFECYCLE_METADATA);
        Ok(config)
    }

    fn app<'a>(
        &'a self,
        lifecycle: Option<&'a LifecycleMetadata>,
        project: &'a ProjectMetadata,
    ) -> AppConfig<'a> {
        AppConfig {
            platform: self.platform,
            layers_folder: LAYERS,
            app_folder: &self.workspace,
            execution_environment: &self.execution_environment,
            process: &self.process,
            created: &self.created,
            build: &self.metadata,
            lifecycle,
            launcher: &self.launcher,
            project,
        }
    }
}

/// What an image is made of, beside what buildpacks left.
pub(super) struct Parts<'a> {
    pub(super) site: &'a Site,
    pub(super) builder_tree: &'a State,
    pub(super) base: RunBase,
    pub(super) metadata: BuildMetadata,
    pub(super) launcher: Launcher,
    pub(super) platform: PlatformApi,
    pub(super) process: String,
    pub(super) created: String,
    pub(super) left: Vec<Left>,
    pub(super) app: State,
    /// Bills of materials: from where, to which path below the folder of all layers.
    pub(super) sboms: Vec<(Folder, String)>,
    /// The old ones, of launch and build.
    pub(super) legacy: [String; 2],
}

impl Parts<'_> {
    /// Puts the image together.
    pub(super) async fn image(self, gate: Gate<'_>) -> Result<AppImage, FrontendError> {
        export::entrypoint(&self.metadata, &self.process)?;
        let sboms = self.sboms(gate).await?;
        let (launcher_tree, launcher_path) = self.launcher.place();
        let slices = self.slices(gate).await?;
        let has_layers = gate.exists(&Folder::new(self.builder_tree.clone(), "/"), "layers").await?;
        let Self { site, builder_tree, metadata, left, app, .. } = self;
        let buildpacks: Vec<BuiltBuildpack<'_>> = left
            .iter()
            .map(|one| BuiltBuildpack {
                element: &one.element,
                layers: &one.layers,
                store: one.store.clone(),
            })
            .collect();
        let layers = export::layers(&AppLayers {
            buildpacks: &buildpacks,
            sbom: true,
            slices: metadata.slices.len(),
            processes: !metadata.processes.is_empty(),
        });
        let owned = Some(site.user);
        let folder = |path: String| LayerPart::Folder { path, mode: 0o755, owner: site.user };
        let of_root = |path: &str| LayerPart::Folder { path: path.to_owned(), mode: 0o755, owner: (0, 0) };
        let top = || match has_layers {
            true => LayerPart::Tree {
                tree: builder_tree.clone(),
                from: LAYERS.to_owned(),
                to: LAYERS.to_owned(),
                owner: None,
                choice: Choice::Alone,
            },
            false => folder(LAYERS.to_owned()),
        };
        let tree = |of: &Folder, to: String, choice| LayerPart::Tree {
            tree: of.state.clone(),
            from: of.path.clone(),
            to,
            owner: owned,
            choice,
        };
        let mut slices = slices.into_iter();
        let mut parts = |layer: &AppLayer| match layer {
            AppLayer::Buildpack { id, name, .. } => {
                let own = format!("{LAYERS}/{}", escape_id(id));
                let of = left.iter().find(|one| one.element.id == *id);
                if let Some((descriptor, diff_id)) = of.and_then(|one| one.reused.get(name)) {
                    let descriptor = Box::new(descriptor.clone());
                    return vec![LayerPart::Stored { descriptor, diff_id: *diff_id }];
                }
                let of = of.map(|one| one.folder.below(name));
                let content = of.map(|of| tree(&of, format!("{own}/{name}"), Choice::All));
                [top(), folder(own)].into_iter().chain(content).collect()
            }
            AppLayer::Sbom => {
                let launch = Folder::new(sboms.clone(), "/sbom/launch");
                let content = tree(&launch, format!("{LAYERS}/sbom/launch"), Choice::All);
                vec![top(), folder(format!("{LAYERS}/sbom")), content]
            }
            AppLayer::Slice { .. } => match slices.next() {
                Some(paths) if paths.is_empty() => Vec::new(),
                paths => {
                    let choice = paths.map_or(Choice::ByPath, Choice::These);
                    let mut all: Vec<LayerPart<State>> =
                        parents(&site.workspace).map(|path| of_root(&path)).collect();
                    all.push(tree(&Folder::new(app.clone(), APP), site.workspace.clone(), choice));
                    all
                }
            },
            AppLayer::Launcher => vec![
                of_root("/cnb"),
                of_root(LIFECYCLE_FOLDER),
                LayerPart::File {
                    tree: launcher_tree.clone(),
                    from: launcher_path.clone(),
                    to: format!("{LIFECYCLE_FOLDER}/launcher"),
                    mode: 0o755,
                },
            ],
            AppLayer::Config => {
                let path = format!("{LAYERS}/config/metadata.toml");
                let text = LayerPart::Text { path, owner: site.user, text: metadata.text() };
                vec![top(), folder(format!("{LAYERS}/config")), text]
            }
            AppLayer::ProcessTypes => {
                let link = |kind: &str| LayerPart::Link {
                    path: format!("{PROCESS_FOLDER}/{kind}"),
                    target: format!("{LIFECYCLE_FOLDER}/launcher"),
                };
                let links = metadata.processes.iter().map(|process| link(&process.kind));
                [of_root("/cnb"), of_root(PROCESS_FOLDER)].into_iter().chain(links).collect()
            }
        };
        let planned: Vec<PlannedLayer> =
            layers.iter().map(|layer| PlannedLayer { layer: layer.clone(), parts: parts(layer) }).collect();
        let extensions = metadata.extensions.clone();
        let unfinished = Unfinished {
            left: left
                .into_iter()
                .map(|Left { element, layers, store, .. }| (element, layers, store))
                .collect(),
            layers,
            metadata,
            launcher: self.launcher.metadata,
            base: self.base.config.clone(),
            extended: self.base.extended,
            extensions,
            reference: self.base.reference,
            names: self.base.names,
            platform: self.platform,
            workspace: site.workspace.clone(),
            execution_environment: site.execution_environment.clone(),
            process: self.process,
            created: self.created,
        };
        Ok(AppImage {
            base: self.base.tree,
            base_config: self.base.config,
            layers: planned,
            unfinished,
            sboms,
        })
    }

    /// Lays all bills of materials into one tree.
    async fn sboms(&self, gate: Gate<'_>) -> Result<State, FrontendError> {
        let site = self.site;
        let mut files = State::scratch().files();
        for (kind, text) in ["launch", "build"].into_iter().zip(&self.legacy) {
            let folder = format!("/sbom/{kind}");
            files = files
                .mkdir(site.folder(&folder))
                .mkfile(site.file(&format!("{folder}/sbom.legacy.json"), text.as_str()));
        }
        let copy = |from: String, to: String| CopyAction {
            src: from,
            dest: to,
            owner: Some(site.owner()),
            mode: CopyMode::Bits(0o644),
            follow_symlink: true,
            ..CopyAction::default()
        };
        let mut all: Vec<(Folder, String)> =
            self.sboms.iter().map(|(from, to)| (from.clone(), format!("/{to}"))).collect();
        // Of the builder's launcher, and of the rest of its lifecycle.
        let lifecycle = Folder::new(self.builder_tree.clone(), LIFECYCLE_FOLDER);
        let launcher = [("launcher", "launch/buildpacksio_lifecycle/launcher")];
        let launcher = launcher.into_iter().filter(|_| self.launcher.is_of_builder);
        for (name, to) in launcher.chain([("lifecycle", "build/buildpacksio_lifecycle")]) {
            for (suffix, _) in FORMATS {
                if gate.exists(&lifecycle, &format!("{name}.{suffix}")).await? {
                    all.push((lifecycle.below(&format!("{name}.{suffix}")), format!("/sbom/{to}/{suffix}")));
                }
            }
        }
        // Folders that a copy makes by itself would have the mode of the file.
        let folders: BTreeSet<&str> = all.iter().filter_map(|(_, to)| Some(to.rsplit_once('/')?.0)).collect();
        for folder in folders {
            files = files.mkdir(site.folder(folder));
        }
        for (from, to) in &all {
            files = files.copy(&from.state, copy(from.path.clone(), to.clone()));
        }
        Ok(files.finish(NodeMeta::named("[internal] lay down bills of materials")))
    }

    /// Returns which paths of the app are in which layer; nothing where no buildpack asks for slices.
    async fn slices(&self, gate: Gate<'_>) -> Result<Vec<Vec<String>>, FrontendError> {
        if self.metadata.slices.is_empty() {
            return Ok(Vec::new());
        }
        let (mut folders, mut files) = (BTreeSet::new(), BTreeSet::new());
        let mut open = vec![String::new()];
        while let Some(path) = open.pop() {
            let of = Folder::new(self.app.clone(), format!("{APP}/{path}").trim_end_matches('/').to_owned());
            for (name, kind) in gate.list(&of).await? {
                let path = if path.is_empty() { name } else { format!("{path}/{name}") };
                if kind == FileKind::Directory {
                    folders.insert(path.clone());
                    open.push(path);
                } else {
                    files.insert(path);
                }
            }
            if folders.len() + files.len() > FILES {
                return Err(FrontendError::TooMany { what: "the app".to_owned(), most: FILES, of: "files" });
            }
        }
        Ok(slice(&folders, &files, &self.metadata.slices)?)
    }
}

/// Returns the folders that lead to a path, the topmost first.
fn parents(path: &str) -> impl Iterator<Item = String> {
    let mut all: Vec<String> =
        path.match_indices('/').skip(1).map(|(end, _)| path[..end].to_owned()).collect();
    all.retain(|parent| !parent.is_empty());
    all.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_a_path() {
        assert_eq!(parents("/workspace").count(), 0);
        assert_eq!(parents("/home/app/src").collect::<Vec<_>>(), ["/home", "/home/app"]);
    }
}
