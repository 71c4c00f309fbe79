//! What a step sees besides its inputs: caches, secrets, memory; and what it may do.
//!
//! Steps run on the host's own programs, so that no image is needed. Some tests run a copy of themselves, as another `rb`
//! with the same state directory: [`Kit::elsewhere`].

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests")]

mod agents;
mod caches;
mod devices;
mod privileged;
mod secrets;
mod snapshotters;
mod terms;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rb_api::{
    AllowedDevices, Engine, Event, EventKind, EventSink, Export, JobOptions, PullPolicy, Root, SolveError,
    SolveRequest, SolveResult,
};
use rb_diag::SourceMap;
use rb_engine::{EngineOptions, LocalEngine, StepNetwork, StepTerms};
use rb_llb::{ExecMeta, ExecOp, Mount, MountKind, NodeMeta, State};
use rb_registry::{Anonymous, Registry, RegistryOptions};
use rb_session::LocalSession;

use super::{host, is_root};

/// A state directory and a place for results.
pub(crate) struct Kit {
    dir: PathBuf,
    _owned: Option<tempfile::TempDir>,
    pub(crate) session: LocalSession,
    pub(crate) allow_insecure: bool,
    pub(crate) allowed_devices: AllowedDevices,
    pub(crate) network: StepNetwork,
    pub(crate) steps: StepTerms,
    pub(crate) snapshotter: rb_engine::Snapshotter,
    logs: Arc<Mutex<Vec<u8>>>,
}

/// Says in the environment of a copy of a test where the state directory is.
const ELSEWHERE: &str = "RB_ENGINE_TEST_STATE";

impl Kit {
    fn at(dir: PathBuf, owned: Option<tempfile::TempDir>) -> Self {
        let (session, logs) = (LocalSession::default(), Arc::default());
        Self {
            dir,
            _owned: owned,
            session,
            allow_insecure: false,
            allowed_devices: AllowedDevices::default(),
            network: StepNetwork::default(),
            steps: StepTerms::default(),
            snapshotter: rb_engine::Snapshotter::default(),
            logs,
        }
    }

    /// Nothing if this user cannot run sandboxes beside threads.
    pub(crate) fn new() -> Option<Self> {
        is_root().then(|| {
            let owned = tempfile::tempdir().expect("a temporary folder");
            Self::at(owned.path().to_owned(), Some(owned))
        })
    }

    /// The kit of the process that started this copy; nothing in the original.
    pub(crate) fn lent() -> Option<Self> {
        let dir = std::env::vars_os().find(|(name, _)| name == ELSEWHERE)?.1;
        Some(Self::at(dir.into(), None))
    }

