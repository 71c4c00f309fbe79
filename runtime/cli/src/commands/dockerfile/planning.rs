//! The frontend at work: what it is lent, what it asks on the job of the build, what it finds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rb_api::{Course, EventSink, Job};
use rb_diag::{Diagnostic, SourceMap};
use rb_dockerfile::{Finding, Input, Options, Planned};
use rb_frontend::{Answer, Gateway as _, Query};
use rb_llb::{CopyAction, NodeMeta, State};
use rb_oci::Platform;
use rb_session::Session;

use super::context::ARCHIVE;
use super::order::Order;
use crate::commands::build;
use crate::commands::gateway::{BuildGateway, Settling};
use crate::commands::workbench::Workbench;
use crate::progress::{Progress, clean, terminal_columns};
use crate::report::{self, Failure};
use crate::settings::ProgressMode;

/// Largest Dockerfile that is fetched.
const LIMIT_BYTES: u64 = 16 << 20;

/// A Dockerfile being planned.
pub(super) struct Planning<'a> {
    order: &'a Order,
    pub(super) job: Arc<dyn Job>,
    pub(super) gateway: BuildGateway,
    /// Texts that were read on the way.
    pub(super) sources: SourceMap,
}

impl<'a> Planning<'a> {
    /// Opens its job; to be called on the bench's threads.
    pub(super) fn start(order: &'a Order, bench: &Workbench, progress: &Progress, course: Course) -> Self {
        let mut session = order.lent.session.clone();
        for (id, secret) in &order.settings.secrets {
            session = session.with_secret(id, secret.clone());
        }
        for (id, agent) in &order.settings.agents {
            session = session.with_ssh(id, agent.clone());
        }
        let session: Arc<dyn Session> = Arc::new(session);
        let events: EventSink = bench.heard(progress.sink());
        let job = build::open_job(&order.settings, bench, session, events, course);
        let (sources, root) = (SourceMap::default(), order.settings.cwd.clone());
        let gateway = BuildGateway::new(Arc::clone(&job), sources.clone(), root, Settling::Nothing);
        Self { order, job, gateway, sources }
    }

    /// Has the frontend decide the graph.
    pub(super) async fn plan(&self) -> Result<Planned, Failure> {
        self.prepare().await?;
        let options = self.options()?;
        let planned = rb_dockerfile::plan(&self.gateway, &options, &self.sources).await;
        planned.map_err(|items| self.failed(items))
    }

    /// Brings what has to be here before the frontend is asked.
    pub(super) async fn prepare(&self) -> Result<(), Failure> {
        match &self.order.lent.fetched {
            Some((address, path)) => self.fetch(address, path).await,
            None => Ok(()),
        }
    }

    /// Returns the options of the frontend.
    pub(super) fn options(&self) -> Result<Options, Failure> {
        let start = Options { build_platform: Platform::host(), inputs: self.inputs(), ..Options::default() };
        Options::read(&self.order.options, start).map_err(|items| self.failure(items))
    }

    /// Makes a failure of what the frontend says; a step that failed on the way is told better by itself.
    pub(super) fn failed(&self, items: Vec<Diagnostic>) -> Failure {
        let mut of_steps = self.gateway.failures();
        if of_steps.is_empty() { self.failure(items) } else { of_steps.remove(0) }
    }

    /// A tar in place of a folder is unpacked by a step, and is what the frontend takes for context and Dockerfile.
    fn inputs(&self) -> BTreeMap<String, Input> {
        if !self.order.lent.archive {
            return BTreeMap::new();
        }
        let meta = |name: &str| NodeMeta::named(name);
        let attrs =
            BTreeMap::from([(rb_llb::attr::LOCAL_INCLUDE_PATTERNS.to_owned(), format!("[\"{ARCHIVE}\"]"))]);
        let tar = State::source(
            format!("local://{ARCHIVE}"),
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
        [("context".to_owned(), input.clone()), ("dockerfile".to_owned(), input)].into()
    }

    /// Brings a Dockerfile of the web to where it is lent from.
    async fn fetch(&self, address: &str, path: &Path) -> Result<(), Failure> {
        let attrs = BTreeMap::from([(rb_llb::attr::HTTP_FILENAME.to_owned(), "Dockerfile".to_owned())]);
        let state =
            State::source(address, attrs, None, NodeMeta::named(format!("[internal] load {address}")));
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
        match display.mode {
            ProgressMode::Quiet => String::new(),
            ProgressMode::Json => {
                let items: Vec<Diagnostic> = findings.iter().map(warning).collect();
                report::warnings(&items, &self.sources, display, terminal_columns())
            }
            ProgressMode::Plain | ProgressMode::Live => self.lines(findings),
        }
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

fn warning(finding: &Finding) -> Diagnostic {
    let Finding { rule, span, message } = finding;
    let warning = Diagnostic::warning(rule.name(), message).with_label(*span, rule.description());
    match rule.url() {
        Some(url) => warning.with_help(format!("more: {url}")),
        None => warning,
    }
}
