//! The walk from options to images: read the file, find out what its stages need, ask for that, convert.
//!
//! Each platform is planned by itself; what is the same for two of them comes out as the same operations. Findings are
//! those of the first platform. What is wrong is gathered all the way: a step of the walk stands in for what it could not
//! find out, and what is only wrong because of that is not told (`lost`, `is_unknown`). The walk is
//! first made with bases of which nothing is known: where something is wrong already, registries only add to what is told, and are
//! not waited for ([`Gateway::glance_at_image`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rb_diag::{Diagnostic, Diagnostics, ErrorKind, SourceFile, SourceMap};
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
use crate::{Dockerfile, Finding, codes, image, parse::parse_for, platform, triggers};

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
/// What is wrong with the file and with what it names, all at once, in the order of the lines.
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
    let (control, wrong) = Control::of(&parsed.dockerfile.directives, options.check.as_deref());
    let asked_for = || {
        let mut checks = Checks::new(control.clone());
        checks.add(None, parsed.findings.iter().cloned());
        checks.into_findings()
    };
    if parsed.hides_stages {
        findings.extend(asked_for());
        return Err(in_order(parsed.errors, parsed.unlisted));
    }
    let is_torn = !parsed.errors.is_empty();
    if is_torn {
        *findings = asked_for();
    }
    let file = parsed.dockerfile;
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
        has_glanced: false,
        is_torn,
        hides_names: parsed.hides_names,
        tears_arguments: parsed.tears_arguments,
    };
    let platforms: Vec<Option<&Platform>> = match options.platforms.as_slice() {
        [] => vec![None],
        several => several.iter().map(Some).collect(),
    };
    let (mut outcomes, mut errors) = (Vec::new(), parsed.errors);
    errors.extend(wrong);
    for (number, platform) in platforms.into_iter().enumerate() {
        let mut checks = Checks::new(walk.control.clone());
        checks.add(None, parsed.findings.iter().cloned());
        outcomes.extend(walk.image(&mut context, platform, &mut checks).await);
        errors.append(&mut checks.take_errors());
        if number == 0 && !is_torn {
            *findings = checks.into_findings();
        }
    }
    if errors.is_empty() { Ok(outcomes) } else { Err(in_order(errors, parsed.unlisted)) }
}

/// How many errors are listed at once.
const MAX_LISTED: usize = 20;

/// Puts errors in the order of the lines, each once, and lists no more than one reads; `unlisted` is how many more there were from
/// the beginning. What the outside could not answer is
/// not told beside what is wrong in any case: the next build asks again.
fn in_order(mut errors: Diagnostics, unlisted: usize) -> Diagnostics {
    // They are counted anew.
    errors.retain(|error| error.code != codes::TOO_MANY_ERRORS);
    // A name that is nearly a stage's is told whatever became of the question.
    let is_meant = |error: &Diagnostic| error.code == codes::IMAGE && error.help.is_some();
    let is_known = |error: &Diagnostic| error.kind == ErrorKind::Input || is_meant(error);
    if errors.iter().any(|error| error.kind == ErrorKind::Input) {
        errors.retain(is_known);
        errors.iter_mut().for_each(|error| error.kind = ErrorKind::Input);
    }
    let place = |error: &Diagnostic| {
        error.labels.first().map_or((true, 0, 0), |label| (false, label.span.source.0, label.span.start))
    };
    // Platforms tell the same, one after the other.
    errors.sort_by(|one, other| place(one).cmp(&place(other)).then_with(|| one.message.cmp(&other.message)));
    errors.dedup();
    let more = errors.len().saturating_sub(MAX_LISTED) + unlisted;
    if more > 0 {
        errors.truncate(MAX_LISTED);
        let message =
            if more == 1 { "and 1 more error".to_owned() } else { format!("and {more} more errors") };
        errors.push(Diagnostic::error(codes::TOO_MANY_ERRORS, message).with_help("mend the first ones"));
    }
    errors
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
    /// Registries were only glanced at, since something looked wrong already.
    has_glanced: bool,
    /// Lines of the file are wrong and were left out.
    is_torn: bool,
    /// A stage may have a name that is not known, since its FROM is wrong.
    hides_names: bool,
    /// Arguments before the first FROM may be missing, since a line there is wrong.
    tears_arguments: bool,
}

