//! A real buildkitd: `BUILDKIT` names a folder with one (`tests/peers`), as for the other tests that compare with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rb_api::{
    Engine as _, Export, Job, LayoutPlace, Place, PlatformImage, Root, SolveError, SolveRequest, Stream,
};
use rb_diag::{ErrorKind, SourceMap};
use rb_frontend::{Answer, FileKind, Query};
use rb_llb::{CopyAction, Definition, ExecBuilder, ExecMeta, NodeMeta, State};
use rb_oci::{ImageConfig, Platform};
use rb_session::{LocalDir, LocalSession, Secret};

use crate::support::{Told, engine, options};

/// A daemon with all that it keeps below a folder; it ends with this.
pub(crate) struct Daemon {
    folder: tempfile::TempDir,
    process: Child,
}

impl Daemon {
    /// Starts one; none where there is no BuildKit, no busybox to run, or no right to run it.
    pub(crate) fn start() -> Option<Self> {
        let programs =
            std::env::vars_os().find(|(name, _)| name == "BUILDKIT").map(|(_, value)| PathBuf::from(value));
        let Some(programs) = programs else {
            eprintln!("stepping aside: BUILDKIT names no folder with buildkitd");
            return None;
        };
        if busybox().is_none() {
            eprintln!("stepping aside: there is no busybox (Debian: busybox-static)");
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            eprintln!("stepping aside: buildkitd needs root");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("buildkitd.toml"), "").expect("writes");
        let log = fs::File::create(folder.path().join("log")).expect("writes");
        let process = Command::new(programs.join("buildkitd"))
            .arg("--config")
            .arg(folder.path().join("buildkitd.toml"))
            .arg("--root")
            .arg(folder.path().join("root"))
            .arg("--addr")
            .arg(format!("unix://{}", folder.path().join("socket").display()))
            .args([
                "--oci-worker-snapshotter",
                "overlayfs",
                "--oci-worker-net",
                "host",
                "--containerd-worker=false",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("is one more"))
            .stderr(log)
            .spawn()
            .expect("buildkitd starts");
        let mut daemon = Self { folder, process };
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(daemon.socket()).is_err() {
            let is_over = daemon.process.try_wait().expect("is ours").is_some();
            let log = fs::read_to_string(daemon.folder.path().join("log")).unwrap_or_default();
            assert!(
                !is_over && begun.elapsed() < Duration::from_secs(120),
                "buildkitd does not come up: {log}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(daemon)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        if rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_err() {
            drop(self.process.kill());
        }
        drop(self.process.wait());
        // What it left mounted would keep its folder.
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let places = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
        for place in places.filter(|place| Path::new(place).starts_with(self.folder.path())) {
            drop(Command::new("umount").args(["-l", place]).status());
        }
    }
}

fn busybox() -> Option<Vec<u8>> {
    ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| fs::read(path).ok())
}

/// A folder for contexts, with a shell in it.
pub(crate) struct Context(tempfile::TempDir);

impl Context {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        fs::create_dir_all(path.join("src/deep")).expect("makes");
        fs::write(path.join("src/a.txt"), "a\n").expect("writes");
        fs::write(path.join("src/deep/ü.txt"), "deep\n").expect("writes");
        fs::write(path.join("src/empty"), "").expect("writes");
        std::os::unix::fs::symlink("deep/ü.txt", path.join("src/link")).expect("links");
        fs::write(path.join("busybox"), busybox().expect("is there")).expect("writes");
        fs::set_permissions(path.join("busybox"), fs::Permissions::from_mode(0o755)).expect("sets");
        Self(folder)
    }

    pub(crate) fn session(&self) -> LocalSession {
        let dir = LocalDir { path: self.0.path().to_owned(), normalise_modes: true, hidden: Vec::new() };
        LocalSession::default().with_local("context", dir).with_cache_scope("test")
    }
}

fn named(name: &str) -> NodeMeta {
    NodeMeta::named(name)
}

fn local(include: &[&str]) -> State {
    let patterns = serde_json::to_string(include).expect("encodes");
    let attrs = [("local.includepattern".to_owned(), patterns)].into();
    State::source("local://context", attrs, None, named("context"))
}

fn copied(to: &State, from: &State, src: &str, dest: &str) -> State {
    let action =
        CopyAction { src: src.into(), dest: dest.into(), create_dest_path: true, ..CopyAction::default() };
    to.copy(from, action, named(&format!("COPY {src} {dest}")))
}

/// A shell with the sources at `/src`.
pub(crate) fn base() -> State {
    let shell = copied(&State::scratch(), &local(&["busybox"]), "/busybox", "/bin/sh");
    let shell = copied(&shell, &local(&["busybox"]), "/busybox", "/bin/busybox");
    copied(&shell, &local(&["src"]), "/src", "/")
}

