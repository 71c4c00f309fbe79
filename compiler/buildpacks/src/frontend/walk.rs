//! The walk: images → candidates → detection → one build after the other → the image.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use rb_frontend::{FileKind, Gateway, ResolvedImage, WorldError};
use rb_llb::{NodeMeta, State};
use rb_oci::{ImageConfig, Platform};

use super::choices::{base_names, order};
use super::error::FrontendError;
use super::gate::{Folder, Gate, tree_of};
use super::image::{AppImage, Left, Parts};
use super::modules::{Candidate, Candidates};
use super::steps::{Built, LAYERS, OWN_NOTES, Site};
use super::{PackRequest, Teller, Told};
use crate::builder::Builder;
use crate::detect::{DetectRequest, DetectRun, Detection, detect};
use crate::environment::{BuildEnvironment, LayerEnvironment, RootFolder};
use crate::explain::{Explanation, GroupEnd, Verdict};
use crate::labels::{RunImageNames, StoreRecord};
use crate::sbom::{BomEntry, legacy_sbom};
use crate::trials::TrialLimits;
use crate::{
    BaseTarget, BuildMetadata, BuildOutputs, Exported, Group, GroupElement, LauncherMetadata, LayersFolder,
    ModuleKey, ModuleKind, Order, OrderFile, OrderGroup, Plan, PlatformApi, Processes, System, escape_id,
    exported, parse_store, read_outputs,
};

/// How many files beside its layers a buildpack may leave.
const FILES: usize = 2000;

/// What detection chose.
#[derive(Debug)]
pub struct Chosen {
    /// Who takes part.
    pub group: Group,
    /// What they ask of one another.
    pub plan: Plan,
    /// Everything that was tried.
    pub explanation: Explanation,
    /// What those wrote that were asked, in the order of their names.
    pub outputs: Vec<(ModuleKey, String)>,
}

/// What is to be made.
pub struct Planned {
    /// The image.
    pub image: AppImage,
    /// Steps that keep layers for the next build.
    pub keeps: Vec<(String, State)>,
    /// How it came to the group.
    pub chosen: Chosen,
    /// The base, by its digest.
    pub run_image: String,
}

/// Decides what an app's image is made of. Detections and buildpacks run on the way.
pub async fn plan(
    gateway: &dyn Gateway,
    request: &PackRequest,
    tell: Teller<'_>,
) -> Result<Planned, FrontendError> {
    let gate = Gate(gateway);
    tell(Told::Analyzing);
    let mut ground = Ground::survey(gate, request).await?;
    let chosen = ground.detect(gate, request, tell, false).await?;
    if !chosen.group.extensions.is_empty() {
        let names: Vec<String> =
            chosen.group.extensions.iter().map(|one| one.key(ModuleKind::Extension).to_string()).collect();
        return Err(FrontendError::Extensions(names.join(", ")));
    }
    ground.build(gate, request, tell, chosen).await
}

/// Detects, and goes no further.
pub async fn detect_only(
    gateway: &dyn Gateway,
    request: &PackRequest,
    tell: Teller<'_>,
) -> Result<Chosen, FrontendError> {
    let gate = Gate(gateway);
    tell(Told::Analyzing);
    Ground::survey(gate, request).await?.detect(gate, request, tell, true).await
}

