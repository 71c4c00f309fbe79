//! Steps without isolation.

use std::sync::Arc;
use std::time::Duration;

use rb_api::{Engine as _, Job, JobOptions, PullPolicy, Root, SolveError, SolveRequest};
use rb_diag::{ErrorKind, SourceMap};
use rb_engine::LocalEngine;
use rb_frontend::Query;
use rb_llb::{ExecOp, SecurityMode, State};

use super::{Kit, runtime, step};

fn privileged(script: &str) -> State {
    step(script, vec![], ExecOp { security: SecurityMode::Insecure, ..ExecOp::default() }).0
}

#[test]
fn a_privileged_step_is_refused_unless_allowed_even_if_its_result_is_there() {
    let Some(mut kit) = Kit::new() else { return };
    let state = privileged("echo ran > /out/said");
    for round in 0..2 {
        kit.allow_insecure = false;
        let error = kit.try_solve(std::slice::from_ref(&state)).unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::Input));
        let SolveError::Vertex { message, help, .. } = error else { panic!() };
        assert!(message.contains("privileged"), "{message}");
        assert!(help.is_some_and(|help| help.contains("--allow-privileged")));
        kit.allow_insecure = true;
        assert_eq!(kit.solve(std::slice::from_ref(&state)), usize::from(round == 0));
    }
}

fn job(kit: &Kit, engine: &LocalEngine, allow_insecure: bool) -> Arc<dyn Job> {
    let options = JobOptions {
        session: Arc::new(kit.session.clone()),
        no_cache: false,
        cache_from: Vec::new(),
        pull: PullPolicy::default(),
        allow_insecure,
        allow_host_network: false,
        allowed_devices: Default::default(),
        epoch_seconds: 0,
        course: rb_api::Course::default(),
    };
    engine.job(options, Arc::new(|_| {}))
}

/// BuildKit asked what a build allows when it ran a step, and not when a frontend had a container started on the way to
/// its graph: so one that nobody had allowed ran with all rights. Here that way is a question to a step.
#[test]
fn cve_2024_23653_no_question_starts_a_step_without_isolation() {
    let Some(kit) = Kit::new() else { return };
    let engine = kit.open(2);
    let state = privileged("sleep 1; echo ran > /out/said");
    let definition = || state.marshal(&SourceMap::default()).unwrap();
    let questions = || {
        let path = || "/said".to_owned();
        [Query::ReadFile { path: path(), limit_bytes: 16 }, Query::Exists { path: path() }]
    };
    let refused = |error: &SolveError| {
        assert_eq!(error.kind(), Some(ErrorKind::Input));
        assert!(error.to_string().contains("privileged"), "{error}");
    };
    runtime().block_on(async {
        for question in questions() {
            let job = job(&kit, &engine, false);
            refused(&job.query(definition(), question).await.unwrap_err());
            assert_eq!(job.summary().executed, 0);
        }
        // Nor may it have the result of a job beside it that may run the step: while it runs, and afterwards.
        let (able, unable) = (job(&kit, &engine, true), job(&kit, &engine, false));
        let [first, second] = questions();
        let late = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            unable.query(definition(), first).await
        };
        let root = Root { label: "root".to_owned(), definition: definition() };
        let made = able.solve(SolveRequest { roots: vec![root], ..SolveRequest::default() });
        let (made, answered) = tokio::join!(made, late);
        assert_eq!(made.unwrap().summary.executed, 1);
        refused(&answered.unwrap_err());
        refused(&unable.query(definition(), second).await.unwrap_err());
    });
}

#[test]
fn a_privileged_step_may_do_what_this_process_may() {
    let Some(mut kit) = Kit::new() else { return };
    kit.allow_insecure = true;
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = |name: &str| own.lines().find(|line| line.starts_with(name)).map(str::to_owned).unwrap();
    let script = "grep CapEff /proc/self/status > /out/said; grep Seccomp: /proc/self/status >> /out/said; \
        mkdir /out/x; mount -t tmpfs x /out/x; umount /out/x; rmdir /out/x; \
        mknod /out/null c 1 3; echo > /out/null; rm /out/null; \
        grep -E '^[^ ]+ /sys sysfs rw' /proc/mounts > /dev/null; test -w /proc/sys/kernel/hostname; ls /dev >> /out/said";
    let said = kit.said(&privileged(script));
    assert!(said.starts_with(&format!("{}\n{}\n", line("CapEff"), line("Seccomp:"))), "{said}");
    for device in ["null", "kmsg"] {
        let here = std::path::Path::new("/dev").join(device).exists();
        assert_eq!(said.lines().any(|line| line == device), here, "{device}: {said}");
    }
    let groups = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
    let counted = kit.said(&privileged("ls -A /sys/fs/cgroup | wc -l > /out/said"));
    assert_eq!(counted.trim(), groups("/sys/fs/cgroup").to_string());
    // Without the word none of this is possible.
    let (plain, _) =
        step("! mount -t tmpfs x /out 2>/dev/null; ls /dev > /out/said", vec![], ExecOp::default());
    assert!(!kit.said(&plain).contains("kmsg"));
}
