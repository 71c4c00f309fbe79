//! One behaviour each, in an order of events that a test decides.

use rb_diag::ErrorKind;

use super::fake::{Behaviour, Graph, Tree, Use, World, id};
use super::simulation::Simulation;
use crate::keys::KEY_SCHEMA;
use crate::machine::{JobId, RequestId, Signal};
use crate::{Event, Gone, GoneReason, MissReason, Phase, SolveError, VertexSpec, WaitsFor, Weight};

pub(super) type Vertices = Vec<VertexSpec<super::fake::Fake>>;

/// Solves edges 0 of `wanted` as one job, to the end, and returns the answer.
pub(super) fn build(
    simulation: &mut Simulation,
    job: u64,
    graph: Vertices,
    wanted: &[&str],
) -> Result<Vec<Tree>, SolveError> {
    begin(simulation, job, graph, wanted, false);
    simulation.drain();
    simulation.answer(job).unwrap().clone()
}

pub(super) fn begin(
    simulation: &mut Simulation,
    job: u64,
    graph: Vertices,
    wanted: &[&str],
    keep_going: bool,
) {
    simulation.open(job, graph);
    let edges: Vec<_> = wanted.iter().map(|name| (id(name), 0)).collect();
    simulation.solve(job, job, &edges, keep_going);
}

pub(super) fn reason(simulation: &Simulation, job: u64, name: &str) -> Option<MissReason> {
    simulation.events.iter().rev().find_map(|(of, vertex, event)| match event {
        Event::Missed { reason } if *of == JobId(job) && *vertex == id(name) => Some(reason.clone()),
        _ => None,
    })
}

pub(super) fn world() -> (World, Simulation) {
    let world = World::default();
    let simulation = Simulation::new(4, 7);
    (world, simulation)
}

#[test]
fn a_fast_hit_asks_nothing_of_what_is_below() {
    let (world, mut simulation) = world();
    let graph = || Graph::new(&world).add("base", &[]).add("copy", &["base"]).add("make", &["copy"]).vertices;
    let first = build(&mut simulation, 1, graph(), &["make"]).unwrap();
    assert_eq!(simulation.events_of(1, id("make")), ["started", "missed", "running", "done"]);
    let runs = world.runs().len();
    let second = build(&mut simulation, 2, graph(), &["make"]).unwrap();
    assert_eq!(first, second);
    assert_eq!(world.runs().len(), runs);
    assert_eq!(simulation.events_of(2, id("make")), ["started", "cached Fast"]);
    assert!(simulation.events_of(2, id("copy")).is_empty());
    assert!(simulation.events_of(2, id("base")).is_empty());
}

#[test]
fn an_equal_result_of_another_run_cuts_off_what_follows() {
    let (world, mut simulation) = world();
    let graph = |comment: &str| {
        let equal = |op: &mut super::fake::Fake| {
            op.definition += comment;
            op.range = 1;
        };
        Graph::new(&world).add_with("base", &[], equal).add("copy", &["base"]).add("make", &["copy"]).vertices
    };
    build(&mut simulation, 1, graph(""), &["make"]).unwrap();
    build(&mut simulation, 2, graph(" # comment"), &["make"]).unwrap();
    assert_eq!(world.runs(), ["base()", "copy(0/0)", &world.runs()[2], "base # comment()"]);
    assert_eq!(simulation.events_of(2, id("copy")), ["started", "cached Content"]);
    assert_eq!(simulation.events_of(2, id("make")), ["started", "cached Content"]);
    // Both are linked: the next build finds the root at once.
    build(&mut simulation, 3, graph(" # comment"), &["make"]).unwrap();
    assert_eq!(simulation.events_of(3, id("make")), ["started", "cached Fast"]);
}

