//! The plain solver: recursive, one thing at a time, keys as readable text. What `crate::machine` is compared with.
//!
//! It shares no code with the solver but the fake ops themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::fake::{Behaviour, Fake, Tree};

/// One vertex: an op and its inputs, by place in the graph and output.
#[derive(Clone)]
pub(super) struct PlainVertex {
    pub(super) op: Fake,
    pub(super) inputs: Vec<(usize, u32)>,
}

/// The results of earlier builds by key.
#[derive(Default)]
pub(super) struct Plain {
    pub(super) cache: BTreeMap<String, Vec<Tree>>,
    /// Runs, by name.
    pub(super) ran: BTreeSet<String>,
    /// Digests of parts asked for.
    pub(super) digests: BTreeSet<String>,
    /// How often vertices that ignore the cache were made, by name of the run; one number per job.
    pub(super) again: Vec<BTreeMap<String, usize>>,
}

#[derive(Clone)]
struct Key {
    fast: String,
    /// 0 nothing below ignores the cache; 1 something does; 2 and what follows is to run again.
    inherited: u8,
    passes: u8,
}

struct Job<'a> {
    graph: &'a [PlainVertex],
    keys: BTreeMap<usize, Option<Key>>,
    values: BTreeMap<usize, Option<Vec<Tree>>>,
    failed: BTreeSet<usize>,
}

impl Plain {
    /// Solves edges in turn, and goes on after failures. Returns their values, and which vertices failed.
    pub(super) fn job(
        &mut self,
        graph: &[PlainVertex],
        edges: &[(usize, u32)],
    ) -> (Vec<Option<Tree>>, BTreeSet<usize>) {
        let mut job = Job { graph, keys: BTreeMap::new(), values: BTreeMap::new(), failed: BTreeSet::new() };
        self.again.push(BTreeMap::new());
        let values = edges.iter().map(|(vertex, output)| {
            let values = self.value(&mut job, *vertex)?;
            Some(values[*output as usize])
        });
        (values.collect(), job.failed)
    }

    fn key(&mut self, job: &mut Job<'_>, at: usize) -> Option<Key> {
        if let Some(key) = job.keys.get(&at) {
            return key.clone();
        }
        let vertex = &job.graph[at];
        let fails = vertex.op.behaviour == Behaviour::FailsToMap;
        if fails {
            job.failed.insert(at);
        }
        let below: Vec<Option<Key>> = vertex.inputs.iter().map(|(input, _)| self.key(job, *input)).collect();
        let below: Option<Vec<Key>> = below.into_iter().collect();
        let key = below.filter(|_| !fails).map(|below| {
            let inputs = below.iter().zip(&vertex.inputs).zip(&vertex.op.uses);
            let inputs =
                inputs.map(|((key, (_, output)), part)| format!("{}.{output}@{:?}", key.fast, part.selector));
            let inherited = below.iter().map(|key| key.passes).max().unwrap_or(0);
            let own = u8::from(vertex.op.ignore_cache) * (1 + u8::from(vertex.op.taint_dependents));
            Key {
                fast: format!("F {}({})", vertex.op.definition, inputs.collect::<Vec<_>>().join(",")),
                inherited,
                passes: inherited.max(own),
            }
        });
        job.keys.insert(at, key.clone());
        key
    }

    fn value(&mut self, job: &mut Job<'_>, at: usize) -> Option<Vec<Tree>> {
        let key = self.key(job, at)?;
        if let Some(values) = job.values.get(&at) {
            return values.clone();
        }
        let values = self.search(job, at, &key);
        job.values.insert(at, values.clone());
        values
    }

    fn search(&mut self, job: &mut Job<'_>, at: usize, key: &Key) -> Option<Vec<Tree>> {
        let PlainVertex { op, inputs } = &job.graph[at];
        let again = op.ignore_cache || key.inherited == 2;
        // What it made for this job is in `job.values`.
        let look = |plain: &Self, key: &str| if again { None } else { plain.cache.get(key).cloned() };
        if key.inherited == 0
            && let Some(values) = look(self, &key.fast)
        {
            return Some(values);
        }
        let values: Vec<Option<Vec<Tree>>> =
            inputs.iter().map(|(input, _)| self.value(job, *input)).collect();
        let values: Option<Vec<Vec<Tree>>> = values.into_iter().collect();
        let trees: Vec<Tree> =
            values?.iter().zip(inputs).map(|(outputs, (_, output))| outputs[*output as usize]).collect();
        let mut keys = vec![key.fast.clone()];
        if !inputs.is_empty() {
            let wholes =
                trees.iter().zip(&op.uses).map(|(tree, part)| format!("{}@{:?}", tree.0, part.selector));
            keys.push(format!("W {}({})", op.definition, wholes.collect::<Vec<_>>().join(",")));
            if let Some(values) = look(self, &keys[1]) {
                self.cache.insert(keys[0].clone(), values.clone());
                return Some(values);
            }
            if op.uses.iter().any(|part| part.part) {
                for (index, part) in op.uses.iter().enumerate().filter(|(_, part)| part.part) {
                    self.digests.insert(format!("{}[{index}]={}", op.definition, trees[index].0));
                    assert!(part.part);
                }
                if op.behaviour == Behaviour::FailsToDigest {
                    job.failed.insert(at);
                    return None;
                }
                keys.push(format!("K {}", op.run_name(&trees)));
                if let Some(values) = look(self, &keys[2]) {
                    self.cache.insert(keys[0].clone(), values.clone());
                    self.cache.insert(keys[1].clone(), values.clone());
                    return Some(values);
                }
            }
        }
        self.ran.insert(op.run_name(&trees));
        if op.behaviour == Behaviour::FailsToRun {
            job.failed.insert(at);
            return None;
        }
        let values = op.outputs_for(&trees);
        for key in keys {
            self.cache.insert(key, values.clone());
        }
        if again && let Some(counts) = self.again.last_mut() {
            *counts.entry(op.run_name(&trees)).or_default() += 1;
        }
        Some(values)
    }
}
