//! Builds that only look: `--dry-run`, `--expect-cached`, `rb plan` ([`super::plan`]) and what `rb why` tells of now.
//!
//! The graph is decided as ever, but what a step would have to run for is not answered: a target that asks for it stops
//! there. Then the cache is asked what solving the rest would do ([`rb_api::Job::look`]). `--dry-run` shows that; with
//! `--expect-cached` the same job goes on where nothing would run, so that nothing can.
//! **Invariant:** no step runs, no command on this machine either, and nothing is written or pushed, unless all was found.
//! What is asked for all the same is what sources are: files, what names of images stand for, fingerprints of `@host`. The
//! answers are kept in the state directory, as those of any build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rb_api::{
    Course, Export, Fate, ImageName, Job, LayoutPlace, Outlook, Place, Root, SolveError, SolveRequest,
};
use rb_diag::{Diagnostic, Diagnostics, ErrorKind, SourceMap};
use rb_frontend::{BuildPlan, Effect, Untaken};
use rb_llb::Definition;
use rb_oci::Digest;
use serde_json::{Value, json};

use super::build::{Build, Planned, Started};
use super::exports::{Asked, Wanted};
use super::record::document::Document;
use super::record::{self, Listener, Lists};
use super::targets::{Done, Order};
use super::why::{self, Cause};
use super::workbench::Workbench;
use crate::args::TargetCall;
use crate::progress::{Progress, clean};
use crate::report::{self, Failure, summary::place};
use crate::settings::{Display, ProgressMode};

/// What a build would do.
pub(super) struct Foresight {
    planned: Planned,
    /// What the graph was asked for on the way, and would be written first.
    effects: Vec<Effect>,
    /// Of every vertex that the build came upon.
    pub(super) outlooks: Vec<Outlook>,
    /// What would be written.
    exports: Vec<Export>,
    /// The vertices of which that is.
    pub(super) written: BTreeSet<Digest>,
    /// Why steps would run, or may, where it was asked for.
    pub(super) causes: BTreeMap<Digest, Vec<Cause>>,
}

/// What a look hears of the vertices, as a record would have it.
pub(super) type Heard = (Document, Lists);

impl Foresight {
    /// Returns the targets that were planned, and where some stop; what is wrong with the build files is an error.
    pub(super) fn planned(self) -> Result<(Vec<String>, Vec<String>), Failure> {
        // What is done where something fails is none of what would run.
        let stops = self.planned.stopped.iter().map(stop).collect();
        let Planned { plan, failures, stopped: _ } = self.planned;
        if !failures.is_empty() {
            return Err(Failure::several(failures));
        }
        let names = plan.targets.iter().map(|target| target.key.target.to_string()).collect();
        Ok((names, stops))
    }

    /// Returns where targets stop, in words.
    pub(super) fn stops(&self) -> Vec<String> {
        self.planned.stopped.iter().map(stop).chain(self.open().into_iter().map(untaken)).collect()
    }

    /// The same for programs.
    pub(super) fn stopped(&self) -> Value {
        let stopped = self.planned.stopped.iter();
        let stopped = stopped.map(|item| json!({ "message": item.message, "trail": item.trail }));
        let open = self.open();
        let open =
            open.iter().map(|one| json!({ "message": untaken(one), "trail": [format!("in {}", one.label)] }));
        stopped.chain(open).collect()
    }

    /// Tells whether the whole graph is known.
    pub(super) fn is_complete(&self) -> bool {
        self.planned.stopped.is_empty() && self.planned.failures.is_empty() && self.open().is_empty()
    }

    /// Returns what is done only where something fails that would run.
    fn open(&self) -> Vec<&Untaken> {
        let is_settled = |fate: &Fate| matches!(fate, Fate::Cached(_) | Fate::NotNeeded);
        let running: BTreeSet<Digest> = self
            .outlooks
            .iter()
            .filter(|outlook| !is_settled(&outlook.fate))
            .map(|outlook| outlook.vertex)
            .collect();
        let untaken = self.planned.plan.untaken.iter();
        untaken.filter(|one| !one.after.is_disjoint(&running)).collect()
    }

    /// Returns what would be written, a line each.
    pub(super) fn outputs(&self, cwd: &Path) -> Vec<String> {
        self.exports.iter().flat_map(|export| written(export, cwd)).collect()
    }

    /// Returns the exit code: what would run is no failure, what is wrong is.
    pub(super) fn end(mut self) -> Result<u8, Failure> {
        let mut failures = std::mem::take(&mut self.planned.failures);
        for outlook in self.outlooks {
            if let Fate::Fails(error) = outlook.fate {
                failures.extend(Failure::of_solve(error, &[]));
            }
        }
        if failures.is_empty() { Ok(0) } else { Err(Failure::several(failures)) }
    }