    /// Starts a copy of the test `name`, for which [`Kit::lent`] is this kit.
    pub(crate) fn elsewhere(&self, name: &str) -> Child {
        let mut command = Command::new("/proc/self/exe");
        command.args([name, "--exact", "--nocapture"]).env(ELSEWHERE, &self.dir);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(crate) fn open(&self, jobs: usize) -> LocalEngine {
        let privileges =
            rb_exec::Privileges { mode: rb_exec::Rootless::Root, reason: None, outer_uid: 0, outer_gid: 0 };
        let jobs = NonZeroUsize::new(jobs).expect("not 0");
        let (allowed_binds, precious) = (Vec::new(), Vec::new());
        let registry = Registry::new(RegistryOptions::default(), Arc::new(Anonymous));
        let root = self.state();
        let network = self.network.clone();
        let options = EngineOptions {
            root,
            privileges,
            jobs,
            snapshotter: self.snapshotter,
            allowed_binds,
            registry,
            network,
            steps: self.steps.clone(),
            precious,
        };
        LocalEngine::open(options).expect("opens")
    }

    pub(crate) fn job_options(&self) -> JobOptions {
        JobOptions {
            session: Arc::new(self.session.clone()),
            no_cache: false,
            cache_from: Vec::new(),
            pull: PullPolicy::default(),
            allow_insecure: self.allow_insecure,
            allow_host_network: false,
            allowed_devices: self.allowed_devices.clone(),
            epoch_seconds: 0,
            course: rb_api::Course::default(),
        }
    }

    /// Solves states at once with an engine of its own; the tree of each goes to `out/<number>`.
    pub(crate) fn try_solve(&self, states: &[State]) -> Result<SolveResult, SolveError> {
        let engine = self.open(states.len());
        runtime().block_on(self.solving(&engine, states))
    }

    pub(crate) async fn solving(
        &self,
        engine: &LocalEngine,
        states: &[State],
    ) -> Result<SolveResult, SolveError> {
        let root = |state: &State| Root {
            label: "root".to_owned(),
            definition: state.marshal(&SourceMap::default()).expect("marshals"),
        };
        let export = |number: usize| Export::Local {
            root: number,
            path: "/".to_owned(),
            destination: self.dir.join(format!("out/{number}")),
            into: false,
            entries: false,
            merge: false,
            optional: false,
            confine: None,
            follow: false,
        };
        let request = SolveRequest {
            roots: states.iter().map(root).collect(),
            exports: (0..states.len()).map(export).collect(),
            ..SolveRequest::default()
        };
        let logs = Arc::clone(&self.logs);
        let events: EventSink = Arc::new(move |event: Event| {
            if let EventKind::Log { bytes, .. } = event.kind {
                logs.lock().unwrap().extend_from_slice(&bytes);
            }
        });
        engine.job(self.job_options(), events).solve(request).await
    }

    /// Solves states and returns how many steps ran.
    #[track_caller]
    pub(crate) fn solve(&self, states: &[State]) -> usize {
        self.try_solve(states).unwrap_or_else(|error| panic!("{error:?}\n{}", self.logs())).summary.executed
    }

    /// Solves one state and returns what it wrote to `/out/said`.
    #[track_caller]
    pub(crate) fn said(&self, state: &State) -> String {
        self.solve(std::slice::from_ref(state));
        std::fs::read_to_string(self.dir.join("out/0/said")).expect("said something")
    }

    pub(crate) fn logs(&self) -> String {
        String::from_utf8_lossy(&self.logs.lock().unwrap()).into_owned()
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// A step on the host's programs with these mounts, each with the tree it begins as. What it writes below `/out` is
/// the state returned first; the root afterwards is the second.
pub(crate) fn step(script: &str, mounts: Vec<(Mount, State)>, op: ExecOp) -> (State, State) {
    let args = ["/bin/sh", "-euc", script].map(ToOwned::to_owned).to_vec();
    let meta = ExecMeta { args, ..op.meta };
    let bind = |dest: &str, output| Mount { dest: dest.to_owned(), output, ..Mount::default() };
    let mut given = vec![(bind("/", Some(0)), host()), (bind("/out", Some(1)), State::scratch())];
    given.extend(mounts);
    let (mut inputs, mut all) = (Vec::new(), Vec::new());
    for (mut mount, tree) in given {
        if !tree.is_scratch() {
            mount.input = Some(inputs.len());
            inputs.push(tree);
        }
        all.push(mount);
    }
    let op = ExecOp { meta, mounts: all, ..op };
    let made = State::exec(inputs, op, None, NodeMeta::named(script));
    (made.mount("/out").expect("is an output"), made.root())
}

pub(crate) fn mount(dest: &str, kind: MountKind) -> Mount {
    Mount { dest: dest.to_owned(), kind, ..Mount::default() }
}

/// Waits for something that happens outside.
#[track_caller]
pub(crate) fn until(what: &str, happens: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !happens() {
        assert!(Instant::now() < deadline, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// All files below `directory`.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Runs tests of this folder again as a user without rights, in a user namespace.
#[test]
fn all_of_this_without_root() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(kit) = Kit::new() else { return };
    let user = ["setpriv", "--reuid", "61001", "--regid", "61001", "--clear-groups"];
    let namespace = ["unshare", "--user", "--map-root-user", "--mount"];
    let mut command = Command::new("env");
    if !command.args(user).args(namespace).arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("stepping aside: this needs user namespaces for everybody, and the package util-linux");
        return;
    }
    // By another process: a test that forks meanwhile would inherit the copy open for writing ("text file busy").
    let (own, copy) = (std::fs::read_link("/proc/self/exe").unwrap(), kit.dir.join("tests"));
    assert!(Command::new("cp").arg(own).arg(&copy).status().unwrap().success());
    std::fs::set_permissions(&kit.dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("env");
    command.args(user).args(namespace).arg(&copy).arg("--exact").current_dir("/");
    for name in [
        "caches::a_cache_outlives_builds_and_enters_no_key_and_no_layer",
        "caches::a_selected_part_lies_within_the_cache_and_may_be_read_only",
        "caches::shared_across_processes",
        "caches::private_across_processes",
        "caches::locked_across_processes",
        "caches::a_killed_process_leaves_its_caches_usable",
        "secrets::the_value_is_not_in_the_key_and_not_in_errors",
        "secrets::a_secret_of_roots_needs_no_other_ids",
        "privileged::a_privileged_step_is_refused_unless_allowed_even_if_its_result_is_there",
        "memory_has_the_size_asked_for",
    ] {
        command.arg(format!("mounts::{name}"));
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("10 passed") && !stderr.contains("stepping aside"), "{stdout}{stderr}");
}

#[test]
fn memory_has_the_size_asked_for() {
    let Some(kit) = Kit::new() else { return };
    let memory = mount("/fast", MountKind::Tmpfs { size_bytes: 1 << 20 });
    let script = "df -k /fast | tail -1 | awk '{print $2}' > /out/said; ! head -c 2000000 /dev/zero > /fast/x 2>/dev/null";
    let (out, _) = step(script, vec![(memory, State::scratch())], ExecOp::default());
    assert_eq!(kit.said(&out), "1024\n");
}

#[test]
fn an_empty_tree_may_be_mounted_read_only() {
    let Some(kit) = Kit::new() else { return };
    let empty = Mount { readonly: true, ..mount("/empty", MountKind::Bind) };
    let script = "ls -A /empty > /out/said; ! touch /empty/x 2>/dev/null";
    let (out, _) = step(script, vec![(empty, State::scratch())], ExecOp::default());
    assert_eq!(kit.said(&out), "");
}

#[test]
fn proxies_reach_the_process_and_not_the_key() {
    let Some(kit) = Kit::new() else { return };
    let with = |proxy: &str| {
        let proxy = rb_llb::ProxyEnv { http_proxy: proxy.to_owned(), ..rb_llb::ProxyEnv::default() };
        let env = vec!["http_proxy=own".to_owned(), "no_proxy=own".to_owned()];
        let meta = ExecMeta { env, proxy_env: Some(proxy), ..ExecMeta::default() };
        step("env | grep -i proxy | sort > /out/said", vec![], ExecOp { meta, ..ExecOp::default() }).0
    };
    assert_eq!(kit.said(&with("http://a:1")), "HTTP_PROXY=http://a:1\nhttp_proxy=http://a:1\nno_proxy=own\n");
    assert_eq!(kit.solve(&[with("http://b:2")]), 0);
}

#[test]
fn this_machines_proxies_reach_the_process_and_not_the_key() {
    let Some(mut kit) = Kit::new() else { return };
    let meta = ExecMeta { env: vec!["no_proxy=own".to_owned()], ..ExecMeta::default() };
    let script = "env | grep -i proxy | sort > /out/said; echo \"by $ALL_PROXY\"";
    let (out, _) = step(script, vec![], ExecOp { meta, ..ExecOp::default() });
    kit.network.proxies.all_proxy = "socks5://me:hunter2@a".to_owned();
    let proxy = "socks5://me:hunter2@a";
    assert_eq!(kit.said(&out), format!("ALL_PROXY={proxy}\nall_proxy={proxy}\nno_proxy=own\n"));
    assert!(kit.logs().contains("by socks5://me:***@a") && !kit.logs().contains("hunter2"), "{}", kit.logs());
    kit.network.proxies.all_proxy = "socks5://b".to_owned();
    assert_eq!(kit.solve(&[out]), 0);
}

#[test]
fn limits_reach_the_process() {
    let Some(kit) = Kit::new() else { return };
    let ulimits = vec![rb_llb::Ulimit { name: "nofile".to_owned(), soft: 77, hard: 99 }];
    let meta = ExecMeta { ulimits, ..ExecMeta::default() };
    let script = "ulimit -Sn > /out/said; ulimit -Hn >> /out/said";
    let (out, _) = step(script, vec![], ExecOp { meta, ..ExecOp::default() });
    assert_eq!(kit.said(&out), "77\n99\n");
}

#[test]
fn names_of_hosts_may_have_either_kind_of_address() {
    let Some(kit) = Kit::new() else { return };
    let address = |host: &str, ip: &str| rb_llb::HostAddress { host: host.to_owned(), ip: ip.to_owned() };
    let extra_hosts = vec![address("four", "10.1.2.3"), address("six", "2001:db8:0:0::7")];
    let meta = ExecMeta { extra_hosts, ..ExecMeta::default() };
    let script = "getent hosts six four | awk '{print $1, $2}' > /out/said";
    let (out, _) = step(script, vec![], ExecOp { meta, ..ExecOp::default() });
    assert_eq!(kit.said(&out), "2001:db8::7 six\n10.1.2.3 four\n");
}
