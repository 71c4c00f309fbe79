//! A cached build gives what a clean build gives: shown on random edits of random projects.
//!
//! A number is a whole story: a project with odd files, a build file, and edits of both one after another. After each edit the
//! project is built over a state directory that has seen all before, and a copy of it elsewhere over a new one. Exit codes, errors,
//! local files, and in part of the rounds tars and images have to be equal. A build right after a build runs no step.
//!
//! Some new stories always run, many with `tests/soak equality`: `RB_EQUALITY_SEQUENCES` says how many, `RB_EQUALITY_SEED=7`
//! has story 7 told again; with both, as many from 7 on.
//!
//! [`caches`] shows the same of `make` and `cargo` with cache mounts, where what the cache holds must not be what comes out.

mod caches;
mod edits;
mod project;
mod trees;

use std::fmt::Write as _;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use edits::Edited;
use project::Recipe;
use serde_json::Value;

use crate::env::TestEnv;

/// Stories in a normal run.
const SOME: u64 = 4;
/// As long is a file too young for its digest to be remembered.
const YOUNG: Duration = Duration::from_millis(2100);
/// Threads for each processor: some stories wait until files are old.
const THREADS: usize = 2;

/// Numbers that look random and follow from the first one (SplitMix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, but without, `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("fits");
        usize::try_from(self.next() % end).expect("fits")
    }

    pub(super) fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub(super) fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }
}

/// Copies a folder with its modes, times, links and hard links, to where nothing is.
pub(crate) fn copy_as_it_is(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp starts");
    assert!(copied.success(), "{from:?} cannot be copied to {to:?}");
}

/// How one build ended.
struct Built {
    code: i32,
    /// What kind of error, in which line, and what it says.
    error: Option<String>,
    /// Steps that were run.
    executed: Option<u64>,
    stderr: String,
}

/// What happened in all stories.
#[derive(Default)]
struct Tally {
    builds: AtomicU64,
    failed: AtomicU64,
    steps: AtomicU64,
    steps_clean: AtomicU64,
    /// Layers of which only what differs from an earlier one was written.
    continued: AtomicU64,
}

struct Story {
    seed: u64,
    random: Random,
    env: TestEnv,
    edited: Edited,
    /// Files of earlier builds are left where they are.
    keeps_output: bool,
    made: Instant,
    /// What was done so far.
    told: String,
}

impl Story {
    /// Makes the project; it is built later, when its files have come of age.
    fn new(seed: u64, base: &Path) -> Self {
        let mut random = Random::new(seed);
        let env = TestEnv::new();
        furnish(&env, base);
        let folder = env.project().join("project");
        fs::create_dir(&folder).expect("makes folders");
        project::fill(&folder, &mut random);
        let history = env.project().with_file_name("history");
        fs::create_dir(&history).expect("makes folders");
        let recipe = Recipe::new(&mut random);
        let edited = Edited { folder, history, states: Vec::new(), recipe, arguments: Vec::new() };
        let keeps_output = random.one_in(2);
        Self { seed, random, env, edited, keeps_output, made: Instant::now(), told: String::new() }
    }

