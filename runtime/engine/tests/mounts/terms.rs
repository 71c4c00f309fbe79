//! Terms of steps: time, attempts, memory and processors.

use std::time::{Duration, Instant};

use rb_api::SolveError;
use rb_exec::Limits;
use rb_llb::extension::Terms;
use rb_llb::{ExecMeta, ExecOp, LinuxResources, Mount, NodeMeta, State};

use super::{Kit, host};

/// A step on the host's programs, which writes to `/out`.
fn step(script: &str, terms: Terms, resources: Option<LinuxResources>) -> State {
    let args = ["/bin/sh", "-euc", script].map(ToOwned::to_owned).to_vec();
    let mount =
        |dest: &str, output, input| Mount { dest: dest.to_owned(), output, input, ..Mount::default() };
    let mounts = vec![mount("/", Some(0), Some(0)), mount("/out", Some(1), None)];
    let op = ExecOp { meta: ExecMeta { args, ..ExecMeta::default() }, mounts, ..ExecOp::default() };
    let mut meta = NodeMeta { linux_resources: resources, ..NodeMeta::named(script) };
    terms.describe(&mut meta.description);
    State::exec(vec![host()], op, None, meta).mount("/out").expect("is an output")
}

fn failure(kit: &Kit, state: &State) -> (String, String) {
    let error = kit.try_solve(std::slice::from_ref(state)).unwrap_err();
    let SolveError::Vertex { message, help, .. } = error else { panic!("{error:?}") };
    (message, help.unwrap_or_default())
}

#[test]
fn a_step_that_takes_too_long_is_stopped_and_says_so() {
    let Some(kit) = Kit::new() else { return };
    let terms = |millis| Terms { timeout: Some(Duration::from_millis(millis)), retries: 0 };
    let started = Instant::now();
    let (message, help) = failure(&kit, &step("echo begun; sleep 600", terms(1500), None));
    assert!(message.contains("it took longer than 1s 500ms"), "{message}");
    assert!(help.contains("--timeout") && started.elapsed() < Duration::from_secs(400), "{help}");
    // Its terms are not in its key.
    let quick = |terms| step("echo done > /out/said", terms, None);
    assert_eq!(kit.said(&quick(terms(600_000))), "done\n");
    assert_eq!(kit.solve(&[quick(terms(500_000))]), 0);
    assert_eq!(kit.solve(&[quick(Terms::default())]), 0);
}

#[test]
fn a_step_that_fails_is_tried_again_from_where_it_began() {
    let Some(kit) = Kit::new() else { return };
    let counter = kit.dir.join("attempts");
    std::fs::create_dir(&counter).unwrap();
    // What a step wrote before it failed is not there the next time; only the cache remembers.
    let script = "echo x >> /cache/attempts; test ! -e /out/said; echo first > /out/said; test $(wc -l < /cache/attempts) = 3";
    let with = |retries| {
        let args = ["/bin/sh", "-euc", script].map(ToOwned::to_owned).to_vec();
        let mount =
            |dest: &str, output, input| Mount { dest: dest.to_owned(), output, input, ..Mount::default() };
        let kind =
            rb_llb::MountKind::Cache { id: "attempts".to_owned(), sharing: rb_llb::CacheSharing::Locked };
        let cache = Mount { kind, ..mount("/cache", None, None) };
        let mounts = vec![mount("/", Some(0), Some(0)), mount("/out", Some(1), None), cache];
        let op = ExecOp { meta: ExecMeta { args, ..ExecMeta::default() }, mounts, ..ExecOp::default() };
        let mut meta = NodeMeta::named(script);
        Terms { timeout: None, retries }.describe(&mut meta.description);
        State::exec(vec![host()], op, None, meta).mount("/out").expect("is an output")
    };
    assert_eq!(kit.said(&with(2)), "first\n");
    let logs = kit.logs();
    assert!(
        logs.contains("attempt 1 of 3: the command ended with exit code 1")
            && logs.contains("attempt 2 of 3"),
        "{logs}"
    );
    assert!(!logs.contains("attempt 3 of 3"), "{logs}");
    let (message, _) = failure(&kit, &step("exit 7", Terms { timeout: None, retries: 1 }, None));
    assert!(message.contains("ended with exit code 7"), "{message}");
    assert!(kit.logs().contains("attempt 1 of 2: the command ended with exit code 7"));
}

#[test]
fn memory_that_is_not_there_is_told() {
    let Some(mut kit) = Kit::new() else { return };
    let greedy =
        "n=$(head -c 200000000 /dev/zero | tail -n 1 | wc -c); test $n = 200000000; echo $n > /out/said";
    let own = LinuxResources { memory_bytes: 32 << 20, ..LinuxResources::default() };
    let error = kit.try_solve(&[step(greedy, Terms::default(), Some(own))]).unwrap_err();
    let SolveError::Vertex { message, help, .. } = error else { panic!("{error:?}") };
    if message.contains("control group") {
        eprintln!("stepping aside: this needs control groups that may be written: {message}");
        return;
    }
    assert!(message.contains("memory limit of 32 MiB"), "{message}");
    assert!(help.is_some_and(|help| help.contains("--memory")));
    // The limit of all steps; not part of the key either.
    kit.steps.limits = Limits { memory_bytes: Some(2 << 30), ..Limits::default() };
    assert_eq!(kit.said(&step(greedy, Terms::default(), None)), "200000000\n");
    kit.steps.limits.memory_bytes = Some(16 << 20);
    assert_eq!(kit.solve(&[step(greedy, Terms::default(), None)]), 0);
    assert!(failure(&kit, &step(&format!("{greedy}; :"), Terms::default(), None)).0.contains("16 MiB"));
    kit.steps.rlimits = vec![rb_exec::Rlimit { name: "nofile".to_owned(), soft: 77, hard: 99 }];
    kit.steps.shm_bytes = Some(2 << 20);
    let script = "ulimit -Sn > /out/said; df -k /dev/shm | tail -1 | awk '{print $2}' >> /out/said";
    assert_eq!(kit.said(&step(script, Terms::default(), None)), "77\n2048\n");
}
