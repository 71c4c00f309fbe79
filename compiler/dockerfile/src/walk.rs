//! The walk of one platform: find out what its stages need, ask for that, convert.
//!
//! In: a file that was read, and the options. Out: an [`Outcome`], and what is wrong, gathered all the way: a step of the walk stands in
//! for what it could not find out, and what is only wrong because of that is not told (`lost`, `is_unknown`). The walk is first made with
//! bases of which nothing is known: where something is wrong already, registries only add to what is told, and are not waited for
//! ([`Gateway::glance_at_image`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rb_diag::{SourceFile, SourceMap};
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
use crate::{Dockerfile, image, platform, triggers};

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

/// What the platforms of a build share.
pub(crate) struct Walk<'a> {
    pub(crate) gateway: &'a dyn Gateway,
    pub(crate) options: &'a Options,
    pub(crate) sources: &'a SourceMap,
    pub(crate) source: Arc<SourceFile>,
    pub(crate) file: &'a Dockerfile,
    pub(crate) control: Control,
    pub(crate) contexts: NamedContexts<'a>,
    pub(crate) images: KnownImages,
    /// What the Dockerfile's own ignore file says, until the context was told of it.
    pub(crate) ignore: Option<Option<String>>,
    pub(crate) ignored: Ignored,
    /// Registries were only glanced at, since something looked wrong already.
    pub(crate) has_glanced: bool,
    /// Lines of the file are wrong and were left out.
    pub(crate) is_torn: bool,
    /// A stage may have a name that is not known, since its FROM is wrong.
    pub(crate) hides_names: bool,
    /// Arguments before the first FROM may be missing, since a line there is wrong.
    pub(crate) tears_arguments: bool,
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
    pub(crate) async fn image(
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
        self.check_defaults(asked, checks);
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
    pub(crate) fn check_defaults(&self, asked: Option<&Platform>, checks: &mut Checks) {
        let lexer = Lexer::new(self.file.directives.escape);
        let predefined = self.predefined(asked.unwrap_or(&self.options.build_platform));
        let (arguments, wrong) =
            GlobalArguments::read(predefined, &self.file.global_args, &BTreeMap::new(), lexer);
        // What cannot be expanded is an error soon, and a line that is wrong may be the ARG.
        if !wrong.is_empty() || self.tears_arguments {
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