#[test]
fn a_change_outside_the_part_that_is_read_changes_nothing() {
    let (world, mut simulation) = world();
    let part = |op: &mut super::fake::Fake| op.uses[0] = Use { selector: None, part: true };
    // Trees 2n and 2n+1 have equal parts.
    let graph = |definition: &'static str| {
        let define = move |op: &mut super::fake::Fake| op.definition = definition.to_owned();
        Graph::new(&world).add_with("base", &[], define).add_with("copy", &["base"], part).vertices
    };
    let tree = |definition| super::fake::Fake::new(&world, definition).outputs_for(&[])[0].0;
    let names: Vec<String> = (0..2000).map(|at| format!("base{at}")).collect();
    let first: &'static str = Box::leak(names[0].clone().into_boxed_str());
    let twin =
        names.iter().find(|name| tree(name) != tree(first) && tree(name) / 2 == tree(first) / 2).unwrap();
    let twin: &'static str = Box::leak(twin.clone().into_boxed_str());
    build(&mut simulation, 1, graph(first), &["copy"]).unwrap();
    build(&mut simulation, 2, graph(twin), &["copy"]).unwrap();
    assert_eq!(simulation.events_of(2, id("copy")), ["started", "cached Slow"]);
    assert_eq!(world.runs().len(), 3);
    // The content key is linked as well: another definition with the very same tree reads nothing.
    let digests = world.log().digests.len();
    let third = names.iter().find(|name| *name != twin && tree(name) == tree(twin));
    if let Some(third) = third {
        build(&mut simulation, 3, graph(Box::leak(third.clone().into_boxed_str())), &["copy"]).unwrap();
        assert_eq!(simulation.events_of(3, id("copy")), ["started", "cached Content"]);
        assert_eq!(world.log().digests.len(), digests);
    }
}

#[test]
fn equal_vertices_of_two_jobs_run_once() {
    let (world, mut simulation) = world();
    let graph = || Graph::new(&world).add("base", &[]).add("make", &["base"]).vertices;
    begin(&mut simulation, 1, graph(), &["make"], false);
    begin(&mut simulation, 2, graph(), &["make"], false);
    simulation.until_runs();
    simulation.drain();
    assert_eq!(
        simulation.answer(1).unwrap().clone().unwrap(),
        simulation.answer(2).unwrap().clone().unwrap()
    );
    assert_eq!(world.runs().len(), 2);
    let shared: Vec<String> =
        [simulation.events_of(1, id("base")), simulation.events_of(2, id("base"))].concat();
    assert_eq!(shared.iter().filter(|event| *event == "shared").count(), 1, "{shared:?}");
}

#[test]
fn work_ends_with_the_last_interest_and_is_awaited() {
    let (world, mut simulation) = world();
    let graph = || Graph::new(&world).add("make", &[]).vertices;
    begin(&mut simulation, 1, graph(), &["make"], false);
    simulation.until_runs();
    begin(&mut simulation, 2, graph(), &["make"], false);
    simulation.until_runs();
    simulation.step(Signal::Cancel { job: JobId(1) });
    assert!(matches!(simulation.answer(1), Some(Err(SolveError::Cancelled))), "the other one keeps the run");
    assert!(!simulation.is_told("make"));
    simulation.step(Signal::Cancel { job: JobId(2) });
    assert!(simulation.is_told("make"));
    assert!(simulation.answer(2).is_none(), "what it wanted has not ended yet");
    simulation.drain();
    assert!(matches!(simulation.answer(2), Some(Err(SolveError::Cancelled))));
    assert_eq!(simulation.events_of(1, id("make")).last().unwrap(), "cancelled");
    // A cancelled job stays so.
    simulation.solve(3, 2, &[(id("make"), 0)], false);
    assert!(matches!(simulation.answer(3), Some(Err(SolveError::Cancelled))));
}

#[test]
fn what_is_being_stopped_and_wanted_again_is_awaited_and_begun_anew() {
    let (world, mut simulation) = world();
    let graph = || Graph::new(&world).add("base", &[]).add("make", &["base"]).vertices;
    begin(&mut simulation, 1, graph(), &["make"], false);
    simulation.until_runs();
    simulation.end(simulation.run_of("base"));
    simulation.until_runs();
    simulation.step(Signal::Abandon { request: RequestId(1) });
    assert!(simulation.is_told("make"));
    simulation.solve(2, 1, &[(id("make"), 0)], false);
    begin(&mut simulation, 3, graph(), &["make"], false);
    simulation.until_runs();
    assert_eq!(world.log().running.len(), 1, "never two at once");
    simulation.drain();
    assert!(simulation.answer(2).unwrap().is_ok());
    assert!(simulation.answer(3).unwrap().is_ok());
    assert_eq!(world.log().made.iter().filter(|name| name.starts_with("make")).count(), 1);
}

#[test]
fn a_failure_of_one_who_left_is_not_the_others() {
    let (world, mut simulation) = world();
    let graph = |behaviour| Graph::new(&world).add_with("make", &[], |op| op.behaviour = behaviour).vertices;
    begin(&mut simulation, 1, graph(Behaviour::FailsToRun), &["make"], false);
    simulation.until_runs();
    begin(&mut simulation, 2, graph(Behaviour::Works), &["make"], false);
    simulation.until_runs();
    simulation.step(Signal::Close { job: JobId(1) });
    assert!(!simulation.is_told("make"));
    simulation.drain();
    assert!(simulation.answer(2).unwrap().is_ok());
    assert_eq!(world.runs().len(), 2);
}

