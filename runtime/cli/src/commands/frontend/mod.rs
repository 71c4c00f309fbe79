//! `rb frontend`: a Buildfile built by somebody else's BuildKit, which starts this program in an image.
//!
//! BuildKit finds the image by `# syntax=` in the first line, and speaks with its program on the standard streams. In: those, and
//! what the build's client said, in variables ([`crate::environment::Called`]). Out: one answer for BuildKit. In order: what was said
//! ([`order`]), the project ([`crate::world::LentWorkspace`]), the plan of the compiler, trees with their configs. Nobody types it.
//! **Invariant:** what this machine is, says nothing: no file of it is read.

mod lint;
mod order;
mod outline;
mod requests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use bytes::Bytes;
use rb_buildfile::BuildfileFrontend;
use rb_diag::{Diagnostic, Diagnostics, ErrorKind, Label, SourceFile, SourceMap};
use rb_frontend::{
    BuildOptions, BuildPlan, BuildRequest, Frontend as _, Gateway, ProjectRef, TargetOutput, TargetRef,
    TargetRequest,
};
use rb_llb::State;
use rb_oci::{ImageConfig, Platform};
use rb_remote::inside::{Inside, Made, Refusal};

use self::order::Order;
use crate::environment::Called;
use crate::report;
use crate::world::{LentWorkspace, LentWorld};

/// The word that asks for it.
const WORD: &str = "frontend";

/// Answers BuildKit and returns the exit code, if `argv` asks for it.
pub(super) fn serve(argv: &[OsString]) -> Option<u8> {
    let [_, word] = argv else { return None };
    if word != WORD {
        return None;
    }
    Some(match Called::read() {
        Some(called) => run(called),
        None => {
            report::tell(
                "rb: `rb frontend` is started by BuildKit, in an image that `# syntax=` names: see `rb help frontend`\n",
            );
            ErrorKind::Input.exit_code()
        }
    })
}

fn run(called: Called) -> u8 {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            report::tell(&format!("rb: no threads: {error}\n"));
            return ErrorKind::Environment.exit_code();
        }
    };
    let ended = runtime.block_on(answer(called));
    match ended {
        Ok(()) => 0,
        Err(failure) => {
            report::tell(&format!("rb: {failure}\n"));
            ErrorKind::Environment.exit_code()
        }
    }
}

/// Tells BuildKit what came of it. What is wrong with a build is an answer, too.
async fn answer(called: Called) -> Result<(), String> {
    let sources = SourceMap::default();
    let inside = Inside::open_standard(sources.clone()).await.map_err(|error| rb_diag::chain(&error))?;
    let inside = Arc::new(inside);
    match build(&inside, &sources, &called).await {
        Ok(()) => Ok(()),
        Err(refusal) => inside.refuse(refusal).await.map_err(|refusal| refusal.to_string()),
    }
}

async fn build(inside: &Arc<Inside>, sources: &SourceMap, called: &Called) -> Result<(), Refusal> {
    let unable = |error: rb_remote::RemoteError| Refusal::new(error.kind(), rb_diag::chain(&error));
    let native = inside.platforms().await.map_err(unable)?.into_iter().next().unwrap_or_else(Platform::host);
    let inputs = inside.inputs().await.map_err(unable)?;
    let gateway: Arc<dyn Gateway> = Arc::clone(inside) as _;
    let order = Order::read(gateway.as_ref(), called, &inputs, native).await?;
    inside.ground(order.given.clone(), order.images.clone());
    let workspace =
        LentWorkspace::new(Arc::clone(&gateway), sources.clone(), order.file.clone(), order.facts.clone());
    let world = LentWorld { workspace, gateway };
    match decided(&world, sources, &order).await {
        Ok(Decided::Told(answer)) => inside.tell(answer).await,
        Ok(Decided::Unknown(request)) => Err(Refusal::unsupported(&request)),
        Ok(Decided::Build(plan)) => {
            let made = made(&plan, &order);
            let needed: Vec<State> = plan.roots.iter().map(|(_, state)| state.clone()).collect();
            let beside = made.iter().map(|made| &made.state).chain(&needed);
            inside.warn(beside, warnings(&plan)).await;
            inside.give(&needed, &made, order.is_index).await
        }
        // Of a step that failed the daemon tells better.
        Err(findings) => Err(match inside.failed() {
            Some(refusal) => refusal,
            None => Refusal::of_findings(&placed(findings, &world, &order).await, sources),
        }),
    }
}

/// What there is to tell the daemon.
enum Decided {
    /// The answer to a question.
    Told(BTreeMap<String, Bytes>),
    /// A question that is none of those that are answered.
    Unknown(String),
    Build(Box<BuildPlan>),
}

