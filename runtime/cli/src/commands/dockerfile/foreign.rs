//! Another language than Dockerfiles: the frontend that `# syntax=` names, run in a sandbox as BuildKit runs it.
//!
//! In: the image, and what was asked for. It is pulled, its program is started with BuildKit's variables, and what it asks on its
//! standard streams is answered by the job of the build ([`rb_remote::guest`]). Out: images as a Dockerfile gives them. Images
//! of the Dockerfile frontend are never run: `rb-dockerfile` is in their place. Questions (`--call`) are put to it, too ([`questions`]). **Invariant:** the program sees its image and nothing of
//! this machine; it has no network where its label says so; it ends with the build.
//! Source: BuildKit's `frontend/gateway`.

mod nested;
mod questions;
mod rebuilt;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rb_api::{Event, EventKind, EventSink, Job, LogStream};
use rb_diag::{Diagnostic, ErrorKind, SourceMap, chain};
use rb_dockerfile::{Input, PlannedImage};
use rb_engine::{LocalEngine, RunRequest};
use rb_exec::{KillSwitch, OpenFile, Stream};
use rb_llb::{Definition, NetworkMode};
use rb_oci::{Digest, ImageConfig, Platform};
use rb_remote::guest::{Failed, Given, Guest, Returned, ReturnedTree, Rewrite};
use tokio::sync::mpsc;

use super::order::Order;
use crate::commands::gateway::Naming;
use crate::commands::run::KillOnDrop;
use crate::report::Failure;

/// What the compiler says of a file whose frontend is an image.
pub(super) const CODE: &str = "rb::dockerfile::unknown_frontend";
/// The option that names one in the place of the file.
pub(super) const GIVEN: &str = "build-arg:BUILDKIT_SYNTAX";

/// By what an image says that its frontend needs no network.
const NO_NETWORK: &str = "moby.buildkit.frontend.network.none";
/// What folders are looked at for; the job has one session.
const SESSION: &str = "rb";
/// So much of what a frontend says beside its answers is kept.
const SAID_BYTES: usize = 2_000;

/// How long a frontend is waited for before that is told.
const LATE: Duration = Duration::from_secs(5);

/// Where frontends run.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) engine: Arc<LocalEngine>,
    pub(super) events: EventSink,
    /// The job only looks at what would run.
    pub(super) only_looks: bool,
}

impl Host {
    /// Returns what tells of the program as of a step, with what it says.
    fn teller(&self, name: &str) -> impl Fn(EventKind) + Clone + Send + Sync + use<> {
        let (events, vertex) = (Arc::clone(&self.events), Digest::of(name));
        move |kind| events(Event { vertex, kind })
    }
}

/// What a frontend gave.
pub(super) struct Foreign {
    pub(super) images: Vec<PlannedImage>,
    pub(super) warnings: Vec<String>,
}

/// What a frontend of an image is wanted for.
pub(super) struct Errand<'a> {
    pub(super) order: &'a Order,
    pub(super) host: &'a Host,
    pub(super) job: &'a Arc<dyn Job>,
    pub(super) sources: &'a SourceMap,
    /// What other builds hand in.
    pub(super) inputs: &'a BTreeMap<String, Input>,
    /// What its steps are called, where it is one of several builds.
    pub(super) naming: Option<&'a Naming>,
    /// How many frontends stand above it, each asking for the next.
    pub(super) depth: usize,
}

