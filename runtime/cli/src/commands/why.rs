//! `rb why`: why steps of a target or of a Dockerfile would run, or did.
//!
//! Steps of the build of a Dockerfile or of an app are explained by the same means: what it is asked for takes the place of targets.
//! In: a look at how things are now, or the record of a build, and the record of an earlier one ([`super::past`]). Out: the
//! [`explain::Reason`]s, each with what runs because of it. `--expect-cached` and `--dry-run` tell the same in the same words
//! ([`told`]). **Invariant:** nothing runs. What the records do not tell is said to be unknown.

mod cause;
mod declared;
mod earlier;
mod explain;
mod pairs;
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rb_api::Course;
use rb_frontend::WantedTarget;
use rb_oci::Digest;

use super::build::Build;
use super::foresight;
use super::gateway::Settling;
use super::past::{self, Past};
use super::record::document::{Document, RecordStep};
use super::record::files::Files;
use super::record::{Asked, Lists};
use super::targets::Order;
use super::{again, dockerfile, pack, workbench};
use crate::args::{CourseOptions, OutputOptions, TargetCall, WhyArgs};
use crate::habits::refuse_option;
use crate::report::{self, Failure};
use crate::settings::Settings;
pub(super) use cause::Cause;
use declared::Written;
use earlier::Earlier;
use explain::{Reason, Side, Which, explain};
pub(super) use pairs::Pairs;

/// Where to see what is kept.
const LIST: &str = "`rb history ls` lists what is kept";

/// What is said where a look cannot be taken.
const UNABLE: &str = "what would run now is not known, as the state directory lies on a read-only disk";

/// Explains a target, and prints that.
pub(super) fn execute(settings: &Settings, why: &WhyArgs) -> Result<u8, Failure> {
    refuse_option("why", &why.words)?;
    let (call, step) = why.asked()?;
    if !why.words.first().is_some_and(|word| TargetCall::is_target(word)) {
        return Err(again::no_target("why", &call.word, &settings.cwd));
    }
    let found = if let [was, now] = why.between.as_slice() {
        let build = Build::find(settings, std::slice::from_ref(&call)).ok();
        Compared::between(settings, (was, now), build.as_ref().map(Subject::of_build), &call.word)?
    } else {
        let build = Build::find(settings, std::slice::from_ref(&call))?.on_course(Course::Look);
        let subject = Subject::of_build(&build);
        Compared::here(settings, why, (&subject, &call.word), &|| look(settings, &build, &call))?
    };
    tell(found, step.as_deref(), why.json, &call.word)
}

/// Explains the build of a Dockerfile, and prints that.
pub(super) fn of_dockerfile(
    order: &dockerfile::Order,
    why: &WhyArgs,
    step: Option<&str>,
) -> Result<u8, Failure> {
    let subject = Subject {
        workspace: order.workspace().to_owned(),
        root: order.settings().cwd.clone(),
        kind: Kind::Dockerfile,
        names: order.names(),
        wanted: Vec::new(),
    };
    let word = order.asked("build").title();
    let found = if let [was, now] = why.between.as_slice() {
        Compared::between(order.settings(), (was, now), Some(subject), &word)?
    } else {
        Compared::here(order.settings(), why, (&subject, &word), &|| look_at_dockerfile(order))?
    };
    tell(found, step, why.json, &word)
}

/// Explains the build of an app by buildpacks, and prints that.
pub(super) fn of_app(app: &pack::Subject, why: &WhyArgs, step: Option<&str>) -> Result<u8, Failure> {
    let subject = Subject {
        workspace: app.folder().to_owned(),
        root: app.folder().to_owned(),
        kind: Kind::App,
        names: app.names(),
        wanted: Vec::new(),
    };
    let word = app.asked("build").title();
    let found = if let [was, now] = why.between.as_slice() {
        Compared::between(app.settings(), (was, now), Some(subject), &word)?
    } else {
        Compared::here(app.settings(), why, (&subject, &word), &|| look_at_app(app))?
    };
    tell(found, step, why.json, &word)
}

fn tell(found: Compared, step: Option<&str>, as_json: bool, word: &str) -> Result<u8, Failure> {
    let found = found.of_step(step)?;
    let text = if as_json { format!("{:#}\n", found.json(word)) } else { found.text(word) };
    report::print(text.as_bytes())?;
    Ok(0)
}