    /// Has what would run tell why in the words of `rb why`, by what was heard of it: compared is with the last builds of these, in
    /// a workspace.
    pub(super) fn explain(
        &mut self,
        state: &Path,
        workspace: &Path,
        names: &[String],
        heard: &Heard,
    ) -> Result<(), Failure> {
        let planned = self.planned.plan.targets.iter().map(|target| target.key.target.to_string());
        let names: Vec<String> = names.iter().cloned().chain(planned).collect();
        self.causes = why::told(state, workspace, &names, heard)?;
        for outlook in &mut self.outlooks {
            if let (Fate::Runs(reason), Some(causes)) = (&mut outlook.fate, self.causes.get(&outlook.vertex))
            {
                reason.text = why::in_words(causes);
            }
        }
        Ok(())
    }
}

/// `--dry-run`: shows what would run and what would be written. That a target stops at a question is no failure; what is
/// wrong is.
pub(super) fn show(order: &Order<'_>) -> Result<u8, Failure> {
    let Order { settings, calls, output, .. } = *order;
    let build = Build::find(settings, calls)?.annotated(&output.annotation).on_course(Course::Look);
    let (mut seen, heard) = look(order, &build, record::Asked::of_targets("dry-run", calls))?;
    seen.explain(&settings.state_directory, build.root(), &build.names(), &heard)?;
    let text = match settings.display.mode {
        ProgressMode::Json => format!("{:#}\n", as_json(&seen)),
        ProgressMode::Plain | ProgressMode::Live | ProgressMode::RawJson | ProgressMode::Quiet => {
            as_text(&seen, &settings.cwd)
        }
    };
    report::print(text.as_bytes())?;
    seen.end()
}

/// Looks at what a build that is on that course would do. Nothing is built, so there is no progress, and no record.
pub(super) fn look(
    order: &Order<'_>,
    build: &Build<'_>,
    asked: record::Asked,
) -> Result<(Foresight, Heard), Failure> {
    let settings = order.settings;
    let bench = Workbench::open(settings, asked, Some(build.root()))?;
    let quiet = Display { mode: ProgressMode::Quiet, ..settings.display };
    let mut progress = Progress::start(quiet, &TargetCall::title(order.calls));
    let listener = Listener::default();
    let seen = bench.run(async {
        let events = listener.sink(progress.sink());
        foresee(&build.start_heard(&bench, &progress, order.settling, events), order).await
    });
    progress.finish();
    bench.close();
    Ok((seen?, listener.document()))
}

/// `--expect-cached`: writes all outputs, if no step has to run for them; else says of each why it would.
pub(super) async fn solve_cached(
    started: &Started<'_>,
    order: &Order<'_>,
    bench: &Workbench,
) -> Result<Done, Failure> {
    let mut seen = foresee(started, order).await?;
    let build = started.build;
    seen.explain(&order.settings.state_directory, build.root(), &build.names(), &bench.heard_so_far())?;
    if !seen.planned.failures.is_empty() {
        return Err(Failure::several(seen.planned.failures));
    }
    let (plan, effects) = (seen.planned.plan.clone(), std::mem::take(&mut seen.effects));
    let mut wanted = started.wanted(&plan)?;
    for effect in &effects {
        started.want_effect(effect, &mut wanted)?;
    }
    let mut definitions: Vec<_> =
        wanted.asked().request.roots.into_iter().map(|root| root.definition).collect();
    definitions.extend(started.gateway.unanswered());
    if let Some(failure) = unfound(seen, &definitions, &build.sources()) {
        return Err(failure);
    }
    let mut first = Wanted::default();
    for effect in &effects {
        started.want_effect(effect, &mut first)?;
    }
    started.gateway.note_written(started.solve(first.asked().request).await?);
    started.solve_plan(&plan, order, bench).await
}

