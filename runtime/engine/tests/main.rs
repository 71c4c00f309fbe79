//! The engine on real disks and a real kernel, without a language: states in, trees out.
//!
//! These tests run sandboxes as the user that runs them; what a user may not do is told by the error that fails them.

#![allow(clippy::print_stderr, reason = "a test says why it steps aside")]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rb_api::{
    Engine, Event, EventKind, EventSink, Export, JobOptions, PullPolicy, Root, SolveError, SolveRequest,
    SolveResult, Summary,
};
use rb_diag::{ErrorKind, SourceMap};
use rb_engine::{EngineOptions, LocalEngine};
use rb_llb::{CopyAction, ExecBuilder, ExecMeta, MkfileAction, MountOptions, NodeMeta, State, extension};
use rb_registry::{Anonymous, Registry, RegistryOptions};
use rb_session::{HiddenFile, LocalDir, LocalSession};

#[path = "../../exec/tests/sandbox/counts.rs"]
#[allow(dead_code, reason = "tests of others use the rest")]
mod counts;
mod images;
mod jobs;
mod mounts;
mod packing;
mod processes;
mod steady;
mod takes;
mod times;
mod uploads;

struct Bench {
    dir: tempfile::TempDir,
    engine: LocalEngine,
    seen: Arc<Mutex<Vec<EventKind>>>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("src")).expect("makes a folder");
        let engine = open(dir.path());
        Self { dir, engine, seen: Arc::default() }
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.dir.path().join("src").join(path);
        std::fs::create_dir_all(path.parent().expect("has one")).expect("makes folders");
        std::fs::write(path, content).expect("writes");
    }

    fn options(&self) -> JobOptions {
        let local = LocalDir { path: self.dir.path().join("src"), normalise_modes: true, hidden: Vec::new() };
        JobOptions {
            session: Arc::new(LocalSession::default().with_local("context", local)),
            no_cache: false,
            cache_from: Vec::new(),
            pull: PullPolicy::default(),
            allow_insecure: false,
            allow_host_network: false,
            allowed_devices: Default::default(),
            epoch_seconds: 1_587_038_400,
            course: rb_api::Course::default(),
        }
    }

    fn request(&self, state: &State) -> SolveRequest {
        let definition = state.marshal(&SourceMap::default()).expect("marshals");
        SolveRequest {
            roots: vec![Root { label: "root".to_owned(), definition }],
            exports: vec![Export::Local {
                root: 0,
                path: "/".to_owned(),
                destination: self.dir.path().join("out"),
                into: false,
                entries: false,
                merge: false,
                optional: false,
                confine: None,
                follow: false,
            }],
            ..SolveRequest::default()
        }
    }

    fn events(&self) -> EventSink {
        let seen = Arc::clone(&self.seen);
        Arc::new(move |event: Event| seen.lock().expect("no panics").push(event.kind))
    }

    fn solve_request(&self, request: SolveRequest) -> Result<SolveResult, SolveError> {
        self.solve_with(self.options(), request)
    }

    fn solve_with(&self, options: JobOptions, request: SolveRequest) -> Result<SolveResult, SolveError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        // Each call gets an engine of its own, as each run of `rb` does: what is shared is on the disk.
        let engine = open(self.dir.path());
        runtime.block_on(async { engine.job(options, self.events()).solve(request).await })
    }

    #[track_caller]
    fn solve(&self, state: &State) -> Summary {
        self.solve_request(self.request(state)).expect("solves").summary
    }

    fn out(&self, path: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("out").join(path)).expect("is in the output")
    }
}

fn open(dir: &Path) -> LocalEngine {
    let options = EngineOptions {
        root: dir.join("state"),
        privileges: rb_exec::privileges().unwrap_or(rb_exec::Privileges {
            mode: rb_exec::Rootless::Root,
            reason: None,
            outer_uid: 0,
            outer_gid: 0,
        }),
        jobs: NonZeroUsize::MIN.saturating_add(1),
        snapshotter: Default::default(),
        allowed_binds: Vec::new(),
        registry: Registry::new(RegistryOptions::default(), Arc::new(Anonymous)),
        network: Default::default(),
        steps: Default::default(),
        precious: Vec::new(),
    };
    LocalEngine::open(options).expect("opens")
}

fn host() -> State {
    let attrs = BTreeMap::from([(extension::host_fingerprint(0), "echo tools".to_owned())]);
    State::source("host://", attrs, None, NodeMeta::named("FROM @host"))
}

fn context(patterns: &[&str]) -> State {
    let mut attrs = BTreeMap::new();
    if !patterns.is_empty() {
        attrs.insert("local.includepattern".to_owned(), serde_json::to_string(patterns).expect("serialises"));
    }
    State::source("local://context", attrs, None, NodeMeta::named("context"))
}

fn run(on: &State, script: &str) -> State {
    let args = ["/bin/sh", "-ec", script].map(ToOwned::to_owned).to_vec();
    ExecBuilder::new(on, ExecMeta { args, ..ExecMeta::default() })
        .finish(None, NodeMeta::named(script))
        .root()
}

fn copy(from: &State, src: &str, to: &State, dest: &str) -> State {
    let action = CopyAction {
        src: src.to_owned(),
        dest: dest.to_owned(),
        create_dest_path: true,
        allow_wildcard: true,
        dir_copy_contents: true,
        follow_symlink: true,
        ..CopyAction::default()
    };
    to.copy(from, action, NodeMeta::named(format!("COPY {src} {dest}")))
}

fn is_root() -> bool {
    let root = std::fs::read_to_string("/proc/self/status").expect("reads").contains("Uid:\t0\t0");
    if !root {
        eprintln!(
            "stepping aside: without root a process must enter the runtime before it has threads; see tests/cli"
        );
    }
    root
}