async fn decided(world: &LentWorld, sources: &SourceMap, order: &Order) -> Result<Decided, Diagnostics> {
    let Some(request) = &order.request else {
        return Ok(Decided::Build(Box::new(planned(world, order).await?)));
    };
    if request == lint::NAME {
        let root = root_file(world).await?;
        let told = match planned(world, order).await {
            Ok(plan) => plan.warnings,
            Err(findings) => placed(findings, world, order).await,
        };
        return lint::answer(told, root.id, sources).map(Decided::Told);
    }
    let target = order.target.as_deref().map(|word| word.trim_start_matches('+'));
    let asked = requests::Asked { target, args: &order.args };
    let told = requests::answer(request, world, sources, asked).await?;
    Ok(told.map_or_else(|| Decided::Unknown(request.clone()), Decided::Told))
}

async fn planned(world: &LentWorld, order: &Order) -> Result<BuildPlan, Diagnostics> {
    let target = match &order.target {
        Some(word) => named(word),
        None => {
            let name = requests::default_target(world).await?;
            root_target(&name.ok_or_else(|| vec![requests::no_target(None)])?)
        }
    };
    BuildfileFrontend.plan(world, &order.request_for(target)).await
}

async fn root_file(world: &LentWorld) -> Result<Arc<SourceFile>, Diagnostics> {
    rb_buildfile::source(world, &requests::root()).await
}

/// Shows what does not fit of what was typed at the head of the target that was asked for, or that has nearly its name: BuildKit shows
/// a place, and what has none it shows at the first line.
async fn placed(mut findings: Diagnostics, world: &LentWorld, order: &Order) -> Diagnostics {
    let is_typed = |found: &Diagnostic| found.kind == ErrorKind::Input && found.labels.is_empty();
    if !findings.iter().any(is_typed) {
        return findings;
    }
    let Ok(file) = root_file(world).await else { return findings };
    let targets = rb_syntax::parse(&file).buildfile.targets;
    let names = || targets.iter().map(|recipe| recipe.name.value.as_str());
    let asked = match &order.target {
        Some(word) => Some(word.trim_start_matches('+').to_owned()),
        None => requests::default_target(world).await.ok().flatten(),
    };
    let name = asked.and_then(|asked| {
        let own = names().find(|name| *name == asked);
        own.or_else(|| rb_diag::nearest(&asked, names())).map(str::to_owned)
    });
    if let Some(recipe) = targets.iter().find(|recipe| Some(&recipe.name.value) == name.as_ref()) {
        for found in findings.iter_mut().filter(|found| is_typed(found)) {
            found.labels.push(Label { span: recipe.name.span, text: String::new() });
        }
    }
    findings
}

/// Reads a target as `--target` names it: `app`, `+app`, `lib+app`.
fn named(word: &str) -> TargetRef {
    match word.split_once('+') {
        None => root_target(word),
        Some((dir, name)) => {
            TargetRef { project: ProjectRef::Local { dir: String::new() }.join(dir), name: name.to_owned() }
        }
    }
}

fn root_target(name: &str) -> TargetRef {
    TargetRef { project: ProjectRef::Local { dir: String::new() }, name: name.to_owned() }
}

/// Chooses what of each target is the result.
fn made(plan: &BuildPlan, order: &Order) -> Vec<Made> {
    plan.targets
        .iter()
        .map(|target| {
            let (state, mut config) = result_of(target);
            config.config.labels.extend(order.labels.clone());
            Made { platform: target.platform.clone(), state, config }
        })
        .collect()
}

/// Returns the last image that a target saves; of one that saves artifacts alone these, and else its tree.
fn result_of(target: &TargetOutput) -> (State, ImageConfig) {
    match target.images.last() {
        Some(image) => (image.state.clone(), image.config.clone()),
        None if !target.artifacts.is_empty() => {
            (target.artifact_tree.clone(), ImageConfig::scratch(&target.platform))
        }
        None => (target.state.clone(), target.config.clone()),
    }
}

/// What is unusual, and what was left out.
fn warnings(plan: &BuildPlan) -> Vec<String> {
    let told = plan.warnings.iter().map(|found| found.message.clone());
    let held = plan.held.iter().map(|step| format!("left out, as a frontend pushes nothing: {step}"));
    let local = |target: &Arc<TargetOutput>| target.artifacts.iter().any(|artifact| artifact.local.is_some());
    let local = plan.targets.iter().filter(|target| local(target)).map(|target| {
        format!(
            "{}: AS LOCAL writes nothing at another builder; `--output` writes the result",
            target.key.target
        )
    });
    let empty = plan.targets.iter().filter(|target| result_of(target).0.is_scratch()).map(|target| {
        format!(
            "{}: its result is empty, as it has neither files, nor an artifact, nor an image; name a target that it builds",
            target.key.target
        )
    });
    told.chain(held).chain(local).chain(empty).collect()
}

impl Order {
    fn request_for(&self, target: TargetRef) -> BuildRequest {
        BuildRequest {
            targets: vec![TargetRequest::one(target, self.args.clone())],
            keep_going: false,
            defaults: self.defaults.clone(),
            platforms: self.platforms.clone(),
            user_platform: self.native.clone(),
            native_platform: self.native.clone(),
            options: BuildOptions {
                // What steps may do, the daemon knows.
                allow_privileged: true,
                withhold_outputs: true,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..BuildOptions::default()
            },
        }
    }
}