/// A graph of which everything is known that is needed.
struct Resolved {
    graph: Graph,
    needed: BTreeSet<NodeId>,
    bases: BTreeMap<NodeId, Base>,
    target: NodeId,
}

impl Walk<'_> {
    /// Plans one platform; if there is nothing, `checks` has been told why.
    async fn image(
        &mut self,
        context: &mut Context,
        asked: Option<&Platform>,
        checks: &mut Checks,
    ) -> Option<Outcome> {
        let mut first = checks.clone();
        let outcome = self.told_outcome(context, asked, true, &mut first).await;
        // What looked wrong may be right with what the outside says: then it has all the time that it needs.
        if outcome.is_none() && self.has_glanced && !self.is_torn && !first.has_mistakes() {
            return self.told_outcome(context, asked, false, checks).await;
        }
        *checks = first;
        outcome
    }

    async fn told_outcome(
        &mut self,
        context: &mut Context,
        asked: Option<&Platform>,
        may_glance: bool,
        checks: &mut Checks,
    ) -> Option<Outcome> {
        let outcome = self.outcome(context, asked, may_glance, checks).await;
        outcome.unwrap_or_else(|error| {
            checks.tell(error);
            None
        })
    }

    async fn outcome(
        &mut self,
        context: &mut Context,
        asked: Option<&Platform>,
        may_glance: bool,
        checks: &mut Checks,
    ) -> Fallible<Option<Outcome>> {
        let options = self.options;
        let target_platform = asked.unwrap_or(&options.build_platform);
        let lexer = Lexer::new(self.file.directives.escape);
        let predefined = self.predefined(target_platform);
        self.check_defaults(predefined.clone(), lexer, checks);
        let mut given = options.build_args.clone();
        let steps = &self.file.global_args;
        let (mut arguments, wrong) = GlobalArguments::read(predefined, steps, &given, lexer);
        arguments.lost.all = self.tears_arguments;
        wrong.into_iter().for_each(|error| checks.tell(error));
        let mut told = checks.clone();
        if !self.look(asked, &arguments, lexer, &mut told) {
            *checks = told;
            return Ok(None);
        }
        let glances = may_glance && (self.is_torn || told.has_errors());
        self.has_glanced = glances;
        let moments = Moments {
            gateway: self.gateway,
            context,
            contexts: &self.contexts,
            stages: &self.file.stages,
            lexer,
        };
        let epoch = moments.settle(&mut given, &mut arguments).await.unwrap_or_else(|error| {
            checks.tell(error);
            None
        });
        let resolved = self.resolve(asked, (&arguments, lexer), glances, checks).await?;
        let Some(resolved) = resolved else { return Ok(None) };
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
            lost: &arguments.lost,
        };
        let Resolved { needed, target, .. } = &resolved;
        // Once to learn what is taken of the client's folders, and then with just that.
        let nothing = TakenPaths::default();
        let taken = shared(State::scratch(), &nothing).convert(needed, *target, checks).taken;
        if self.is_torn || checks.has_errors() {
            return Ok(None);
        }
        let context = context.state(options, &taken.context);
        let mut unheard = Checks::new(self.control.clone());
        let mut stages = shared(context.clone(), &taken).convert(needed, *target, &mut unheard).stages;
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
        Ok(Some(Outcome { image, file, graph, target, arguments, parameters }))
    }

    fn predefined(&self, target_platform: &Platform) -> Environment {
        let last = self.file.stages.last().and_then(|stage| stage.name.as_ref());
        let stage = self.options.target.as_deref().or(last.map(|(_, name)| name.value.as_str()));
        let given = |name: &str| self.options.build_args.get(name).cloned();
        platform::predefined(&self.options.build_platform, target_platform, stage.unwrap_or_default(), given)
    }

    /// Looks whether FROM lines name images with the defaults of arguments alone.
    fn check_defaults(&self, predefined: Environment, lexer: Lexer, checks: &mut Checks) {
        let (arguments, wrong) =
            GlobalArguments::read(predefined, &self.file.global_args, &BTreeMap::new(), lexer);
        // What cannot be expanded is an error soon.
        if !wrong.is_empty() {
            return;
        }
        for stage in &self.file.stages {
            let Ok(base) = lexer.expand(&stage.base.value, &arguments.values) else { return };
            checks.add(
                stage.check.as_ref(),
                values::invalid_default(stage.span, &stage.base.value, &base.text),
            );
        }
    }

    fn reading<'b>(
        &'b self,
        asked: Option<&'b Platform>,
        arguments: &'b GlobalArguments,
        lexer: Lexer,
    ) -> Reading<'b> {
        Reading {
            options: self.options,
            arguments,
            contexts: &self.contexts,
            lexer,
            target_platform: asked,
            hides_names: self.hides_names,
        }
    }

    /// Tells what is wrong whatever the outside says: of all stages, if it is not known which one is meant. Returns whether it is.
    fn look(
        &self,
        asked: Option<&Platform>,
        arguments: &GlobalArguments,
        lexer: Lexer,
        checks: &mut Checks,
    ) -> bool {
        let graph = Graph::new(self.file, &self.reading(asked, arguments, lexer), checks);
        let (all, last) = (0..graph.nodes.len(), self.file.stages.len() - 1);
        let found = graph.target(self.options);
        let has_target = found.is_ok();
        let (wanted, target) = match found {
            Ok(target) if self.options.all_stages => (all, target),
            Ok(target) => (target..target + 1, target),
            // It may be the name that is not known.
            Err(_) if self.hides_names => (all, last),
            Err(error) => {
                checks.tell(error);
                (all, last)
            }
        };
        let needed = graph.reachable(wanted);
        let wrong = graph.check_order(&needed);
        let has_order = wrong.is_empty();
        wrong.into_iter().for_each(|error| checks.tell(error));
        let begin: Vec<NodeId> =
            needed.iter().copied().filter(|id| graph.nodes[*id].base.is_none()).collect();
        let finding = finding(self.gateway, self.options, &self.contexts, asked);
        let bases = finding.suppose(&graph, &begin, checks).into_iter().collect();
        if !has_order {
            return has_target;
        }
        let shared = Shared {
            options: self.options,
            graph: &graph,
            bases: &bases,
            build_args: &self.options.build_args,
            arguments: &arguments.values,
            lexer,
            target_platform: asked.unwrap_or(&self.options.build_platform),
            epoch: None,
            ignored: &Ignored::default(),
            proxy: None,
            context: State::scratch(),
            taken: &TakenPaths::default(),
            lost: &arguments.lost,
        };
        shared.convert(&needed, target, checks);
        has_target
    }

    /// Finds out what the target needs, until nothing new comes of it. Nothing is given for stages that have no order.
    async fn resolve(
        &mut self,
        asked: Option<&Platform>,
        (arguments, lexer): (&GlobalArguments, Lexer),
        glances: bool,
        checks: &mut Checks,
    ) -> Fallible<Option<Resolved>> {
        let mut graph = Graph::new(self.file, &self.reading(asked, arguments, lexer), checks);
        let target = graph.target(self.options)?;
        let finding =
            bases::Finding { glances, ..finding(self.gateway, self.options, &self.contexts, asked) };
        let (mut bases, mut triggered) = (BTreeMap::new(), BTreeSet::new());
        loop {
            let wanted = if self.options.all_stages { 0..graph.nodes.len() } else { target..target + 1 };
            let needed = graph.reachable(wanted);
            let wrong = graph.check_order(&needed);
            let has_order = wrong.is_empty();
            wrong.into_iter().for_each(|error| checks.tell(error));
            let is_unknown = |id: &NodeId| graph.nodes[*id].base.is_none() && !bases.contains_key(id);
            let unknown: Vec<NodeId> = needed.iter().copied().filter(is_unknown).collect();
            bases.extend(finding.find(&graph, &unknown, &mut self.images, checks).await);
            if !has_order {
                return Ok(None);
            }
            if !triggers::add(&mut graph, &needed, &bases, &mut triggered, self.sources, checks) {
                return Ok(Some(Resolved { graph, needed, bases, target }));
            }
        }
    }
}

/// Returns what bases are found with.
fn finding<'a>(
    gateway: &'a dyn Gateway,
    options: &'a Options,
    contexts: &'a NamedContexts<'a>,
    asked: Option<&'a Platform>,
) -> bases::Finding<'a> {
    let target = asked.unwrap_or(&options.build_platform);
    bases::Finding { gateway, options, contexts, target, is_implicit: asked.is_none(), glances: false }
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
