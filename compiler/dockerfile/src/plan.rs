//! The walk from options to images: read the file, find out what its stages need, ask for that, convert.
//!
//! Each platform is planned by itself; what is the same for two of them comes out as the same operations. Findings are
//! those of the first platform.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rb_diag::{Diagnostic, Diagnostics, SourceFile, SourceMap};
use rb_frontend::Gateway;
use rb_llb::{ProxyEnv, State};
use rb_oci::{ImageConfig, Platform};

use crate::arguments::GlobalArguments;
use crate::bases::{self, Base, KnownImages};
use crate::checks::{Checks, Control, values};
use crate::contexts::{Context, Ignored, NamedContexts};
use crate::convert::{Parameters, Shared, StageState, TakenPaths};
use crate::environment::Environment;
use crate::epoch::Moments;
use crate::failure::Fallible;
use crate::options::Options;
use crate::scans::Scanned;
use crate::stages::{Graph, NodeId, Reading};
use crate::words::Lexer;
use crate::{Dockerfile, Finding, image, parse::parse_for, platform, triggers};

/// What is to be built.
#[derive(Clone, Debug)]
pub struct Planned {
    /// One image for each platform, in the order of the options.
    pub images: Vec<PlannedImage>,
    /// What the build checks found.
    pub findings: Vec<Finding>,
}

/// An image of one platform.
#[derive(Clone, Debug)]
pub struct PlannedImage {
    /// What it runs on.
    pub platform: Platform,
    /// Its filesystem.
    pub state: State,
    /// Its config, with layers and history of the base image.
    pub config: ImageConfig,
    /// The config of the base image as it came, if there is one.
    pub base: Option<ImageConfig>,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970.
    pub epoch: Option<i64>,
    /// What a scanner is to look at beside it, by name.
    pub scans: BTreeMap<String, State>,
}

/// What the build checks say of a file, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What the build checks found, as far as they came.
    pub findings: Vec<Finding>,
    /// Why the file cannot be built, if so.
    pub errors: Diagnostics,
}

/// Decides what a Dockerfile means.
///
/// # Errors
/// What is wrong with the file, all at once; or the first thing that is wrong with what it names.
pub async fn plan(
    gateway: &dyn Gateway,
    options: &Options,
    sources: &SourceMap,
) -> Result<Planned, Diagnostics> {
    let mut findings = Vec::new();
    let images = plan_telling(gateway, options, sources, &mut findings).await?;
    Ok(Planned { images, findings })
}

/// Decides the same, and gives what the build checks found, as far as they came, also where the file cannot be built.
///
/// # Errors
/// As [`plan`].
pub async fn plan_telling(
    gateway: &dyn Gateway,
    options: &Options,
    sources: &SourceMap,
    findings: &mut Vec<Finding>,
) -> Result<Vec<PlannedImage>, Diagnostics> {
    let outcomes = walk(gateway, options, sources, findings).await?;
    Ok(outcomes.into_iter().map(|outcome| outcome.image).collect())
}

/// Looks at a Dockerfile without building it: at the target and what it needs, or at all stages where none is named.
pub async fn check(gateway: &dyn Gateway, options: &Options, sources: &SourceMap) -> Checked {
    let options = Options { all_stages: options.target.is_none(), ..first_platform(options) };
    let mut findings = Vec::new();
    let errors = walk(gateway, &options, sources, &mut findings).await.err().unwrap_or_default();
    Checked { findings, errors }
}

/// Takes the first platform for all.
pub(crate) fn first_platform(options: &Options) -> Options {
    Options { platforms: options.platforms.iter().take(1).cloned().collect(), ..options.clone() }
}

/// What came of one platform.
pub(crate) struct Outcome {
    pub(crate) image: PlannedImage,
    pub(crate) file: Arc<SourceFile>,
    pub(crate) graph: Graph,
    pub(crate) target: NodeId,
    pub(crate) arguments: GlobalArguments,
    /// What each stage takes from outside.
    pub(crate) parameters: BTreeMap<NodeId, Parameters>,
}

