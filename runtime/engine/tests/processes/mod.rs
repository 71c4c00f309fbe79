//! Several processes over one state directory: what two need runs once, and what a killed one was at is taken over.
//!
//! The processes are copies of this test. Each step leaves a line in a cache mount that all share: what it is, and who ran it,
//! which reaches it through a proxy variable, since these are in no key. `tests/soak processes`
//! plays many histories; otherwise it is one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rb_frontend::{Answer, Query};
use rb_llb::{CacheSharing, ExecOp, Mount, MountKind, ProxyEnv};

use super::mounts::{files, mount, runtime, step, until};
use super::*;

const PROCESSES: usize = 10;
/// Steps in layers; each uses three of the layer below.
const LAYERS: usize = 4;
const WIDTH: usize = 5;

/// Tells a copy of the test what it is: history, its number, what its wishes are rolled from, and the folder.
const CHILD: &str = "RB_ENGINE_TEST_CHILD";

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("fits") % sides
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::vars().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// All steps of a history, as the process `who` asks for them. Some read their inputs whole and some a file of them.
fn steps(history: usize, who: usize) -> Vec<State> {
    let mut made: Vec<State> = Vec::new();
    for number in 0..LAYERS * WIDTH {
        let (layer, place) = (number / WIDTH, number % WIDTH);
        let marks = MountKind::Cache { id: "marks".to_owned(), sharing: CacheSharing::Shared };
        let mut mounts: Vec<(Mount, State)> = vec![(mount("/marks", marks), State::scratch())];
        if layer > 0 {
            for at in 0..3 {
                let input = made[(layer - 1) * WIDTH + (place + at) % WIDTH].clone();
                let readonly = at != 1;
                mounts.push((Mount { readonly, ..mount(&format!("/in{at}"), MountKind::Bind) }, input));
            }
        }
        let script = format!(
            "echo \"{history}.{number} $http_proxy\" >> /marks/begun; sleep 0.0{}; \
             cat /in*/said 2>/dev/null | cksum > /out/said; echo {number} >> /out/said; sleep 0.0{}",
            1 + number % 5,
            1 + number % 7,
        );
        let proxy = ProxyEnv { http_proxy: who.to_string(), ..ProxyEnv::default() };
        let meta = ExecMeta { proxy_env: Some(proxy), ..ExecMeta::default() };
        made.push(step(&script, mounts, ExecOp { meta, ..ExecOp::default() }).0);
    }
    made
}

/// Solves states with an engine over `dir`; returns what each says and how many steps ran.
async fn said(dir: &std::path::Path, engine: &LocalEngine, wanted: &[State]) -> (Vec<String>, usize) {
    let session = Arc::new(LocalSession::default());
    let options = JobOptions {
        session,
        no_cache: false,
        cache_from: Vec::new(),
        pull: PullPolicy::default(),
        allow_insecure: false,
        allow_host_network: false,
        allowed_devices: Default::default(),
        epoch_seconds: 0,
        course: rb_api::Course::default(),
    };
    let job = engine.job(options, Arc::new(|_: Event| {}));
    let definition = |state: &State| state.marshal(&SourceMap::default()).expect("marshals");
    let roots = wanted.iter().map(|state| Root { label: "root".to_owned(), definition: definition(state) });
    let request = SolveRequest { roots: roots.collect(), ..SolveRequest::default() };
    job.solve(request).await.unwrap_or_else(|error| panic!("in {}: {error:?}", dir.display()));
    let mut said = Vec::new();
    for state in wanted {
        let query = Query::ReadFile { path: "/said".to_owned(), limit_bytes: 4096 };
        let Answer::File(bytes) = job.query(definition(state), query).await.expect("answers") else {
            panic!("no file")
        };
        said.push(String::from_utf8(bytes).expect("is text"));
    }
    (said, job.summary().executed)
}

/// The part of one process: some roots, and then all.
fn child(dir: &std::path::Path, history: usize, who: usize, seed: usize) {
    let all = steps(history, who);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (seed as u64 + 1));
    let some: Vec<State> = (0..4).map(|_| all[dice.roll(all.len())].clone()).collect();
    let engine = open(dir);
    runtime().block_on(async {
        said(dir, &engine, &some).await;
        said(dir, &engine, &all[(LAYERS - 1) * WIDTH..]).await;
        engine.idle().await;
    });
}

