//! The same cases by `rb` on three real daemons, one of which is killed in the middle of a build: what comes of them is what is recorded.
//!
//! A case whose daemon is gone is built by another, as a user would. Without `BUILDKIT` it is told what is not tried.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::bases::Bases;
use super::case::{self, Case};
use super::peer::{self, Peer};
use super::{Run, built, variable};
use crate::env::{TestEnv, is_root};

/// So many daemons there are; the last one dies.
const DAEMONS: usize = 3;
/// So many cases are done by then.
const BEFORE_THE_END: usize = 12;

/// What is left to do, and what came of the rest.
struct Work<'a> {
    left: Mutex<VecDeque<&'a Case>>,
    done: AtomicUsize,
    /// The daemon that is to die is at work.
    is_at_work: AtomicBool,
    /// How its death was told.
    deaths: Mutex<Vec<String>>,
    wrong: Mutex<Vec<String>>,
}

#[test]
fn three_daemons_make_what_is_recorded() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus");
    if !is_root() || rb_oci::Platform::host().architecture != "amd64" {
        eprintln!("stepping aside: buildkitd needs root, and what is recorded is of amd64");
        return;
    }
    let Some(bases) = Bases::start(&corpus) else { return };
    let env = TestEnv::new();
    let settings = env.project().join("config.toml");
    fs::write(&settings, bases.settings()).expect("writes");
    let mut daemons = Vec::new();
    for number in 0..DAEMONS {
        let folder = env.project().join(format!("buildkit-{number}"));
        // Each has a socket of its own for what others may tell it of their spans.
        let of_it =
            format!("[otel]\n  socketPath = {:?}\n{}", folder.join("otel"), bases.settings_of_buildkit());
        let Some(daemon) = Peer::start(&folder, &of_it) else {
            eprintln!(
                "stepping aside: BUILDKIT names no folder with buildkitd: builds on three daemons are not tried"
            );
            return;
        };
        daemons.push((daemon, peer::address(&folder)));
    }
    let chosen = variable("CORPUS").unwrap_or_default();
    let cases = case::read_all(&corpus.join("cases"), &chosen);
    let text = fs::read_to_string(corpus.join("recorded")).expect("reads");
    let split = |line: &str| line.split_once(' ').map(|(name, rest)| (name.to_owned(), rest.to_owned()));
    let recorded: BTreeMap<String, String> = text.lines().filter_map(split).collect();
    let run = Run { env, peer: None, recorded, settings };
    let work = Work {
        left: Mutex::new(cases.iter().collect()),
        done: AtomicUsize::new(0),
        is_at_work: AtomicBool::new(false),
        deaths: Mutex::default(),
        wrong: Mutex::default(),
    };
    std::thread::scope(|scope| {
        let (run, work) = (&run, &work);
        let (last, address) = daemons.pop().expect("there are three");
        for (number, (_, address)) in daemons.iter().enumerate() {
            scope.spawn(move || run.work(number, address, work, false));
        }
        scope.spawn(move || run.work(DAEMONS - 1, &address, work, true));
        scope.spawn(move || work.kill(last));
    });
    let mut wrong = work.wrong.into_inner().expect("not poisoned");
    wrong.sort();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let deaths = work.deaths.into_inner().expect("not poisoned");
    assert!(
        chosen.is_empty() == (deaths.len() == 1),
        "one daemon dies, in the middle of one build: {deaths:?}"
    );
}

impl Work<'_> {
    /// Ends a daemon while it builds.
    fn kill(&self, mut daemon: Peer) {
        let begun = Instant::now();
        let is_time =
            || self.done.load(Ordering::SeqCst) >= BEFORE_THE_END && self.is_at_work.load(Ordering::SeqCst);
        while !is_time() && begun.elapsed() < Duration::from_secs(300) {
            if self.left.lock().expect("not poisoned").is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // It has come as far as the daemon by then.
        std::thread::sleep(Duration::from_millis(150));
        daemon.kill();
    }
}

impl Run {
    /// Builds cases on one daemon, until there are no more, or it is gone.
    fn work(&self, number: usize, address: &str, work: &Work<'_>, dies: bool) {
        loop {
            let Some(case) = work.left.lock().expect("not poisoned").pop_front() else { return };
            let folder = self.env.project().join(format!("at-{number}")).join(case.name.replace('/', "-"));
            fs::create_dir_all(folder.parent().expect("lies in a folder")).expect("makes a folder");
            case.write(&folder);
            work.is_at_work.fetch_or(dies, Ordering::SeqCst);
            let outcome = built(case, &folder, "rb", |words, outputs| {
                self.build_on(Some(address), words, &folder, outputs)
            });
            if dies {
                work.is_at_work.store(false, Ordering::SeqCst);
            }
            work.done.fetch_add(1, Ordering::SeqCst);
            let told = match outcome {
                Ok(outcome) if self.recorded.get(&case.name) == Some(&outcome.line()) => None,
                // What is recorded of these is what the bundled runtime makes, and BuildKit another thing.
                Ok(_) if !case.differs.is_empty() => None,
                // What is recorded is digests: how it differs, this machine says.
                Ok(outcome) => {
                    let here =
                        built(case, &folder, "here", |words, outputs| self.build(words, &folder, outputs));
                    Some(match here {
                        Ok(here) => here.difference(&outcome).unwrap_or_else(|| "as here".to_owned()),
                        Err(told) => told,
                    })
                }
                Err(told)
                    if dies
                        && ["went away", "cannot be reached"].iter().any(|words| told.contains(words)) =>
                {
                    work.deaths.lock().expect("not poisoned").push(told);
                    // Another builds it.
                    work.left.lock().expect("not poisoned").push_back(case);
                    return;
                }
                Err(told) => Some(told),
            };
            fs::remove_dir_all(&folder).expect("removes");
            if let Some(told) = told {
                work.wrong.lock().expect("not poisoned").push(format!("{}: {told}", case.name));
            }
        }
    }
}
