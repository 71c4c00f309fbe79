//! One behaviour each, in an order of events that a test decides.

use rb_diag::ErrorKind;

use super::fake::{Behaviour, Graph, Tree, Use, World, id};
use super::simulation::{Flying, Simulation};
use crate::keys::KEY_SCHEMA;
use crate::machine::{JobId, RequestId, Signal};
use crate::{Event, Gone, GoneReason, MissReason, Phase, SolveError, VertexSpec, WaitsFor, Weight};

type Vertices = Vec<VertexSpec<super::fake::Fake>>;

/// Solves edges 0 of `wanted` as one job, to the end, and returns the answer.
fn build(
    simulation: &mut Simulation,
    job: u64,
    graph: Vertices,
    wanted: &[&str],
) -> Result<Vec<Tree>, SolveError> {
    begin(simulation, job, graph, wanted, false);
    simulation.drain();
    simulation.answer(job).unwrap().clone()
}

fn begin(simulation: &mut Simulation, job: u64, graph: Vertices, wanted: &[&str], keep_going: bool) {
    simulation.open(job, graph);
    let edges: Vec<_> = wanted.iter().map(|name| (id(name), 0)).collect();
    simulation.solve(job, job, &edges, keep_going);
}

fn reason(simulation: &Simulation, job: u64, name: &str) -> Option<MissReason> {
    simulation.events.iter().rev().find_map(|(of, vertex, event)| match event {
        Event::Missed { reason } if *of == JobId(job) && *vertex == id(name) => Some(reason.clone()),
        _ => None,
    })
}