#[test]
fn one_who_leaves_the_queue_hands_over() {
    let world = World::default();
    let mut simulation = Simulation::new(1, 7);
    let graph = |behaviour| {
        let graph = Graph::new(&world).add_with("base", &[], |op| op.weight = Weight::Free);
        graph.add("slow", &[]).add_with("make", &["base"], |op| op.behaviour = behaviour).vertices
    };
    begin(&mut simulation, 1, graph(Behaviour::Works), &["slow"], false);
    simulation.until_runs();
    begin(&mut simulation, 2, graph(Behaviour::FailsToRun), &["make"], false);
    simulation.until_runs();
    simulation.end(simulation.run_of("base"));
    simulation.until_runs();
    begin(&mut simulation, 3, graph(Behaviour::Works), &["make"], false);
    simulation.until_runs();
    let status = simulation.machine.status(&|_| None);
    assert_eq!((status.jobs, status.busy, status.solves), (1, 1, 3));
    let queued: Vec<_> = status.vertices.iter().filter(|vertex| vertex.phase == Phase::Queued).collect();
    assert_eq!(queued.len(), 2);
    assert_eq!(queued[0].waits_for, [WaitsFor::Place]);
    simulation.step(Signal::Close { job: JobId(2) });
    simulation.drain();
    assert!(simulation.answer(3).unwrap().is_ok());
    assert_eq!(world.runs().iter().filter(|name| name.starts_with("make")).count(), 1);
}

#[test]
fn a_run_that_waits_gives_its_place_to_another() {
    let world = World::default();
    let mut simulation = Simulation::new(1, 7);
    let graph = Graph::new(&world).add("waits", &[]).add("quick", &[]).add("last", &[]).vertices;
    begin(&mut simulation, 1, graph, &["waits", "quick", "last"], false);
    simulation.until_runs();
    let running = |simulation: &Simulation| simulation.machine.status(&|_| None).busy;
    let waits = simulation.run_of("waits");
    simulation.step_aside_or_back(waits);
    simulation.until_runs();
    assert_eq!(world.log().running.len(), 2);
    // Its place is taken; it goes before the one that has not begun.
    simulation.step_aside_or_back(waits);
    assert_eq!(running(&simulation), 1);
    let status = simulation.machine.status(&|_| None);
    let queued: Vec<_> = status.vertices.iter().filter(|vertex| vertex.phase == Phase::Queued).collect();
    assert_eq!(queued.iter().map(|vertex| vertex.name.as_str()).collect::<Vec<_>>(), ["waits", "last"]);
    simulation.end(simulation.run_of("quick"));
    assert_eq!(running(&simulation), 1);
    assert_eq!(world.log().running, ["waits()"]);
    simulation.until_runs();
    simulation.end(waits);
    simulation.until_runs();
    assert_eq!(world.log().running, ["last()"]);
    simulation.drain();
    assert!(simulation.answer(1).unwrap().is_ok());
}

#[test]
fn errors_are_shared_by_all_of_the_moment_and_kept_by_none() {
    let (world, mut simulation) = world();
    let graph = |behaviour| Graph::new(&world).add_with("make", &[], |op| op.behaviour = behaviour).vertices;
    for job in 1..4 {
        begin(&mut simulation, job, graph(Behaviour::FailsToRun), &["make"], false);
        simulation.until_runs();
    }
    simulation.drain();
    assert_eq!(world.runs().len(), 1);
    for job in 1..4 {
        let error = simulation.answer(job).unwrap().clone().unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Build, "`make` failed"));
        assert_eq!(error.failures()[0].source.to_string(), "make failed");
    }
    simulation.solve(9, 1, &[(id("make"), 0)], false);
    simulation.drain();
    assert_eq!(world.runs().len(), 2, "tried again, in the same job");
    assert!(build(&mut simulation, 10, graph(Behaviour::Works), &["make"]).is_ok());
}

fn two_that_fail_and_one_that_works(world: &World) -> Vertices {
    let graph = Graph::new(world).add("base", &[]).add("good", &["base"]);
    let graph = graph.add_with("bad1", &[], |op| op.behaviour = Behaviour::FailsToRun);
    let graph = graph.add_with("bad2", &[], |op| op.behaviour = Behaviour::FailsToRun);
    graph.add("after", &["bad1", "good"]).vertices
}

