//! The frontend at work: what it is lent, what it asks on the job of the build, what it finds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rb_api::{Course, EventSink, Job};
use rb_diag::{Diagnostic, Diagnostics, SourceMap};
use rb_dockerfile::{Finding, Input, Options, PlannedImage};
use rb_engine::EngineError;
use rb_frontend::{Answer, Gateway as _, Query};
use rb_llb::{CopyAction, NodeMeta, State};
use rb_oci::Platform;
use rb_session::Session;
use serde_json::Value;

use super::attest::{Listening, Ready, Wishes};
use super::context::{ARCHIVE, Object};
use super::foreign::{self, Errand, Foreign, Host};
use super::order::Order;
use crate::commands::build;
use crate::commands::gateway::{BuildGateway, Naming, Settling};
use crate::commands::struck;
use crate::commands::workbench::Workbench;
use crate::progress::{Progress, RawWarning, clean, terminal_columns};
use crate::report::{self, Failure};
use crate::settings::ProgressMode;
use crate::world::Withheld;

/// Largest Dockerfile that is fetched.
const LIMIT_BYTES: u64 = 16 << 20;

/// Largest context that is fetched from a bucket.
const CONTEXT_LIMIT_BYTES: u64 = 64 << 30;

/// A Dockerfile being planned.
pub(super) struct Planning<'a> {
    order: &'a Order,
    pub(super) job: Arc<dyn Job>,
    pub(super) gateway: BuildGateway,
    /// Texts that were read on the way.
    pub(super) sources: SourceMap,
    /// What other builds hand in.
    inputs: BTreeMap<String, Input>,
    /// Words for what was not run for an answer.
    withheld: Arc<Withheld>,
    /// Where frontends of images run.
    host: Host,
    /// What steps are called, where several builds share the job.
    naming: Option<Naming>,
    /// What a frontend of an image found unusual.
    unusual: Mutex<Vec<String>>,
}

impl<'a> Planning<'a> {
    /// Opens its job; to be called on the bench's threads.
    pub(super) fn start(order: &'a Order, bench: &Workbench, progress: &Progress, course: Course) -> Self {
        Self::start_heard(order, bench, bench.heard(progress.sink()), course)
    }

    /// Opens its job, of which `events` alone hears.
    pub(super) fn start_heard(
        order: &'a Order,
        bench: &Workbench,
        events: EventSink,
        course: Course,
    ) -> Self {
        let session: Arc<dyn Session> = Arc::new(order.session());
        let events = struck::sink(struck::of_arguments([&order.options]), events);
        let job = build::open_job(&order.settings, bench, session, Arc::clone(&events), course);
        let only_looks = course == Course::Look;
        let host = Host { engine: Arc::clone(&bench.engine), events, only_looks };
        Self::on(order, job, host, SourceMap::default(), None)
    }

    /// Plans it on a job that others may share, whose texts are in `sources`.
    pub(super) fn on(
        order: &'a Order,
        job: Arc<dyn Job>,
        host: Host,
        sources: SourceMap,
        naming: Option<Naming>,
    ) -> Self {
        let root = order.settings.cwd.clone();
        let withheld: Arc<Withheld> = Arc::default();
        let gateway = BuildGateway::new(Arc::clone(&job), sources.clone(), root, Settling::Nothing)
            .withholding(Arc::clone(&withheld))
            .naming(naming.clone());
        let (inputs, unusual) = (BTreeMap::new(), Mutex::default());
        Self { order, job, gateway, sources, inputs, withheld, host, naming, unusual }
    }

    /// Hands it states that `input:NAME` stands for.
    pub(super) fn with_inputs(self, inputs: BTreeMap<String, Input>) -> Self {
        Self { inputs, ..self }
    }

    /// Has the frontend decide the graph. What the build checks found is there also where that fails.
    pub(super) async fn plan(&self, findings: &mut Vec<Finding>) -> Result<Vec<PlannedImage>, Failure> {
        let planned = self.decide(findings).await?;
        planned.map_err(|items| self.failed(items))
    }

    /// Makes ready what is said of images that were planned.
    pub(super) async fn ready(&self, images: &[PlannedImage]) -> Result<Ready, Failure> {
        Wishes::ready(self.order, self.job.as_ref(), images, &self.sources).await
    }

    /// Has it decide the graph where nothing is to be run for that. Where it would have to ask a step, that is what it gives.
    pub(super) async fn foresee(&self) -> Result<Result<Vec<PlannedImage>, Diagnostics>, Failure> {
        match self.decide(&mut Vec::new()).await? {
            Ok(images) => Ok(Ok(images)),
            Err(items) if items.iter().all(|item| self.withheld.has(&item.message)) => {
                let place = format!("in {}", self.order.lent.file);
                Ok(Err(items.into_iter().map(|item| item.with_trail(&place)).collect()))
            }
            Err(items) => Err(self.failed(items)),
        }
    }

