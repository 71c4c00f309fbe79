//! The whole solver on tokio, with time that passes only when all wait.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use rb_diag::ErrorKind;
use rb_oci::Digest;
use tokio::time::Instant;

use super::fake::{Behaviour, Fake, Graph, Memory, Tree, World, id};
use super::simulation::{Dice, Simulation};
use crate::machine::{JobId, Signal};
use crate::{Event, Options, SolveError, Solver, VertexSpec, Weight};

type Heard = Arc<Mutex<Vec<(Digest, Event)>>>;

fn solver(memory: &Arc<Memory>, jobs: usize) -> Solver<Fake> {
    Solver::new(memory.clone(), Options::new(NonZeroUsize::new(jobs).unwrap()))
}

fn ear() -> (Heard, Arc<dyn crate::Observer>) {
    let heard = Heard::default();
    let listener = heard.clone();
    (heard, Arc::new(move |vertex: Digest, event: Event| listener.lock().unwrap().push((vertex, event))))
}

fn deaf() -> Arc<dyn crate::Observer> {
    Arc::new(|_: Digest, _: Event| {})
}

fn fan(world: &World, width: usize) -> Vec<VertexSpec<Fake>> {
    let names: Vec<String> = (0..width).map(|at| format!("leaf{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let graph = names.iter().fold(Graph::new(world), |graph, name| graph.add(name, &[]));
    graph.add("root", &names).vertices
}

#[tokio::test(start_paused = true)]
async fn runs_as_many_at_once_as_there_are_places() {
    for (jobs, seconds) in [(1, 9), (3, 4), (8, 2), (100, 2)] {
        let world = World::default();
        let solver = solver(&Arc::default(), jobs);
        let began = Instant::now();
        solver.job(fan(&world, 8), deaf()).solve(&[(id("root"), 0)]).await.unwrap();
        assert_eq!(world.log().peak, jobs.min(8));
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_below_is_seen_without_work() {
    let world = World::default();
    let solver = solver(&Arc::default(), 1);
    let graph = || Graph::new(&world).add("a", &[]).add("b", &["a"]).add("root", &["b"]).vertices;
    let first = solver.job(graph(), deaf());
    assert_eq!(first.peek(id("a")).await.unwrap(), None);
    first.solve(&[(id("root"), 0)]).await.unwrap();
    let made = first.peek(id("a")).await.unwrap();
    assert!(made.is_some());
    // Another job finds the root by its key, and asks for nothing below.
    let again = solver.job(graph(), deaf());
    again.solve(&[(id("root"), 0)]).await.unwrap();
    assert_eq!(again.peek(id("a")).await.unwrap(), made);
    assert_eq!(again.peek(id("elsewhere")).await.unwrap(), None);
    assert_eq!(world.log().runs.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_weighs_nothing_takes_no_place() {
    let world = World::default();
    let mut graph = fan(&world, 8);
    for vertex in &mut graph {
        Arc::get_mut(&mut vertex.op).unwrap().weight = Weight::Free;
    }
    let began = Instant::now();
    solver(&Arc::default(), 1).job(graph, deaf()).solve(&[(id("root"), 0)]).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_something_takes_no_place() {
    let world = World::default();
    let mut graph = fan(&world, 4);
    for vertex in &mut graph[..4] {
        Arc::get_mut(&mut vertex.op).unwrap().waits = Duration::from_secs(10);
    }
    let began = Instant::now();
    let solver = solver(&Arc::default(), 1);
    let job = solver.job(graph, deaf());
    job.solve(&[(id("root"), 0)]).await.unwrap();
    // All wait at once, and then work one after the other.
    assert_eq!(began.elapsed().as_secs(), 10 + 4 + 1);
    // One that is cancelled while it waits to come back does not wait on.
    let mut graph = Graph::new(&world).add("long", &[]).add("short", &[]).vertices;
    Arc::get_mut(&mut graph[1].op).unwrap().waits = Duration::from_millis(100);
    Arc::get_mut(&mut graph[0].op).unwrap().takes = Duration::from_secs(1000);
    let job = solver.job(graph, deaf());
    let edges = [(id("short"), 0), (id("long"), 0)];
    assert!(tokio::time::timeout(Duration::from_secs(5), job.solve(&edges)).await.is_err());
    let began = Instant::now();
    solver.idle().await;
    assert!(began.elapsed().as_secs() < 1);
    assert!(world.log().running.is_empty());
}

#[tokio::test(start_paused = true)]
async fn solvers_over_one_cache_run_each_key_once() {
    let (world, memory) = (World::default(), Arc::<Memory>::default());
    let solvers = [solver(&memory, 2), solver(&memory, 2), solver(&memory, 2)];
    let edges = [(id("root"), 0)];
    let (heard, observer) = ear();
    let jobs = solvers.map(|solver| solver.job(fan(&world, 12), observer.clone()));
    let began = Instant::now();
    let (one, two, three) = tokio::join!(jobs[0].solve(&edges), jobs[1].solve(&edges), jobs[2].solve(&edges));
    let (one, two, three) = (one.unwrap(), two.unwrap(), three.unwrap());
    assert!(one == two && two == three);
    assert_eq!(world.runs().len(), 13);
    // Who waits for another process leaves its place to what that does not do: three times two are six at once.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let told = format!("{:?}", heard.lock().unwrap());
    assert!(told.contains("waiting for process 7, which is making the same"), "{told}");
    assert!(memory.claims.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_another_gave_up_is_taken_over_and_a_wait_for_it_can_be_cancelled() {
    let (world, memory) = (World::default(), Arc::<Memory>::default());
    let (first, second) = (solver(&memory, 4), solver(&memory, 4));
    let edges = [(id("root"), 0)];
    let one = first.job(fan(&world, 4), deaf());
    let two = second.job(fan(&world, 4), deaf());
    let short = tokio::time::timeout(Duration::from_millis(500), one.solve(&edges));
    let shorter = tokio::time::timeout(Duration::from_millis(300), two.solve(&edges));
    let (one, two) = tokio::join!(short, shorter);
    assert!(one.is_err() && two.is_err());
    let began = Instant::now();
    second.idle().await;
    assert!(began.elapsed() < Duration::from_millis(10), "a wait ends at once");
    assert_eq!(world.log().running.len(), 4, "the first one is killing its runs");
    // They are taken over when the last process of a step has ended.
    let third = solver(&memory, 4);
    third.job(fan(&world, 4), deaf()).solve(&edges).await.unwrap();
    assert_eq!((world.runs().len(), world.log().made.len()), (4 + 5, 5));
    first.idle().await;
    assert!(memory.claims.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_warm_cache_runs_nothing() {
    let (world, memory) = (World::default(), Arc::default());
    let first = solver(&memory, 4).job(fan(&world, 8), deaf()).solve(&[(id("root"), 0)]).await.unwrap();
    let kept = *memory.kept.lock().unwrap();
    assert_eq!(kept, 9);
    let second = solver(&memory, 4).job(fan(&world, 8), deaf()).solve(&[(id("root"), 0)]).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(world.runs().len(), 9);
    assert_eq!(*memory.kept.lock().unwrap(), kept, "nothing new is known");
}

#[tokio::test(start_paused = true)]
async fn dropping_a_solve_stops_its_work() {
    let world = World::default();
    let solver = solver(&Arc::default(), 4);
    let job = solver.job(fan(&world, 4), deaf());
    let edges = [(id("root"), 0)];
    let solve = tokio::time::timeout(Duration::from_millis(500), job.solve(&edges));
    assert!(solve.await.is_err());
    assert_eq!(world.log().running.len(), 4);
    solver.idle().await;
    assert!(world.log().running.is_empty());
    assert!(world.log().made.is_empty());
    job.solve(&edges).await.unwrap();
    assert_eq!(world.log().made.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_solve_returns_when_its_work_has_ended() {
    let world = World::default();
    let solver = solver(&Arc::default(), 4);
    let (heard, observer) = ear();
    let job = solver.job(fan(&world, 4), observer);
    let other = job.clone();
    let edges = [(id("root"), 0)];
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(world.log().running.len(), 4);
        other.cancel();
    };
    let began = Instant::now();
    let (result, ()) = tokio::join!(job.solve(&edges), cancel);
    assert!(result.unwrap_err().is_cancelled());
    assert!(world.log().running.is_empty(), "no process is left");
    assert_eq!(began.elapsed().as_millis() / 100, 6);
    assert!(job.solve(&edges).await.unwrap_err().is_cancelled());
    assert!(!format!("{:?}", heard.lock().unwrap()).contains("killed"));
    let ends = heard.lock().unwrap().iter().filter(|(_, event)| matches!(event, Event::Cancelled)).count();
    assert_eq!(ends, 5);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_job_leaves_what_another_wants() {
    let world = World::default();
    let solver = solver(&Arc::default(), 4);
    let (heard, observer) = ear();
    let one = solver.job(fan(&world, 2), deaf());
    let two = solver.job(fan(&world, 2), observer);
    let gone = async move {
        let edges = [(id("root"), 0)];
        let solve = tokio::time::timeout(Duration::from_millis(500), one.solve(&edges));
        assert!(solve.await.is_err());
        drop(one);
    };
    let edges = [(id("root"), 0)];
    let late = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        two.solve(&edges).await
    };
    let (result, ()) = tokio::join!(late, gone);
    result.unwrap();
    assert_eq!(world.runs().len(), 3);
    // What began for the first is heard by the second from when it joined.
    let heard = heard.lock().unwrap();
    let of_leaf = heard.iter().filter(|(vertex, _)| *vertex == id("leaf0")).map(|(_, event)| match event {
        Event::Log { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}").split([' ', '{']).next().unwrap().to_owned(),
    });
    assert_eq!(of_leaf.collect::<Vec<_>>(), ["Started", "Shared", "Running", "ended", "Done"]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_job_is_forgotten() {
    let world = World::default();
    let solver = solver(&Arc::default(), 4);
    let (heard, observer) = ear();
    let job = solver.job(fan(&world, 2), observer.clone());
    job.clone().solve(&[(id("root"), 0)]).await.unwrap();
    solver.idle().await;
    assert_eq!(Arc::strong_count(&observer), 2);
    drop(job);
    solver.idle().await;
    assert_eq!(Arc::strong_count(&observer), 1);
    assert_eq!(
        heard.lock().unwrap().iter().filter(|(_, event)| matches!(event, Event::Done { .. })).count(),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_an_op_is_an_error_of_its_vertex() {
    let world = World::default();
    let solver = solver(&Arc::default(), 4);
    let graph = |behaviour| Graph::new(&world).add_with("make", &[], |op| op.behaviour = behaviour).vertices;
    let error = solver.job(graph(Behaviour::Panics), deaf()).solve(&[(id("make"), 0)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(error.failures()[0].source.to_string(), "the operation panicked");
    // The lock of the log is poisoned by it; another world shows that the solver lives.
    let world = World::default();
    solver.job(fan(&world, 2), deaf()).solve(&[(id("root"), 0)]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_cannot_store_fails_the_vertex() {
    let (world, memory) = (World::default(), Arc::<Memory>::default());
    memory.broken.store(true, Ordering::Relaxed);
    let error = solver(&memory, 4).job(fan(&world, 2), deaf()).solve(&[(id("root"), 0)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Environment);
    assert_eq!(error.failures()[0].source.to_string(), "disk full");
}

#[tokio::test(start_paused = true)]
async fn a_job_grows_and_reuses_what_it_has() {
    let world = World::default();
    let memory = Arc::<Memory>::default();
    let solver = solver(&memory, 4);
    let job = solver.job(Graph::new(&world).add("base", &[]).vertices, deaf());
    let first = job.solve(&[(id("base"), 0), (id("base"), 0)]).await.unwrap();
    assert_eq!(first.len(), 2);
    memory.records.lock().unwrap().clear();
    job.extend(Graph::new(&world).add("base", &[]).add("make", &["base"]).vertices);
    job.solve(&[(id("make"), 0)]).await.unwrap();
    assert_eq!(world.runs().len(), 2);
    assert_eq!(world.log().maps.len(), 2);
    assert!(matches!(job.solve(&[(id("none"), 0)]).await, Err(SolveError::UnknownVertex { .. })));
    let status = solver.snapshot().await.unwrap();
    assert!(status.vertices.is_empty() && status.solves == 0 && status.jobs == 4);
}

/// A chain as long as `length`, of ops that take no time.
fn chain(world: &World, length: u32) -> (Vec<VertexSpec<Fake>>, Digest) {
    let id = |at: u32| Digest::of(at.to_le_bytes());
    let vertex = |at: u32| {
        let mut op = Fake::new(world, &format!("step{at}"));
        op.uses = vec![super::fake::Use::default(); usize::from(at > 0)];
        op.takes = Duration::ZERO;
        let inputs = if at > 0 { vec![(id(at - 1), 0)] } else { vec![] };
        VertexSpec::new(id(at), "step", Arc::new(op), inputs)
    };
    ((0..length).map(vertex).collect(), id(length - 1))
}

#[test]
fn a_deep_chain_needs_no_deep_stack() {
    on_a_small_stack(|| {
        let world = World::default();
        let length = 100_000;
        let mut simulation = Simulation::new(4, 7);
        simulation.audits_all = false;
        let (graph, last) = chain(&world, length);
        simulation.open(1, graph);
        simulation.solve(1, 1, &[(last, 0)], false);
        simulation.drain_in_order();
        assert!(simulation.answer(1).unwrap().is_ok());
        assert_eq!(world.runs().len(), length as usize);
        // One that fails at the bottom, and all above with it.
        let length = 20_000;
        simulation.cache.clear();
        let (mut graph, last) = chain(&world, length);
        Arc::get_mut(&mut graph[0].op).unwrap().behaviour = Behaviour::FailsToRun;
        simulation.open(2, graph);
        simulation.solve(2, 2, &[(last, 0)], true);
        simulation.drain_in_order();
        assert!(simulation.answer(2).unwrap().is_err());
        // One that is abandoned while all wait for the bottom.
        let (graph, last) = chain(&world, length);
        simulation.open(3, graph);
        simulation.solve(3, 3, &[(last, 0)], true);
        simulation.until_runs();
        simulation.step(Signal::Close { job: JobId(3) });
        simulation.drain_in_order();
        assert!(simulation.answer(3).unwrap().is_err());
        drop(simulation);
    });
}

#[test]
fn the_driver_needs_no_deep_stack() {
    on_a_small_stack(|| {
        paused().block_on(async {
            let (world, memory) = (World::default(), Arc::<Memory>::default());
            for _ in 0..2 {
                let (graph, last) = chain(&world, 3_000);
                solver(&memory, 4).job(graph, deaf()).solve(&[(last, 0)]).await.unwrap();
                assert_eq!(world.runs().len(), 3_000);
            }
        });
    });
}

/// Does `work` on a thread with little stack, so that recursion would show.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(512 * 1024).spawn(work).unwrap().join().unwrap();
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Solves layers of random vertices in two jobs at once, each op taking a random time; returns both answers.
async fn two_jobs(seed: u64, places: usize) -> (Vec<Vec<Tree>>, Vec<String>) {
    let mut dice = Dice::new(seed);
    let world = World::default();
    let mut graph: Vec<VertexSpec<Fake>> = Vec::new();
    for at in 0..30_usize {
        let mut op = Fake::new(&world, &format!("op{}", at % 7));
        let count = if at == 0 { 0 } else { dice.roll(4) };
        let inputs: Vec<(Digest, u32)> = (0..count).map(|_| (graph[dice.roll(at)].id, 0)).collect();
        op.uses = vec![super::fake::Use { selector: None, part: at % 7 == 3 }; count];
        op.range = 3;
        op.takes = Duration::from_millis(dice.roll(50) as u64);
        graph.push(VertexSpec::new(Digest::of(at.to_le_bytes()), "v", Arc::new(op), inputs));
    }
    let again = || {
        let copy = |vertex: &VertexSpec<Fake>| {
            VertexSpec::new(vertex.id, "v", vertex.op.clone(), vertex.inputs.clone())
        };
        graph.iter().map(copy).collect::<Vec<_>>()
    };
    let edges: Vec<(Digest, u32)> = graph[20..].iter().map(|vertex| (vertex.id, 0)).collect();
    let solver = solver(&Arc::default(), places);
    let (one, two) = (solver.job(again(), deaf()), solver.job(again(), deaf()));
    let late = async {
        tokio::time::sleep(Duration::from_millis(seed % 100)).await;
        two.solve(&edges).await.unwrap()
    };
    let (one, two) = tokio::join!(one.solve(&edges), late);
    let mut runs = world.runs();
    runs.sort();
    (vec![one.unwrap(), two], runs)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn times_and_places_change_nothing(seed in any::<u32>()) {
        let runtime = paused();
        let (answers, runs) = runtime.block_on(two_jobs(seed.into(), 1));
        prop_assert_eq!(&answers[0], &answers[1]);
        let mut once = runs.clone();
        once.dedup();
        prop_assert_eq!(&once, &runs);
        prop_assert_eq!(runtime.block_on(two_jobs(seed.into(), 8)), (answers, runs));
    }
}
