//! Very many steps of one build at once: none fails, and nothing stays. `RB_CROWD` says how many.

use std::fs::File;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::counts::{Counts, alone, crowd, descriptors, remove_groups};
use crate::env::{TestEnv, is_root};

/// `count` targets whose steps wait for each other at a gate, in a cache that they share; and one before them.
fn project(env: &TestEnv, count: usize) {
    let mut text = "VERSION 1\nfirst:\n    FROM oci-layout:./base:test\n    RUN true\nall:\n".to_owned();
    for number in 0..count {
        text += &format!("    BUILD +t{number}\n");
    }
    for number in 0..count {
        text += &format!(
            "t{number}:\n    FROM oci-layout:./base:test\n    RUN --mount=type=cache,id=meet,target=/meet,sharing=shared \
             busybox mkfifo /meet/gate 2> /dev/null || true; touch /meet/at-{number}; : < /meet/gate; echo {number} > /result\n    \
             SAVE ARTIFACT /result AS LOCAL out/{number}\n"
        );
    }
    env.write("Buildfile", text);
}

/// The folder in which the steps meet, and how many are there.
fn meeting(state: &Path) -> Option<(PathBuf, usize)> {
    fn find(at: &Path) -> Option<PathBuf> {
        let entries: Vec<_> = std::fs::read_dir(at).ok()?.flatten().collect();
        let is_gate = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_fifo());
        if entries.iter().any(is_gate) {
            return Some(at.to_owned());
        }
        entries.iter().filter(|entry| entry.path().is_dir()).find_map(|entry| find(&entry.path()))
    }
    let folder = find(&state.join("caches"))?;
    let names = std::fs::read_dir(&folder).ok()?.flatten().map(|entry| entry.file_name());
    let count = names.filter(|name| name.to_string_lossy().starts_with("at-")).count();
    Some((folder, count))
}

/// Waits until all steps have come; returns the gate.
fn wait_for_all(env: &TestEnv, rb: &mut Child, count: usize) -> PathBuf {
    let deadline = Instant::now() + Duration::from_secs(1800);
    loop {
        let met = meeting(&env.state());
        if let Some((folder, come)) = &met
            && *come == count
        {
            return folder.join("gate");
        }
        let ended = rb.try_wait().expect("is a child");
        assert!(ended.is_none(), "rb ended with {ended:?}:\n{}", env.read("said"));
        if Instant::now() > deadline {
            rb.kill().expect("is a child");
            panic!("only {met:?} of {count} have come:\n{}", env.read("said"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn all_at_once(count: usize) {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    project(&env, count);
    let groups =
        env.project().parent().and_then(Path::file_name).expect("has one").to_string_lossy().into_owned();
    let nothing = Counts::now(&groups);
    let parent = format!("--cgroup-parent=/{groups}");
    let first = env.rb([&parent, "--pids-limit=100", "+first"]);
    let has_groups = !first.stderr.contains("control group");
    if has_groups {
        first.expect(0);
    } else {
        eprintln!("without control groups: {}", first.stderr);
        env.rb(["+first"]).expect(0);
    }
    // Of the one before, the parent of all groups stays.
    let before = Counts { groups: Counts::now(&groups).groups, ..nothing };

    let jobs = format!("--jobs={count}");
    let limits = [parent.as_str(), "--pids-limit=100"];
    let args =
        [jobs.as_str(), "--progress=plain"].into_iter().chain(limits.into_iter().filter(|_| has_groups));
    let said = File::create(env.project().join("said")).expect("a file");
    let mut command = env.command(args.chain(["+all"]));
    command.stdout(said.try_clone().expect("a descriptor")).stderr(said);
    let mut rb = command.spawn().expect("rb starts");
    // It keeps copies of the descriptors.
    drop(command);
    let gate = wait_for_all(&env, &mut rb, count);
    let now = Counts::now(&groups);
    for kind in ["net", "mnt", "pid", "ipc", "uts"] {
        assert!(now.of_kind(kind) > count, "{kind}: {}", now.of_kind(kind));
    }
    if std::process::Command::new("nft").arg("--version").output().is_ok() {
        assert!(now.rules > before.rules, "{} rules", now.rules);
    } else {
        eprintln!("without nft: rules are not counted");
    }
    if has_groups {
        assert_eq!(now.groups.len() - before.groups.len(), count);
    }
    let each = descriptors(&rb.id().to_string()) / count;
    assert!(each < 24, "each step that runs holds {each} descriptors");
    // Open for as long as anybody may come.
    let open = File::options().read(true).write(true).open(&gate).expect("the gate");
    let ended = rb.wait().expect("is a child");
    drop(open);
    assert!(ended.success(), "{ended:?}:\n{}", env.read("said"));
    for number in 0..count {
        assert_eq!(env.read(&format!("out/{number}")), format!("{number}\n"));
    }
    before
        .wait_for(&groups, || drop(env.rb([&parent, "--pids-limit=100", "--no-cache", "+first"]).expect(0)));
    remove_groups(&groups);
}

#[test]
fn a_crowd_of_steps_leaves_nothing() {
    if !is_root() {
        eprintln!("stepping aside: this needs root");
        return;
    }
    alone("crowd::a_crowd_of_steps_leaves_nothing", || all_at_once(crowd()));
}
