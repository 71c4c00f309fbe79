//! A build of targets under way: found on the disk, planned, solved, told of.
//!
//! A build is one job of the engine, however many targets it has, which grows: with what the frontend asks on the way
//! ([`super::gateway`]), then with what the plan asks for. [`super::targets`] says what is asked for, [`super::units`] what
//! goes on after a failure, [`super::foresight`] what happens where a build only looks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rb_api::{Course, Engine as _, EventSink, Job, JobOptions, SolveRequest, SolveResult};
use rb_buildfile::{BuildfileFrontend, load_project};
use rb_diag::{Diagnostic, Diagnostics, SourceMap};
use rb_frontend::{
    BuildPlan, BuildRequest, Effect, Frontend, Gateway, PlannedOutput, TargetKey, TargetOutput,
    TargetRequest, WantedTarget, World as _,
};
use rb_oci::{Platform, Reference};
use rb_session::Session;

use super::exports::Wanted;
use super::gateway::{BuildGateway, Settling};
use super::struck;
use super::workbench::Workbench;
use crate::args::TargetCall;
use crate::codes::PUSH;
use crate::output_spec::Annotation;
use crate::progress::{Progress, terminal_columns};
use crate::report::{self, Failure, summary};
use crate::session::WorkspaceSession;
use crate::settings::{ProgressMode, Settings, check_platform};
use crate::world::{DiskWorkspace, Host, SystemWorld, Withheld, wanted};

/// Tells what a build did, on stderr; quiet ones print digests on stdout. `failed` says that some of it went wrong.
pub(super) fn tell(
    settings: &Settings,
    title: &str,
    result: &SolveResult,
    failed: bool,
    start: Instant,
) -> Result<u8, Failure> {
    match settings.display.mode {
        ProgressMode::Plain | ProgressMode::Live => {
            let text = summary::text(title, result, failed, start.elapsed(), &settings.cwd);
            let is_live = settings.display.mode == ProgressMode::Live;
            report::tell(&if is_live { summary::folded(&text, terminal_columns()) } else { text.clone() });
            if settings.display.github {
                settings.github.done(&text);
            }
        }
        ProgressMode::Json => report::tell(&summary::json(title, result, start.elapsed())),
        ProgressMode::RawJson => {}
        // Where an archive is on stdout, that is all there is.
        ProgressMode::Quiet if summary::is_streamed(result) => {}
        ProgressMode::Quiet => report::print(summary::digests(result).as_bytes())?,
    }
    Ok(0)
}

/// Targets to build, found on the disk.
pub(super) struct Build<'a> {
    pub(super) settings: &'a Settings,
    root: PathBuf,
    targets: Vec<TargetRequest>,
    course: Course,
    workspace: Arc<DiskWorkspace>,
    session: Arc<dyn Session>,
    annotations: Vec<Annotation>,
}

impl<'a> Build<'a> {
    /// Finds the workspace of targets.
    pub(super) fn find(settings: &'a Settings, calls: &[TargetCall]) -> Result<Self, Failure> {
        let words: Vec<&str> = calls.iter().map(|call| call.word.as_str()).collect();
        let found = wanted(&settings.cwd, &words);
        let (root, wanted) =
            found.map_err(|errors| Failure::several(errors.into_iter().map(Failure::from)))?;
        let targets = wanted.into_iter().zip(calls).map(|(wanted, call)| {
            let mut args = settings.args.clone();
            args.extend(call.args.clone());
            TargetRequest { wanted, args, typed: Some(call.word.clone()) }
        });
        let targets = targets.collect();
        let secret_files = settings.own_files.iter().filter(|file| file.secret).map(|file| file.path.clone());
        let workspace = DiskWorkspace::new(root.clone(), settings.cwd.clone());
        let workspace = Arc::new(
            workspace.with_secret_files(secret_files.collect()).with_git_hosts(settings.git.clone()),
        );
        let (secrets, own_files) = (settings.secrets.clone(), settings.own_files.clone());
        let agents =
            crate::settings::steps::with_own_agent(settings.agents.clone(), settings.own_agent.as_deref());
        let session = WorkspaceSession::new(root.clone(), secrets, own_files)
            .with_agents(agents)
            .with_git_access(settings.git.access());
        let session = Arc::new(session);
        let (course, annotations) = (Course::Stop, Vec::new());
        Ok(Self { settings, root, targets, course, workspace, session, annotations })
    }

