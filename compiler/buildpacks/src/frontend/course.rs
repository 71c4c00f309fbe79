//! The course of a build: one buildpack after the other, each a step whose files decide the next.
//!
//! In: a [`Ground`] and who was [`Chosen`]. Out: [`Planned`], the image and the steps that keep layers for the next build.

use rb_frontend::FileKind;
use rb_llb::{NodeMeta, State};

use super::error::FrontendError;
use super::gate::{Folder, Gate};
use super::ground::Ground;
use super::image::{Left, Parts, Reused};
use super::modules::Candidate;
use super::previous::Previous;
use super::steps::{Built, Hints, LAYERS, OF_PREVIOUS, OWN_NOTES};
use super::walk::{Chosen, Planned};
use super::{PackRequest, Teller, Told};
use crate::environment::{BuildEnvironment, LayerEnvironment, RootFolder};
use crate::labels::StoreRecord;
use crate::sbom::{BomEntry, legacy_sbom};
use crate::{
    BuildMetadata, BuildOutputs, BuildpackLayers, BuildpackPlan, Exported, GroupElement, LayerRecord,
    LayersFolder, ModuleKey, ModuleKind, Plan, Processes, ReuseError, escape_id, exported, parse_store,
    read_outputs,
};

/// Where a bill of materials of the previous image lies in a tree of its own.
const RECALLED: &str = "/sbom.json";
/// How many files beside its layers a buildpack may leave.
const FILES: usize = 2000;

impl Ground {
    /// Builds, one buildpack after the other.
    pub(super) async fn build(
        self,
        gate: Gate<'_>,
        (request, previous): (&PackRequest, Option<&Previous>),
        tell: Teller<'_>,
        chosen: Chosen,
    ) -> Result<Planned, FrontendError> {
        tell(Told::Restoring);
        let group = chosen.group.buildpacks.clone();
        let mut course = Course {
            ground: &self,
            environment: BuildEnvironment::of_container(&self.site.container),
            plan: chosen.plan.clone(),
            app: self.app.clone(),
            views: Vec::new(),
            metadata: BuildMetadata {
                buildpacks: group.clone(),
                extensions: chosen.group.extensions.clone(),
                ..BuildMetadata::default()
            },
            processes: Processes::default(),
            previous,
            left: Vec::new(),
            keeps: Vec::new(),
            sboms: Vec::new(),
            boms: [Vec::new(), Vec::new()],
        };
        if request.afresh {
            for element in &group {
                let forget = self.site.forget(self.candidates.get(&element.key(ModuleKind::Buildpack))?);
                gate.list(&Folder::new(forget, "/")).await?;
            }
        }
        tell(Told::Building);
        for element in &group {
            tell(Told::Builds(element.key(ModuleKind::Buildpack)));
            course.one(gate, element, tell).await?;
        }
        tell(Told::Exporting);
        let Course { mut metadata, processes, left, app, keeps, sboms, boms, .. } = course;
        metadata.processes = processes.list();
        metadata.buildpack_default_process_type = processes.default_type().unwrap_or_default().to_owned();
        let legacy = [legacy_sbom(&boms[0])?, legacy_sbom(&boms[1])?];
        let run_image = self.base.reference.clone();
        let parts = Parts {
            site: &self.site,
            builder_tree: &self.builder_tree,
            base: self.base,
            metadata,
            launcher: self.launcher.clone(),
            platform: self.platform,
            process: request.process.clone(),
            created: request.created.clone(),
            left,
            app,
            sboms,
            legacy,
        };
        let image = parts.image(gate).await?;
        Ok(Planned { image, keeps, chosen, run_image })
    }
}

/// What grows as buildpacks build.
struct Course<'a> {
    ground: &'a Ground,
    environment: BuildEnvironment,
    plan: Plan,
    app: State,
    /// Layers that later buildpacks see, by where.
    views: Vec<(String, Folder)>,
    metadata: BuildMetadata,
    processes: Processes,
    /// The image that layers may be used again of.
    previous: Option<&'a Previous>,
    left: Vec<Left>,
    keeps: Vec<(String, State)>,
    sboms: Vec<(Folder, String)>,
    /// The old bills of materials, of launch and build.
    boms: [Vec<(ModuleKey, BomEntry)>; 2],
}