    async fn decide(
        &self,
        findings: &mut Vec<Finding>,
    ) -> Result<Result<Vec<PlannedImage>, Diagnostics>, Failure> {
        self.prepare().await?;
        let options = self.options()?;
        let gateway = Listening { gateway: &self.gateway, heard: &self.order.attests.heard };
        let planned = rb_dockerfile::plan_telling(&gateway, &options, &self.sources, findings).await;
        let Some(image) = planned.as_ref().err().and_then(|items| self.foreign(items)) else {
            return Ok(planned);
        };
        let Foreign { images, warnings } = self.errand(&self.inputs()).plan(&image).await?;
        self.unusual.lock().expect("no holder of this lock panics").extend(warnings);
        Ok(Ok(images))
    }

    /// Returns what a frontend of an image needs; `inputs` are those of [`Self::inputs`].
    pub(super) fn errand<'e>(&'e self, inputs: &'e BTreeMap<String, Input>) -> Errand<'e> {
        Errand {
            order: self.order,
            host: &self.host,
            job: &self.job,
            sources: &self.sources,
            inputs,
            naming: self.naming.as_ref(),
            depth: 0,
        }
    }

    /// Returns the image of the frontend that a file asks for, if that is what is wrong with it.
    pub(super) fn foreign(&self, items: &[Diagnostic]) -> Option<String> {
        foreign::wanted(items, self.order.options.get(foreign::GIVEN), &self.sources)
    }

    /// Brings what has to be here before the frontend is asked.
    pub(super) async fn prepare(&self) -> Result<(), Failure> {
        if let (Some(Object { word, key, path, .. }), Some(bucket)) =
            (&self.order.lent.object, &self.order.bucket)
        {
            let kept = |error| Failure::environment(&format!("`{word}` cannot be kept"), &error);
            let file = std::fs::File::create(path).map_err(kept)?;
            let (to, told) = ((file, CONTEXT_LIMIT_BYTES), (word.as_str(), &self.host.events));
            let read = self.host.engine.download_object((bucket, key), to, told).await;
            read.map_err(|error| failed_to_fetch(word, &error))?;
        }
        match &self.order.lent.fetched {
            Some((address, path)) => self.fetch(address, path).await,
            None => Ok(()),
        }
    }

    /// Returns the options of the frontend.
    pub(super) fn options(&self) -> Result<Options, Failure> {
        let start = Options {
            build_platform: Platform::host(),
            lent_context: self.order.lent.context(),
            inputs: self.inputs(),
            shown: Some(self.order.lent.file.clone()),
            ignore: self.order.ignore.clone(),
            volumes: self.order.volumes.clone(),
            tells_arguments: true,
            ..Options::default()
        };
        Options::read(&self.order.options, start).map_err(|items| self.failure(items))
    }

    /// Makes a failure of what the frontend says; a step that failed on the way is told better by itself.
    pub(super) fn failed(&self, items: Vec<Diagnostic>) -> Failure {
        let mut of_steps = self.gateway.failures();
        if of_steps.is_empty() { self.failure(items) } else { of_steps.remove(0) }
    }

    /// A tar in place of a folder is unpacked by a step, and is what the frontend takes for context and Dockerfile.
    pub(super) fn inputs(&self) -> BTreeMap<String, Input> {
        let mut inputs = self.inputs.clone();
        if !self.order.lent.archive {
            return inputs;
        }
        let meta = |name: &str| NodeMeta::named(name);
        let attrs =
            BTreeMap::from([(rb_llb::attr::LOCAL_INCLUDE_PATTERNS.to_owned(), format!("[\"{ARCHIVE}\"]"))]);
        let tar = State::source(
            format!("local://{}", self.order.lent.name_of(ARCHIVE)),
            attrs,
            None,
            meta("[internal] load the context's tar"),
        );
        let unpack = CopyAction {
            src: format!("/{ARCHIVE}"),
            dest: "/".to_owned(),
            attempt_unpack: true,
            create_dest_path: true,
            ..CopyAction::default()
        };
        let state = State::scratch().copy(&tar, unpack, meta("[internal] unpack the context"));
        let input = Input { state, config: None };
        inputs.extend([("context".to_owned(), input.clone()), ("dockerfile".to_owned(), input)]);
        inputs
    }

