//! The power goes while `rb` builds, and after it: the next build is right each time.
//!
//! Some cuts, and two after all was written; `tests/soak power` makes many, `RB_POWER_SEED` the same again. Needs root, loop
//! devices and a C compiler. The state directory and the project's `here` lie on a disk that loses what was not
//! written, the project itself on one that loses nothing; each time the machine comes up under another boot id.

mod dice;
mod disk;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rb_oci::Digest;
use rusqlite::{Connection, OpenFlags};

use crate::env::TestEnv;
use dice::Dice;
use disk::{Disk, Machine};

/// Files that are copied.
const FILES: u64 = 36;

/// `sum` reads what all steps before it made, in a step of its own each time: what they left must be whole. So must be what
/// `kept` finds in its cache.
const BUILDFILE: &str = "\
VERSION 1
copied:
    FROM @host
    WORKDIR /w
    COPY src src
many:
    FROM +copied
    RUN mkdir out && for f in src/*; do cat $f $f $f > out/${f##*/}; done
    RUN cat out/* > all
    SAVE ARTIFACT out
sum:
    FROM +many
    ARG round
    RUN sha256sum src/* out/* all > /sums && echo $round > /round
    SAVE ARTIFACT /sums AS LOCAL sums
    SAVE ARTIFACT /sums AS LOCAL here/sums
    SAVE ARTIFACT --force out AS LOCAL here/out
kept:
    FROM @host
    ARG round
    RUN --mount=type=cache,target=/c cd /c; \\
        for sum in *.sum; do if [ -e $sum ]; then sha256sum -c --quiet $sum || exit 1; fi; done; \\
        for number in 1 2 3 4 5 6 7 8; do \\
            f=${number}_$(echo $round | tr -dc 0-9 | tail -c 1); \\
            seq $number 4000 > new; rm -f $f.sum; mv new $f; sha256sum $f > new; mv new $f.sum; \\
        done
image:
    FROM scratch
    COPY src /src
    COPY +many/out /out
    SAVE IMAGE power:test
all:
    ARG round
    BUILD +sum --round=$round
    BUILD +kept --round=$round
    BUILD +image
";

/// The files of the project, and what they are made of.
struct Project(BTreeMap<String, Vec<u8>>);

impl Project {
    fn change(&mut self, env: &TestEnv, number: u64, seed: u64) {
        let size = [40, 3_000, 20_000][usize::try_from(number % 3).expect("is small")];
        let bytes: Vec<u8> =
            Digest::of(format!("{number} {seed}")).hex().bytes().cycle().take(size).collect();
        env.write(&format!("src/{number:03}"), &bytes);
        self.0.insert(format!("{number:03}"), bytes);
    }

    /// Returns what `+sum` saves.
    fn sums(&self) -> String {
        let line = |bytes: &[u8], path: &str| format!("{}  {path}\n", Digest::of(bytes).hex());
        let src = self.0.iter().map(|(name, bytes)| line(bytes, &format!("src/{name}")));
        let out = self.0.iter().map(|(name, bytes)| line(&bytes.repeat(3), &format!("out/{name}")));
        let all: Vec<u8> = self.0.values().flat_map(|bytes| bytes.repeat(3)).collect();
        src.chain(out).chain([line(&all, "all")]).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how long")]
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The command that builds, as a shell takes it.
fn build(env: &TestEnv, disk: &Disk, what: &str) -> String {
    format!(
        "(cd {} && exec env -i PATH=$PATH HOME={} RB_ROOT={} NO_COLOR=1 {} {what} < /dev/null > {}/said 2>&1)",
        env.project().display(),
        env.project().display(),
        disk.root().join("state").display(),
        env!("CARGO_BIN_EXE_rb"),
        env.project().display(),
    )
}

fn rounds(mode: &'static str, count: u64, dice: &mut Dice) {
    let mut disk = Disk::new(1024, "ext4", mode);
    let env = TestEnv::new();
    let mut project = Project(BTreeMap::new());
    (0..FILES).for_each(|number| project.change(&env, number, 0));
    env.write("Buildfile", BUILDFILE);
    fs::create_dir(env.project().join("here")).expect("makes");
    for round in 0..=count {
        disk.mount();
        // What an export had left may be torn: that is found by its content below, and mended.
        disk.bind(&env.project().join("here"));
        let mut machine = Machine::boot(&disk);
        // What is left of the last round is built on.
        machine.tell(&format!("{}; echo $?", build(&env, &disk, &format!("+all --round={round}"))));
        let code = machine.answer();
        let said = || env.read("said");
        assert_eq!(code, "0", "{mode}, round {round}: {}", said());
        assert_eq!(env.read("sums"), project.sums(), "{mode}, round {round}: {}", said());
        assert_eq!(fs::read_to_string(disk.root().join("sums")).expect("reads"), project.sums());
        for (name, bytes) in &project.0 {
            let there = fs::read(disk.root().join("out").join(name)).expect("reads");
            assert!(there == bytes.repeat(3), "{mode}, round {round}: here/out/{name} is torn");
        }
        machine.tell(&format!("{}; echo $?", build(&env, &disk, "image save power:test -o here/image.tar")));
        assert_eq!(machine.answer(), "0", "{mode}, round {round}: {}", said());
        if round == count {
            // What a build leaves behind writes everything through, says so in the database, and goes.
            await_sync(&disk.root().join("state"));
            disk.cut();
            machine.die();
            disk.unmount(&[&env.project().join("here")]);
            break;
        }
        (0..dice.below(4)).for_each(|_| project.change(&env, dice.below(FILES), dice.below(1 << 40)));
        if dice.below(8) == 0 {
            (0..FILES).for_each(|number| project.change(&env, number, dice.below(1 << 40)));
        }
        machine.tell(&format!("{}; echo $?", build(&env, &disk, &format!("+all --round=new-{round}"))));
        match dice.below(3) {
            0 => {
                let code = machine.answer();
                assert_eq!(code, "0", "{mode}, round {round}: {}", said());
                // Right after its end, while the disk is written to by what it left, or later.
                std::thread::sleep(Duration::from_millis([0, 10, 30, 100, 500][dice.below(5) as usize]));
            }
            _ => {
                for _ in 0..=dice.below(4) {
                    std::thread::sleep(Duration::from_millis(dice.below(150)));
                    disk.scatter(&disk.root(), dice.below(1 << 40));
                }
            }
        }
        disk.cut();
        machine.die();
        disk.unmount(&[&env.project().join("here")]);
    }
    disk.mount();
    let mut machine = Machine::boot(&disk);
    machine.tell(&format!("{}; echo $?", build(&env, &disk, &format!("--no-output +sum --round={count}"))));
    assert_eq!(machine.answer(), "0", "{mode}: {}", env.read("said"));
    let said = env.read("said");
    let ran: Vec<&str> =
        said.lines().filter(|line| line.contains("RUN") && !line.contains("*cached*")).collect();
    assert_eq!(ran, [""; 0], "{mode}: {said}");
    machine.die();
    disk.unmount(&[]);
}

/// Tells whether a process apart is at the state directory.
fn is_syncing(state: &Path) -> bool {
    fs::read_dir("/proc").expect("lists").any(|process| {
        let words = fs::read(process.expect("lists").path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        words.contains(&b"__sync".as_slice()) && words.contains(&state.as_os_str().as_bytes())
    })
}

/// Waits until every snapshot is said to be on the disk, and the process that wrote them has gone.
fn await_sync(state: &Path) {
    let unsynced = || {
        let database = Connection::open_with_flags(state.join("rb.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let query = "SELECT COUNT(*) FROM snapshots WHERE state = 1 AND synced = 0";
        database.and_then(|database| database.query_row(query, [], |row| row.get::<_, i64>(0)))
    };
    let begun = Instant::now();
    // A database that is closed at that instant may be busy for this one.
    while is_syncing(state) || !matches!(unsynced(), Ok(0)) {
        assert!(begun.elapsed() < Duration::from_secs(180), "nobody syncs: {:?} are left", unsynced());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_was_built_is_written_through_by_a_process_that_nobody_waits_for() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\nt:\n    FROM @host\n    RUN echo x > /x\n");
    env.rb(["+t"]).expect(0);
    await_sync(&env.state());
    // Nothing is to be done, so nobody is started.
    env.rb(["+t"]).expect(0);
    assert!(!is_syncing(&env.state()));
    // One that comes when the state directory has gone makes nothing.
    env.write("Buildfile", "VERSION 1\nt:\n    FROM @host\n    RUN echo y > /x\n");
    env.rb(["+t"]).expect(0);
    await_sync(&env.state());
    fs::remove_dir_all(env.state()).expect("nobody is in it");
    assert!(env.rb(["__sync", &env.state().to_string_lossy()]).code == 0 && !env.state().exists());
}

#[test]
fn a_cache_that_did_not_reach_the_disk_begins_anew_after_another_boot() {
    let env = TestEnv::new();
    let buildfile = "VERSION 1\nt:\n    FROM @host\n    ARG round\n    \
         RUN --mount=type=cache,target=/c echo $round >> /c/rounds && cp /c/rounds /out\n    \
         SAVE ARTIFACT /out AS LOCAL out\n";
    env.write("Buildfile", buildfile);
    let caches = env.state().join("caches");
    let find = |ending: &str| {
        let mut open = vec![caches.clone()];
        let mut found = Vec::new();
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).expect("lists") {
                let path = entry.expect("lists").path();
                if path.is_dir() {
                    open.push(path);
                } else if path.to_string_lossy().ends_with(ending) {
                    found.push(path);
                }
            }
        }
        found
    };
    let build = |round: &str| {
        env.rb(["+t", &format!("--round={round}")]).expect(0);
        let left = env.read("out").replace('\n', " ");
        await_sync(&env.state());
        // The marks are taken away after that.
        let begun = Instant::now();
        while find(".unwritten")
            .iter()
            .any(|mark| !fs::read_to_string(mark).is_ok_and(|text| text.starts_with("earlier")))
        {
            assert!(begun.elapsed() < Duration::from_secs(180), "nobody syncs the cache");
            std::thread::sleep(Duration::from_millis(5));
        }
        left
    };
    // Orderly ends keep it: it is on the disk, and no mark says otherwise.
    assert_eq!(build("1"), "1 ");
    assert_eq!(find(".unwritten"), [""; 0].map(std::path::PathBuf::from));
    assert_eq!(build("2"), "1 2 ");
    // A cut leaves the mark of its boot.
    let mark = find("common.lock")[0].with_file_name("common.unwritten");
    fs::write(&mark, "earlier-boot 1-x.0\n").expect("writes");
    // What others build and sync meanwhile does not make it whole.
    env.write(
        "Buildfile",
        format!("{buildfile}other:\n    FROM @host\n    RUN --mount=type=cache,target=/d echo x > /d/x\n"),
    );
    env.rb(["+other"]).expect(0);
    await_sync(&env.state());
    assert_eq!(build("3"), "3 ");
    assert_eq!(build("4"), "3 4 ");
    assert!(!mark.exists());
}

#[test]
#[ignore = "what the test below runs in mounts of its own"]
fn power_goes() {
    let seed = number("RB_POWER_SEED", u64::from(std::process::id()) << 16 | 1);
    eprintln!("RB_POWER_SEED={seed}");
    let mut dice = Dice(seed);
    let count = number("RB_POWER_ROUNDS", 8);
    for mode in ["data=writeback,noauto_da_alloc,commit=300", "data=ordered,commit=300"] {
        rounds(mode, count / 2, &mut dice);
    }
}

#[test]
fn after_the_power_went_the_next_build_is_right() {
    disk::in_own_mounts("power::power_goes");
}
