//! What other processes run: waited for without a place, taken when it is there, made here when it is not.

use super::fake::{Behaviour, Fake, Graph, World, id};
use super::simulation::{Flying, Simulation};
use crate::machine::{JobId, RequestId, Signal};
use crate::{Phase, SolveError, VertexSpec, WaitsFor};

fn begin(simulation: &mut Simulation, job: u64, graph: Vec<VertexSpec<Fake>>, wanted: &[&str]) {
    simulation.open(job, graph);
    let edges: Vec<_> = wanted.iter().map(|name| (id(name), 0)).collect();
    simulation.solve(job, job, &edges, false);
    simulation.until_claims();
}

fn of(simulation: &Simulation, name: &str) -> (Phase, Vec<WaitsFor>) {
    let status = simulation.machine.status(&|_| None);
    let vertex = status.vertices.into_iter().find(|vertex| vertex.name == name).expect("is at work");
    (vertex.phase, vertex.waits_for)
}

#[test]
fn what_another_process_makes_is_waited_for_without_a_place_and_taken() {
    let world = World::default();
    let mut simulation = Simulation::new(1, 7);
    let graph = || Graph::new(&world).add("make", &[]).add("quick", &[]).vertices;
    begin(&mut simulation, 1, graph(), &["make", "quick"]);
    let make = simulation.claim_of("make");
    assert_eq!(of(&simulation, "make"), (Phase::Claiming, vec![WaitsFor::Cache]));
    assert_eq!(of(&simulation, "quick"), (Phase::Queued, vec![WaitsFor::Place]));
    simulation.hold(make);
    assert_eq!(
        of(&simulation, "make"),
        (Phase::Claiming, vec![WaitsFor::Process { name: "process 7".to_owned() }])
    );
    simulation.end(simulation.claim_of("quick"));
    assert_eq!(world.log().running, ["quick()"]);
    // One that comes now waits with it.
    begin(&mut simulation, 2, graph(), &["make"]);
    simulation.run_elsewhere(make);
    simulation.end(make);
    simulation.until_claims();
    assert_eq!(simulation.events_of(1, id("make")), ["started", "missed", "shared", "cached Fast"]);
    assert_eq!(simulation.events_of(2, id("make")), ["started", "shared", "cached Fast"]);
    assert!(simulation.answer(2).unwrap().is_ok());
    simulation.drain();
    assert!(simulation.answer(1).unwrap().is_ok());
    assert_eq!(world.runs().len(), 2);
}

#[test]
fn what_another_process_made_between_lookup_and_claim_is_found() {
    let world = World::default();
    let mut simulation = Simulation::new(1, 7);
    let part = |op: &mut Fake| op.uses[0].part = true;
    let graph = || Graph::new(&world).add("base", &[]).add_with("make", &["base"], part).vertices;
    begin(&mut simulation, 1, graph(), &["make"]);
    simulation.end(simulation.claim_of("base"));
    simulation.until_claims();
    simulation.end(simulation.run_of("base"));
    simulation.until_claims();
    let make = simulation.claim_of("make");
    simulation.hold(make);
    simulation.run_elsewhere(make);
    simulation.end(make);
    simulation.drain();
    assert_eq!(simulation.events_of(1, id("make")), ["started", "missed", "shared", "cached Slow"]);
    // Found under the slow key, linked to the others: base has one, make has three.
    assert_eq!(simulation.cache.len(), 1 + 3);
    begin(&mut simulation, 2, graph(), &["make"]);
    assert_eq!(simulation.events_of(2, id("make")), ["started", "cached Fast"]);
    assert_eq!(world.runs().len(), 2);
}

