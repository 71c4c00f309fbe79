//! What the state directory may occupy: it stays below its cap while builds run, what goes is what nobody needs, and who misses
//! it is told that it went. And what people see of it and do about it: `rb cache du`, `prune`, `pin`.
//!
//! The long form (`tests/soak space`) is `RB_SPACE_BUILDS=200`, under a cap of 500 MB.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::env::{Run, TestEnv};

const MB: u64 = 1_000_000;

/// So many targets, each of its own size.
const TARGETS: u64 = 16;

/// What a target writes, of a cap: their sum is more than twice that.
fn bytes_of(target: u64, cap_bytes: u64) -> u64 {
    cap_bytes / 100 * (4 + target * 7 % 20)
}

fn buildfile(cap_bytes: u64) -> String {
    let mut text = "VERSION 1\n".to_owned();
    for target in 0..TARGETS {
        let bytes = bytes_of(target, cap_bytes);
        text += &format!(
            "t{target}:\n    FROM @host\n    RUN head -c {bytes} /dev/zero > /out\n    RUN wc -c < /out > /size\n    \
             SAVE ARTIFACT /size AS LOCAL size{target}\n"
        );
    }
    text
}

/// What `du` says of a folder while others write in it.
fn occupied(root: &Path) -> u64 {
    let (mut bytes, mut counted) = (0, BTreeSet::new());
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.nlink() < 2 || metadata.is_dir() || counted.insert((metadata.dev(), metadata.ino())) {
                bytes += metadata.blocks() * 512;
            }
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    bytes
}

/// Numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn capped(env: &TestEnv, cap_bytes: u64, args: &[&str]) -> Run {
    env.rb_with(&[("RB_CACHE_MAX_SIZE", &cap_bytes.to_string())], args)
}