impl Course<'_> {
    async fn one(
        &mut self,
        gate: Gate<'_>,
        element: &GroupElement,
        tell: Teller<'_>,
    ) -> Result<(), FrontendError> {
        let key = element.key(ModuleKind::Buildpack);
        let candidate = self.ground.candidates.get(&key)?;
        let own = self.plan.of(ModuleKind::Buildpack, &element.id);
        let Outcome { built: Built { app, layers }, folder, outputs, reused } =
            self.outcome(gate, candidate, &own).await?;
        let place = format!("{LAYERS}/{}", escape_id(&element.id));
        let mut seen = Vec::new();
        for (name, _) in
            outputs.layers.iter().filter(|(name, layer)| layer.build && folder.folders.contains(*name))
        {
            let path = format!("{place}/{name}");
            seen.push(layer_environment(gate, &layers.below(name), name, &path).await?);
            self.views.push((path, layers.below(name)));
        }
        self.environment.add(&seen);
        let store = match folder.files.get("store.toml") {
            Some(text) => Some(StoreRecord::new(parse_store(text)?.as_ref())?),
            None => None,
        };
        let keep = self.keep(candidate, &layers, &folder, &outputs)?;
        self.keeps.extend(keep.map(|state| (format!("keep layers of {key}"), state)));
        self.plan = self.plan.without(&outputs.met);
        if let Some(lost) = self.processes.add(&outputs.launch.processes) {
            tell(Told::Warning(format!(
                "{key} defines process `{lost}` anew and not as the default, which it was: there is none now"
            )));
        }
        self.metadata.labels.extend(outputs.launch.labels);
        self.metadata.slices.extend(outputs.launch.slices);
        let bom = |entries: Vec<BomEntry>| entries.into_iter().map(|entry| (key.clone(), entry));
        self.boms[0].extend(bom(outputs.launch.bom));
        self.boms[1].extend(bom(outputs.build_bom));
        for (to, text) in self
            .previous
            .iter()
            .flat_map(|previous| reused.keys().flat_map(move |layer| previous.sboms_of(&element.id, layer)))
        {
            if outputs.sboms.iter().all(|own| own.to != *to) {
                let meta = NodeMeta::named("[internal] recall a bill of materials");
                let file = self.ground.site.file(RECALLED, text.as_slice());
                self.sboms.push((Folder::new(State::scratch().mkfile(file, meta), RECALLED), to.clone()));
            }
        }
        self.sboms.extend(outputs.sboms.into_iter().map(|copy| (layers.below(&copy.from), copy.to)));
        self.app = app;
        let (element, layers, folder) = (element.clone(), outputs.layers, layers);
        self.left.push(Left { element, layers, reused, store, folder });
        Ok(())
    }

    /// Has a buildpack build. What it left may speak of a layer of an image that is not the previous one any more: then it builds as if
    /// nothing were kept.
    async fn outcome(
        &self,
        gate: Gate<'_>,
        candidate: &Candidate,
        own: &BuildpackPlan,
    ) -> Result<Outcome, FrontendError> {
        let (key, plan) = (candidate.key(), own.text()?);
        let mut reuse = Ok(None);
        for hints in [Hints::Given, Hints::Withheld] {
            let (app, views) = (&self.app, (&self.views[..], hints));
            let built = self.ground.site.build(candidate, app, &self.environment, &plan, views);
            let folder = look(gate, &built.layers).await?;
            let outputs = read_outputs(&candidate.module, own, &folder)
                .map_err(|source| FrontendError::Output { module: key.clone(), source })?;
            reuse = reused(&outputs, &folder, self.previous);
            match reuse {
                Ok(Some(reused)) => return Ok(Outcome { built, folder, outputs, reused }),
                Ok(None) => {}
                Err(_) => break,
            }
        }
        let source = reuse.err().unwrap_or_else(|| ReuseError::NothingToReuse(key.to_string()));
        Err(FrontendError::Reuse { module: key, source })
    }

    /// Says what is kept for the next time: texts without types, contents of cached layers, launch layers to be used again.
    fn keep(
        &self,
        candidate: &Candidate,
        layers: &Folder,
        folder: &LayersFolder,
        outputs: &BuildOutputs,
    ) -> Result<Option<State>, FrontendError> {
        let site = &self.ground.site;
        let mut notes = State::scratch().files().mkdir(site.folder(OWN_NOTES));
        let mut words = Vec::new();
        for (name, layer) in &outputs.layers {
            let has_folder = folder.folders.contains(name);
            let is_kept = layer.cache || (layer.launch && !layer.build);
            if !is_kept || !has_folder {
                continue;
            }
            notes = notes.mkfile(site.file(&format!("{OWN_NOTES}/{name}.toml"), layer.restored_text()?));
            words.push(format!("{}:{name}", if layer.cache { "layers" } else { "reuse" }));
            let own = format!("{name}.sbom.");
            words.extend(
                folder
                    .files
                    .keys()
                    .filter(|file| file.starts_with(&own))
                    .map(|file| format!("layers:{file}")),
            );
        }
        if folder.files.contains_key("store.toml") {
            words.push("layers:store.toml".to_owned());
        }
        if words.is_empty() {
            return Ok(None);
        }
        let notes = notes.finish(NodeMeta::named("[internal] make notes of layers"));
        Ok(Some(site.keep(candidate, layers, &notes, &words)))
    }
}