    /// Says how far it goes.
    pub(super) fn on_course(self, course: Course) -> Self {
        Self { course, ..self }
    }

    /// Has all images annotated.
    pub(super) fn annotated(self, annotations: &[Annotation]) -> Self {
        Self { annotations: annotations.to_vec(), ..self }
    }

    /// Returns the root of its workspace.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the targets that were asked for by name, as steps have them; none of what a pattern means.
    pub(super) fn names(&self) -> Vec<String> {
        let name = |target: &TargetRequest| match &target.wanted {
            WantedTarget::One(target) => Some(target.to_string()),
            WantedTarget::Each { .. } => None,
        };
        self.targets.iter().filter_map(name).collect()
    }

    /// Returns what was asked for, patterns too.
    pub(super) fn wanted_targets(&self) -> Vec<WantedTarget> {
        self.targets.iter().map(|target| target.wanted.clone()).collect()
    }

    /// Returns what a plan has of the request at this place, one for each platform; nothing of what could not be planned.
    pub(super) fn made_for(&self, at: usize, plan: &BuildPlan) -> Vec<Arc<TargetOutput>> {
        let Some(TargetRequest { wanted: WantedTarget::One(target), args, .. }) = self.targets.get(at) else {
            return Vec::new();
        };
        let given = |name: &String| args.get(name).or_else(|| self.settings.defaults.get(name));
        // Of what was given, a key has what reaches the target.
        let fits = |key: &TargetKey| {
            key.target == *target && key.args.iter().all(|(name, value)| given(name) == Some(value))
        };
        let fitting = || plan.targets.iter().filter(|made| fits(&made.key));
        let most = fitting().map(|made| made.key.args.len()).max();
        fitting().filter(|made| Some(made.key.args.len()) == most).cloned().collect()
    }

    /// Returns the texts read so far.
    pub(super) fn sources(&self) -> SourceMap {
        self.workspace.sources().clone()
    }

    /// Opens its job; to be called on the bench's threads.
    pub(super) fn start<'b>(
        &'b self,
        bench: &Workbench,
        progress: &'b Progress,
        settling: Settling,
    ) -> Started<'b> {
        self.start_heard(bench, progress, settling, bench.heard(progress.sink()))
    }

    /// Opens its job, of which `events` alone hears.
    pub(super) fn start_heard<'b>(
        &'b self,
        bench: &Workbench,
        progress: &'b Progress,
        settling: Settling,
        events: EventSink,
    ) -> Started<'b> {
        let given = self.targets.iter().map(|target| &target.args).chain([&self.settings.defaults]);
        let events = struck::sink(struck::of_arguments(given), events);
        let job = open_job(self.settings, bench, Arc::clone(&self.session), Arc::clone(&events), self.course);
        let looks = self.course == Course::Look;
        let withheld: Arc<Withheld> = Arc::default();
        let settled = if looks { Settling::Later } else { settling };
        let gateway = BuildGateway::new(Arc::clone(&job), self.sources(), self.root.clone(), settled)
            .pushing(self.settings.build.push)
            .annotating(self.annotations.clone())
            .withholding(Arc::clone(&withheld));
        let host = || Host::new(Arc::clone(&bench.outside), events);
        self.workspace.open_host(|| host().withholding(looks.then(|| Arc::clone(&withheld))));
        let gateway = Arc::new(gateway);
        self.workspace.open_elsewhere(&(Arc::clone(&gateway) as Arc<dyn Gateway>));
        Started { build: self, progress, job, gateway, withheld, settling }
    }

    fn request(&self, platforms: Vec<Platform>, settling: Settling) -> BuildRequest {
        let mut options = self.settings.build.clone();
        options.withhold_outputs = settling == Settling::Make && !options.push;
        options.here = here(&self.root, &self.settings.cwd);
        BuildRequest {
            targets: self.targets.clone(),
            keep_going: self.course != Course::Stop,
            defaults: self.settings.defaults.clone(),
            platforms,
            user_platform: Platform::host(),
            native_platform: Platform::host(),
            options,
        }
    }
}

