//! One engine and builds without end: nothing of one is left when the next begins, and the process does not grow.
//! `RB_STEADY_MINUTES` says for how long (`tests/soak steady`).

pub(crate) mod tally;

use std::time::{Duration, Instant};

use rb_frontend::Query;
use rb_llb::{CacheSharing, ExecOp, Mount, MountKind};
use rb_store::{Amount, Policy};

use super::mounts::{Kit, mount, runtime, step};
use super::*;
use crate::counts::alone;
use tally::{Tally, memory, span};

/// What the state directory may occupy: what is made in the loop is more than that soon.
const CAP_BYTES: u64 = 100_000_000;

/// The process may be so much larger at the end: allocators keep what was freed.
const SLACK_BYTES: u64 = 16 << 20;

/// So many builds at least come before the first count.
const WARM_UP: usize = 20;

/// Steps that are new in each round, beside some that are found: on an own network, with a cache, one upon the other.
fn states(round: usize) -> [State; 2] {
    let cache = |id: &str| {
        let kind = MountKind::Cache { id: id.to_owned(), sharing: CacheSharing::Shared };
        (mount("/cache", kind), State::scratch())
    };
    let common = step("echo common > /out/said", vec![cache("one")], ExecOp::default()).0;
    let shows = (Mount { readonly: true, ..mount("/in", MountKind::Bind) }, common);
    let script = format!(
        "echo {round} >> /cache/rounds; tail -n 3 /cache/rounds > /out/said; cat /in/said >> /out/said"
    );
    let own = step(&script, vec![cache("two"), shows], ExecOp::default()).0;
    let bulk = format!("head -c 1000000 /dev/zero > /out/bulk; echo {round} > /out/said");
    [own, step(&bulk, Vec::new(), ExecOp::default()).0]
}

/// One build after the other by one engine: some fail, some are given up, some only ask.
async fn round(kit: &Kit, engine: &LocalEngine, number: usize) {
    kit.solving(engine, &states(number)).await.unwrap_or_else(|error| panic!("round {number}: {error:?}"));
    if number.is_multiple_of(4) {
        let fails = step(&format!("echo {number} > /out/said; exit 3"), Vec::new(), ExecOp::default()).0;
        kit.solving(engine, &[fails]).await.expect_err("it ends with 3");
    }
    if number.is_multiple_of(5) {
        let slow = step(&format!("echo {number} > /out/said; sleep 600"), Vec::new(), ExecOp::default()).0;
        let given_up = tokio::time::timeout(Duration::from_millis(50), kit.solving(engine, &[slow])).await;
        assert!(given_up.is_err(), "it was to last");
    }
    if number.is_multiple_of(3) {
        let job = engine.job(kit.job_options(), Arc::new(|_: Event| {}));
        let [own, _] = states(number);
        let definition = own.marshal(&SourceMap::default()).expect("marshals");
        let query = Query::ReadFile { path: "/said".to_owned(), limit_bytes: 4096 };
        job.query(definition, query).await.unwrap_or_else(|error| panic!("round {number}: {error:?}"));
    }
    engine.idle().await;
}

fn loops() {
    let Some(mut kit) = Kit::new() else { return };
    let groups =
        kit.state().parent().and_then(Path::file_name).expect("has one").to_string_lossy().into_owned();
    kit.steps.limits.pids = Some(200);
    kit.steps.cgroup_parent = Some(format!("/{groups}"));
    let threads = runtime();
    if threads.block_on(kit.solving(&kit.open(2), &states(0))).is_err() {
        eprintln!("without control groups");
        kit.steps = Default::default();
    }
    let engine = kit.open(2);
    engine.store().keep_within(Policy { max_size: Amount::Bytes(CAP_BYTES), ..Policy::default() });
    let (began, span) = (Instant::now(), span());
    let mut number = 0;
    let mut until = |end: Duration, least: usize| {
        while number < least || began.elapsed() < end {
            number += 1;
            threads.block_on(round(&kit, &engine, number));
        }
        number
    };
    let warm = until(span / 10, WARM_UP);
    let state = kit.state();
    let before = Tally::at_rest(&state, &groups);
    let resident = || memory("self", "VmRSS").expect("it lives");
    let mut sizes = vec![resident()];
    let mut last = warm;
    for quarter in 1..=4 {
        last = until(span / 4 * quarter, warm + WARM_UP);
        sizes.push(resident());
    }
    let after = Tally::back_to(&before, &state, &groups, || {});
    let shown: Vec<String> = sizes.iter().map(|bytes| format!("{}", bytes >> 10)).collect();
    eprintln!(
        "steady: {} builds by one engine in {:?} after {warm}; resident kB {}; before: {before}; after: {after}",
        last - warm,
        began.elapsed(),
        shown.join(", ")
    );
    let (first, end) = (sizes[0], sizes[sizes.len() - 1]);
    assert!(end <= first + first / 4 + SLACK_BYTES, "it grew from {first} to {end} bytes");
    drop(engine);
    drop(threads);
    crate::counts::remove_groups(&groups);
}

#[test]
fn an_engine_that_builds_without_end_stays_as_it_is() {
    if !is_root() {
        return;
    }
    alone("steady::an_engine_that_builds_without_end_stays_as_it_is", loops);
}