    /// Tells it to its end.
    fn run(mut self, tally: &Tally) -> Result<(), String> {
        std::thread::sleep(YOUNG.saturating_sub(self.made.elapsed()));
        let rounds = 5 + self.random.below(4);
        let mut fails = false;
        for round in 0..rounds {
            if round > 0 {
                if fails && !self.random.one_in(4) {
                    writeln!(self.told, "  {}", self.edited.repair(&mut self.random)).expect("in memory");
                }
                for _ in 0..1 + self.random.below(3) {
                    let edit = self.edited.edit(&mut self.random);
                    writeln!(self.told, "  {edit}").expect("in memory");
                }
                if self.random.one_in(16) {
                    std::thread::sleep(YOUNG);
                    writeln!(self.told, "  waited").expect("in memory");
                }
            }
            let text = self.edited.recipe.text();
            let file = self.edited.folder.join("Buildfile");
            // A file that stays as it is keeps its time.
            if fs::read_to_string(&file).ok().as_ref() != Some(&text) {
                fs::write(&file, &text).expect("writes");
            }
            self.edited.keep();
            let equal = self.round(tally);
            writeln!(self.told, "  -- built").expect("in memory");
            fails = equal.map_err(|difference| {
                format!(
                    "story {} (to see it again: RB_EQUALITY_SEED={}), round {round}:\n{difference}\n  what was done:\n{}\
                     \n  the build file:\n{text}",
                    self.seed, self.seed, self.told,
                )
            })?;
        }
        let store = rb_store::Store::open(&self.env.state()).expect("opens");
        let continued = store.snapshots().expect("reads").iter().filter(|row| row.continues).count();
        tally.continued.fetch_add(continued as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Builds twice, and compares. Tells whether that failed.
    fn round(&mut self, tally: &Tally) -> Result<bool, String> {
        let export = match self.random.below(6) {
            0 => Some("tar"),
            1 => Some("oci"),
            _ => None,
        };
        let mut arguments: Vec<String> = vec!["--progress=json".to_owned()];
        if let Some(kind) = export {
            arguments.extend(["--epoch=0".to_owned(), format!("--output=type={kind},dest=../exported")]);
        }
        arguments.push(self.edited.recipe.main());
        arguments.extend(self.edited.arguments.iter().cloned());
        let again = self.random.one_in(3);

        let outputs = self.env.project().join("out");
        if !self.keeps_output {
            fs::remove_dir_all(&outputs).ok();
        }
        let before = trees::of_folder(&outputs);
        let cached = build(&self.env, &arguments);
        let clean = {
            let env = TestEnv::new();
            furnish(&env, &self.env.project().join("base"));
            copy_as_it_is(&self.edited.folder, &env.project().join("project"));
            let clean = build(&env, &arguments);
            self.equal(&cached, &clean, &env, &arguments)?;
            if clean.code == 0 {
                self.equal_outputs(&env)?;
                if let Some(kind) = export {
                    self.equal_exports(&env, kind)?;
                }
            }
            clean
        };
        tally.builds.fetch_add(1, Ordering::Relaxed);
        tally.steps.fetch_add(cached.executed.unwrap_or(0), Ordering::Relaxed);
        tally.steps_clean.fetch_add(clean.executed.unwrap_or(0), Ordering::Relaxed);
        let after = trees::of_folder(&outputs);
        if cached.code != 0 {
            tally.failed.fetch_add(1, Ordering::Relaxed);
            if let Some(difference) = trees::difference(&after, &before) {
                return Err(format!("  a build that failed wrote files:\n{difference}"));
            }
        } else if again {
            if self.random.one_in(2) {
                fs::remove_dir_all(&outputs).ok();
            }
            let repeated = build(&self.env, &arguments);
            if repeated.executed != Some(0) {
                return Err(format!("  a build right after a build ran steps:\n{}", repeated.stderr));
            }
            if !self.keeps_output
                && let Some(difference) = trees::difference(&trees::of_folder(&outputs), &after)
            {
                return Err(format!("  a build right after a build gave something else:\n{difference}"));
            }
        }
        Ok(cached.code != 0)
    }

    /// Both have to end alike. Where several steps fail at once, it is not said which one is told of.
    fn equal(
        &self,
        cached: &Built,
        clean: &Built,
        env: &TestEnv,
        arguments: &[String],
    ) -> Result<(), String> {
        if (cached.code, &cached.error) == (clean.code, &clean.error) {
            return Ok(());
        }
        if cached.code != 0 && clean.code != 0 {
            for _ in 0..12 {
                fs::remove_dir_all(env.state()).expect("removes");
                fs::create_dir(env.state()).expect("makes folders");
                let clean = build(env, arguments);
                if (cached.code, &cached.error) == (clean.code, &clean.error) {
                    return Ok(());
                }
            }
        }
        Err(format!(
            "  cached: exit code {}, {:?}\n  clean:  exit code {}, {:?}\n  cached said:\n{}\n  clean said:\n{}",
            cached.code, cached.error, clean.code, clean.error, cached.stderr, clean.stderr,
        ))
    }

    fn equal_outputs(&self, env: &TestEnv) -> Result<(), String> {
        let clean = trees::of_folder(&env.project().join("out"));
        let mut cached = trees::of_folder(&self.env.project().join("out"));
        if self.keeps_output {
            // What earlier build files wrote stays; what this one writes replaces all that was there.
            let top = |path: &[u8]| path.split(|byte| *byte == b'/').next().expect("has a first").to_vec();
            cached.retain(|path, _| clean.contains_key(&top(path)));
        }
        match trees::difference(&cached, &clean) {
            Some(difference) => Err(format!("  local files:\n{difference}")),
            None => Ok(()),
        }
    }

    fn equal_exports(&self, env: &TestEnv, kind: &str) -> Result<(), String> {
        let (cached, clean) = (self.env.project().join("exported"), env.project().join("exported"));
        let bytes = |path: &Path| fs::read(path).expect("was written");
        let (cached, clean) = if kind == "tar" {
            let (cached, clean) = (bytes(&cached), bytes(&clean));
            if cached == clean {
                return Ok(());
            }
            (trees::of_tar(&cached[..]), trees::of_tar(&clean[..]))
        } else {
            let ((cached, config), (clean, clean_config)) =
                (trees::of_image(&cached), trees::of_image(&clean));
            if config != clean_config {
                return Err(format!(
                    "  config of the image:\n    cached: {config}\n    clean:  {clean_config}"
                ));
            }
            if cached == clean {
                return Ok(());
            }
            (cached, clean)
        };
        let difference = trees::difference(&cached, &clean).unwrap_or_else(|| "    bytes".to_owned());
        Err(format!("  {kind}:\n{difference}"))
    }
}

/// Puts beside a project what it stands on.
fn furnish(env: &TestEnv, base: &Path) {
    env.write("rb.toml", "");
    let copied = Command::new("cp").arg("-al").arg(base).arg(env.project().join("base")).status();
    assert!(copied.expect("cp starts").success());
}

fn build(env: &TestEnv, arguments: &[String]) -> Built {
    let run = env.rb_in("project", arguments);
    let events = run.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (mut executed, mut error) = (None, None);
    for event in events {
        match event["event"].as_str() {
            Some("summary") => executed = event["executed"].as_u64(),
            Some("error") => {
                error = Some(format!("{} {} {}", event["kind"], event["line"], event["message"]));
            }
            _ => {}
        }
    }
    Built { code: run.code, error, executed, stderr: run.stderr }
}

/// Makes the project `base`, by which all others begin; `None` where there is no busybox.
fn base(env: &TestEnv) -> Option<std::path::PathBuf> {
    if !env.busybox_layout("base/layout") {
        return None;
    }
    env.write(
        "base/Buildfile",
        "VERSION 1\nbusybox:\n    FROM oci-layout:./layout:test\n    RUN /bin/busybox --install -s /bin\n",
    );
    Some(env.project().join("base"))
}

/// What the environment says, as a number.
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how long")]
fn told(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("is a number"))
}

/// The number of the first story: a new one each time, small enough to be typed, unless it was told.
fn first_seed() -> u64 {
    told("RB_EQUALITY_SEED").unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish() >> 24)
}