/// Says what `--expect-cached` did not find; nothing where all is there.
pub(super) fn unfound(seen: Foresight, definitions: &[Definition], sources: &SourceMap) -> Option<Failure> {
    let Foresight { planned, outlooks, .. } = seen;
    let (mut failures, mut unknown) = (Vec::new(), 0);
    for Outlook { vertex, name, step, fate, .. } in outlooks {
        match fate {
            Fate::Cached(_) | Fate::NotNeeded => {}
            Fate::Runs(reason) => {
                let error = SolveError::Withheld { vertex, name, reason: Some(reason) };
                failures.extend(Failure::of_solve(error, definitions));
            }
            Fate::Unknown { after: None } => {
                let error = SolveError::Withheld { vertex, name, reason: None };
                failures.extend(Failure::of_solve(error, definitions));
            }
            Fate::Unknown { after: Some(_) } => unknown += usize::from(step),
            Fate::Fails(error) => failures.extend(Failure::of_solve(error, definitions)),
        }
    }
    // The step that a question would have run is among these; a command on this machine is not.
    let own = planned.stopped.into_iter().filter(|_| failures.is_empty());
    let own: Vec<Failure> =
        own.map(|item| Failure::Diagnostics { items: vec![item], sources: sources.clone() }).collect();
    failures.extend(own);
    if failures.is_empty() {
        return None;
    }
    let count = failures.len();
    let mut message = match count {
        1 => "--expect-cached: 1 step would have to run".to_owned(),
        count => format!("--expect-cached: {count} steps would have to run"),
    };
    if unknown > 0 {
        let steps = if unknown == 1 { "1 more depends".to_owned() } else { format!("{unknown} more depend") };
        message = format!("{message}, and {steps} on what comes of that");
    }
    let help = Some("no step was run and no output written; without --expect-cached they run".to_owned());
    failures.push(Failure::Said { kind: ErrorKind::Build, message, help });
    Some(Failure::several(failures))
}

/// Has the frontend decide the graph, and asks the cache what solving it would do.
async fn foresee(started: &Started<'_>, order: &Order<'_>) -> Result<Foresight, Failure> {
    let planned = started.plan_all().await?;
    let effects = started.gateway.looked();
    let mut wanted = Wanted::default();
    for effect in &effects {
        started.want_effect(effect, &mut wanted)?;
    }
    let mut own = started.wanted(&planned.plan)?;
    (order.choose)(started.build, &planned.plan, &mut own, &|_| true)?;
    let (Asked { request: first, .. }, Asked { request: then, .. }) = (wanted.asked(), own.asked());
    let (outlooks, written) = outlooks(started.job.as_ref(), &[&first, &then]).await?;
    let exports = [first.exports, then.exports].concat();
    Ok(Foresight { planned, effects, outlooks, exports, written, causes: BTreeMap::new() })
}

/// Asks the cache what solving a request would do that no Buildfile made; `stopped` is why there is no more of it.
pub(super) async fn ask(
    job: &dyn Job,
    request: SolveRequest,
    stopped: Diagnostics,
) -> Result<Foresight, Failure> {
    let (outlooks, written) = outlooks(job, &[&request]).await?;
    let planned = Planned { plan: BuildPlan::default(), failures: Vec::new(), stopped };
    let (effects, exports, causes) = (Vec::new(), request.exports, BTreeMap::new());
    Ok(Foresight { planned, effects, outlooks, exports, written, causes })
}

/// Returns what the cache says of requests, one after the other, and the vertices of which something would be written.
async fn outlooks(
    job: &dyn Job,
    requests: &[&SolveRequest],
) -> Result<(Vec<Outlook>, BTreeSet<Digest>), Failure> {
    let mut written = BTreeSet::new();
    for request in requests {
        for place in request.exports.iter().flat_map(Export::roots) {
            // What cannot be read as a graph fails as it is looked at.
            let graph = request.roots.get(place).and_then(|root| root.definition.graph().ok());
            written.extend(graph.and_then(|graph| graph.root()).map(|edge| edge.vertex));
        }
    }
    let roots: Vec<Root> = requests.iter().flat_map(|request| request.roots.clone()).collect();
    let looked = job.look(&roots).await;
    let outlooks = looked.map_err(|error| {
        let definitions: Vec<_> = roots.into_iter().map(|root| root.definition).collect();
        Failure::several(Failure::of_solve(error, &definitions))
    })?;
    Ok((outlooks, written))
}

/// Returns the target of a vertex, and what it does.
fn divided(name: &str) -> (String, String) {
    let name = clean(name, false);
    match name.split_once(" | ") {
        Some((target, what)) => (target.to_owned(), what.to_owned()),
        None => (String::new(), name),
    }
}

/// Returns what is shown of a fate: a word, and why.
pub(super) fn words(fate: &Fate) -> (&'static str, String) {
    match fate {
        Fate::Cached(_) => ("cached", String::new()),
        Fate::NotNeeded => ("not needed", String::new()),
        Fate::Runs(reason) => ("would run", reason.text.clone()),
        Fate::Unknown { after: Some(after) } => {
            let after = match divided(after) {
                (target, what) if target.is_empty() => what,
                (target, what) => format!("{target}: {what}"),
            };
            ("unknown", format!("depends on what comes of `{after}`"))
        }
        Fate::Unknown { after: None } => ("unknown", "the image that it reads is not here".to_owned()),
        Fate::Fails(error) => ("fails", error.to_string()),
    }
}