/// What a build is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Targets,
    Dockerfile,
    App,
}

/// What is explained.
struct Subject {
    /// The root of what is built.
    workspace: PathBuf,
    /// What places of steps are seen from.
    root: PathBuf,
    kind: Kind,
    /// What was asked for by name, as records name it.
    names: Vec<String>,
    /// The same, patterns too.
    wanted: Vec<WantedTarget>,
}

impl Subject {
    fn of_build(build: &Build<'_>) -> Self {
        Self {
            workspace: build.root().to_owned(),
            root: build.root().to_owned(),
            kind: Kind::Targets,
            names: build.names(),
            wanted: build.wanted_targets(),
        }
    }

    /// Returns where what changed is written.
    fn written(&self) -> Written {
        let context = (self.kind == Kind::Dockerfile).then(|| self.workspace.clone());
        Written { root: self.root.clone(), context }
    }
}

/// Returns what `--expect-cached`, `--dry-run` and `rb plan` tell of vertices: why they would run, by what differs from the
/// last build of some targets.
pub(super) fn told(
    root: &Path,
    workspace: &Path,
    targets: &[String],
    (now, lists): &(Document, Lists),
) -> Result<BTreeMap<Digest, Vec<Cause>>, Failure> {
    let earlier = Earlier::of(root, workspace, targets, None)?;
    let reasons = earlier.reasons(root, (now, lists), Which::Would);
    let mut told: BTreeMap<Digest, Vec<Cause>> = BTreeMap::new();
    for Reason { cause, steps, .. } in &reasons {
        for step in steps.iter().filter_map(|at| now.steps.get(*at)) {
            told.entry(step.vertex).or_default().push(cause.clone());
        }
    }
    Ok(told)
}

/// Says that no build of a target is kept.
fn none(word: &str) -> Failure {
    let message = format!("no build of `{word}` is kept that ran something");
    Failure::input(message, Some(LIST.to_owned()))
}

/// Says several causes in one line.
pub(super) fn in_words(causes: &[Cause]) -> String {
    causes.iter().map(Cause::words).collect::<Vec<_>>().join("; ")
}

/// Explains what was heard just now, or a record, by an earlier one.
fn compare(
    root: &Path,
    was: Option<&Document>,
    (now, lists): (&Document, &Lists),
    which: Which,
) -> Vec<Reason> {
    let kept = |digest: &Digest| past::list(root, digest);
    let current = |digest: &Digest| match lists.get(digest) {
        Some(list) => Some(Files::of(list.entries())),
        None => past::list(root, digest),
    };
    let side = was.map(|document| Side { document, files: &kept });
    explain(side.as_ref(), &Side { document: now, files: &current }, which)
}

/// Returns the targets that a word means, as some records name them.
fn targets_of(found: Option<&Subject>, word: &str, records: [&Document; 2]) -> Vec<String> {
    match found {
        Some(subject) if subject.kind != Kind::Targets => subject.names.clone(),
        Some(subject) => earlier::meant(&subject.wanted, records.into_iter()),
        // The project may be elsewhere, where the record comes from elsewhere.
        None => earlier::as_written(word, records.into_iter()),
    }
}

/// Leaves out steps of other targets that were built together with these.
fn retain(reasons: &mut Vec<Reason>, document: &Document, targets: &[String]) {
    let is_other = |target: &&String| !targets.contains(target);
    let others: BTreeSet<&str> = document.targets.iter().filter(is_other).map(String::as_str).collect();
    let below = |is_one: &dyn Fn(&str) -> bool| -> BTreeSet<usize> {
        let steps = document.steps.iter().enumerate();
        let mut open: Vec<usize> =
            steps.filter(|(_, step)| is_one(step.target())).map(|(at, _)| at).collect();
        let mut found = BTreeSet::new();
        while let Some(at) = open.pop() {
            if found.insert(at) {
                let inputs = document.steps.get(at).into_iter().flat_map(|step| &step.inputs);
                open.extend(inputs.filter_map(|(input, _)| *input));
            }
        }
        found
    };
    let own = below(&|target| targets.iter().any(|own| own == target));
    let others = below(&|target| others.contains(target));
    // Where they were asked for by name, all else may be what they BUILD.
    let is_asked = own.is_empty() || targets.iter().any(|target| document.targets.contains(target));
    for reason in reasons.iter_mut() {
        reason.steps.retain(|at| own.contains(at) || (is_asked && !others.contains(at)));
    }
    reasons.retain(|reason| !reason.steps.is_empty());
}