#[test]
fn the_first_failure_stops_the_rest() {
    let (world, mut simulation) = world();
    begin(&mut simulation, 1, two_that_fail_and_one_that_works(&world), &["after", "bad2"], false);
    simulation.until_runs();
    simulation.end(simulation.run_of("bad1"));
    assert!(simulation.is_told("base") && simulation.is_told("bad2"));
    assert!(simulation.answer(1).is_none());
    simulation.drain();
    let error = simulation.answer(1).unwrap().clone().unwrap_err();
    assert_eq!(error.failures().len(), 1);
    assert_eq!(simulation.events_of(1, id("after")), ["started", "cancelled"]);
    assert_eq!(simulation.events_of(1, id("bad1")).last().unwrap(), "failed: bad1 failed");
    assert!(!world.runs().iter().any(|run| run.starts_with("good")));
}

#[test]
fn keeping_on_collects_failures_and_does_the_rest() {
    let (world, mut simulation) = world();
    begin(&mut simulation, 1, two_that_fail_and_one_that_works(&world), &["after", "bad2"], true);
    simulation.drain();
    let error = simulation.answer(1).unwrap().clone().unwrap_err();
    let mut names: Vec<String> = error.failures().iter().map(|failure| failure.name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["bad1", "bad2"]);
    assert!(world.log().made.iter().any(|run| run.starts_with("good")));
}

#[test]
fn every_miss_has_a_reason() {
    let (world, mut simulation) = world();
    let graph = |base: &str, make: &str| {
        let define = |definition: &str| {
            let definition = definition.to_owned();
            move |op: &mut super::fake::Fake| op.definition = definition
        };
        let graph = Graph::new(&world).add_with("base", &[], define(base)).add("other", &[]);
        graph.add_with("make", &["other", "base"], define(make)).vertices
    };
    build(&mut simulation, 1, graph("b1", "m1"), &["make"]).unwrap();
    assert_eq!(reason(&simulation, 1, "make"), Some(MissReason::NeverSeen));
    build(&mut simulation, 2, graph("b1", "m2"), &["make"]).unwrap();
    let expected =
        MissReason::DefinitionChanged { was: rb_oci::Digest::of("m1"), now: rb_oci::Digest::of("m2") };
    assert_eq!(reason(&simulation, 2, "make"), Some(expected));
    // A fast hit in between does not make it forget what was in the inputs.
    build(&mut simulation, 3, graph("b1", "m2"), &["make"]).unwrap();
    build(&mut simulation, 4, graph("b2", "m2"), &["make"]).unwrap();
    let Some(MissReason::InputChanged { index: 1, was, now, also }) = reason(&simulation, 4, "make") else {
        panic!("{:?}", reason(&simulation, 4, "make"));
    };
    assert!(also.is_empty() && was.fast != now.fast);
    let content = |definition| {
        let tree = super::fake::Fake::new(&world, definition).outputs_for(&[])[0];
        Some(<super::fake::Fake as crate::Op>::content_key(&tree))
    };
    assert_eq!((was.content, now.content), (content("b1"), content("b2")));
    let text = serde_json::to_string(&reason(&simulation, 4, "make").unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<MissReason>(&text).ok(), reason(&simulation, 4, "make"));
    assert_eq!(simulation.asked_for_gone, 0);
    simulation.cache.clear();
    build(&mut simulation, 5, graph("b2", "m2"), &["make"]).unwrap();
    assert_eq!(reason(&simulation, 5, "make"), Some(MissReason::Evicted { gone: None }));
    // All that is below went too.
    assert_eq!(simulation.asked_for_gone, 3);
}

#[test]
fn what_went_is_told_with_when_and_why() {
    let (world, mut simulation) = world();
    let graph = || {
        let part = |op: &mut super::fake::Fake| op.uses[0].part = true;
        Graph::new(&world).add("base", &[]).add("make", &["base"]).add_with("copy", &["make"], part).vertices
    };
    build(&mut simulation, 1, graph(), &["copy"]).unwrap();
    let gone = Gone { reason: GoneReason::Unsynced, at_unix: 7 };
    simulation.gone = simulation.cache.keys().map(|key| (*key, gone)).collect();
    simulation.cache.clear();
    build(&mut simulation, 2, graph(), &["copy"]).unwrap();
    for name in ["base", "make", "copy"] {
        assert_eq!(reason(&simulation, 2, name), Some(MissReason::Evicted { gone: Some(gone) }), "{name}");
    }
    assert_eq!(simulation.asked_for_gone, 3, "once for each");
}

