//! Random graphs, random histories of builds, random orders of events, against the plain solver.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use rb_oci::Digest;

use super::fake::{Behaviour, Fake, Tree, Use, World};
use super::plain::{Plain, PlainVertex};
use super::simulation::Simulation;
use crate::machine::{JobId, RequestId, Signal};
use crate::{Failure, Gone, GoneReason, SolveError, VertexSpec, Weight};

const KINDS: usize = 6;

/// One vertex: a kind of op and its inputs, as numbers that `graph` makes fit.
pub(super) type Sketch = (usize, Vec<(usize, u32)>);

/// What differs from build to build.
#[derive(Clone, Debug)]
pub(super) struct Build {
    /// Versions of the kinds: a new one is another definition.
    pub(super) versions: Vec<u8>,
    /// Kinds that ignore the cache (1) and taint what follows (2).
    pub(super) ignores: Vec<u8>,
    /// Kinds whose result changes by itself from build to build.
    pub(super) chances: Vec<bool>,
    pub(super) behaviours: Vec<u8>,
    /// Per job, its edges.
    pub(super) jobs: Vec<Vec<(usize, u32)>>,
    pub(super) places: usize,
    /// Records lost before, as one of so many; 0 for none.
    pub(super) evicts: usize,
    /// Claims that another process has, as one of so many; 0 for none.
    pub(super) others: usize,
}

pub(super) fn sketches() -> impl Strategy<Value = Vec<Sketch>> {
    let vertex = (0..KINDS, prop::collection::vec((any::<usize>(), 0..2_u32), 0..4));
    prop::collection::vec(vertex, 1..14)
}

pub(super) fn build() -> impl Strategy<Value = Build> {
    let edges = prop::collection::vec((any::<usize>(), 0..2_u32), 1..4);
    (
        prop::collection::vec(0..2_u8, KINDS),
        prop::collection::vec(prop_oneof![8 => Just(0_u8), 1 => Just(1), 1 => Just(2)], KINDS),
        prop::collection::vec(prop::bool::weighted(0.3), KINDS),
        prop::collection::vec(prop_oneof![20 => Just(0_u8), 1 => Just(1), 1 => Just(2), 1 => Just(3)], KINDS),
        prop::collection::vec(edges, 1..3),
        1..4_usize,
        prop_oneof![3 => Just(0_usize), 1 => 2..5_usize],
        0..4_usize,
    )
        .prop_map(|(versions, ignores, chances, behaviours, jobs, places, evicts, others)| Build {
            versions,
            ignores,
            chances,
            behaviours,
            jobs,
            places,
            evicts,
            others,
        })
}

fn outputs(kind: usize) -> u32 {
    1 + u32::from(kind % 2 == 1)
}

pub(super) fn world(build: &Build) -> World {
    let world = World::default();
    world.log().overlaps = build.ignores.iter().any(|ignores| *ignores > 0);
    world
}

pub(super) fn graph(world: &World, sketches: &[Sketch], build: &Build, number: u32) -> Vec<PlainVertex> {
    let vertex = |(at, (kind, inputs)): (usize, &Sketch)| {
        let kind = *kind;
        let mut op = Fake::new(world, &format!("op{kind}v{}", build.versions[kind]));
        let inputs: Vec<(usize, u32)> = inputs
            .iter()
            .filter(|_| at > 0)
            .map(|(input, output)| {
                let input = input % at.max(1);
                (input, output % outputs(sketches[input].0))
            })
            .collect();
        let part = |index: usize| Use {
            selector: (kind + index).is_multiple_of(3).then_some(1),
            part: (kind + index) % 4 == 1,
        };
        op.uses = (0..inputs.len()).map(part).collect();
        op.outputs = outputs(kind);
        op.range = 3;
        op.chance = if build.chances[kind] { number } else { 0 };
        op.ignore_cache = build.ignores[kind] > 0;
        op.taint_dependents = build.ignores[kind] > 1;
        op.weight = if kind == 0 { Weight::Free } else { Weight::Slot };
        op.is_shared = kind != 4;
        op.behaviour = match build.behaviours[kind] {
            0 => Behaviour::Works,
            1 => Behaviour::FailsToRun,
            2 => Behaviour::FailsToMap,
            _ => Behaviour::FailsToDigest,
        };
        PlainVertex { op, inputs }
    };
    sketches.iter().enumerate().map(vertex).collect()
}