fn as_text(seen: &Foresight, cwd: &Path) -> String {
    let mut out = String::new();
    let shown =
        || seen.outlooks.iter().filter(|outlook| outlook.step || matches!(outlook.fate, Fate::Fails(_)));
    let mut targets: Vec<String> = Vec::new();
    for outlook in shown() {
        let (target, _) = divided(&outlook.name);
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    for target in &targets {
        out.push_str(&format!("{}\n", if target.is_empty() { "-" } else { target }));
        for outlook in shown().filter(|outlook| divided(&outlook.name).0 == *target) {
            let (word, why) = words(&outlook.fate);
            let why = if why.is_empty() { why } else { format!("  ({})", clean(&why, false)) };
            out.push_str(&format!("  {word:<10} {}{why}\n", divided(&outlook.name).1));
        }
    }
    for stop in seen.stops() {
        out.push_str(&format!("stops here: {stop}\n"));
    }
    for line in seen.outputs(cwd) {
        out.push_str(&format!("{}\n", clean(&line, false)));
    }
    out.push_str(&format!("{}\n", summary(seen)));
    out
}

/// Returns where a target stops, and what is not known because of that.
fn stop(item: &Diagnostic) -> String {
    let target =
        item.trail.first().map(|first| first.trim_start_matches("in ").to_owned()).unwrap_or_default();
    let message = clean(&item.message, false);
    format!("{message}; what {target} does then is not known before it has")
}

/// Returns what is not known because nothing has failed.
fn untaken(one: &Untaken) -> String {
    let (what, target) = (&one.what, clean(&one.label, false));
    format!(
        "{what} of {target} runs only if something it guards fails; what it does then is not known before"
    )
}

fn summary(seen: &Foresight) -> String {
    let count = |fits: fn(&Fate) -> bool| {
        seen.outlooks.iter().filter(|outlook| outlook.step && fits(&outlook.fate)).count()
    };
    let runs = count(|fate| matches!(fate, Fate::Runs(_)));
    let unknown = count(|fate| matches!(fate, Fate::Unknown { .. }));
    let cached = count(|fate| matches!(fate, Fate::Cached(_) | Fate::NotNeeded));
    let steps = if runs == 1 { "1 step".to_owned() } else { format!("{runs} steps") };
    let unknown = if unknown == 0 { String::new() } else { format!(", {unknown} unknown") };
    format!("dry run: {steps} would run{unknown}, {cached} cached; no step was run, no output written")
}

/// Returns what would be written by an export, a line each.
fn written(export: &Export, cwd: &Path) -> Vec<String> {
    let at = |path: &Path| place(path, cwd);
    match export {
        Export::Image { names, push, .. } => {
            let plain = |name: &ImageName| match name {
                ImageName::Plain(name) | ImageName::Digest(name) => name.clone(),
            };
            let saves = names.iter().filter(|_| push.is_none_or(|push| !push.only));
            let saves = saves.map(|name| format!("would save image {}", plain(name)));
            let pushes = names.iter().filter(|_| push.is_some());
            saves.chain(pushes.map(|name| format!("would push {}", plain(name)))).collect()
        }
        Export::Local { path, destination, into, entries, .. } => {
            let name = Path::new(path).file_name().filter(|_| *into && !*entries);
            vec![format!(
                "would write {}",
                name.map_or_else(|| at(destination), |name| at(&destination.join(name)))
            )]
        }
        Export::Tar { destination: Place::File(path), .. }
        | Export::OciLayout {
            destination: LayoutPlace::Folder(path) | LayoutPlace::Archive(Place::File(path)),
            ..
        } => vec![format!("would write {}", at(path))],
        Export::Tar { destination: Place::Stream(_), .. }
        | Export::OciLayout { destination: LayoutPlace::Archive(Place::Stream(_)), .. } => {
            vec!["would write to stdout".to_owned()]
        }
    }
}

fn as_json(seen: &Foresight) -> Value {
    let steps = seen.outlooks.iter().map(|Outlook { vertex, name, step, fate, .. }| {
        let (word, why) = words(fate);
        let mut value = json!({
            "name": name, "vertex": vertex.to_string(), "step": step, "fate": word.replace(' ', "_"),
        });
        match fate {
            Fate::Runs(reason) => {
                value["reason"] = json!(reason.text);
                value["miss"] = json!(reason.miss);
            }
            Fate::Unknown { after } => value["after"] = json!(after),
            Fate::Cached(key) => value["key"] = json!(key),
            Fate::Fails(_) => value["message"] = json!(why),
            Fate::NotNeeded => {}
        }
        value
    });
    json!({
        "format": 1,
        "complete": seen.is_complete(),
        "steps": steps.collect::<Vec<_>>(),
        "stopped": seen.stopped(),
        "outputs": seen.outputs(Path::new("")),
    })
}