    /// Brings a Dockerfile of the web to where it is lent from.
    async fn fetch(&self, address: &str, path: &Path) -> Result<(), Failure> {
        let attrs = BTreeMap::from([(rb_llb::attr::HTTP_FILENAME.to_owned(), "Dockerfile".to_owned())]);
        let state =
            State::source(address, attrs, None, NodeMeta::named(format!("[internal] load {address}")));
        self.order.attests.heard.note(&state);
        let query = Query::ReadFile { path: "/Dockerfile".to_owned(), limit_bytes: LIMIT_BYTES };
        let answer = self.gateway.query(&state, query).await;
        let bytes = match answer {
            Ok(Answer::File(bytes)) => bytes,
            Ok(_) => Vec::new(),
            Err(error) => {
                let mut of_steps = self.gateway.failures();
                return Err(match of_steps.is_empty() {
                    true => Failure::Said { kind: error.kind(), message: error.to_string(), help: None },
                    false => of_steps.remove(0),
                });
            }
        };
        std::fs::write(path, bytes)
            .map_err(|error| Failure::environment("the Dockerfile cannot be kept", &error))
    }

    /// Returns what the build checks found, as it is told beside a build: a line each, of which `--check` says more.
    pub(super) fn told(&self, findings: &[Finding]) -> String {
        let display = self.order.settings.display;
        let unusual = self.unusual.lock().expect("no holder of this lock panics");
        let unusual = unusual.iter().map(|words| match display.mode {
            ProgressMode::Quiet => String::new(),
            ProgressMode::RawJson => unplaced(words).line(),
            ProgressMode::Json | ProgressMode::Plain | ProgressMode::Live => {
                report::warning(words, display, terminal_columns())
            }
        });
        let unusual: String = unusual.collect();
        let found = self.told_of(findings);
        format!("{unusual}{found}")
    }

    fn told_of(&self, findings: &[Finding]) -> String {
        let display = self.order.settings.display;
        match display.mode {
            ProgressMode::Quiet => String::new(),
            ProgressMode::Json => {
                let items: Vec<Diagnostic> = findings.iter().map(warning).collect();
                report::warnings(&items, &self.sources, display, terminal_columns())
            }
            ProgressMode::RawJson => {
                findings.iter().map(|finding| self.raw(finding, |warning| warning.line())).collect()
            }
            ProgressMode::Plain | ProgressMode::Live => self.lines(findings),
        }
    }

    /// Returns what was found as BuildKit's client has it.
    pub(super) fn warnings(&self, findings: &[Finding]) -> Vec<Value> {
        let unusual = self.unusual.lock().expect("no holder of this lock panics");
        let unusual = unusual.iter().map(|words| unplaced(words).value());
        unusual.chain(findings.iter().map(|finding| self.raw(finding, |warning| warning.value()))).collect()
    }

    /// Tells one as BuildKit does.
    fn raw<T>(
        &self,
        Finding { rule, span, message }: &Finding,
        tell: impl FnOnce(&RawWarning<'_>) -> T,
    ) -> T {
        let file = self.sources.get(span.source);
        let place = file.as_ref().map(|file| (&*file.name, &*file.text, file.position(span.start).line));
        let line = place.map_or_else(String::new, |(.., line)| format!(" (line {line})"));
        let short = format!("{}: {}{line}", rule.name(), clean(message, false));
        tell(&RawWarning { short, detail: Some(rule.description()), url: rule.url(), place })
    }

    fn lines(&self, findings: &[Finding]) -> String {
        let count = match findings.len() {
            0 => return String::new(),
            1 => "1 warning".to_owned(),
            more => format!("{more} warnings"),
        };
        let line = |Finding { rule, span, message }: &Finding| {
            let place = self.sources.get(span.source).map(|file| file.position(span.start).line);
            let place = place.map_or_else(String::new, |line| format!(" (line {line})"));
            format!("  {}: {}{place}\n", rule.name(), clean(message, false))
        };
        let lines: String = findings.iter().map(line).collect();
        format!("{count}; --check shows more:\n{lines}")
    }

    fn failure(&self, items: Vec<Diagnostic>) -> Failure {
        Failure::Diagnostics { items, sources: self.sources.clone() }
    }
}

fn failed_to_fetch(word: &str, error: &EngineError) -> Failure {
    let message = format!("the context {word} cannot be fetched: {}", rb_diag::chain(error));
    Failure::Said { kind: error.kind(), message, help: error.help() }
}

/// Returns a warning that is about no line.
fn unplaced(words: &str) -> RawWarning<'static> {
    RawWarning { short: clean(words, false), ..RawWarning::default() }
}

fn warning(finding: &Finding) -> Diagnostic {
    let Finding { rule, span, message } = finding;
    let warning = Diagnostic::warning(rule.name(), message).with_label(*span, rule.description());
    match rule.url() {
        Some(url) => warning.with_help(format!("more: {url}")),
        None => warning,
    }
}