#[test]
fn an_older_key_schema_misses_knowingly() {
    let (world, mut simulation) = world();
    let graph = || Graph::new(&world).add("base", &[]).add("make", &["base"]).vertices;
    build(&mut simulation, 1, graph(), &["make"]).unwrap();
    // What another version kept: the same lineages, and keys that nobody asks for.
    let (was, now) = (KEY_SCHEMA - 1, KEY_SCHEMA);
    simulation.traces.values_mut().for_each(|trace| trace.schema = was);
    let old = std::mem::take(&mut simulation.cache);
    simulation.cache = old.into_iter().map(|(key, trees)| (rb_oci::Digest::of(key.hex()), trees)).collect();
    build(&mut simulation, 2, graph(), &["make"]).unwrap();
    for name in ["base", "make"] {
        assert_eq!(reason(&simulation, 2, name), Some(MissReason::SchemaChanged { was, now }), "{name}");
    }
    // From then on it is known by the new one.
    build(&mut simulation, 3, graph(), &["make"]).unwrap();
    assert_eq!(reason(&simulation, 3, "make"), None);
    assert!(simulation.traces.values().all(|trace| trace.schema == now));
}

#[test]
fn faults_of_graphs_and_ops_are_told() {
    let (world, mut simulation) = world();
    let good = || Graph::new(&world).add("base", &[]);
    assert!(matches!(
        build(&mut simulation, 1, good().add("make", &["later"]).add("later", &[]).vertices, &["base"]),
        Err(SolveError::UnknownInput { vertex, input }) if vertex == id("make") && input == id("later")
    ));
    assert!(matches!(
        build(&mut simulation, 2, good().vertices, &["nothing"]),
        Err(SolveError::UnknownVertex { vertex }) if vertex == id("nothing")
    ));
    let error = build(
        &mut simulation,
        3,
        good().add_with("make", &["base"], |op| op.uses.clear()).vertices,
        &["make"],
    );
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Internal);
    simulation.open(4, good().vertices);
    simulation.solve(4, 4, &[(id("base"), 5)], false);
    simulation.drain();
    let error = simulation.answer(4).unwrap().clone().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert_eq!(error.failures()[0].source.to_string(), "output 5 is asked for, there are 1");
    let mut graph = good().add("make", &["base"]).vertices;
    graph[1].inputs[0].1 = 2;
    let error = build(&mut simulation, 5, graph, &["make"]).unwrap_err();
    assert_eq!(error.failures()[0].name.as_ref(), "make");
    // A solve of nothing.
    assert_eq!(build(&mut simulation, 6, good().vertices, &[]).unwrap(), []);
}

#[test]
fn a_wait_without_a_cause_ends_in_an_error() {
    let (world, mut simulation) = world();
    let graph = Graph::new(&world).add("base", &[]).add("make", &["base"]).vertices;
    begin(&mut simulation, 1, graph, &["make"], false);
    simulation.until_runs();
    simulation.machine.lose_effects();
    let effects = simulation.machine.audit_as_released();
    let answers: Vec<_> = effects
        .into_iter()
        .filter_map(|effect| match effect {
            crate::machine::Effect::Answer { request, result } => Some((request, result)),
            _ => None,
        })
        .collect();
    assert!(
        matches!(&answers[..], [(RequestId(1), Err(SolveError::Stuck { name, .. }))] if &**name == "base")
    );
}

#[test]
fn the_status_tells_who_waits_for_what() {
    let (world, mut simulation) = world();
    let part = |op: &mut super::fake::Fake| op.uses[0].part = true;
    let graph =
        Graph::new(&world).add("base", &[]).add_with("copy", &["base"], part).add("make", &["copy"]).vertices;
    begin(&mut simulation, 1, graph, &["make"], false);
    let phases = |simulation: &Simulation| {
        let status = simulation.machine.status(&|_| None);
        status.vertices.into_iter().map(|at| (at.name, at.phase, at.waits_for)).collect::<Vec<_>>()
    };
    let make = phases(&simulation).pop().unwrap();
    assert_eq!(make.1, Phase::Keying);
    assert_eq!(make.2, [WaitsFor::CacheMap, WaitsFor::KeyOf { vertex: id("copy") }]);
    simulation.until_runs();
    assert_eq!(
        phases(&simulation),
        [
            ("base".to_owned(), Phase::Running, vec![WaitsFor::Run { of: id("base") }]),
            ("copy".to_owned(), Phase::Gathering, vec![WaitsFor::ValueOf { vertex: id("base") }]),
            ("make".to_owned(), Phase::Gathering, vec![WaitsFor::ValueOf { vertex: id("copy") }]),
        ]
    );
    simulation.drain();
    assert!(phases(&simulation).is_empty());
}