impl Errand<'_> {
    /// Has the frontend decide the graph.
    pub(super) async fn plan(&self, image: &str) -> Result<Foreign, Failure> {
        let Returned { trees, warnings, .. } = self.run(image, BTreeMap::new()).await?;
        let epoch = self.order.options.get("build-arg:SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok());
        let images = trees.into_iter().map(|tree| planned(tree, epoch, self.sources));
        Ok(Foreign { images: images.collect::<Result<_, _>>()?, warnings })
    }

    /// Runs it; `more` are options besides those of the build.
    async fn run(&self, image: &str, more: BTreeMap<String, String>) -> Result<Returned, Failure> {
        let mut options = self.order.options.clone();
        options.extend(more);
        self.run_with(image, options).await
    }

    /// Runs it with these options.
    async fn run_with(&self, image: &str, options: BTreeMap<String, String>) -> Result<Returned, Failure> {
        let Self { order, host, job, .. } = self;
        let (frontends, asked) = mpsc::channel(1);
        let given = Given {
            inputs: self.handed()?,
            rewrite: self.rewrite(),
            only_looks: host.only_looks,
            frontends: Some(frontends),
            // What another engine runs, it does not run for us while it decides.
            has_containers: order.settings.engine.is_none(),
        };
        let name = match self.naming {
            Some(_) => format!("[{}] frontend {image}", order.title),
            None => format!("frontend {image}"),
        };
        let native = Platform::host();
        let request = RunRequest {
            image: image.to_owned(),
            env: self.variables(image, &native, options),
            user: Some("0".to_owned()),
            pull: order.settings.pull,
            ..RunRequest::default()
        };
        let program = host.engine.fetch_to_run(&request, &host.events).await?;
        let labels = &program.config().config.labels;
        let is_alone = labels
            .get(NO_NETWORK)
            .is_some_and(|value| matches!(value.as_str(), "true" | "1" | "t" | "TRUE" | "True"));
        let network = if is_alone { NetworkMode::None } else { NetworkMode::Sandbox };
        let request = RunRequest { network, ..request };

        let unable = |error: rb_remote::RemoteError| Failure::Said {
            kind: error.kind(),
            message: chain(&error),
            help: None,
        };
        let (guest, serving, theirs) = Guest::open(Arc::clone(job), native, given).map_err(unable)?;
        let socket = |error: std::io::Error| Failure::environment("a pair of sockets", &error);
        let stdin = OpenFile::new(theirs.try_clone().map_err(socket)?.into());
        let (tell, began) = (host.teller(&name), Instant::now());
        tell(EventKind::Added { name, step: true, inputs: Vec::new() });
        tell(EventKind::Started);
        let said: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (kept, says) = (Arc::clone(&said), tell.clone());
        let mut to_us = theirs;
        let hear = move |stream: Stream, bytes: &[u8]| match stream {
            // Who no longer listens has an answer already.
            Stream::Stdout => drop(to_us.write_all(bytes)),
            Stream::Stderr => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let room = SAID_BYTES.saturating_sub(kept.len());
                let bytes = &bytes[..bytes.len().min(room)];
                kept.extend_from_slice(bytes);
                if !bytes.is_empty() {
                    says(EventKind::Log { stream: LogStream::Stderr, bytes: bytes.to_vec().into() });
                }
            }
        };
        let kill = KillSwitch::new();
        let _guard = KillOnDrop::new(&kill);
        let running = host.engine.run_image_heard(request, program, kill.clone(), stdin, hear);
        let unmet = Mutex::default();
        let late = format!("{image}: no answer after {} s; it is waited for\n", LATE.as_secs());
        let late = || tell(EventKind::Log { stream: LogStream::Stderr, bytes: late.into() });
        let ended = tokio::select! {
            never = self.serve(asked, &unmet) => match never {},
            ended = told_late(running, late) => ended?,
            served = serving => {
                let why = served.err().map(|error| chain(&error)).unwrap_or_default();
                return Err(Failure::Said { kind: ErrorKind::Internal, message: format!("nobody answers the frontend: {why}"), help: None });
            }
        };
        let result = guest.result(ended.code());
        tell(match &result {
            Ok(_) => EventKind::Done { duration: began.elapsed() },
            Err(Failed::Step(_)) => {
                EventKind::Failed { message: "a step that it asked for failed".to_owned() }
            }
            Err(Failed::Said { message, .. }) => EventKind::Failed { message: message.clone() },
        });
        let unmet: Option<Failure> = unmet.into_inner().unwrap_or_else(PoisonError::into_inner);
        result.map_err(|failed| match (failed, unmet) {
            // What another frontend said is known better than it was handed on.
            (Failed::Said { message, .. }, Some(unmet)) if message.contains(&unmet.message()) => unmet,
            (failed, _) => failure(failed, image, &said),
        })
    }

    /// Returns what other builds hand in, as graphs.
    fn handed(&self) -> Result<BTreeMap<String, Definition>, Failure> {
        let graph = |(name, input): (&String, &Input)| Ok((name.clone(), input.state.marshal(self.sources)?));
        self.inputs.iter().map(graph).collect()
    }

    /// Returns what makes of the program's graphs those that are meant on a job that several builds share: there, folders have
    /// other names than the ones that it knows, and steps are called by their build.
    fn rewrite(&self) -> Option<Rewrite> {
        let folders = self.order.lent.renamed.clone();
        let naming = self.naming?.clone();
        Some(Arc::new(move |definition| {
            let mut renamed = match folders.iter().any(|(own, here)| own != here) {
                true => rebuilt::with_folders(&definition, &folders).map_err(|error| chain(&error))?,
                false => definition,
            };
            naming(&mut renamed);
            Ok(renamed)
        }))
    }

    /// Returns what the program is told, as BuildKit tells it.
    fn variables(
        &self,
        image: &str,
        native: &Platform,
        mut options: BTreeMap<String, String>,
    ) -> Vec<String> {
        for (name, input) in self.inputs {
            let Some(config) = &input.config else { continue };
            options.insert(format!("input-metadata:{name}"), metadata(config));
        }
        options.insert("source".to_owned(), image.to_owned());
        options.entry("cmdline".to_owned()).or_insert_with(|| image.to_owned());
        // That is why it runs.
        options.remove(GIVEN);
        let worker = serde_json::json!([{
            "id": "rb", "labels": {}, "platforms": [native], "gcPolicy": null, "buildkitVersion": {}, "cdiDevices": null,
        }]);
        let told = options
            .iter()
            .enumerate()
            .map(|(at, (name, value))| format!("BUILDKIT_FRONTEND_OPT_{at}={name}={value}"));
        let all = told.chain([
            format!("BUILDKIT_SESSION_ID={SESSION}"),
            format!("BUILDKIT_WORKERS={worker}"),
            "BUILDKIT_EXPORTEDPRODUCT=rb".to_owned(),
        ]);
        all.collect()
    }
}

