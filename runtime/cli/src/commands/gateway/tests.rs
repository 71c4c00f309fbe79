//! What a frontend's questions and effects become, with an engine that writes down what it is asked.

use rb_api::{Outlook, ProcessRequest, Root, SolveRequest, SolveResult, Summary};
use rb_diag::Span;
use rb_frontend::{LocalOutput, SavedArtifact};
use rb_llb::{MkfileAction, NodeMeta};
use rb_oci::{Digest, ImageConfig, Platform};

use super::*;
use crate::settings::{Display, ProgressMode};

const TEXT: &str = "VERSION 1\napp:\n    RUN make\n";

/// Fails with what it is given, else makes everything; knows the requests it got.
#[derive(Default)]
struct Engine {
    asked: Mutex<Vec<SolveRequest>>,
    fails: Option<SolveError>,
}

#[async_trait]
impl Job for Engine {
    async fn solve(&self, request: SolveRequest) -> Result<SolveResult, SolveError> {
        let written = |at: usize| ExportResult::Tar { destination: format!("{at}").into(), size_bytes: 1 };
        let mut asked = self.asked.lock().expect("no panics");
        let before: usize = asked.iter().map(|request| request.exports.len()).sum();
        let exports = (before..before + request.exports.len()).map(written).collect();
        asked.push(request);
        match &self.fails {
            Some(error) => Err(error.clone()),
            None => Ok(SolveResult {
                roots: Vec::new(),
                exports,
                pushed: Vec::new(),
                caches: Vec::new(),
                summary: Summary::default(),
            }),
        }
    }

    async fn query(&self, _definition: Definition, query: Query) -> Result<Answer, SolveError> {
        match (&self.fails, query) {
            (Some(error), _) => Err(error.clone()),
            (None, Query::ReadFile { path, .. } | Query::ReadStart { path, .. }) => {
                Err(SolveError::NoSuchFile { path })
            }
            (None, Query::Exists { .. }) => Ok(Answer::Exists(true)),
            (None, Query::Stat { .. }) => Ok(Answer::Stat(None)),
            (None, Query::List { .. }) => Ok(Answer::List(Vec::new())),
            (None, Query::Details { path, .. }) => Err(SolveError::NoSuchFile { path }),
            (None, Query::Newest { .. }) => Ok(Answer::Moment(None)),
        }
    }

    async fn process(&self, _request: ProcessRequest) -> Result<i32, SolveError> {
        Ok(0)
    }

    async fn resolve_image(&self, _request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        Err(WorldError::NotFound { what: "the image".to_owned(), help: None })
    }

    async fn resolve_repository(&self, _request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
        Err(WorldError::NotFound { what: "the repository".to_owned(), help: None })
    }

    async fn look(&self, _roots: &[Root]) -> Result<Vec<Outlook>, SolveError> {
        Ok(Vec::new())
    }

    fn summary(&self) -> Summary {
        Summary::default()
    }
}

fn gateway(engine: &Arc<Engine>, settling: Settling) -> BuildGateway {
    let sources = SourceMap::default();
    sources.add("Buildfile", TEXT);
    BuildGateway::new(Arc::clone(engine) as _, sources, PathBuf::from("/ws"), settling)
}

fn now<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work)
}

fn span() -> Span {
    let at = TEXT.find("RUN").expect("it is there") as u32;
    Span { source: rb_diag::SourceId(0), start: at, end: at + 8 }
}

fn state(name: &str) -> State {
    let action = MkfileAction { path: format!("/{name}"), ..MkfileAction::default() };
    let meta =
        NodeMeta { name: Some("+app | RUN make".to_owned()), span: Some(span()), ..NodeMeta::default() };
    State::scratch().mkfile(action, meta)
}

fn artifact(name: &str, local: &str) -> Effect {
    let local = Some(LocalOutput { path: local.to_owned(), into: false });
    let artifact = SavedArtifact {
        path: format!("/{name}"),
        many: false,
        optional: false,
        state: state(name),
        local,
        span: span(),
    };
    Effect::Write(PlannedOutput::Artifact { label: "+app".to_owned(), artifact })
}

fn image(name: &str) -> Effect {
    let image = SavedImage {
        names: vec![name.to_owned()],
        push: false,
        state: state(name),
        config: ImageConfig::scratch(&Platform::host()),
        span: span(),
    };
    Effect::Write(PlannedOutput::Image { label: "+app".to_owned(), image })
}

fn make(name: &str) -> Effect {
    Effect::Make { label: "+app".to_owned(), state: state(name) }
}