/// Plans every platform.
pub(crate) async fn walk(
    gateway: &dyn Gateway,
    options: &Options,
    sources: &SourceMap,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Outcome>, Diagnostics> {
    let mut context = Context::find(gateway, options).await.map_err(one)?;
    let texts = context.read(gateway, options, sources).await.map_err(one)?;
    let parsed = parse_for(&texts.dockerfile, &options.build_args);
    if !parsed.errors.is_empty() {
        findings.extend(parsed.findings);
        return Err(parsed.errors);
    }
    let file = parsed.dockerfile;
    let control = Control::of(&file.directives, options.check.as_deref()).map_err(one)?;
    let mut walk = Walk {
        gateway,
        options,
        sources,
        source: texts.dockerfile,
        file: &file,
        control,
        contexts: NamedContexts::new(gateway, options),
        images: KnownImages::new(),
        ignore: Some(options.ignore.clone().or(texts.ignore)),
        ignored: Ignored::default(),
    };
    let platforms: Vec<Option<&Platform>> = match options.platforms.as_slice() {
        [] => vec![None],
        several => several.iter().map(Some).collect(),
    };
    let mut outcomes = Vec::new();
    for platform in platforms {
        let mut checks = Checks::new(walk.control.clone());
        checks.add(None, parsed.findings.iter().cloned());
        let outcome = walk.image(&mut context, platform, &mut checks).await;
        if outcomes.is_empty() {
            *findings = checks.into_findings();
        }
        outcomes.push(outcome.map_err(one)?);
    }
    Ok(outcomes)
}

fn one(error: Diagnostic) -> Diagnostics {
    vec![error]
}

/// What the platforms of a build share.
struct Walk<'a> {
    gateway: &'a dyn Gateway,
    options: &'a Options,
    sources: &'a SourceMap,
    source: Arc<SourceFile>,
    file: &'a Dockerfile,
    control: Control,
    contexts: NamedContexts<'a>,
    images: KnownImages,
    /// What the Dockerfile's own ignore file says, until the context was told of it.
    ignore: Option<Option<String>>,
    ignored: Ignored,
}

/// A graph of which everything is known that is needed.
struct Resolved {
    graph: Graph,
    needed: BTreeSet<NodeId>,
    bases: BTreeMap<NodeId, Base>,
    target: NodeId,
}