pub(super) fn vertex_id(at: usize) -> Digest {
    Digest::of(format!("vertex {at}"))
}

pub(super) fn specs(graph: &[PlainVertex]) -> Vec<VertexSpec<Fake>> {
    let spec = |(at, vertex): (usize, &PlainVertex)| {
        let inputs = vertex.inputs.iter().map(|(input, output)| (vertex_id(*input), *output)).collect();
        let mut spec = VertexSpec::new(vertex_id(at), format!("v{at}"), Arc::new(vertex.op.clone()), inputs);
        spec.lineage = at.is_multiple_of(2).then(|| Digest::of(format!("lineage {at}")));
        spec
    };
    graph.iter().enumerate().map(spec).collect()
}

pub(super) fn fit(edges: &[(usize, u32)], sketches: &[Sketch]) -> Vec<(usize, u32)> {
    let fit = |(vertex, output): &(usize, u32)| {
        let vertex = vertex % sketches.len();
        (vertex, output % outputs(sketches[vertex].0))
    };
    edges.iter().map(fit).collect()
}

pub(super) fn ids(edges: &[(usize, u32)]) -> Vec<(Digest, u32)> {
    edges.iter().map(|(vertex, output)| (vertex_id(*vertex), *output)).collect()
}

/// Forgets records in both caches alike: the plain one's keys are text, so both go by what they hold and a number.
fn evict(plain: &mut Plain, simulation: &mut Simulation, twins: &BTreeMap<String, Digest>, one_of: usize) {
    let lost: Vec<String> =
        plain.cache.keys().filter(|_| simulation.dice.roll(one_of) == 0).cloned().collect();
    for key in lost {
        plain.cache.remove(&key);
        if let Some(twin) = twins.get(&key) {
            simulation.cache.remove(twin);
            simulation.gone.insert(*twin, Gone { reason: GoneReason::Removed, at_unix: 1 });
        }
    }
}

/// Returns the keys that the solver should have for what the plain solver stored: by their texts.
fn twins(plain: &Plain, graph: &[PlainVertex], known: &mut BTreeMap<String, Digest>) {
    use crate::keys::{ContentInput, FastInput, content_key, fast_key};
    // Fast keys follow from the graph; the texts of the others are read back.
    let mut fast: Vec<Option<(String, Digest)>> = Vec::new();
    for vertex in graph {
        let below: Option<Vec<(String, Digest)>> =
            vertex.inputs.iter().map(|(input, _)| fast[*input].clone()).collect();
        let selector = |part: &Use| part.selector.map(|selector| Digest::of([selector]));
        fast.push(below.map(|below| {
            let inputs = below.iter().zip(&vertex.inputs).zip(&vertex.op.uses);
            let text = inputs
                .clone()
                .map(|(((text, _), (_, output)), part)| format!("{text}.{output}@{:?}", part.selector));
            let text = format!("F {}({})", vertex.op.definition, text.collect::<Vec<_>>().join(","));
            let inputs: Vec<FastInput> = inputs
                .map(|(((_, key), (_, output)), part)| FastInput {
                    key: *key,
                    index: *output,
                    selector: selector(part),
                })
                .collect();
            (text, fast_key(&Digest::of(&vertex.op.definition), &inputs))
        }));
        known.extend(fast.last().cloned().flatten());
        // Trees are numbers below `range`: all combinations of inputs are few.
        let count = vertex.inputs.len();
        for code in 0..3_usize.pow(u32::try_from(count).unwrap()) {
            let trees: Vec<Tree> = (0..count)
                .map(|at| Tree(u32::try_from(code / 3_usize.pow(u32::try_from(at).unwrap()) % 3).unwrap()))
                .collect();
            let whole = trees.iter().zip(&vertex.op.uses);
            let text = whole.clone().map(|(tree, part)| format!("{}@{:?}", tree.0, part.selector));
            let text = format!("W {}({})", vertex.op.definition, text.collect::<Vec<_>>().join(","));
            let definition = Digest::of(&vertex.op.definition);
            let content = |tree: &Tree| Digest::of(tree.0.to_le_bytes());
            let inputs: Vec<ContentInput> = whole
                .clone()
                .map(|(tree, part)| ContentInput::Whole { content: content(tree), selector: selector(part) })
                .collect();
            known.insert(text, content_key(&definition, &inputs));
            let inputs: Vec<ContentInput> = whole
                .map(|(tree, part)| match part.part {
                    true => ContentInput::Part { content: Digest::of(part.sees(*tree)) },
                    false => ContentInput::Whole { content: content(tree), selector: selector(part) },
                })
                .collect();
            known.insert(format!("K {}", vertex.op.run_name(&trees)), content_key(&definition, &inputs));
        }
    }
    for key in plain.cache.keys() {
        assert!(known.contains_key(key), "{key}");
    }
}