/// What a build came to.
struct Outcome {
    built: Built,
    folder: LayersFolder,
    outputs: BuildOutputs,
    /// Launch layers that are in the previous image alone.
    reused: Reused,
}

/// Returns the launch layers without contents, each with the layer of the previous image that it is; nothing if that image has not
/// the one that was spoken of.
fn reused(
    outputs: &BuildOutputs,
    folder: &LayersFolder,
    previous: Option<&Previous>,
) -> Result<Option<Reused>, ReuseError> {
    let mut all = Reused::new();
    for (name, layer) in outputs.layers.iter().filter(|(_, layer)| layer.launch) {
        let noted = folder.files.get(&format!("{name}{OF_PREVIOUS}"));
        let noted = noted.map(|sha| {
            let record =
                LayerRecord { sha: String::from_utf8_lossy(sha).into_owned(), ..LayerRecord::default() };
            BuildpackLayers { layers: [(name.clone(), record)].into(), ..BuildpackLayers::default() }
        });
        match exported(name, layer, folder.folders.contains(name), noted.as_ref())? {
            Exported::Packed => {}
            Exported::Reused(sha) => match previous.and_then(|previous| previous.layer(sha)) {
                Some(stored) => drop(all.insert(name.clone(), stored.clone())),
                None => return Ok(None),
            },
        }
    }
    Ok(Some(all))
}

/// Reads what lies beside the layers of a buildpack.
async fn look(gate: Gate<'_>, layers: &Folder) -> Result<LayersFolder, FrontendError> {
    let mut folder = LayersFolder::default();
    for (name, kind) in gate.list(layers).await? {
        match kind {
            FileKind::Directory => drop(folder.folders.insert(name)),
            FileKind::File => {
                let is_read = name.ends_with(".toml") || name.ends_with(OF_PREVIOUS);
                let text = if is_read { gate.read(layers, &name).await? } else { Vec::new() };
                folder.files.insert(name, text);
            }
            FileKind::Symlink | FileKind::Other => {}
        }
        if folder.files.len() > FILES {
            return Err(FrontendError::TooMany { what: layers.path.clone(), most: FILES, of: "files" });
        }
    }
    Ok(folder)
}

/// Reads what a layer holds for the environment of later builds.
async fn layer_environment(
    gate: Gate<'_>,
    of: &Folder,
    name: &str,
    path: &str,
) -> Result<LayerEnvironment, FrontendError> {
    let names = gate.list(of).await?;
    let is_folder = |name: &str| {
        names.get(name).is_some_and(|kind| matches!(kind, FileKind::Directory | FileKind::Symlink))
    };
    let mut layer =
        LayerEnvironment { name: name.to_owned(), path: path.to_owned(), ..LayerEnvironment::default() };
    layer.folders.extend(RootFolder::ALL.into_iter().filter(|folder| is_folder(folder.name())));
    if is_folder("env") {
        layer.both = gate.variables(&of.below("env")).await?;
    }
    if is_folder("env.build") {
        layer.build = gate.variables(&of.below("env.build")).await?;
    }
    Ok(layer)
}
