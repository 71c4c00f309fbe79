//! Jobs that keep going, and jobs that only look.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rb_oci::Digest;

use super::fake::{Behaviour, Graph, Tree, World, id};
use super::random::{Build, Sketch, build, fit, graph, ids, sketches, specs, vertex_id, world};
use super::simulation::Simulation;
use crate::machine::JobId;
use crate::{Event, Mode, Weight};

/// How each vertex of a job ended the last time it began.
fn ends(simulation: &Simulation, job: u64) -> BTreeMap<Digest, &'static str> {
    let mut ends = BTreeMap::new();
    for (of, vertex, event) in &simulation.events {
        let end = match event {
            Event::Cached { .. } => "cached",
            Event::Done { .. } => "done",
            Event::Failed { .. } => "failed",
            Event::Withheld => "withheld",
            Event::Cancelled => "cancelled",
            _ => continue,
        };
        if *of == JobId(job) {
            ends.insert(*vertex, end);
        }
    }
    ends
}

#[test]
fn what_failed_is_not_tried_again_by_a_job_that_keeps_going() {
    let world = World::default();
    let graph = || {
        let graph = Graph::new(&world).add_with("bad", &[], |op| op.behaviour = Behaviour::FailsToRun);
        graph.add("after", &["bad"]).add("good", &[]).vertices
    };
    let mut simulation = Simulation::new(1, 3);
    simulation.open_in(Mode::KeepGoing, 1, graph());
    for (request, wanted) in [(1, "after"), (2, "bad"), (3, "good"), (4, "after")] {
        simulation.solve(request, 1, &[(id(wanted), 0)], true);
        simulation.drain();
    }
    assert_eq!(world.runs(), ["bad()", "good()"]);
    for request in [1, 2, 4] {
        let error = simulation.answer(request).unwrap().clone().unwrap_err();
        assert_eq!(error.failures()[0].name.as_ref(), "bad", "{request}");
    }
    assert!(simulation.answer(3).unwrap().is_ok());
}

#[test]
fn a_look_tells_what_would_run_and_why_and_runs_nothing() {
    let world = World::default();
    let graph = |version: &str| {
        let graph = Graph::new(&world).add("base", &[]).add_with(version, &["base"], |_| {});
        graph.add("install", &[version]).add("apart", &["base"]).vertices
    };
    let mut simulation = Simulation::new(1, 3);
    let wanted = |version: &str| [(id("install"), 0), (id("apart"), 0), (id(version), 0)];
    simulation.open(1, graph("make 1"));
    simulation.solve(1, 1, &wanted("make 1"), false);
    simulation.drain();
    let (ran, kept) = (world.runs().len(), simulation.traces.clone());
    simulation.open_in(Mode::Look, 2, graph("make 2"));
    for request in [2, 3] {
        simulation.solve(request, 2, &wanted("make 2"), true);
        simulation.drain();
        let error = simulation.answer(request).unwrap().clone().unwrap_err();
        assert!(error.failures().iter().all(|failure| failure.source.is_withheld()), "{error:?}");
    }
    assert_eq!((world.runs().len(), &simulation.traces), (ran, &kept));
    let events = |name: &str| simulation.events_of(2, id(name));
    assert_eq!(events("make 2"), ["started", "missed", "withheld"], "told once, however often it is asked");
    assert_eq!(events("install"), ["started", "cancelled"]);
    assert_eq!(events("apart"), ["started", "cached Fast"]);
    assert_eq!(events("base"), ["started", "cached Fast"]);
}