/// Plays a history of builds on one cache, each compared with the plain solver.
fn play(sketches: &[Sketch], builds: &[Build], seed: u64) {
    let mut plain = Plain::default();
    let mut keys = BTreeMap::new();
    let mut cache = BTreeMap::new();
    let (mut traces, mut gone) = (BTreeMap::new(), BTreeMap::new());
    for (number, build) in builds.iter().enumerate() {
        let world = world(build);
        let graph = graph(&world, sketches, build, u32::try_from(number).unwrap());
        let mut simulation = Simulation::new(build.places, seed + number as u64);
        (simulation.cache, simulation.traces, simulation.gone) = (cache, traces, gone);
        simulation.others = build.others;
        if build.evicts > 0 {
            evict(&mut plain, &mut simulation, &keys, build.evicts);
        }
        plain.ran.clear();
        plain.digests.clear();
        plain.again.clear();
        let mut expected = Vec::new();
        for edges in &build.jobs {
            expected.push(plain.job(&graph, &fit(edges, sketches)));
        }
        // Jobs come at any time.
        for (job, edges) in build.jobs.iter().enumerate() {
            let job = job as u64;
            simulation.open(job, specs(&graph));
            simulation.solve(job, job, &ids(&fit(edges, sketches)), true);
            for _ in 0..simulation.dice.roll(20) {
                simulation.end_any();
            }
        }
        simulation.drain();
        for (job, (values, failed)) in expected.into_iter().enumerate() {
            match simulation.answer(job as u64).expect("every solve is answered") {
                Ok(actual) => {
                    let values: Option<Vec<Tree>> = values.into_iter().collect();
                    assert_eq!(Some(actual), values.as_ref());
                }
                Err(error) => {
                    assert!(values.contains(&None));
                    let actual: BTreeSet<Digest> =
                        error.failures().iter().map(|failure| failure.vertex).collect();
                    assert_eq!(actual, failed.into_iter().map(vertex_id).collect());
                }
            }
        }
        let log = world.log();
        assert_eq!(log.runs.iter().cloned().collect::<BTreeSet<_>>(), plain.ran, "what ran");
        assert_eq!(log.digests.iter().cloned().collect::<BTreeSet<_>>(), plain.digests, "what was read");
        for name in log.made.iter().collect::<BTreeSet<_>>() {
            let again = plain.again.iter().map(|counts| counts.get(name).copied().unwrap_or(0));
            let made = log.made.iter().filter(|made| *made == name).count();
            // Vertices that ignore the cache share with other jobs alone; those that do not add one run at most.
            assert!(made <= again.clone().sum::<usize>() + 1, "{name} {made} times");
            assert!(made >= again.max().unwrap_or(0), "{name} only {made} times");
        }
        drop(log);
        twins(&plain, &graph, &mut keys);
        let stored: BTreeMap<Digest, Vec<Tree>> =
            plain.cache.iter().map(|(key, values)| (keys[key], values.clone())).collect();
        assert_eq!(simulation.cache, stored, "what is stored");
        (cache, traces, gone) = (simulation.cache, simulation.traces, simulation.gone);
    }
}