/// What was compared, and what came of it.
struct Compared {
    mode: Mode,
    was: Earlier,
    /// The later record; none of a look.
    record: Option<Past>,
    now: Document,
    reasons: Vec<Reason>,
    look: Looked,
    /// What ends the look before all is known, as people know it.
    stops: Vec<String>,
    /// Where files are, if they are as they were for `now`.
    files: Option<Written>,
}

/// What a look says of how things are now, before a record is explained.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// Nobody asked for one, or it is what is explained.
    Not,
    /// Nothing would run.
    Nothing,
    /// It cannot be taken: the state directory cannot be written to.
    Unable,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// How things are now with the last build.
    Now,
    /// How things are now with a build that was named.
    Since,
    /// The last build with the one before.
    Last,
    /// Two builds.
    Between,
}

impl Compared {
    fn between(
        settings: &Settings,
        (was, now): (&str, &str),
        subject: Option<Subject>,
        word: &str,
    ) -> Result<Self, Failure> {
        let root = settings.state_directory.as_path();
        let read = |word| {
            let past = past::find(root, word)?;
            Ok::<_, Failure>(match &subject {
                Some(subject) => past.seen_from(&subject.workspace),
                None => past,
            })
        };
        let (was, now) = (read(was)?, read(now)?);
        let targets = targets_of(subject.as_ref(), word, [&was.document, &now.document]);
        for past in [&was, &now] {
            earlier::check_parts(past)?;
            if !past.has(&targets) {
                let message = format!("build {} has no step of `{word}`", past.id());
                let help = format!("`rb history show {}` shows what it has", past.id());
                return Err(Failure::input(message, Some(help)));
            }
        }
        let was = Earlier::one(was)?;
        let mut reasons = was.reasons(root, (&now.document, &Lists::new()), Which::Differ);
        retain(&mut reasons, &now.document, &targets);
        let document = now.document.clone();
        let (look, stops) = (Looked::Not, Vec::new());
        Ok(Self {
            mode: Mode::Between,
            was,
            record: Some(now),
            now: document,
            reasons,
            look,
            stops,
            files: None,
        })
    }

    fn here(
        settings: &Settings,
        why: &WhyArgs,
        (subject, word): (&Subject, &str),
        look: &dyn Fn() -> Result<Look, Failure>,
    ) -> Result<Self, Failure> {
        let root = settings.state_directory.as_path();
        let since = why.since.as_deref().map(|word| past::find(root, word)).transpose()?;
        let since = since.map(|past| past.seen_from(&subject.workspace));
        if why.last {
            let last = Self::last(root, subject, (word, &subject.names), Looked::Not)?;
            return last.ok_or_else(|| none(word));
        }
        if since.is_none() && workbench::is_read_only(root) {
            let last = Self::last(root, subject, (word, &subject.names), Looked::Unable)?;
            return last.ok_or_else(|| none(word));
        }
        let look = look()?;
        let targets = [subject.names.clone(), look.names].concat();
        let (mode, which) =
            if since.is_some() { (Mode::Since, Which::Differ) } else { (Mode::Now, Which::Would) };
        let was = match since {
            Some(since) => Earlier::one(since)?,
            None => Earlier::of(root, &subject.workspace, &targets, None)?,
        };
        let reasons = was.reasons(root, (&look.now, &look.lists), which);
        if reasons.is_empty() && look.stops.is_empty() && mode == Mode::Now {
            return match Self::last(root, subject, (word, &targets), Looked::Nothing)? {
                Some(found) => Ok(found),
                None => Ok(Self {
                    mode,
                    was,
                    record: None,
                    now: look.now,
                    reasons,
                    look: Looked::Nothing,
                    stops: look.stops,
                    files: None,
                }),
            };
        }
        let (files, now, stops) = (Some(subject.written()), look.now, look.stops);
        Ok(Self { mode, was, record: None, now, reasons, look: Looked::Not, stops, files })
    }