/// Returns the way from a workspace's root, which has no links, to the working directory.
fn here(root: &Path, cwd: &Path) -> String {
    let cwd = std::fs::canonicalize(cwd).unwrap_or_else(|_| cwd.to_owned());
    let common = root.components().zip(cwd.components()).take_while(|(left, right)| left == right).count();
    let up = root.components().skip(common).map(|_| "..".to_owned());
    let down = cwd.components().skip(common).map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

/// A build under way.
pub(super) struct Started<'a> {
    pub(super) build: &'a Build<'a>,
    progress: &'a Progress,
    pub(super) job: Arc<dyn Job>,
    pub(super) gateway: Arc<BuildGateway>,
    withheld: Arc<Withheld>,
    settling: Settling,
}

/// What the frontend has decided.
pub(super) struct Planned {
    pub(super) plan: BuildPlan,
    /// Why some targets have no place in it, each cause once; where the build keeps going.
    pub(super) failures: Vec<Failure>,
    /// What could not be asked where the build only looks.
    pub(super) stopped: Diagnostics,
}

impl Started<'_> {
    /// Returns what a frontend may ask.
    pub(super) fn world(&self) -> SystemWorld {
        let gateway: Arc<dyn Gateway> = Arc::clone(&self.gateway) as _;
        SystemWorld { workspace: Arc::clone(&self.build.workspace), gateway }
    }

    /// Has the frontend decide the graph, and tells its warnings. Where a step failed on the way, that is the failure.
    pub(super) async fn plan(&self) -> Result<BuildPlan, Failure> {
        self.plan_all().await.map(|planned| planned.plan)
    }

    /// The same, with what could not be planned, where the build goes on.
    pub(super) async fn plan_all(&self) -> Result<Planned, Failure> {
        let world = self.world();
        let sources = self.build.sources();
        let platforms = self.platforms(&world).await?;
        let planned = BuildfileFrontend.plan(&world, &self.build.request(platforms, self.settling)).await;
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(items) => {
                let mut of_steps = self.gateway.failures();
                if of_steps.is_empty() {
                    return Err(Failure::Diagnostics { items, sources });
                }
                let mut items = items.into_iter();
                let trail = items.next().map(|item| item.trail).unwrap_or_default();
                let callers = trail.into_iter().filter(|line| line.starts_with("called from"));
                let first = of_steps.remove(0).called_from(callers.collect());
                // What went wrong while that was dealt with (CATCH, FINALLY) comes before it, and decides nothing.
                for failure in aftermath(of_steps, items, &sources) {
                    report::tell(&failure.render(self.build.settings.display, terminal_columns()));
                }
                return Err(first);
            }
        };
        let (stopped, failed): (Diagnostics, Diagnostics) =
            std::mem::take(&mut plan.failures).into_iter().partition(|item| self.withheld.has(&item.message));
        let mut failures = self.gateway.failures();
        // The step itself is told better.
        let is_of_step = |item: &Diagnostic| failures.iter().any(|failure| failure.is_of_step(&item.message));
        let own: Vec<_> = failed.into_iter().filter(|item| !is_of_step(item)).collect();
        failures.extend(
            own.into_iter().map(|item| Failure::Diagnostics { items: vec![item], sources: sources.clone() }),
        );
        // So is one that failed while a failure was dealt with.
        plan.warnings.retain(|item| !failures.iter().any(|failure| failure.is_of_step(&item.message)));
        let display = self.build.settings.display;
        if display.mode != ProgressMode::Quiet {
            self.progress.say(&report::warnings(&plan.warnings, &sources, display, terminal_columns()));
        }
        if self.build.settings.build.push && self.settling != Settling::Nothing {
            let items: Diagnostics = plan.outputs.iter().filter_map(unpushable).collect();
            if !items.is_empty() {
                return Err(Failure::Diagnostics { items, sources });
            }
        }
        Ok(Planned { plan, failures, stopped })
    }

    /// Returns what the result is to run on: what the user names, else what the project does.
    async fn platforms(&self, world: &SystemWorld) -> Result<Vec<Platform>, Failure> {
        let settings = self.build.settings;
        if settings.platform_named {
            return Ok(settings.platforms.clone());
        }
        let config = load_project(world.workspace()).await;
        let sources = self.build.sources();
        let platforms = config.map_err(|items| Failure::Diagnostics { items, sources })?.platforms;
        match platforms.first() {
            Some(first) if !platforms.contains(&Platform::host()) => {
                check_platform(first)?;
                Ok(vec![first.clone()])
            }
            Some(_) | None => Ok(settings.platforms.clone()),
        }
    }

    /// Collects what a plan asks for; its outputs only if effects are written too.
    pub(super) fn wanted(&self, plan: &BuildPlan) -> Result<Wanted, Failure> {
        self.wanted_of(plan, &|_| true)
    }

    /// The same of the targets whose label fits.
    pub(super) fn wanted_of(&self, plan: &BuildPlan, fits: Fits<'_>) -> Result<Wanted, Failure> {
        let sources = self.build.sources();
        let settings = self.build.settings;
        let mut wanted = Wanted::annotated(&self.build.annotations).pushing(settings.build.push);
        wanted = wanted.after(self.gateway.saved());
        wanted.left_out.clone_from(&plan.held);
        for (label, state) in plan.roots.iter().filter(|(label, _)| fits(label)) {
            wanted.root(label, state, &sources)?;
        }
        let outputs = || plan.outputs.iter().filter(|output| fits(label_of(output)));
        for output in outputs().filter(|_| self.settling == Settling::Write) {
            wanted.planned(output, &self.build.root, &sources)?;
        }
        for output in outputs().filter(|_| settings.no_output && self.settling == Settling::Make) {
            wanted.pushed_alone(output, &sources)?;
        }
        Ok(wanted)
    }

    /// Notes which images of the targets whose label fits would be pushed, if this build did.
    pub(super) fn hold_back(&self, plan: &BuildPlan, fits: Fits<'_>) {
        if self.settling == Settling::Write || self.build.settings.no_output {
            self.gateway.hold_back(plan.outputs.iter().filter(|output| fits(label_of(output))));
        }
    }

    /// Notes that the images of these targets are saved: what is saved under their names for other platforms joins them.
    pub(super) fn note_saved(&self, plan: &BuildPlan, fits: Fits<'_>) {
        self.gateway.note_saved(plan.outputs.iter().filter(|output| fits(label_of(output))));
    }

    /// Adds an effect that a build which only looked has kept.
    pub(super) fn want_effect(&self, effect: &Effect, wanted: &mut Wanted) -> Result<(), Failure> {
        let sources = self.build.sources();
        match (effect, self.settling) {
            (Effect::Make { label, state }, _) => drop(wanted.root(label, state, &sources)?),
            (Effect::Write(output), Settling::Write) => wanted.planned(output, &self.build.root, &sources)?,
            (Effect::Write(output), _) => {
                wanted.root_of(output, &sources)?;
                wanted.pushed_alone(output, &sources)?;
            }
            (Effect::Place { label, artifact }, _) => {
                let output = PlannedOutput::Artifact { label: label.clone(), artifact: artifact.clone() };
                wanted.planned(&output, &self.build.root, &sources)?;
            }
        }
        Ok(())
    }

    /// Has the engine solve it. The result tells of all that the build has written, in order.
    pub(super) async fn solve(&self, request: SolveRequest) -> Result<SolveResult, Failure> {
        solve(self.job.as_ref(), request).await.map(|result| self.with_effects(result))
    }

    /// Does work of the build; where that fails, tells what was written and pushed before, which stays.
    pub(super) async fn telling<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let done = work.await;
        if done.is_err() {
            let (written, pushed) = self.gateway.written();
            let (settings, is_json) =
                (self.build.settings, self.build.settings.display.mode == ProgressMode::Json);
            report::tell(&match is_json {
                true => summary::before_failure_json(&written, &pushed),
                false => summary::before_failure(&written, &pushed, &settings.cwd),
            });
        }
        done
    }

    /// Adds to a result what was written and pushed before.
    pub(super) fn with_effects(&self, mut result: SolveResult) -> SolveResult {
        let (mut written, mut pushed) = self.gateway.written();
        written.append(&mut result.exports);
        pushed.append(&mut result.pushed);
        (result.exports, result.pushed) = (written, pushed);
        result
    }
}