/// Reads the record of the last build.
fn last_record(env: &TestEnv) -> Value {
    let folder = std::fs::read_dir(env.state().join("builds")).expect("lists");
    let files = folder.map(|entry| entry.expect("lists").path());
    let newest = files.filter(|path| path.extension().is_some_and(|end| end == "json")).max();
    serde_json::from_slice(&std::fs::read(newest.expect("there is one")).expect("reads")).expect("JSON")
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how long")]
fn builds() -> u64 {
    std::env::var("RB_SPACE_BUILDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40).max(2 * TARGETS)
}

#[test]
fn many_builds_stay_below_the_cap_and_what_is_missed_was_evicted() {
    let builds = builds();
    let cap_bytes = if builds >= 200 { 500 * MB } else { 60 * MB };
    let env = TestEnv::new();
    env.write("Buildfile", buildfile(cap_bytes));
    let (highest, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut dice = Dice(7);
    let (mut built, mut found, mut missed, mut told) = (BTreeSet::new(), 0, 0, 0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !ended.load(Ordering::Acquire) {
                highest.fetch_max(occupied(&env.state()), Ordering::AcqRel);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        // Whatever fails below, the thread ends.
        let _end = EndsWith(&ended);
        for round in 0..builds {
            // All, then some often and some seldom, then all again: of these, not all can be there.
            let target = if (TARGETS..builds - TARGETS).contains(&round) {
                dice.below(TARGETS).min(dice.below(TARGETS))
            } else {
                round % TARGETS
            };
            let name = format!("+t{target}");
            let run = capped(&env, cap_bytes, &[&name]).expect(0);
            told += run.stderr.matches("this is told once").count();
            assert_eq!(env.read(&format!("size{target}")).trim(), bytes_of(target, cap_bytes).to_string());
            if !built.insert(target) {
                let record = last_record(&env);
                let steps = record["steps"].as_array().expect("steps");
                let ran: Vec<&Value> = steps
                    .iter()
                    .filter(|step| step["verdict"] == "ran" && step["miss"]["why"].is_string())
                    .collect();
                if ran.is_empty() {
                    found += 1;
                } else {
                    missed += 1;
                }
                for step in ran {
                    assert_eq!(step["miss"]["why"], "gone", "round {round}: {step:#}");
                    assert_eq!(step["miss"]["because"], "cap", "round {round}: {step:#}");
                }
            }
            let highest = highest.load(Ordering::Acquire).max(occupied(&env.state()));
            assert!(highest <= cap_bytes / 50 * 51, "round {round}: {highest} of {cap_bytes}");
        }
    });
    eprintln!(
        "space: {found} found, {missed} missed, at most {} of {cap_bytes}",
        highest.load(Ordering::Acquire)
    );
    assert!(found > 0 && missed > 0, "{found} found, {missed} missed");
    assert!(told <= 1, "{told}");
    env.rb(["cache", "verify"]).expect(0);
}

/// Says that it is over, however it ends.
struct EndsWith<'a>(&'a AtomicBool);

impl Drop for EndsWith<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn du(env: &TestEnv, args: &[&str]) -> Value {
    let run = env.rb([&["cache", "du", "--json"], args].concat()).expect(0);
    serde_json::from_str(&run.stdout).expect("JSON")
}

/// The sizes of all layers by their names.
fn layers(env: &TestEnv) -> BTreeMap<String, u64> {
    let seen = du(env, &["--filter", "type=layers"]);
    let pieces = seen["pieces"].as_array().expect("pieces").clone();
    pieces
        .iter()
        .map(|piece| {
            (piece["id"].as_str().expect("an id").to_owned(), piece["size_bytes"].as_u64().expect("a size"))
        })
        .collect()
}

#[test]
fn people_see_what_is_kept_pin_it_and_remove_the_rest() {
    let env = TestEnv::new();
    env.write("Buildfile", buildfile(50 * MB));
    env.rb(["+t1", "+t2"]).expect(0);
    let run = env.rb(["cache", "du"]).expect(0);
    for word in ["WHY IT IS HERE", "until room is needed", "layer/", "layers", "may be"] {
        assert!(run.stdout.contains(word), "{word}: {}", run.stdout);
    }
    let seen = du(&env, &[]);
    assert!(seen["all_bytes"].as_u64().expect("a size") >= bytes_of(1, 50 * MB) + bytes_of(2, 50 * MB));
    let all = layers(&env);
    // What the steps wrote is the largest of all.
    let mut large: Vec<&String> = all.keys().collect();
    large.sort_by_key(|id| std::cmp::Reverse(all[*id]));
    assert!(all[large[1]] >= bytes_of(1, 50 * MB).min(bytes_of(2, 50 * MB)), "{all:?}");
    env.rb(["cache", "pin", large[0]]).expect(0);
    env.rb(["cache", "pin", "layer/999999"]).expect(2).says("rb cache du");
    let before = occupied(&env.state());
    let would = env.rb(["cache", "prune", "--dry-run"]).expect(0);
    assert!(would.stdout.contains(&format!("would remove {}", large[1])), "{}", would.stdout);
    assert_eq!(layers(&env), all);
    env.rb(["cache", "prune", "--filter", "until=10d"]).expect(0);
    assert_eq!(layers(&env), all, "nothing is that old");
    let run = env.rb(["cache", "prune"]).expect(0);
    assert!(run.stdout.contains("freed "), "{}", run.stdout);
    let left = layers(&env);
    assert!(left.contains_key(large[0]) && !left.contains_key(large[1]), "{left:?}");
    assert!(before - occupied(&env.state()) > MB);
    // What stayed is found, and what went is told of.
    let mut evicted = 0;
    for name in ["+t1", "+t2"] {
        env.rb([name]).expect(0);
        let record = last_record(&env);
        let steps = record["steps"].as_array().expect("steps");
        evicted += usize::from(steps.iter().any(|step| {
            step["name"].as_str().is_some_and(|name| name.contains("head")) && step["miss"]["why"] == "gone"
        }));
    }
    assert_eq!(evicted, 1);
    env.rb(["cache", "unpin", large[0]]).expect(0);
    env.rb(["cache", "prune", "--keep-storage", "1MB", "--all"]).expect(0);
    assert!(occupied(&env.state()) < 2 * MB, "{}", occupied(&env.state()));
    env.rb(["cache", "prune", "--filter", "type=trees"]).expect(2).says("mounts");
}

#[test]
fn who_holds_a_piece_is_named() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    ARG WORD\n    RUN head -c 1000000 /dev/zero > /large\n    \
         RUN --mount=type=cache,id=held,target=/c echo x > /c/x; sleep 600\n",
    );
    let mut child = env.spawn(["+t", "--WORD=hush"]);
    let id = child.id();
    let held = |kind: &str| -> Option<Value> {
        let seen = du(&env, &[]);
        let pieces = seen["pieces"].as_array().expect("pieces").clone();
        let is_it = |piece: &&Value| piece["type"] == kind && piece["holders"][0]["process"] == id;
        pieces.iter().find(is_it).cloned()
    };
    let began = std::time::Instant::now();
    let (layer, mount) = loop {
        if let (Some(layer), Some(mount)) = (held("layers"), held("mounts")) {
            break (layer, mount);
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{:#}", du(&env, &[]));
        std::thread::sleep(Duration::from_millis(50));
    };
    for piece in [layer, mount] {
        assert_eq!(piece["holders"][0]["command"], "rb +t", "{piece:#}");
        assert!(piece["holders"][0]["since_unix"].as_i64().is_some_and(|since| since > 0));
    }
    let told = env.rb(["cache", "du"]).expect(0).stdout;
    assert!(told.contains(&format!("in use by rb +t (process {id}, since 20")), "{told}");
    child.kill().expect("is killed");
    child.wait().expect("ends");
    assert_eq!(held("mounts"), None);
}

#[test]
fn a_size_without_a_unit_is_a_whole_number_of_bytes() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\nt:\n    FROM @host\n    RUN true\n");
    let sized = |size: &str, args: &[&str]| env.rb_with(&[("RB_CACHE_MAX_SIZE", size)], args);
    sized("1.5", &["+t"]).expect(2).says("RB_CACHE_MAX_SIZE").says("whole number of bytes").says("`1.5GB`");
    assert!(sized("1.5GB", &["cache", "du"]).expect(0).stdout.contains("1.5 GB"));
    for args in [
        &["cache", "prune", "--keep-storage", "1.5"][..],
        &["--memory", "1.5", "+t"],
        &["--shm-size=1.5", "+t"],
        &["run", "--tmpfs", "/t:size=1.5", "+t"],
    ] {
        env.rb(args).expect(2).says("no whole number of bytes").says("`1.5GB`");
    }
    let config = env.project().parent().expect("lies in a folder").join("home/.config/rb");
    std::fs::create_dir_all(&config).expect("makes folders");
    std::fs::write(config.join("config.toml"), "[cache]\nmin_free = \"0.5\"\n").expect("writes");
    env.rb(["+t"]).expect(2).says("config.toml:2:").says("`0.5GB`");
}

#[test]
fn killed_at_any_instant_a_prune_leaves_what_is_whole() {
    let env = TestEnv::new();
    env.write("Buildfile", buildfile(20 * MB));
    let all: Vec<String> = (0..TARGETS).map(|target| format!("+t{target}")).collect();
    let mut dice = Dice(3);
    for _ in 0..4 {
        env.rb(&all).expect(0);
        let mut child = env.spawn(["cache", "prune", "--all"]);
        std::thread::sleep(Duration::from_micros(dice.below(40_000)));
        child.kill().expect("kills");
        child.wait().expect("ends");
        let run = env.rb(["cache", "verify"]).expect(0);
        assert!(run.stdout.contains("nothing is damaged"), "{}", run.stdout);
    }
    env.rb(&all).expect(0);
    for target in 0..TARGETS {
        assert_eq!(env.read(&format!("size{target}")).trim(), bytes_of(target, 20 * MB).to_string());
    }
}

#[test]
fn what_a_running_build_needs_stays_and_it_ends_well() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    RUN echo base > /base\n    \
         RUN --mount=type=cache,id=go,target=/go touch /go/here; while [ ! -e /go/now ]; do sleep 0.02; done; cat /base > /out\n    \
         RUN cat /base /out > /both\n    SAVE ARTIFACT /both AS LOCAL both\n",
    );
    let mut child = env.spawn(["+t"]);
    // The step says that it runs, on a tree that was made a moment ago.
    let here = loop {
        if let Some(here) = named("here", &env.state().join("caches")) {
            break here;
        }
        assert!(child.try_wait().expect("asks").is_none(), "it ended before");
        std::thread::sleep(Duration::from_millis(5));
    };
    for _ in 0..3 {
        env.rb(["cache", "prune", "--all"]).expect(0);
    }
    std::fs::write(here.with_file_name("now"), "").expect("writes");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(env.read("both"), "base\nbase\n");
}

/// Finds the file of this name below a folder.
fn named(name: &str, below: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(below).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter_map(|path| if path.ends_with(name) { Some(path) } else { named(name, &path) }).next()
}