    /// Explains the last build; after a look, the last that ran something. Nothing where none is kept.
    fn last(
        root: &Path,
        subject: &Subject,
        (word, names): (&str, &[String]),
        look: Looked,
    ) -> Result<Option<Self>, Failure> {
        let records: Vec<Past> = past::of_workspace(root, &subject.workspace, None)?.collect();
        let mut targets = earlier::meant(&subject.wanted, records.iter().map(|past| &past.document));
        targets.extend(names.iter().cloned());
        let ran = |past: &Past| {
            past.document.steps.iter().any(|step| step.step && explain::is_meant(step, Which::Ran))
        };
        let found = |targets: &[String]| {
            let is_it = |past: &&Past| past.has(targets) && (look == Looked::Not || ran(past));
            records.iter().find(is_it).cloned()
        };
        let Some(last) = earlier::alternatives(&targets).find_map(found) else {
            let known = Earlier::of(root, &subject.workspace, &targets, None)?;
            let Some(id) = known.bare(&targets) else { return Ok(None) };
            let placed = records.iter().find(|past| past.id() == id);
            if let Some(placed) = placed.and_then(|past| past.document.placed.as_ref()) {
                let message = format!(
                    "build {id} of `{word}` was made elsewhere, which tells not what steps depend on"
                );
                let lines = placed.lines().into_iter().map(|(name, text)| format!("{name} {text}"));
                return Err(Failure::input(message, Some(lines.collect::<Vec<_>>().join("; "))));
            }
            let message =
                format!("build {id} of `{word}` is kept, and that record, of an older rb, keeps no parts");
            return Err(Failure::input(message, Some(LIST.to_owned())));
        };
        let here: Vec<String> =
            targets.into_iter().filter(|target| last.has(std::slice::from_ref(target))).collect();
        let was = Earlier::of(root, &subject.workspace, &here, Some(&last.file))?;
        let mut reasons = was.reasons(root, (&last.document, &Lists::new()), Which::Ran);
        retain(&mut reasons, &last.document, &here);
        let (now, stops) = (last.document.clone(), Vec::new());
        Ok(Some(Self { mode: Mode::Last, was, record: Some(last), now, reasons, look, stops, files: None }))
    }

    /// Leaves the reasons of a step alone, named by words of it.
    fn of_step(mut self, words: Option<&str>) -> Result<Self, Failure> {
        let Some(words) = words else { return Ok(self) };
        let is_it = |step: &RecordStep| step.step && step.name.contains(words);
        if !self.now.steps.iter().any(is_it) {
            let message = format!("no step has `{words}` in it");
            let help = match (&self.now.dockerfile, &self.now.app) {
                (Some(_), _) => "`rb build --dry-run .` lists the steps",
                (None, Some(_)) => "`rb history show --all @1` lists the steps of the last build",
                (None, None) => "`rb --dry-run +TARGET` lists the steps",
            };
            return Err(Failure::input(message, Some(help.to_owned())));
        }
        let now = &self.now;
        for reason in &mut self.reasons {
            reason.steps.retain(|at| now.steps.get(*at).is_some_and(is_it));
        }
        self.reasons.retain(|reason| !reason.steps.is_empty());
        Ok(self)
    }
}

/// What a look has seen.
struct Look {
    now: Document,
    lists: Lists,
    /// The targets that it came to, as records name them.
    names: Vec<String>,
    stops: Vec<String>,
}

fn look(settings: &Settings, build: &Build<'_>, call: &TargetCall) -> Result<Look, Failure> {
    let output = OutputOptions::default();
    let order = Order {
        settings,
        calls: std::slice::from_ref(call),
        output: &output,
        course: CourseOptions::default(),
        settling: Settling::Write,
        choose: &|_, _, _, _| Ok(()),
    };
    let (seen, (now, lists)) = foresight::look(&order, build, Asked::of_target("why", call))?;
    let (names, stops) = seen.planned()?;
    Ok(Look { now, lists, names, stops })
}

fn look_at_dockerfile(order: &dockerfile::Order) -> Result<Look, Failure> {
    let (seen, (mut now, lists)) = dockerfile::look(order, "why")?;
    (now.args, now.dockerfile) = order.given();
    let (names, stops) = seen.planned()?;
    Ok(Look { now, lists, names, stops })
}

fn look_at_app(app: &pack::Subject) -> Result<Look, Failure> {
    let (seen, (mut now, lists)) = app.look()?;
    now.app = Some(app.told());
    let (names, stops) = seen.planned()?;
    Ok(Look { now, lists, names, stops })
}