fn world() -> (World, Simulation) {
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
fn ignoring_the_cache_keeps_the_cutoff_unless_it_taints() {
    let (world, mut simulation) = world();
    let graph = |ignore, taint| {
        let graph = Graph::new(&world).add("base", &[]).add_with("fetch", &["base"], |op| {
            op.ignore_cache = ignore;
            op.taint_dependents = taint;
        });
        graph.add("make", &["fetch"]).add("test", &["make"]).vertices
    };
    build(&mut simulation, 1, graph(false, false), &["test"]).unwrap();
    build(&mut simulation, 2, graph(true, false), &["test"]).unwrap();
    assert_eq!(simulation.events_of(2, id("base")), ["started", "cached Fast"]);
    assert_eq!(simulation.events_of(2, id("fetch")), ["started", "missed", "running", "done"]);
    assert_eq!(simulation.events_of(2, id("make")), ["started", "cached Content"]);
    assert_eq!(simulation.events_of(2, id("test")), ["started", "cached Content"]);
    assert_eq!(reason(&simulation, 2, "fetch"), Some(MissReason::IgnoreCache { inherited_from: None }));
    build(&mut simulation, 3, graph(true, true), &["test"]).unwrap();
    assert_eq!(simulation.events_of(3, id("base")), ["started", "cached Fast"]);
    assert_eq!(simulation.events_of(3, id("test")), ["started", "missed", "running", "done"]);
    let inherited_from = Some(id("fetch"));
    assert_eq!(reason(&simulation, 3, "test"), Some(MissReason::IgnoreCache { inherited_from }));
    // Within the job it is done once.
    simulation.solve(33, 3, &[(id("test"), 0)], false);
    simulation.drain();
    assert_eq!(world.runs().len(), 4 + 1 + 3);
}

/// Equal steps in a chain that change nothing, and an equal one beside them.
fn equal_steps(world: &World) -> Vertices {
    world.log().overlaps = true;
    let step = |op: &mut super::fake::Fake| {
        op.definition = "step".to_owned();
        op.range = 1;
        op.ignore_cache = true;
    };
    let base = |op: &mut super::fake::Fake| op.range = 1;
    let graph = Graph::new(world).add_with("base", &[], base).add_with("other", &[], base);
    let graph = graph.add_with("one", &["base"], step).add_with("two", &["one"], step);
    let graph = graph.add_with("three", &["two"], step).add_with("beside", &["other"], step);
    graph.add("make", &["three"]).vertices
}

#[test]
fn vertices_that_ignore_the_cache_run_once_each() {
    let (world, mut simulation) = world();
    let steps = |world: &World| world.runs().iter().filter(|run| run.starts_with("step")).count();
    build(&mut simulation, 1, equal_steps(&world), &["make", "beside"]).unwrap();
    assert_eq!(steps(&world), 4);
    for name in ["one", "two", "three", "beside"] {
        assert_eq!(simulation.events_of(1, id(name)), ["started", "missed", "running", "done"], "{name}");
    }
    // A later solve of the same job has them; another job runs them again, and what follows is cut off.
    simulation.solve(11, 1, &[(id("two"), 0), (id("make"), 0)], false);
    simulation.drain();
    assert_eq!(steps(&world), 4);
    build(&mut simulation, 2, equal_steps(&world), &["make", "beside"]).unwrap();
    assert_eq!(steps(&world), 8);
    assert_eq!(simulation.events_of(2, id("make")), ["started", "cached Content"]);
}

#[test]
fn jobs_share_a_run_that_ignores_the_cache_and_vertices_of_one_do_not() {
    let (world, mut simulation) = world();
    begin(&mut simulation, 1, equal_steps(&world), &["one", "beside"], false);
    begin(&mut simulation, 2, equal_steps(&world), &["one", "beside"], false);
    simulation.until_runs();
    for base in ["base", "other"] {
        simulation.end(simulation.run_of(base));
        simulation.until_runs();
    }
    assert_eq!(world.log().running.len(), 2, "{:?}", world.log().running);
    // The one that has no job left to share with goes on for itself.
    simulation.step(Signal::Close { job: JobId(1) });
    simulation.drain();
    assert!(simulation.answer(2).unwrap().is_ok());
    assert_eq!(world.log().made.iter().filter(|run| run.starts_with("step")).count(), 2);
}

#[test]
fn a_changed_result_of_an_ignored_cache_reaches_what_follows() {
    let (world, mut simulation) = world();
    let graph = |chance| {
        let graph = Graph::new(&world).add_with("fetch", &[], |op| {
            op.ignore_cache = chance > 0;
            op.chance = chance;
        });
        graph.add("make", &["fetch"]).vertices
    };
    let first = build(&mut simulation, 1, graph(0), &["make"]).unwrap();
    let second = build(&mut simulation, 2, graph(1), &["make"]).unwrap();
    assert_ne!(first, second);
    // The new result stands in for the old one from now on.
    assert_eq!(build(&mut simulation, 3, graph(0), &["make"]).unwrap(), second);
    assert_eq!(world.runs().len(), 4);
}

#[test]
fn an_answer_of_the_cache_from_before_a_store_does_not_run_it_again() {
    let world = World::default();
    // The seeds differ in whether the cache answers with what it held at the question or at the end.
    for seed in 0..16 {
        let mut simulation = Simulation::new(4, seed);
        let graph = || Graph::new(&world).add("make", &[]).vertices;
        begin(&mut simulation, 1, graph(), &["make"], false);
        begin(&mut simulation, 2, graph(), &["make"], false);
        let is_lookup = |flying: &Flying| matches!(flying, Flying::Lookup { .. });
        let find = |simulation: &Simulation| {
            simulation.flying.iter().find(|(_, flying)| !is_lookup(flying)).map(|(ticket, _)| *ticket)
        };
        while let Some(ticket) = find(&simulation) {
            simulation.end(ticket);
        }
        // Both look up. The first one runs to the end while the second still waits for its answer.
        let first = *simulation.flying.keys().next().unwrap();
        simulation.end(first);
        while let Some(ticket) = find(&simulation) {
            simulation.end(ticket);
        }
        assert!(simulation.answer(1).is_some() && simulation.answer(2).is_none());
        simulation.drain();
        assert!(simulation.answer(2).unwrap().is_ok());
    }
    assert_eq!(world.runs().len(), 16);
}

#[test]
fn one_that_joins_while_the_result_is_stored_stores_its_own_keys() {
    let (world, mut simulation) = world();
    let graph = |base: &'static str| {
        let equal = |op: &mut super::fake::Fake| op.range = 1;
        Graph::new(&world).add_with(base, &[], equal).add("make", &[base]).vertices
    };
    begin(&mut simulation, 1, graph("base1"), &["make"], false);
    begin(&mut simulation, 2, graph("base2"), &["make"], false);
    simulation.until_runs();
    simulation.end(simulation.run_of("base1"));
    simulation.until_runs();
    simulation.end(simulation.run_of("make"));
    let stores = |simulation: &Simulation| {
        let is_store = |flying: &Flying| matches!(flying, Flying::Store { .. });
        simulation.flying.iter().find(|(_, flying)| is_store(flying)).map(|(ticket, _)| *ticket)
    };
    let of_make = stores(&simulation).unwrap();
    simulation.end(simulation.run_of("base2"));
    let others =
        |simulation: &Simulation| simulation.flying.keys().find(|ticket| **ticket != of_make).copied();
    while let Some(ticket) = others(&simulation) {
        simulation.end(ticket);
    }
    assert_eq!(simulation.events_of(2, id("make")), ["started", "shared"]);
    simulation.drain();
    assert_eq!(simulation.events_of(2, id("make")), ["started", "shared", "done"]);
    build(&mut simulation, 3, graph("base2"), &["make"]).unwrap();
    assert_eq!(simulation.events_of(3, id("make")), ["started", "cached Fast"]);
    assert_eq!(world.runs().len(), 3);
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