/// Makes failures of findings; where one is that of a step, the step tells it better.
fn aftermath(
    mut of_steps: Vec<Failure>,
    items: impl Iterator<Item = Diagnostic>,
    sources: &SourceMap,
) -> impl Iterator<Item = Failure> {
    items.map(move |item| {
        let told = of_steps.iter().position(|failure| failure.is_of_step(&item.message));
        match told {
            Some(at) => of_steps.remove(at),
            None => Failure::Diagnostics { items: vec![item], sources: sources.clone() },
        }
    })
}

/// Tells which targets are meant, by their labels.
pub(super) type Fits<'f> = &'f (dyn Fn(&str) -> bool + Sync);

fn label_of(output: &PlannedOutput) -> &str {
    match output {
        PlannedOutput::Image { label, .. } | PlannedOutput::Artifact { label, .. } => label,
    }
}

/// Refuses an image that is to be pushed to what is no name of a registry's.
pub(super) fn unpushable(output: &PlannedOutput) -> Option<Diagnostic> {
    let PlannedOutput::Image { label: _, image } = output else { return None };
    let names = image.names.iter().filter(|_| image.push);
    let error = names.map(|name| name.parse::<Reference>()).find_map(Result::err)?;
    Some(
        Diagnostic::error(PUSH, error.to_string())
            .with_label(image.span, "to be pushed, because of --push")
            .with_help("write `registry/name:tag`, such as `ghcr.io/me/app:1`"),
    )
}