/// Waits for something, and has it told if that takes long.
async fn told_late<T>(work: impl Future<Output = T>, tell: impl FnOnce()) -> T {
    tokio::pin!(work);
    match tokio::time::timeout(LATE, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            tell();
            work.await
        }
    }
}

/// Returns the image of the frontend that a file asks for, if that is what is wrong with it; `given` is what stands in the file's place.
pub(super) fn wanted(items: &[Diagnostic], given: Option<&String>, sources: &SourceMap) -> Option<String> {
    let [item] = items else { return None };
    if item.code != CODE {
        return None;
    }
    let given = given.and_then(|given| given.split_whitespace().next());
    let written = || {
        let span = item.labels.first()?.span;
        Some(sources.get(span.source)?.slice(span).to_owned())
    };
    given.map(ToOwned::to_owned).or_else(written).filter(|image| !image.is_empty())
}

/// Returns what is said of an image that is handed in, as BuildKit's client writes it.
fn metadata(config: &ImageConfig) -> String {
    let bytes = serde_json::to_vec(config).expect("the config of an image is text");
    serde_json::json!({ "containerimage.config": STANDARD.encode(bytes) }).to_string()
}

fn failure(failed: Failed, image: &str, said: &Mutex<Vec<u8>>) -> Failure {
    match failed {
        Failed::Step(failed) => {
            let (error, definition) = *failed;
            Failure::several(Failure::of_solve(error, &[definition]))
        }
        Failed::Said { kind, message } => {
            let said = said.lock().unwrap_or_else(PoisonError::into_inner);
            let words: String = String::from_utf8_lossy(&said)
                .chars()
                .filter(|letter| !letter.is_control() || *letter == '\n')
                .collect();
            let words = words.trim();
            // Where it answers, that is what counts.
            let help = (kind == ErrorKind::Environment && !words.is_empty())
                .then(|| format!("it has said: {words}"));
            Failure::Said { kind, message: format!("the frontend `{image}`: {message}"), help }
        }
    }
}

fn planned(tree: ReturnedTree, epoch: Option<i64>, sources: &SourceMap) -> Result<PlannedImage, Failure> {
    let ReturnedTree { platform, definition, config, base } = tree;
    let state = rebuilt::state(&definition, sources)?;
    let config = config.unwrap_or_else(|| ImageConfig::scratch(&platform));
    Ok(PlannedImage { platform, state, config, base, epoch, scans: BTreeMap::new() })
}