#[test]
fn files_are_copied_and_only_changed_content_runs_again() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    bench.write("a/b.txt", "one\n");
    bench.write("ignored", "");
    let state = copy(&context(&["a"]), "/a", &State::scratch(), "/dest");
    assert_eq!(bench.solve(&state), Summary { executed: 1, cached: 0, skipped: 0 });
    assert_eq!(bench.out("dest/b.txt"), "one\n");
    assert_eq!(bench.solve(&state), Summary { executed: 0, cached: 1, skipped: 0 });
    bench.write("ignored", "more");
    bench.write("a/b.txt", "one\n");
    assert_eq!(bench.solve(&state).executed, 0);
    bench.write("a/b.txt", "two\n");
    assert_eq!(bench.solve(&state).executed, 1);
    assert_eq!(bench.out("dest/b.txt"), "two\n");
}

#[test]
fn hidden_files_are_not_lent_along() {
    let bench = Bench::new();
    ["f", ".secret", ".env", "deep/.env"].iter().for_each(|path| bench.write(path, "x"));
    let hidden = |path: &str, by_name| HiddenFile { path: path.to_owned(), by_name };
    let lent = LocalDir {
        path: bench.dir.path().join("src"),
        normalise_modes: true,
        hidden: vec![hidden(".secret", false), hidden(".env", true)],
    };
    let session = LocalSession::default().with_local("context", lent);
    let options = JobOptions { session: Arc::new(session), ..bench.options() };
    let tree = |patterns: &[&str]| {
        let state = copy(&context(patterns), "/", &State::scratch(), "/all");
        bench.solve_with(options.clone(), bench.request(&state)).expect("solves");
        let there = |path: &&str| bench.dir.path().join("out/all").join(path).exists();
        ["f", ".secret", ".env", "deep/.env"].into_iter().filter(there).collect::<Vec<_>>()
    };
    assert_eq!(tree(&[]), ["f", "deep/.env"]);
    assert_eq!(tree(&["f", ".secret", ".env"]), ["f", ".env"]);
}

#[test]
fn a_step_runs_on_the_host_base_and_stops_a_change_that_changes_nothing() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    bench.write("in", "x # remark\n");
    let step = run(&copy(&context(&["in"]), "/in", &host(), "/in"), "cut -c1 /in > /out; rm /in");
    let result = copy(&step, "/out", &State::scratch(), "/out");
    let after = result.mkfile(
        MkfileAction {
            path: "/done".to_owned(),
            mode: 0o644,
            data: "done".into(),
            ..MkfileAction::default()
        },
        NodeMeta::named("mkfile"),
    );
    assert_eq!(bench.solve(&after).executed, 4);
    assert_eq!(bench.out("out"), "x\n");
    assert_eq!(bench.solve(&after), Summary { executed: 0, cached: 1, skipped: 3 });
    bench.write("in", "x # another\n");
    // The copy in and the step run; what the step left is as before, so both steps after it are found.
    assert_eq!(bench.solve(&after).executed, 2);
}

#[test]
fn a_failing_step_tells_its_end_and_is_not_kept() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let state = run(&host(), "echo words; echo more >&2; exit 9");
    for _ in 0..2 {
        let error = bench.solve_request(bench.request(&state)).expect_err("fails");
        let SolveError::Vertex { kind, message, log_tail, .. } = error else { panic!("{error:?}") };
        assert_eq!(kind, ErrorKind::Build);
        assert!(message.contains("exit code 9"), "{message}");
        assert!(log_tail.iter().any(|line| line == "words") && log_tail.iter().any(|line| line == "more"));
    }
}

#[test]
fn mounts_of_a_step_are_read_written_and_kept() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    bench.write("d/f", "from the context\n");
    let args =
        ["/bin/sh", "-ec", "cat /in/f > /made/f; ! touch /in/x 2>/dev/null; test -d /fast && touch /fast/x"];
    let meta = ExecMeta { args: args.map(ToOwned::to_owned).to_vec(), ..ExecMeta::default() };
    let options = MountOptions { readonly: true, selector: "/d".to_owned(), ..MountOptions::default() };
    let exec = ExecBuilder::new(&host(), meta)
        .mount("/in", &context(&["d"]), options)
        .mount("/made", &State::scratch(), MountOptions::default())
        .tmpfs("/fast", 0)
        .finish(None, NodeMeta::named("mounts"));
    let made = exec.mount("/made").expect("is an output");
    assert_eq!(bench.solve(&made).executed, 1);
    assert_eq!(bench.out("f"), "from the context\n");
    // The root keeps no trace of what was mounted in it.
    let root = copy(&exec.root(), "/", &State::scratch(), "/all");
    bench.solve(&root);
    assert!(!bench.dir.path().join("out/all/in").exists() && !bench.dir.path().join("out/all/fast").exists());
}

#[test]
fn what_is_not_lent_or_not_done_is_refused_by_name() {
    let bench = Bench::new();
    for (identifier, text) in [
        ("local://other", "`other`"),
        ("docker-image://docker.io/library/Alpine:latest", "lower case"),
        ("ftp://example.com/x", "ftp"),
        ("oci-layout://x/y@sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "x/y"),
    ] {
        let state = copy(
            &State::source(identifier, BTreeMap::new(), None, NodeMeta::default()),
            "/",
            &State::scratch(),
            "/x",
        );
        let error = bench.solve_request(bench.request(&state)).expect_err("is refused");
        assert_eq!(error.kind(), Some(ErrorKind::Input), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    drop(bench.engine);
}