/// Plays builds in which solves are abandoned, jobs cancelled and first failures stop the rest.
fn disturb(sketches: &[Sketch], builds: &[Build], seed: u64) {
    let mut cache = BTreeMap::new();
    for (number, build) in builds.iter().enumerate() {
        let world = world(build);
        let graph = graph(&world, sketches, build, 0);
        let mut simulation = Simulation::new(build.places, seed + number as u64);
        simulation.cache = cache;
        simulation.others = build.others;
        let mut expected = BTreeMap::new();
        let mut request = 0;
        for (job, edges) in build.jobs.iter().enumerate() {
            simulation.open(job as u64, specs(&graph));
            for round in 0..3 {
                let mut edges = fit(edges, sketches);
                edges.rotate_left(round % build.jobs[job].len());
                edges.truncate(1 + round);
                let mut sound = graph.clone();
                sound.iter_mut().for_each(|vertex| vertex.op.behaviour = Behaviour::Works);
                let (values, _) = Plain::default().job(&sound, &edges);
                expected.insert(request, values);
                let keep_going = simulation.dice.roll(2) == 0;
                simulation.solve(request, job as u64, &ids(&edges), keep_going);
                for _ in 0..simulation.dice.roll(15) {
                    simulation.end_any();
                }
                let victim = RequestId(simulation.dice.roll(6) as u64);
                match simulation.dice.roll(8) {
                    0 | 1 => simulation.step(Signal::Abandon { request: victim }),
                    2 => simulation.step(Signal::Cancel { job: JobId(job as u64) }),
                    3 => simulation.step(Signal::Close { job: JobId(job as u64) }),
                    _ => {}
                }
                request += 1;
            }
        }
        simulation.drain();
        let log = world.log();
        assert!(log.running.is_empty());
        if build.ignores.iter().all(|ignores| *ignores == 0) {
            assert_eq!(log.made.len(), log.made.iter().collect::<BTreeSet<_>>().len(), "{:?}", log.made);
        }
        drop(log);
        for (request, values) in expected {
            match simulation.answer(request).expect("every solve is answered") {
                Ok(actual) => {
                    let values: Option<Vec<Tree>> = values.into_iter().collect();
                    assert_eq!(Some(actual), values.as_ref());
                }
                Err(SolveError::Cancelled) => {}
                Err(error) => {
                    let failures = error.failures();
                    assert!(!failures.is_empty(), "{error:?}");
                    let faulty = |failure: &Failure| {
                        let at = (0..graph.len()).find(|at| vertex_id(*at) == failure.vertex);
                        at.is_some_and(|at| graph[at].op.behaviour != Behaviour::Works)
                    };
                    assert!(failures.iter().all(faulty), "{error:?}");
                }
            }
        }
        cache = simulation.cache;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_plain_solver(
        sketches in sketches(),
        builds in prop::collection::vec(build(), 1..5),
        seed in any::<u32>(),
    ) {
        play(&sketches, &builds, seed.into());
    }

    #[test]
    fn survives_cancelling_at_any_time(
        sketches in sketches(),
        builds in prop::collection::vec(build(), 1..4),
        seed in any::<u32>(),
    ) {
        disturb(&sketches, &builds, seed.into());
    }
}
