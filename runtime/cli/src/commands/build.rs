//! `rb [DIR]+target`: plans a target, solves what the plan asks for, tells what came of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rb_api::{Engine, EventSink, SolveRequest, SolveResult};
use rb_buildfile::BuildfileFrontend;
use rb_diag::SourceMap;
use rb_frontend::{BuildPlan, BuildRequest, Frontend, TargetRef};
use rb_session::Session;

use super::exports::Wanted;
use super::workbench::Workbench;
use crate::args::{OutputOptions, TargetCall};
use crate::output_spec;
use crate::progress::{Progress, terminal_columns};
use crate::report::{self, Failure, summary};
use crate::session::WorkspaceSession;
use crate::settings::{ProgressMode, Settings};
use crate::world::{DiskWorkspace, Place, SystemWorld};

/// Builds a target and writes its outputs.
pub(super) fn execute(settings: &Settings, call: &TargetCall, output: &OutputOptions) -> Result<u8, Failure> {
    let start = Instant::now();
    output_spec::check(&output.output, &settings.cwd)?;
    let job = Job::find(settings, call)?;
    let bench = Workbench::open(settings)?;
    let mut progress = Progress::start(settings.display, &call.word);
    let solved = bench.run(async {
        let plan = job.plan(&bench, &progress).await?;
        let mut wanted = job.wanted(&plan, output.no_output)?;
        for spec in &output.output {
            wanted.output_of(spec, &plan.target, &settings.cwd, &job.sources())?;
        }
        job.solve(&bench, wanted, progress.sink()).await
    });
    progress.finish();
    bench.close();
    tell(settings, &call.word, &solved?, start)
}

/// Tells what a build did, on stderr; quiet ones print digests on stdout.
pub(super) fn tell(
    settings: &Settings,
    title: &str,
    result: &SolveResult,
    start: Instant,
) -> Result<u8, Failure> {
    match settings.display.mode {
        ProgressMode::Plain | ProgressMode::Live => {
            report::tell(&summary::text(title, result, start.elapsed(), &settings.cwd));
        }
        ProgressMode::Json => report::tell(&summary::json(title, result, start.elapsed())),
        ProgressMode::Quiet => report::print(summary::digests(result).as_bytes())?,
    }
    Ok(0)
}

/// One target to build, found on the disk.
pub(super) struct Job<'a> {
    settings: &'a Settings,
    root: PathBuf,
    target: TargetRef,
    call: &'a TargetCall,
    workspace: Arc<DiskWorkspace>,
    session: Arc<dyn Session>,
}

impl<'a> Job<'a> {
    /// Finds the workspace of a target.
    pub(super) fn find(settings: &'a Settings, call: &'a TargetCall) -> Result<Self, Failure> {
        let (Place { root, project: _ }, target) = Place::of_target(&settings.cwd, &call.word)?;
        let workspace = Arc::new(DiskWorkspace::new(root.clone(), settings.cwd.clone()));
        let session = Arc::new(WorkspaceSession::new(root.clone()));
        Ok(Self { settings, root, target, call, workspace, session })
    }

    /// Returns the texts read so far.
    pub(super) fn sources(&self) -> SourceMap {
        self.workspace.sources().clone()
    }

    /// Has the frontend decide the graph, and tells its warnings.
    pub(super) async fn plan(&self, bench: &Workbench, progress: &Progress) -> Result<BuildPlan, Failure> {
        let gateway = bench.engine.gateway(Arc::clone(&self.session), progress.sink());
        let world = SystemWorld { workspace: Arc::clone(&self.workspace), gateway };
        let request = BuildRequest {
            target: self.target.clone(),
            args: self.call.args.clone(),
            platform: self.settings.platform.clone(),
        };
        let planned = BuildfileFrontend.plan(&world, &request).await;
        let plan = planned.map_err(|items| Failure::Diagnostics { items, sources: self.sources() })?;
        let display = self.settings.display;
        if display.mode != ProgressMode::Quiet {
            progress.say(&report::warnings(&plan.warnings, &self.sources(), display, terminal_columns()));
        }
        Ok(plan)
    }

    /// Collects what a plan asks for.
    pub(super) fn wanted(&self, plan: &BuildPlan, no_output: bool) -> Result<Wanted, Failure> {
        let sources = self.sources();
        let mut wanted = Wanted::default();
        for (label, state) in &plan.roots {
            wanted.root(label, state, &sources)?;
        }
        for output in plan.outputs.iter().filter(|_| !no_output) {
            wanted.planned(output, &self.root, &sources)?;
        }
        Ok(wanted)
    }

    /// Has the engine solve it.
    pub(super) async fn solve(
        &self,
        bench: &Workbench,
        wanted: Wanted,
        events: EventSink,
    ) -> Result<SolveResult, Failure> {
        solve(self.settings, bench, wanted, Arc::clone(&self.session), events).await
    }
}

/// Has the engine solve what is wanted, for any client.
pub(super) async fn solve(
    settings: &Settings,
    bench: &Workbench,
    wanted: Wanted,
    session: Arc<dyn Session>,
    events: EventSink,
) -> Result<SolveResult, Failure> {
    let definitions = || wanted.roots.iter().map(|root| root.definition.clone()).collect();
    let request = SolveRequest {
        roots: wanted.roots.clone(),
        exports: wanted.exports.clone(),
        session,
        no_cache: settings.no_cache,
        epoch_seconds: settings.epoch_seconds,
    };
    let solved = bench.engine.solve(request, events).await;
    solved.map_err(|error| Failure::Solve { error: Box::new(error), definitions: definitions() })
}