pub(crate) fn run(on: &State, script: &str) -> State {
    let args = ["/bin/sh", "-c", script].map(ToOwned::to_owned).to_vec();
    let meta = ExecMeta { args, cwd: "/".into(), env: vec!["PATH=/bin".into()], ..ExecMeta::default() };
    ExecBuilder::new(on, meta).finish(None, named(&format!("RUN {script}"))).root()
}

pub(crate) fn marshalled(state: &State) -> Definition {
    state.marshal(&SourceMap::default()).expect("marshals")
}

pub(crate) fn root(state: &State) -> Root {
    Root { label: "+t".into(), definition: marshalled(state) }
}

pub(crate) fn local_export(path: &str, destination: &Path) -> Export {
    Export::Local {
        root: 0,
        path: path.into(),
        destination: destination.to_owned(),
        into: false,
        entries: false,
        merge: false,
        optional: false,
        confine: None,
        follow: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_there_gives_what_its_commands_made() {
    let Some(daemon) = Daemon::start() else { return };
    let (context, folder) = (Context::new(), tempfile::tempdir().expect("a folder"));
    let engine = engine(&daemon.socket(), &folder.path().join("scratch"));
    let about = engine.about().await.expect("answers");
    assert!(!about.workers.is_empty() && about.version.is_some(), "{about:?}");
    let told = Told::default();
    let session = context.session().with_secret("token", Secret::new("hunter2"));
    let job = engine.job(options(Arc::new(session)), told.sink());
    questions(job.as_ref()).await;
    exports(job.as_ref(), folder.path()).await;
    failures(job.as_ref(), folder.path()).await;
    assert!(told.log().contains("made here"), "{}", told.log());
    let summary = job.summary();
    assert!(summary.executed >= 3, "{summary:?}");
    drop(job);
    // Another job finds all of it, whatever of the context changed that it does not take.
    fs::write(context.0.path().join("src/a.txt"), "b\n").expect("writes");
    let (told, again) = (Told::default(), context.session());
    let job = engine.job(options(Arc::new(again)), told.sink());
    let made = run(&base(), "echo made here; busybox cp /src/a.txt /out");
    let answer = job.query(marshalled(&made), Query::ReadFile { path: "/out".into(), limit_bytes: 9 }).await;
    assert_eq!(answer.expect("answers"), Answer::File(b"b\n".to_vec()), "what changed is sent again");
    assert!(job.summary().cached >= 1, "{:?}", job.summary());
}

async fn questions(job: &dyn Job) {
    let made = marshalled(&run(
        &base(),
        "echo made here; busybox cp /src/a.txt /out; busybox mkdir /dir; busybox ln -s /out /dir/link",
    ));
    let ask = async |query: Query| job.query(made.clone(), query).await;
    let path = |path: &str| path.to_owned();
    assert_eq!(
        ask(Query::ReadFile { path: path("/dir/link"), limit_bytes: 9 }).await.expect("reads"),
        Answer::File(b"a\n".to_vec())
    );
    assert_eq!(
        ask(Query::ReadStart { path: path("/out"), length_bytes: 1 }).await.expect("reads"),
        Answer::File(b"a".to_vec())
    );
    assert!(ask(Query::ReadFile { path: path("/out"), limit_bytes: 1 }).await.is_err());
    assert_eq!(ask(Query::Exists { path: path("/dir/link") }).await.expect("looks"), Answer::Exists(true));
    assert_eq!(ask(Query::Exists { path: path("/nowhere/x") }).await.expect("looks"), Answer::Exists(false));
    let Answer::Stat(Some(link)) = ask(Query::Stat { path: path("/dir/link") }).await.expect("looks") else {
        panic!("a link")
    };
    assert_eq!(link.kind, FileKind::Symlink);
    assert_eq!(ask(Query::Stat { path: path("/nowhere/x") }).await.expect("looks"), Answer::Stat(None));
    let Answer::List(list) = ask(Query::List { path: path("/src") }).await.expect("lists") else {
        panic!("a list")
    };
    assert_eq!(
        list.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(),
        ["a.txt", "deep", "empty", "link"]
    );
    let missing = ask(Query::ReadFile { path: path("/nowhere"), limit_bytes: 9 }).await;
    assert!(matches!(missing, Err(SolveError::NoSuchFile { .. })), "{missing:?}");
}

async fn exports(job: &dyn Job, folder: &Path) {
    let made = run(
        &base(),
        "echo made here; busybox cp /src/a.txt /out; busybox mkdir /dir; busybox ln -s /out /dir/link",
    );
    let files = local_export("/src", &folder.join("src"));
    let tar: Arc<std::sync::Mutex<Vec<u8>>> = Arc::default();
    struct Kept(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("nobody panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let stream = Stream::new(Kept(Arc::clone(&tar)));
    let image = PlatformImage { root: 0, config: ImageConfig::scratch(&Platform::host()) };
    let layout = |destination| Export::OciLayout {
        images: vec![image.clone()],
        names: vec!["example.com/a:1".into()],
        format: Default::default(),
        destination,
    };
    let exports = vec![
        files,
        Export::Tar { root: 0, destination: Place::Stream(stream), epoch_seconds: None },
        layout(LayoutPlace::Archive(Place::File(folder.join("image.tar")))),
        layout(LayoutPlace::Folder(folder.join("layout"))),
    ];
    let request = SolveRequest { roots: vec![root(&made)], exports, ..SolveRequest::default() };
    let result = job.solve(request).await.expect("is exported");
    assert_eq!(result.exports.len(), 4);
    let read = |path: &str| fs::read(folder.join(path)).expect(path);
    assert_eq!(read("src/a.txt"), b"a\n");
    assert_eq!(read("src/link"), b"deep\n");
    assert_eq!(read("src/empty"), b"");
    assert!(!folder.join("out").exists(), "only what was asked for comes");
    let bytes = tar.lock().expect("nobody panics").clone();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let names: Vec<_> = archive
        .entries()
        .expect("a tar")
        .map(|entry| entry.expect("an entry").path().expect("a path").into_owned())
        .collect();
    assert!(names.iter().any(|name| name.ends_with("out")), "{names:?}");
    assert!(read("image.tar").len() > 1000);
    let index: serde_json::Value = serde_json::from_slice(&read("layout/index.json")).expect("an index");
    let digest = index["manifests"][0]["digest"]
        .as_str()
        .expect("a digest")
        .replace("sha256:", "layout/blobs/sha256/");
    let manifest: serde_json::Value = serde_json::from_slice(&read(&digest)).expect("a manifest");
    assert!(manifest["layers"].as_array().is_some_and(|layers| !layers.is_empty()), "{manifest}");
}

async fn failures(job: &dyn Job, folder: &Path) {
    let failing = run(&base(), "echo last words; exit 3");
    let failed = job
        .solve(SolveRequest { roots: vec![root(&failing)], exports: Vec::new(), ..SolveRequest::default() })
        .await;
    match failed.expect_err("fails") {
        SolveError::Vertex { kind: ErrorKind::Build, message, log_tail, name, .. } => {
            assert_eq!((message.as_str(), name.as_str()), ("exit code 3", "RUN echo last words; exit 3"));
            assert_eq!(log_tail, ["last words"]);
        }
        other => panic!("{other:?}"),
    }
    let nowhere = local_export("/nowhere", &folder.join("nowhere"));
    let failed = job
        .solve(SolveRequest { roots: vec![root(&base())], exports: vec![nowhere], ..SolveRequest::default() })
        .await;
    assert_eq!(failed.expect_err("there is nothing").kind(), Some(ErrorKind::Input));
    assert!(!folder.join("nowhere").exists());
    let host = State::source("host://", Default::default(), None, named("FROM @host"));
    let failed =
        job.query(marshalled(&host), Query::List { path: "/".into() }).await.expect_err("is refused");
    assert!(failed.to_string().contains("FROM @host"), "{failed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_reach_their_step_and_dropping_a_job_ends_it() {
    let Some(daemon) = Daemon::start() else { return };
    let (context, folder) = (Context::new(), tempfile::tempdir().expect("a folder"));
    let engine = engine(&daemon.socket(), &folder.path().join("scratch"));
    let told = Told::default();
    let session = context.session().with_secret("token", Secret::new("hunter2"));
    let job = engine.job(options(Arc::new(session)), told.sink());
    let args = ["/bin/sh", "-c", "busybox wc -c < /token > /length"].map(ToOwned::to_owned).to_vec();
    let meta = ExecMeta { args, cwd: "/".into(), env: vec!["PATH=/bin".into()], ..ExecMeta::default() };
    let secret = rb_llb::SecretMount { id: "token".into(), mode: 0o400, ..rb_llb::SecretMount::default() };
    let state =
        ExecBuilder::new(&base(), meta).secret("/token", secret).finish(None, named("RUN --secret")).root();
    let answer =
        job.query(marshalled(&state), Query::ReadFile { path: "/length".into(), limit_bytes: 9 }).await;
    assert_eq!(answer.expect("answers"), Answer::File(b"7\n".to_vec()));
    let slow = marshalled(&run(&base(), "busybox sleep 7261"));
    let query = job.query(slow, Query::List { path: "/".into() });
    assert!(tokio::time::timeout(Duration::from_secs(5), query).await.is_err(), "it takes ten minutes");
    drop(job);
    let begun = Instant::now();
    let runs = || {
        fs::read_dir("/proc").expect("lists").flatten().any(|process| {
            fs::read(process.path().join("cmdline")).is_ok_and(|line| {
                line.windows(10).any(|words| words == b"sleep\x007261" || words == b"sleep 7261")
            })
        })
    };
    while runs() && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!runs(), "what nobody wants is cancelled");
}
