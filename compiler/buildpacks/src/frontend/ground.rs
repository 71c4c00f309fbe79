//! The ground: what is known before a buildpack builds. The images are looked at, and modules are asked whether they take part.
//!
//! In: a [`PackRequest`]. Out: a [`Ground`], and [`Chosen`]. Detections that know nothing of one another run at once.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use rb_frontend::WorldError;
use rb_llb::State;
use rb_oci::{ImageConfig, Reference};

use super::base::{RunBase, is_for};
use super::choices::{base_names, order};
use super::error::FrontendError;
use super::gate::{Folder, Gate, tree_of};
use super::launcher::Launcher;
use super::modules::Candidates;
use super::steps::{Site, detection};
use super::walk::Chosen;
use super::{PackRequest, Teller, Told};
use crate::builder::Builder;
use crate::detect::{DetectRequest, DetectRun, Detection, detect};
use crate::trials::TrialLimits;
use crate::{ModuleKey, ModuleKind, Order, OrderFile, OrderGroup, PlatformApi, RunFile, System};

/// Whether a line of a history is that of a command that was run.
fn is_step(created_by: Option<&str>) -> bool {
    created_by.is_some_and(|by| {
        ["RUN ", "/bin/sh -c ", "|"].iter().any(|start| by.starts_with(start)) && !by.contains("#(nop)")
    })
}

/// A module that was asked.
struct Asked {
    key: ModuleKey,
    run: DetectRun,
    /// What it wrote.
    output: Option<String>,
    /// What its step left, if one ran.
    answer: Option<State>,
}

/// Refuses names of an app that are those of its base: the next build would take the app for it.
fn check_name(request: &PackRequest, base: &str) -> Result<(), FrontendError> {
    let Ok(own) = base.parse::<Reference>() else { return Ok(()) };
    let mut names = request.target.iter().chain(&request.tags);
    match names.find(|name| name.repository() == own.repository()) {
        Some(name) => Err(FrontendError::OnItsBase { name: name.familiar(), run_image: own.familiar() }),
        None => Ok(()),
    }
}

/// What is known before anything runs.
pub(super) struct Ground {
    pub(super) builder_image: String,
    /// The whole builder, with its modules.
    pub(super) builder_tree: State,
    pub(super) candidates: Candidates,
    pub(super) order: OrderFile,
    system: System,
    pub(super) platform: PlatformApi,
    pub(super) launcher: Launcher,
    pub(super) site: Site,
    pub(super) app: State,
    pub(super) base: RunBase,
    /// What the builder says of names of bases.
    pub(super) run_file: RunFile,
    /// The config of the build image.
    pub(super) config: ImageConfig,
}

impl Ground {
    /// Looks at the images.
    pub(super) async fn survey(gate: Gate<'_>, request: &PackRequest) -> Result<Self, FrontendError> {
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
        let version = &builder.metadata.lifecycle.version;
        let launcher = Launcher::find(gate, request, &builder_tree, version).await?;
        let builder_files = gate.variables(&whole.below("cnb/build-config/env")).await?;

        let (base_names, run_file) = base_names(&builder, request)?;
        let (mut base, target) = RunBase::find(gate, base_names, on).await?;
        check_name(request, &base.name)?;
        base.names = run_file.recorded(&base.name, false);
        let mut site = Site {
            root,
            user: (request.user.0.unwrap_or(builder.user.0), request.user.1.unwrap_or(builder.user.1)),
            container: image.config.config.env.clone(),
            platform: on.clone(),
            platform_files: request.environment.clone(),
            builder_files,
            base: target,
            execution_environment: request.execution_environment.clone(),
            workspace: request.workspace.clone(),
            network: request.network,
            volumes: Vec::new(),
            bindings: request.bindings.clone(),
            namespace: request.namespace.clone(),
            afresh: request.afresh,
            place: request.place,
        };
        site.volumes = request.volumes.iter().map(|volume| site.owned(volume)).collect();
        let mut candidates = Candidates::of_builder(&builder, &builder_tree);
        let order = order(gate, &mut candidates, &builder.order, request).await?;
        Ok(Self {
            builder_image: name.clone(),
            builder_tree,
            candidates,
            order,
            system: if request.without_system { System::default() } else { builder.system.clone() },
            platform,
            launcher,
            app: site.app(&request.app),
            site,
            base,
            run_file,
            config: image.config,
        })
    }

    /// Asks modules until a group is chosen. `all` keeps what each of them wrote.
    pub(super) async fn detect(
        &mut self,
        gate: Gate<'_>,
        request: &PackRequest,
        tell: Teller<'_>,
        all: bool,
    ) -> Result<Chosen, FrontendError> {
        std::mem::take(&mut self.candidates.warnings).into_iter().for_each(|line| tell(Told::Warning(line)));
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
        let mut answers: BTreeMap<String, State> = BTreeMap::new();
        loop {
            match detect(&asked, &runs) {
                Detection::Ask(keys) => {
                    let asked = keys.into_iter().map(|key| self.run(gate, key, all));
                    for Asked { key, run, output, answer } in try_join_all(asked).await? {
                        outputs.extend(output.map(|output| (key.clone(), output)));
                        answers.extend(answer.map(|answer| (detection(&key), answer)));
                        runs.insert(key, run);
                    }
                }
                Detection::Done { result: Ok(detected), explanation } => {
                    let of = explanation.groups.last().map_or(0, |group| group.members.len());
                    tell(Told::Detected { of, group: detected.group.clone() });
                    return Ok(Chosen {
                        group: detected.group,
                        plan: detected.plan,
                        explanation,
                        outputs: outputs.into_iter().collect(),
                        answers: answers.into_iter().collect(),
                    });
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
    async fn run(&self, gate: Gate<'_>, key: ModuleKey, all: bool) -> Result<Asked, FrontendError> {
        let candidate = self.candidates.get(&key)?;
        // An extension may do without a program: it takes part, then.
        if key.kind == ModuleKind::Extension && !gate.exists(&candidate.place, "bin/detect").await? {
            return Ok(Asked { key, run: DetectRun::default(), output: None, answer: None });
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
        let output = output.filter(|output| !output.trim().is_empty());
        Ok(Asked { key, run: DetectRun { code, plan }, output, answer: Some(answer.state) })
    }
}
