//! `rb status`: who waits for what, asked from outside.

use std::io::BufRead as _;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::env::{TestEnv, Who, is_root};

fn sleeper(seconds: u32) -> String {
    format!("VERSION 1\nt:\n    FROM @host\n    WORKDIR /w\n    RUN sleep {seconds} && echo done > out\n")
}

/// Asks until the answer holds all of this.
#[track_caller]
fn until(env: &TestEnv, texts: &[&str]) -> String {
    let began = Instant::now();
    loop {
        let said = env.rb(["status"]).expect(0).stdout;
        if texts.iter().all(|text| said.contains(text)) {
            return said;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "no {texts:?} in:\n{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn ends_well(child: Child) {
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn sockets(env: &TestEnv) -> usize {
    std::fs::read_dir(env.state().join("status")).map_or(0, Iterator::count)
}

#[test]
fn one_process_waits_for_another_and_says_for_which() {
    let env = TestEnv::new();
    assert_eq!(env.rb(["status"]).expect(0).stdout, "nothing is running\n");
    env.write("Buildfile", sleeper(15));
    let first = env.spawn(["+t"]);
    let (at_work, id) = (format!("process {}  rb +t  for", first.id()), first.id());
    let said = until(&env, &[&at_work, "RUN sleep 15", "running, "]);
    assert!(said.contains("places taken"), "{said}");
    let second = env.spawn(["+t", "--not-there=1"]);
    drop(second.wait_with_output().expect("ends"));
    let second = env.spawn(["+t"]);
    let waits = format!("waits for process {id}, which is making the same");
    let said = until(&env, &[&at_work, &format!("process {}  rb +t  for", second.id()), &waits]);
    assert!(!said.contains("does not answer"), "{said}");
    let mut processes = Vec::new();
    let began = Instant::now();
    // On a busy machine one may not answer in time.
    while processes.len() != 2 || processes.iter().any(|process: &Value| process["state"].is_null()) {
        assert!(began.elapsed() < Duration::from_secs(60), "{processes:?}");
        let said = env.rb(["status", "--json"]).expect(0).stdout;
        let json: Value = serde_json::from_str(&said).expect("JSON");
        processes = json["processes"].as_array().expect("a list").clone();
    }
    for process in &processes {
        let vertices = process["state"]["vertices"].as_array().expect("a list");
        assert!(!vertices.is_empty());
        for vertex in vertices {
            assert!(vertex["waits_for"].as_array().is_some_and(|causes| !causes.is_empty()), "{vertex}");
        }
    }
    ends_well(first);
    ends_well(second);
    assert_eq!(env.rb(["status"]).expect(0).stdout, "nothing is running\n");
    assert_eq!(sockets(&env), 0);
}

#[test]
fn a_build_says_which_process_it_waits_for_and_that_it_is_stopped() {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    env.write("Buildfile", "VERSION 1\nt:\n    FROM oci-layout:./base:test\n    RUN true\n");
    env.rb(["image", "ls"]).expect(0);
    // Somebody who is stopped is bringing its layer.
    let blob = |digest: &Value| {
        let digest = digest.as_str().expect("a digest").replace(':', "/");
        serde_json::from_str::<Value>(&env.read(&format!("base/blobs/{digest}"))).expect("JSON")
    };
    let index: Value = serde_json::from_str(&env.read("base/index.json")).expect("JSON");
    let layer = blob(&index["manifests"][0]["digest"])["layers"][0]["digest"].clone();
    let key = rb_oci::Digest::of(format!("fetching {}", layer.as_str().expect("a digest")));
    let mut holder = std::process::Command::new("sleep").arg("1000").spawn().expect("starts");
    let id = rustix::process::Pid::from_child(&holder);
    rustix::process::kill_process(id, rustix::process::Signal::STOP).expect("stops");
    std::fs::create_dir_all(env.state().join("claims")).expect("makes");
    let claim = env.state().join("claims").join(key.hex());
    std::fs::write(&claim, format!("{}\n", holder.id())).expect("writes");
    let held = std::fs::File::open(&claim).expect("opens");
    held.lock().expect("locks");
    let mut child = env.spawn(["--progress=plain", "+t"]);
    let mut lines = std::io::BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let waits = format!("waiting for process {} (stopped: `kill -CONT {}`", holder.id(), holder.id());
    assert!(lines.by_ref().any(|line| line.expect("reads").contains(&waits)));
    held.unlock().expect("unlocks");
    holder.kill().expect("ends");
    holder.wait().expect("ends");
    let rest: Vec<String> = lines.map(|line| line.expect("reads")).collect();
    assert!(child.wait().expect("ends").success(), "{rest:?}");
    // However many blobs and layers wait for it, it is said once.
    assert!(!rest.iter().any(|line| line.contains("waiting for")), "{rest:?}");
}

#[test]
fn what_a_killed_process_leaves_is_not_listed_and_goes() {
    let env = TestEnv::new();
    env.write("Buildfile", sleeper(60));
    let mut child = env.spawn(["+t"]);
    until(&env, &["running, "]);
    child.kill().expect("is there");
    child.wait().expect("ends");
    assert_eq!(env.rb(["status"]).expect(0).stdout, "nothing is running\n");
    assert_eq!(sockets(&env), 1);
    env.rb(["image", "ls"]).expect(0);
    assert_eq!(sockets(&env), 0);
}

#[test]
fn one_that_is_stopped_does_not_hold_the_answer_up() {
    let env = TestEnv::new();
    env.write("Buildfile", sleeper(10));
    let child = env.spawn(["+t"]);
    until(&env, &["running, "]);
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("fits")).expect("is an id");
    rustix::process::kill_process(id, rustix::process::Signal::STOP).expect("stops");
    let said = env.rb(["status"]).expect(0).stdout;
    rustix::process::kill_process(id, rustix::process::Signal::CONT).expect("goes on");
    assert_eq!(said, format!("process {}  does not answer\n", child.id()));
    ends_well(child);
}

#[test]
fn an_ordinary_user_sees_its_own_and_root_sees_all() {
    if !is_root() {
        eprintln!("stepping aside: only root can be somebody else");
        return;
    }
    let env = TestEnv::of(Who::SingleId);
    env.write("Buildfile", sleeper(15));
    env.hand_over();
    let child = env.spawn(["+t"]);
    until(&env, &["rb +t", "running, "]);
    let began = Instant::now();
    loop {
        let root = std::process::Command::new(env!("CARGO_BIN_EXE_rb"))
            .arg("status")
            .env_clear()
            .env("RB_ROOT", env.state())
            .output()
            .expect("rb starts");
        let said = String::from_utf8_lossy(&root.stdout);
        if said.contains("running, ") {
            break;
        }
        let patient = began.elapsed() < Duration::from_secs(60);
        assert!(patient, "{said}{}", String::from_utf8_lossy(&root.stderr));
    }
    ends_well(child);
}