/// Asks, one after the other, for the edges of each job of `build` as solves of one job, and returns what ran, all
/// counted.
fn keep_going(sketches: &[Sketch], build: &Build, seed: u64) {
    let world = world(build);
    let graph = graph(&world, sketches, build, 0);
    let mut simulation = Simulation::new(build.places, seed);
    simulation.open_in(Mode::KeepGoing, 0, specs(&graph));
    let rounds = build.jobs.len() as u64;
    for (request, edges) in (0..).zip(&build.jobs) {
        simulation.solve(request, 0, &ids(&fit(edges, sketches)), true);
        for _ in 0..simulation.dice.roll(20) {
            simulation.end_any();
        }
    }
    simulation.drain();
    let ends = ends(&simulation, 0);
    // What depends on nothing that failed has come to its end.
    let mut failed: BTreeSet<usize> = BTreeSet::new();
    for (at, vertex) in graph.iter().enumerate() {
        let end = ends.get(&vertex_id(at)).copied();
        if vertex.inputs.iter().any(|(input, _)| failed.contains(input)) || end == Some("failed") {
            failed.insert(at);
            continue;
        }
        assert!(matches!(end, None | Some("cached" | "done")), "v{at} {end:?}");
    }
    for (request, edges) in (0..rounds).zip(&build.jobs) {
        let hit = fit(edges, sketches).iter().any(|(at, _)| {
            ends.get(&vertex_id(*at)) != Some(&"done") && ends.get(&vertex_id(*at)) != Some(&"cached")
        });
        assert_eq!(simulation.answer(request).unwrap().is_err(), hit);
    }
    if build.ignores.iter().all(|ignores| *ignores == 0) {
        let runs = world.runs();
        for run in runs.iter().collect::<BTreeSet<_>>() {
            let tries = runs.iter().filter(|other| *other == run).count();
            // Errors are never kept: what is equal to a vertex that failed before is tried for itself.
            let failed = graph.iter().enumerate().filter(|(at, vertex)| {
                ends.get(&vertex_id(*at)) == Some(&"failed")
                    && run.starts_with(&format!("{}(", vertex.op.definition))
            });
            assert!(tries <= failed.count().max(1), "{run} is tried {tries} times: {runs:?}");
        }
    }
}

/// Builds once, then looks at another build before it is made, and compares what was foretold with what came.
fn look(sketches: &[Sketch], first: &Build, second: &Build, seed: u64) {
    let earlier = world(first);
    let mut simulation = Simulation::new(first.places, seed);
    simulation.open(0, specs(&graph(&earlier, sketches, first, 0)));
    simulation.solve(0, 0, &ids(&fit(&first.jobs[0], sketches)), true);
    simulation.drain();
    let (cache, traces) = (simulation.cache.clone(), simulation.traces.clone());

    let world = world(second);
    let graph = graph(&world, sketches, second, 1);
    let edges = ids(&fit(&second.jobs[0], sketches));
    let mut simulation = Simulation::new(second.places, seed + 1);
    (simulation.cache, simulation.traces) = (cache, traces);
    simulation.open_in(Mode::Look, 1, specs(&graph));
    simulation.solve(1, 1, &edges, true);
    simulation.drain();
    let light = |at: usize| graph[at].op.weight == Weight::Free;
    let light_runs: BTreeSet<String> =
        (0..graph.len()).filter(|at| light(*at)).map(|at| graph[at].op.definition.clone()).collect();
    for run in world.runs() {
        assert!(light_runs.iter().any(|definition| run.starts_with(&format!("{definition}("))), "{run} ran");
    }
    simulation.open_in(Mode::KeepGoing, 2, specs(&graph));
    simulation.solve(2, 2, &edges, true);
    simulation.drain();
    let (foretold, came) = (ends(&simulation, 1), ends(&simulation, 2));
    for at in (0..graph.len()).filter(|at| !light(*at)) {
        let (told, came) = (foretold.get(&vertex_id(at)).copied(), came.get(&vertex_id(at)).copied());
        let fits = match told {
            None => came.is_none(),
            // What weighs nothing was made by the look, so the build may not need what is below it any more.
            Some("cached") => matches!(came, None | Some("cached")),
            Some("failed") => came == Some("failed"),
            // An equal one of the same build may have made it a moment before.
            Some("withheld") => matches!(came, Some("done" | "failed" | "cached")),
            _ => came.is_some(),
        };
        assert!(fits, "v{at} was {told:?} and came out {came:?}");
    }
    let made = |answer: &Result<Vec<Tree>, _>| answer.as_ref().ok().cloned();
    let (looked, solved) = (made(simulation.answer(1).unwrap()), made(simulation.answer(2).unwrap()));
    assert!(looked.is_none() || looked == solved, "what is all there is what a build gives");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_does_not_need_what_failed_is_finished(
        sketches in sketches(),
        build in build(),
        seed in any::<u32>(),
    ) {
        keep_going(&sketches, &build, seed.into());
    }

    #[test]
    fn a_look_foretells_what_a_build_does(
        sketches in sketches(),
        first in build(),
        second in build(),
        seed in any::<u32>(),
    ) {
        look(&sketches, &first, &second, seed.into());
    }
}
