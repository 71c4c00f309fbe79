//! Vertices that ignore the cache, and caches that change under a run: who runs, once, and what follows sees.

use super::fake::{Graph, World, id};
use super::scripted::{Vertices, begin, build, reason, world};
use super::simulation::{Flying, Simulation};
use crate::MissReason;
use crate::machine::{JobId, Signal};

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