/// Opens a job as the settings say, for any client; to be called on the bench's threads.
pub(super) fn open_job(
    settings: &Settings,
    bench: &Workbench,
    session: Arc<dyn Session>,
    events: EventSink,
    course: Course,
) -> Arc<dyn Job> {
    bench.builder().job(job_options(settings, session, course), events)
}

/// Opens a job on the bundled engine, whoever builds: of what needs no steps.
pub(super) fn open_job_here(
    settings: &Settings,
    bench: &Workbench,
    session: Arc<dyn Session>,
    events: EventSink,
) -> Arc<dyn Job> {
    bench.engine.job(job_options(settings, session, Course::Stop), events)
}

fn job_options(settings: &Settings, session: Arc<dyn Session>, course: Course) -> JobOptions {
    JobOptions {
        session,
        no_cache: settings.no_cache,
        cache_from: settings.cache_from.clone(),
        pull: settings.pull,
        allow_insecure: settings.build.allow_privileged,
        allow_host_network: settings.allow_host_network,
        allowed_devices: settings.allowed_devices.clone(),
        epoch_seconds: settings.epoch_seconds,
        course,
    }
}

/// Has a job make and write what is wanted.
pub(super) async fn solve(job: &dyn Job, request: SolveRequest) -> Result<SolveResult, Failure> {
    let roots = request.roots.clone();
    let solved = job.solve(request).await;
    solved.map_err(|error| {
        let definitions: Vec<_> = roots.into_iter().map(|root| root.definition).collect();
        Failure::several(Failure::of_solve(error, &definitions))
    })
}