impl Walk<'_> {
    async fn image(
        &mut self,
        context: &mut Context,
        asked: Option<&Platform>,
        checks: &mut Checks,
    ) -> Fallible<Outcome> {
        let options = self.options;
        let target_platform = asked.unwrap_or(&options.build_platform);
        let lexer = Lexer::new(self.file.directives.escape);
        let predefined = self.predefined(target_platform);
        self.check_defaults(predefined.clone(), lexer, checks);
        let mut given = options.build_args.clone();
        let steps = &self.file.global_args;
        let mut arguments = GlobalArguments::read(predefined, steps, &given, lexer)?;
        let moments = Moments {
            gateway: self.gateway,
            context,
            contexts: &self.contexts,
            stages: &self.file.stages,
            lexer,
        };
        let epoch = moments.settle(&mut given, &mut arguments).await?;
        let resolved = self.resolve(asked, &arguments, lexer, checks).await?;
        if let Some(ignore) = self.ignore.take() {
            self.ignored = context.exclude(self.gateway, options, ignore).await?;
        }
        let shared = |context: State, taken| Shared {
            options,
            graph: &resolved.graph,
            bases: &resolved.bases,
            build_args: &given,
            arguments: &arguments.values,
            lexer,
            target_platform,
            epoch,
            ignored: &self.ignored,
            proxy: proxy(&given),
            context,
            taken,
        };
        let Resolved { needed, target, .. } = &resolved;
        // Once to learn what is taken of the client's folders, and then with just that.
        let nothing = TakenPaths::default();
        let taken = shared(State::scratch(), &nothing).convert(needed, *target, checks)?.taken;
        let context = context.state(options, &taken.context);
        let mut unheard = Checks::new(self.control.clone());
        let mut stages = shared(context.clone(), &taken).convert(needed, *target, &mut unheard)?.stages;
        let state = stages.remove(target).expect("the target is needed");
        checks.error().map_or(Ok(()), Err)?;
        let scanned = Scanned {
            graph: &resolved.graph,
            stages: &stages,
            target: (*target, &state),
            context: &context,
            arguments: &arguments.values,
        };
        let scans = scanned.trees();
        let mut parameters: BTreeMap<NodeId, Parameters> =
            stages.into_iter().map(|(id, stage)| (id, stage.parameters)).collect();
        parameters.insert(*target, state.parameters.clone());
        let image = PlannedImage { scans, ..finish(state, options, asked, epoch) };
        let (file, Resolved { graph, target, .. }) = (Arc::clone(&self.source), resolved);
        Ok(Outcome { image, file, graph, target, arguments, parameters })
    }

    fn predefined(&self, target_platform: &Platform) -> Environment {
        let last = self.file.stages.last().and_then(|stage| stage.name.as_ref());
        let stage = self.options.target.as_deref().or(last.map(|(_, name)| name.value.as_str()));
        let given = |name: &str| self.options.build_args.get(name).cloned();
        platform::predefined(&self.options.build_platform, target_platform, stage.unwrap_or_default(), given)
    }

    /// Looks whether FROM lines name images with the defaults of arguments alone.
    fn check_defaults(&self, predefined: Environment, lexer: Lexer, checks: &mut Checks) {
        let arguments = GlobalArguments::read(predefined, &self.file.global_args, &BTreeMap::new(), lexer);
        // What cannot be expanded is an error soon.
        let Ok(arguments) = arguments else { return };
        for stage in &self.file.stages {
            let Ok(base) = lexer.expand(&stage.base.value, &arguments.values) else { return };
            checks.add(
                stage.check.as_ref(),
                values::invalid_default(stage.span, &stage.base.value, &base.text),
            );
        }
    }

    /// Finds out what the target needs, until nothing new comes of it.
    async fn resolve(
        &mut self,
        asked: Option<&Platform>,
        arguments: &GlobalArguments,
        lexer: Lexer,
        checks: &mut Checks,
    ) -> Fallible<Resolved> {
        let reading = Reading {
            options: self.options,
            arguments,
            contexts: &self.contexts,
            lexer,
            target_platform: asked,
        };
        let mut graph = Graph::new(self.file, &reading, checks)?;
        let target = graph.target(self.options)?;
        let finding = bases::Finding {
            gateway: self.gateway,
            options: self.options,
            contexts: &self.contexts,
            target: asked.unwrap_or(&self.options.build_platform),
            is_implicit: asked.is_none(),
        };
        let (mut bases, mut triggered) = (BTreeMap::new(), BTreeSet::new());
        loop {
            let wanted = if self.options.all_stages { 0..graph.nodes.len() } else { target..target + 1 };
            let needed = graph.reachable(wanted);
            graph.check_order(&needed)?;
            let is_unknown = |id: &NodeId| graph.nodes[*id].base.is_none() && !bases.contains_key(id);
            let unknown: Vec<NodeId> = needed.iter().copied().filter(is_unknown).collect();
            bases.extend(finding.find(&graph, &unknown, &mut self.images, checks).await?);
            if !triggers::add(&mut graph, &needed, &bases, &mut triggered, self.sources)? {
                return Ok(Resolved { graph, needed, bases, target });
            }
        }
    }
}

/// Says of the target's config what the user asked for.
fn finish(
    stage: StageState,
    options: &Options,
    asked: Option<&Platform>,
    epoch: Option<i64>,
) -> PlannedImage {
    let StageState { files, image: mut config, original, platform, .. } = stage;
    config.config.labels.extend(options.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    if let Some(platform) = asked {
        image::set_platform(&mut config, platform);
    } else if config.os.is_empty() {
        image::set_platform(&mut config, &platform);
    }
    image::normalise(&mut config);
    let platform = asked.cloned().unwrap_or_else(|| options.build_platform.clone());
    let (state, scans) = (files.tree, BTreeMap::new());
    PlannedImage { platform, state, config, base: original, epoch, scans }
}

/// Takes proxies from the build arguments, whichever case they are written in.
fn proxy(given: &BTreeMap<String, String>) -> Option<ProxyEnv> {
    let mut proxy = ProxyEnv::default();
    let mut is_given = false;
    for (name, value) in given {
        let variable = match name.to_lowercase().as_str() {
            "http_proxy" => &mut proxy.http_proxy,
            "https_proxy" => &mut proxy.https_proxy,
            "ftp_proxy" => &mut proxy.ftp_proxy,
            "no_proxy" => &mut proxy.no_proxy,
            "all_proxy" => &mut proxy.all_proxy,
            _ => continue,
        };
        variable.clone_from(value);
        is_given = true;
    }
    is_given.then_some(proxy)
}