fn failed_step() -> SolveError {
    SolveError::Vertex {
        vertex: state("bad").digest().expect("a digest").expect("a vertex").vertex,
        name: "+app | RUN make".to_owned(),
        kind: ErrorKind::Build,
        message: "exit code 2".to_owned(),
        help: None,
        log_tail: vec!["make: no rule".to_owned()],
    }
}

#[test]
fn effects_are_one_request_in_their_order() {
    let engine = Arc::new(Engine::default());
    let gateway = gateway(&engine, Settling::Write);
    let effects = [make("a"), image("b"), artifact("a", "out/a"), make("c")];
    now(gateway.settle(&effects)).expect("settles");
    now(gateway.settle(&[artifact("d", "out/d")])).expect("settles");
    let asked = engine.asked.lock().expect("no panics");
    assert_eq!(asked.len(), 2);
    let digest = |root: &Root| root.definition.graph().expect("a graph").root().map(|edge| edge.vertex);
    let of = |name| state(name).digest().expect("a digest").map(|edge| edge.vertex);
    let roots: Vec<Option<Digest>> = asked[0].roots.iter().map(digest).collect();
    assert_eq!(roots, [of("a"), of("b"), of("c")], "each once");
    let exports: Vec<String> = asked[0].exports.iter().map(|export| format!("{export:?}")).collect();
    assert!(
        exports[0].starts_with("Image { images: [PlatformImage { root: 1")
            && exports[1].starts_with("Local { root: 0")
    );
    assert!(exports[1].contains("/ws/out/a"), "{exports:?}");
    drop(asked);
    let (written, _) = gateway.written();
    let names = written.iter().map(|written| match written {
        ExportResult::Tar { destination, .. } => destination.display().to_string(),
        other => panic!("{other:?}"),
    });
    assert_eq!(names.collect::<Vec<_>>(), ["0", "1", "2"]);
    assert!(gateway.written().0.is_empty(), "told once");
}

#[test]
fn without_output_all_is_made_and_nothing_is_written() {
    let engine = Arc::new(Engine::default());
    let effects = [image("a"), artifact("b", "out/b")];
    now(gateway(&engine, Settling::Make).settle(&effects)).expect("settles");
    let asked = engine.asked.lock().expect("no panics").clone();
    assert_eq!((asked[0].roots.len(), asked[0].exports.len()), (2, 0));
    now(gateway(&engine, Settling::Nothing).settle(&effects)).expect("settles");
    assert_eq!(engine.asked.lock().expect("no panics").len(), 1);
}

#[test]
fn a_failed_step_is_kept_for_the_report() {
    let engine = Arc::new(Engine { fails: Some(failed_step()), ..Engine::default() });
    for asks in [true, false] {
        let gateway = gateway(&engine, Settling::Write);
        let error = match asks {
            true => now(gateway.query(&state("bad"), Query::Exists { path: "/x".to_owned() })).map(drop),
            false => now(gateway.settle(&[make("bad")])),
        };
        match error.expect_err("fails") {
            WorldError::Step { kind, message, .. } => {
                assert_eq!((kind, message.as_str()), (ErrorKind::Build, "exit code 2"));
            }
            other => panic!("{other:?}"),
        }
        let failure = gateway.failures().pop().expect("is kept");
        assert_eq!(failure.exit_code(), 1);
        let text = failure
            .render(Display { mode: ProgressMode::Live, colours: false, github: false, verbose: false }, 80);
        assert!(text.contains("RUN make") && text.contains("exit code 2"), "{text}");
        assert!(text.contains("Buildfile:3:5"), "{text}");
        assert_eq!(text.matches("make: no rule").count(), 1, "{text}");
        assert!(gateway.failures().is_empty());
    }
}

#[test]
fn other_failures_are_the_frontends_to_tell() {
    let missing = Arc::new(Engine::default());
    let gateway_of = |engine: &Arc<Engine>| gateway(engine, Settling::Write);
    let read = || Query::ReadFile { path: "/no".to_owned(), limit_bytes: 1 };
    let gateway = gateway_of(&missing);
    let error = now(gateway.query(&state("a"), read())).expect_err("is not there");
    assert!(matches!(&error, WorldError::NotFound { what, .. } if what == "`/no`"), "{error:?}");
    let job = SolveError::Job {
        kind: ErrorKind::Environment,
        message: "disk full".to_owned(),
        help: Some("make room".to_owned()),
    };
    let broken = gateway_of(&Arc::new(Engine { fails: Some(job), ..Engine::default() }));
    let error = now(broken.settle(&[make("a")])).expect_err("fails");
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Environment, "disk full (make room)"));
    assert!(broken.failures().is_empty() && gateway.failures().is_empty());
}