#[test]
fn a_cached_build_gives_what_a_clean_build_gives() {
    let place = TestEnv::new();
    let Some(base) = base(&place) else { return };
    let some = if told("RB_EQUALITY_SEED").is_some() { 1 } else { SOME };
    let (first, many) = (first_seed(), told("RB_EQUALITY_SEQUENCES").unwrap_or(some));
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (tally, differences) = (Tally::default(), Mutex::new(Vec::new()));
    let started = Instant::now();
    let work = || {
        let story = || {
            let number = next.fetch_add(1, Ordering::Relaxed);
            (number < many).then(|| Story::new(first.wrapping_add(number), &base))
        };
        // The next project comes of age while this one is built.
        let mut coming = story();
        while let Some(story) = {
            let present = coming.take();
            coming = story();
            present
        } {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if let Err(difference) = story.run(&tally) {
                stop.store(true, Ordering::Relaxed);
                differences.lock().expect("nobody panics").push(difference);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get() * THREADS);
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    eprintln!(
        "stories {first} to {}: {} states compared, {} of them fail to build; {} steps run, {} in clean builds; {} layers continued; {:.0?}",
        first.wrapping_add(many - 1),
        count(&tally.builds),
        count(&tally.failed),
        count(&tally.steps),
        count(&tally.steps_clean),
        count(&tally.continued),
        started.elapsed(),
    );
    let differences = differences.into_inner().expect("nobody panics");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