#[test]
fn what_another_process_did_not_make_is_made_here_before_what_is_queued() {
    let world = World::default();
    let mut simulation = Simulation::new(1, 7);
    let graph = Graph::new(&world).add("make", &[]).add("quick", &[]).add("last", &[]).vertices;
    begin(&mut simulation, 1, graph, &["make", "quick", "last"]);
    let make = simulation.claim_of("make");
    simulation.hold(make);
    simulation.end(simulation.claim_of("quick"));
    simulation.end(make);
    assert_eq!(of(&simulation, "make"), (Phase::Queued, vec![WaitsFor::Place]), "it has its claim");
    assert_eq!(simulation.claims.lock().unwrap().len(), 2);
    simulation.end(simulation.run_of("quick"));
    assert_eq!(world.log().running, ["make()"]);
    simulation.until_claims();
    assert_eq!(simulation.claims.lock().unwrap().len(), 1, "a claim lasts until the result is stored");
    simulation.drain();
    assert_eq!(simulation.events_of(1, id("make")), ["started", "missed", "shared", "running", "done"]);
    assert!(simulation.answer(1).unwrap().is_ok());
}

#[test]
fn a_wait_ends_with_the_last_interest_and_may_begin_anew() {
    let world = World::default();
    let mut simulation = Simulation::new(1, 7);
    let graph = || Graph::new(&world).add("make", &[]).vertices;
    begin(&mut simulation, 1, graph(), &["make"]);
    let make = simulation.claim_of("make");
    simulation.hold(make);
    simulation.step(Signal::Abandon { request: RequestId(1) });
    assert!(matches!(simulation.flying[&make], Flying::Claim { told: true, .. }));
    assert!(simulation.answer(1).is_none(), "it is awaited");
    simulation.solve(2, 1, &[(id("make"), 0)], false);
    simulation.until_claims();
    assert_eq!(simulation.flying.len(), 1, "and begun again only then");
    simulation.drain();
    assert!(matches!(simulation.answer(1), Some(Err(SolveError::Cancelled))));
    assert!(simulation.answer(2).unwrap().is_ok());
    assert_eq!(world.runs(), ["make()"]);
}

#[test]
fn a_claim_goes_over_to_who_stays_and_a_failure_gives_it_up() {
    let world = World::default();
    let mut simulation = Simulation::new(1, 7);
    let graph = |behaviour| {
        let graph = Graph::new(&world).add("base", &[]);
        graph.add_with("make", &["base"], |op| op.behaviour = behaviour).vertices
    };
    begin(&mut simulation, 1, graph(Behaviour::FailsToRun), &["make"]);
    simulation.end(simulation.claim_of("base"));
    simulation.end(simulation.run_of("base"));
    simulation.until_claims();
    let make = simulation.claim_of("make");
    begin(&mut simulation, 2, graph(Behaviour::Works), &["make"]);
    simulation.step(Signal::Close { job: JobId(1) });
    assert!(matches!(simulation.flying[&make], Flying::Claim { told: false, .. }));
    simulation.end(make);
    simulation.drain();
    assert!(simulation.answer(2).unwrap().is_ok());
    simulation.cache.clear();
    begin(&mut simulation, 3, graph(Behaviour::FailsToRun), &["make"]);
    simulation.drain();
    assert!(simulation.answer(3).unwrap().is_err());
}

#[test]
fn what_ignores_the_cache_claims_nothing_and_takes_nothing_made_elsewhere() {
    let world = World::default();
    world.log().overlaps = true;
    let mut simulation = Simulation::new(2, 7);
    let graph = |ignore_cache, is_shared| {
        let change = |op: &mut Fake| (op.ignore_cache, op.is_shared) = (ignore_cache, is_shared);
        Graph::new(&world).add_with("make", &[], change).vertices
    };
    for (job, ignores, is_shared) in [(1, true, true), (2, false, false)] {
        begin(&mut simulation, job, graph(ignores, is_shared), &["make"]);
        assert_eq!(of(&simulation, "make").0, Phase::Running);
        simulation.drain();
        simulation.cache.clear();
    }
    begin(&mut simulation, 3, graph(false, true), &["make"]);
    begin(&mut simulation, 4, graph(true, true), &["make"]);
    let make = simulation.claim_of("make");
    simulation.hold(make);
    simulation.run_elsewhere(make);
    simulation.end(make);
    simulation.drain();
    assert_eq!(simulation.events_of(3, id("make")).last().unwrap(), "cached Fast");
    assert_eq!(simulation.events_of(4, id("make")).last().unwrap(), "done");
    assert_eq!(world.runs().len(), 2 + 2);
}