/// Whether a line of a history is that of a command that was run.
fn is_step(created_by: Option<&str>) -> bool {
    created_by.is_some_and(|by| {
        ["RUN ", "/bin/sh -c ", "|"].iter().any(|start| by.starts_with(start)) && !by.contains("#(nop)")
    })
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
fn is_for(image: &str, config: &ImageConfig, on: &Platform) -> Result<(), FrontendError> {
    let differs = |is: &str, wanted: &str| !is.is_empty() && is != wanted;
    if differs(&config.os, &on.os) || differs(&config.architecture, &on.architecture) {
        let is = format!("{}/{}", config.os, config.architecture);
        return Err(FrontendError::Platform { image: image.to_owned(), is, wanted: on.to_string() });
    }
    Ok(())
}

/// What is known before anything runs.
struct Ground {
    builder_image: String,
    /// The whole builder, with its modules.
    builder_tree: State,
    candidates: Candidates,
    order: OrderFile,
    system: System,
    platform: PlatformApi,
    launcher: LauncherMetadata,
    site: Site,
    app: State,
    base: State,
    base_config: ImageConfig,
    reference: String,
    names: RunImageNames,
}

impl Ground {
    /// Looks at the images.
    async fn survey(gate: Gate<'_>, request: &PackRequest) -> Result<Self, FrontendError> {
        let (name, on) = (&request.builder, &request.platform);
        let image = gate.image(name, on).await?;
        is_for(name, &image.config, on)?;
        let builder = Builder::of_image(&image.config)
            .map_err(|source| FrontendError::Builder { image: name.clone(), source })?;
        let platform = builder.platform()?;
        let builder_tree = tree_of(&image, None, on, &format!("builder {name}"));
        // What lies below the modules does not change with them, so steps in it stay known.
        let layers = &image.config.rootfs.diff_ids;
        let is_module = |layer: &_| builder.modules.values().any(|module| module.layer == *layer);
        let first = layers.iter().position(is_module).filter(|first| *first > 0);
        // Unless a step ran above them: what it made belongs to the build image.
        let lines: Vec<_> = image.config.history.iter().filter(|line| !line.empty_layer).collect();
        let has_steps = |first: usize| {
            lines.len() == layers.len()
                && lines[first..].iter().any(|line| is_step(line.created_by.as_deref()))
        };
        let root = match first.filter(|first| !has_steps(*first)) {
            Some(first) => tree_of(&image, Some(first), on, &format!("build image {name}")),
            None => builder_tree.clone(),
        };
        let whole = Folder::new(builder_tree.clone(), "/");
        if !gate.exists(&Folder::new(root.clone(), "/"), "bin/sh").await? {
            return Err(FrontendError::Lacks { image: name.clone(), path: "/bin/sh" });
        }
        let builder_files = gate.variables(&whole.below("cnb/build-config/env")).await?;

        let (base_names, run_file) = base_names(&builder, request)?;
        let (base_name, run) = first_there(gate, base_names, on).await?;
        is_for(&base_name, &run.config, on)?;
        let base = tree_of(&run, None, on, &format!("run image {base_name}"));
        let mut target = BaseTarget::of_image(&run.config);
        if target.distro.is_none() && !run.config.rootfs.diff_ids.is_empty() {
            let etc = Folder::new(base.clone(), "/etc");
            if gate.exists(&etc, "os-release").await? {
                target =
                    target.with_os_release(&String::from_utf8_lossy(&gate.read(&etc, "os-release").await?));
            }
        }
        let reference = run.identifier.split_once("://").map_or(run.identifier.as_str(), |(_, rest)| rest);
        let site = Site {
            root,
            user: builder.user,
            container: image.config.config.env.clone(),
            platform: on.clone(),
            platform_files: request.environment.clone(),
            builder_files,
            base: target,
            execution_environment: request.execution_environment.clone(),
            workspace: request.workspace.clone(),
            network: request.network,
            volumes: request.volumes.clone(),
            namespace: request.namespace.clone(),
            afresh: request.afresh,
            place: request.place,
        };
        let mut candidates = Candidates::of_builder(&builder, &builder_tree);
        let order = order(gate, &mut candidates, &builder.order, request).await?;
        Ok(Self {
            builder_image: name.clone(),
            builder_tree,
            candidates,
            order,
            system: if request.without_system { System::default() } else { builder.system.clone() },
            platform,
            launcher: LauncherMetadata {
                version: builder.metadata.lifecycle.version.clone(),
                ..LauncherMetadata::default()
            },
            app: site.app(&request.app),
            site,
            base,
            base_config: run.config.clone(),
            reference: reference.to_owned(),
            names: run_file.recorded(&base_name, false),
        })
    }

    /// Asks modules until a group is chosen. `all` keeps what each of them wrote.
    async fn detect(
        &mut self,
        gate: Gate<'_>,
        request: &PackRequest,
        tell: Teller<'_>,
        all: bool,
    ) -> Result<Chosen, FrontendError> {
        tell(Told::Detecting);
        let around: Order = [&self.system.pre, &self.system.post]
            .map(|side| OrderGroup { group: side.buildpacks.clone() })
            .into();
        let orders = [
            (&self.order.order, ModuleKind::Buildpack),
            (&around, ModuleKind::Buildpack),
            (&self.order.order_extensions, ModuleKind::Extension),
        ];
        let modules = self.candidates.reach(gate, &orders).await?;
        let asked = DetectRequest {
            platform: self.platform,
            order: &self.order,
            system: &self.system,
            modules: &modules,
            base: &self.site.base,
            execution_environment: &request.execution_environment,
            limits: TrialLimits::default(),
        };
        let mut runs: BTreeMap<ModuleKey, DetectRun> = BTreeMap::new();
        let mut outputs: BTreeMap<ModuleKey, String> = BTreeMap::new();
        loop {
            match detect(&asked, &runs) {
                Detection::Ask(keys) => {
                    let asked = keys.into_iter().map(|key| self.run(gate, key, all));
                    for (key, run, output) in try_join_all(asked).await? {
                        outputs.extend(output.map(|output| (key.clone(), output)));
                        runs.insert(key, run);
                    }
                }
                Detection::Done { result: Ok(detected), explanation } => {
                    let of = explanation.groups.last().map_or(0, |group| group.members.len());
                    tell(Told::Detected { of, group: detected.group.clone() });
                    let outputs = outputs.into_iter().collect();
                    return Ok(Chosen { group: detected.group, plan: detected.plan, explanation, outputs });
                }
                Detection::Done { result: Err(error), explanation } => {
                    let explanation = Box::new(explanation);
                    return Err(FrontendError::Detect {
                        error,
                        explanation,
                        outputs: outputs.into_iter().collect(),
                    });
                }
            }
        }
    }

    /// Asks one module; what it wrote comes along where it ended with an error.
    async fn run(
        &self,
        gate: Gate<'_>,
        key: ModuleKey,
        all: bool,
    ) -> Result<(ModuleKey, DetectRun, Option<String>), FrontendError> {
        let candidate = self.candidates.get(&key)?;
        // An extension may do without a program: it takes part, then.
        if key.kind == ModuleKind::Extension && !gate.exists(&candidate.place, "bin/detect").await? {
            return Ok((key, DetectRun::default(), None));
        }
        let answer = self.site.detect(candidate, &self.app).answer;
        let code = gate.read(&answer, "code").await?;
        let code = String::from_utf8_lossy(&code).trim().parse().unwrap_or(-1);
        // Who takes its own plan away has failed.
        let (code, plan) = match code {
            0 => match gate.read(&answer, "plan.toml").await {
                Ok(plan) => (0, plan),
                Err(WorldError::NotFound { .. }) => (-1, Vec::new()),
                Err(error) => return Err(error.into()),
            },
            code => (code, Vec::new()),
        };
        let is_told = all || ![0, 100].contains(&code);
        let output = if is_told { Some(gate.log(&answer, "log").await?) } else { None };
        Ok((key, DetectRun { code, plan }, output.filter(|output| !output.trim().is_empty())))
    }

    /// Builds, one buildpack after the other.
    async fn build(
        self,
        gate: Gate<'_>,
        request: &PackRequest,
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
            metadata: BuildMetadata { buildpacks: group.clone(), ..BuildMetadata::default() },
            processes: Processes::default(),
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
        let parts = Parts {
            site: &self.site,
            builder_tree: &self.builder_tree,
            builder_image: &self.builder_image,
            base: self.base.clone(),
            base_config: self.base_config.clone(),
            reference: self.reference.clone(),
            names: self.names.clone(),
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
        Ok(Planned { image, keeps, chosen, run_image: self.reference })
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
        let site = &self.ground.site;
        let candidate = self.ground.candidates.get(&key)?;
        let own = self.plan.of(ModuleKind::Buildpack, &element.id);
        let Built { app, layers } =
            site.build(candidate, &self.app, &self.environment, &own.text()?, &self.views);
        let folder = look(gate, &layers).await?;
        let outputs = read_outputs(&candidate.module, &own, &folder)
            .map_err(|source| FrontendError::Output { module: key.clone(), source })?;
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
        for (name, layer) in outputs.layers.iter().filter(|(_, layer)| layer.launch) {
            match exported(name, layer, folder.folders.contains(name), None) {
                Ok(Exported::Packed | Exported::Reused(_)) => {}
                Err(source) => return Err(FrontendError::Reuse { module: key, source }),
            }
        }
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
        self.sboms.extend(outputs.sboms.into_iter().map(|copy| (layers.below(&copy.from), copy.to)));
        self.app = app;
        self.left.push(Left { element: element.clone(), layers: outputs.layers, store, folder: layers });
        Ok(())
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

/// Reads what lies beside the layers of a buildpack.
async fn look(gate: Gate<'_>, layers: &Folder) -> Result<LayersFolder, FrontendError> {
    let mut folder = LayersFolder::default();
    for (name, kind) in gate.list(layers).await? {
        match kind {
            FileKind::Directory => drop(folder.folders.insert(name)),
            FileKind::File => {
                let is_read = name.ends_with(".toml");
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

impl Chosen {
    /// Tells who was asked, and how it ended for each of the group that counts: the last that was tried.
    pub fn members(&self) -> Vec<(ModuleKey, bool)> {
        let chosen =
            |key: &ModuleKey| self.group.buildpacks.iter().any(|one| one.key(ModuleKind::Buildpack) == *key);
        let of = |end: &GroupEnd| matches!(end, GroupEnd::Chosen { .. });
        let group = self.explanation.groups.iter().find(|group| of(&group.end));
        let members = group.into_iter().flat_map(|group| &group.members);
        members
            .map(|one| (one.module.clone(), one.verdict == Verdict::Passed && chosen(&one.module)))
            .collect()
    }
}