fn start(dir: &std::path::Path, history: usize, who: usize, seed: usize) -> Child {
    let mut command = Command::new("/proc/self/exe");
    command.args([
        "processes::what_several_need_runs_once_and_what_a_killed_one_leaves_is_taken_over",
        "--exact",
    ]);
    command.arg("--nocapture").env(CHILD, format!("{history} {who} {seed} {}", dir.display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
}

/// The lines that steps left: step and runner, in the order they began.
fn marks(dir: &std::path::Path) -> Vec<(String, usize)> {
    let is_marks = |path: &PathBuf| path.file_name().is_some_and(|name| name == "begun");
    let Some(path) = files(&dir.join("state/caches")).into_iter().find(is_marks) else { return Vec::new() };
    let text = std::fs::read_to_string(path).expect("reads");
    let line = |line: &str| {
        let (step, who) = line.split_once(' ').expect("two words");
        (step.to_owned(), who.parse().expect("a number"))
    };
    text.lines().map(line).collect()
}

fn play(dir: &std::path::Path, history: usize, dice: &mut Dice) {
    let mut children: Vec<Option<Child>> =
        (0..PROCESSES).map(|who| Some(start(dir, history, who, dice.roll(1 << 20)))).collect();
    // Some are killed, each as soon as something more has happened.
    let mut killed = BTreeSet::new();
    let mine = |marks: &[(String, usize)]| {
        let prefix = format!("{history}.");
        marks.iter().filter(|(step, _)| step.starts_with(&prefix)).cloned().collect::<Vec<_>>()
    };
    for kill in 0..4 {
        let deadline = Instant::now() + Duration::from_secs(30);
        while mine(&marks(dir)).len() < 1 + 4 * kill && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        // By preference one that runs something now.
        let last = mine(&marks(dir)).last().map_or(0, |(_, who)| *who);
        let victim = if dice.roll(3) > 0 { last } else { dice.roll(PROCESSES) };
        if let Some(child) = &mut children[victim]
            && killed.insert(victim)
        {
            child.kill().expect("kills");
        }
    }
    for (who, child) in children.iter_mut().enumerate() {
        let output = child.take().expect("was started").wait_with_output().expect("ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let as_told = output.status.success() || killed.contains(&who);
        assert!(as_told, "{who}: {}{}", text(&output.stdout), text(&output.stderr));
    }
    // A step was run by one process that lived on at most, and by each that was killed once at most. (In which order is
    // left open: what a killed process ran is killed a moment after its claim is free.)
    let marks = mine(&marks(dir));
    for number in 0..LAYERS * WIDTH {
        let step = format!("{history}.{number}");
        let runners: Vec<usize> = marks.iter().filter(|(of, _)| *of == step).map(|(_, who)| *who).collect();
        let (dead, alive): (Vec<usize>, Vec<usize>) =
            runners.iter().copied().partition(|who| killed.contains(who));
        assert!(!runners.is_empty() && alive.len() <= 1, "{step}: {marks:?}, killed {killed:?}");
        assert_eq!(dead.len(), dead.iter().collect::<BTreeSet<_>>().len(), "{step}: {marks:?}");
    }
}

#[test]
fn what_several_need_runs_once_and_what_a_killed_one_leaves_is_taken_over() {
    if let Some(told) = variable(CHILD) {
        let mut words = told.splitn(4, ' ');
        let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
        let (history, who, seed) = (number(), number(), number());
        child(words.next().expect("a folder").as_ref(), history, who, seed);
        return;
    }
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    drop(open(dir.path()));
    let rounds = variable("RB_ENGINE_TEST_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number"));
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for history in 0..rounds {
        play(dir.path(), history, &mut dice);
        let left = files(&dir.path().join("state/claims"));
        for path in &left {
            let file = std::fs::File::options().write(true).open(path).expect("opens");
            assert!(file.try_lock().is_ok(), "{} is held by nobody", path.display());
        }
        // One that comes later finds all, and clears up.
        let engine = open(dir.path());
        assert_eq!(files(&dir.path().join("state/claims")), Vec::<PathBuf>::new());
        let all = steps(history, 99);
        let (words, executed) = runtime().block_on(said(dir.path(), &engine, &all));
        assert_eq!(executed, 0);
        assert!(words.iter().enumerate().all(|(number, said)| said.ends_with(&format!("\n{number}\n"))));
    }
}

#[test]
fn two_engines_at_once_share_a_step_and_a_failure_is_everybodys_own() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (one, two) = (open(dir.path()), open(dir.path()));
    let with_marks = || {
        let kind = MountKind::Cache { id: "marks".to_owned(), sharing: CacheSharing::Shared };
        vec![(mount("/marks", kind), State::scratch())]
    };
    let good =
        [step("echo x 1 >> /marks/begun; sleep 0.5; echo > /out/said", with_marks(), ExecOp::default()).0];
    let runtime = runtime();
    let (first, second) = runtime
        .block_on(async { tokio::join!(said(dir.path(), &one, &good), said(dir.path(), &two, &good)) });
    assert_eq!(first.1 + second.1, 1, "one ran it, the other found it");
    assert_eq!(marks(dir.path()).len(), 1);
    let bad = step("echo y 1 >> /marks/begun; sleep 0.3; exit 3", with_marks(), ExecOp::default()).0;
    let fails = async |engine: &LocalEngine| {
        let session = Arc::new(LocalSession::default());
        let options = JobOptions {
            session,
            no_cache: false,
            cache_from: Vec::new(),
            pull: PullPolicy::default(),
            allow_insecure: false,
            allow_host_network: false,
            allowed_devices: Default::default(),
            epoch_seconds: 0,
            course: rb_api::Course::default(),
        };
        let definition = bad.marshal(&SourceMap::default()).expect("marshals");
        let roots = vec![Root { label: "root".to_owned(), definition }];
        let job = engine.job(options, Arc::new(|_: Event| {}));
        job.solve(SolveRequest { roots, ..SolveRequest::default() }).await.is_err()
    };
    let both = runtime.block_on(async { tokio::join!(fails(&one), fails(&two)) });
    assert_eq!(both, (true, true));
    assert_eq!(marks(dir.path()).len(), 3);
    until("all is given up", || files(&dir.path().join("state/claims")).is_empty());
}
