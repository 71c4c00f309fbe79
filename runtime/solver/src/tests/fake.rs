//! Ops that compute small numbers and count what is asked of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rb_diag::ErrorKind;
use rb_oci::Digest;

use crate::{
    Cache, CacheInput, CacheMap, Claim, Context, Guard, Op, OpError, Stream, Trace, VertexSpec, Weight,
};

/// One output: a tree of which only a number is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tree(pub(super) u32);

/// What is asked of all fake ops of a test.
#[derive(Default)]
pub(super) struct Log {
    /// Runs begun, by what was run on what.
    pub(super) runs: Vec<String>,
    /// Runs that ended well.
    pub(super) made: Vec<String>,
    /// Runs in progress.
    pub(super) running: Vec<String>,
    /// The most runs of weight at once.
    pub(super) peak: usize,
    /// Digests of parts asked for.
    pub(super) digests: Vec<String>,
    /// Cache maps asked for, by definition.
    pub(super) maps: Vec<String>,
    /// Some ignore the cache, so equal ones may run side by side.
    pub(super) overlaps: bool,
}

/// The log, shared.
#[derive(Clone, Default)]
pub(super) struct World(Arc<Mutex<Log>>);

impl World {
    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap()
    }

    pub(super) fn runs(&self) -> Vec<String> {
        self.log().runs.clone()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Behaviour {
    #[default]
    Works,
    FailsToMap,
    FailsToDigest,
    FailsToRun,
    Panics,
}

/// What an op does is a function of `definition`, of what it reads of its inputs, and of `chance`.
#[derive(Clone)]
pub(super) struct Fake {
    pub(super) definition: String,
    pub(super) outputs: u32,
    pub(super) uses: Vec<Use>,
    /// Contents are below this; a small one gives many equal trees.
    pub(super) range: u32,
    /// What a definition does not tell; not zero for an op that is not deterministic.
    pub(super) chance: u32,
    pub(super) ignore_cache: bool,
    pub(super) taint_dependents: bool,
    pub(super) weight: Weight,
    /// Whether it is claimed among processes.
    pub(super) is_shared: bool,
    pub(super) behaviour: Behaviour,
    /// How long it takes, under the real driver.
    pub(super) takes: Duration,
    /// How long it waits for something before that, without a place.
    pub(super) waits: Duration,
    pub(super) world: World,
}

/// What is read of an input: all, or a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) selector: Option<u8>,
    pub(super) part: bool,
}

impl Use {
    /// What the op sees of a tree. Different trees may have equal parts.
    pub(super) fn sees(self, tree: Tree) -> String {
        let selector = self.selector.unwrap_or(0);
        match self.part {
            true => format!("part{}", (tree.0 + u32::from(selector)) / 2),
            false => format!("{}/{selector}", tree.0),
        }
    }
}

impl Fake {
    pub(super) fn new(world: &World, definition: &str) -> Self {
        Self {
            definition: definition.to_owned(),
            outputs: 1,
            uses: Vec::new(),
            range: 1000,
            chance: 0,
            ignore_cache: false,
            taint_dependents: false,
            weight: Weight::Slot,
            is_shared: true,
            behaviour: Behaviour::Works,
            takes: Duration::from_secs(1),
            waits: Duration::ZERO,
            world: world.clone(),
        }
    }

    /// Names a run: what is done, to what.
    pub(super) fn run_name(&self, inputs: &[Tree]) -> String {
        let sees: Vec<String> = inputs.iter().zip(&self.uses).map(|(tree, part)| part.sees(*tree)).collect();
        format!("{}({})", self.definition, sees.join(","))
    }

    pub(super) fn map_now(&self) -> Result<CacheMap, OpError> {
        self.world.log().maps.push(self.definition.clone());
        if self.behaviour == Behaviour::FailsToMap {
            return Err(self.error());
        }
        let inputs = self.uses.iter().map(|part| CacheInput {
            selector: part.selector.map(|selector| Digest::of([selector])),
            content: part.part,
        });
        Ok(CacheMap {
            digest: Digest::of(&self.definition),
            inputs: inputs.collect(),
            ignore_cache: self.ignore_cache,
            taint_dependents: self.taint_dependents,
        })
    }

    pub(super) fn digest_now(&self, index: usize, tree: Tree) -> Result<Digest, OpError> {
        self.world.log().digests.push(format!("{}[{index}]={}", self.definition, tree.0));
        match self.behaviour {
            Behaviour::FailsToDigest => Err(self.error()),
            _ => Ok(Digest::of(self.uses[index].sees(tree))),
        }
    }

    pub(super) fn begin(&self, inputs: &[Tree]) {
        let name = self.run_name(inputs);
        let mut log = self.world.log();
        assert!(log.overlaps || !log.running.contains(&name), "two runs of {name} at once");
        log.runs.push(name.clone());
        log.running.push(name);
        log.peak = log.peak.max(log.running.len());
    }

    pub(super) fn end(&self, inputs: &[Tree], cancelled: bool) -> Result<Vec<Tree>, OpError> {
        let name = self.run_name(inputs);
        let mut log = self.world.log();
        let at = log.running.iter().position(|running| *running == name).unwrap();
        log.running.remove(at);
        if cancelled {
            return Err(OpError::cancelled());
        }
        match self.behaviour {
            Behaviour::FailsToRun => Err(self.error()),
            Behaviour::Panics => panic!("as it was told to"),
            Behaviour::Works | Behaviour::FailsToMap | Behaviour::FailsToDigest => {
                log.made.push(name);
                Ok(self.outputs_for(inputs))
            }
        }
    }

    pub(super) fn outputs_for(&self, inputs: &[Tree]) -> Vec<Tree> {
        let name = self.run_name(inputs);
        let content = |output| {
            let digest = Digest::of(format!("{name} {output} {}", self.chance));
            u32::from(digest.as_bytes()[0]) + 256 * u32::from(digest.as_bytes()[1])
        };
        (0..self.outputs).map(|output| Tree(content(output) % self.range)).collect()
    }

    fn error(&self) -> OpError {
        OpError::new(ErrorKind::Build, format!("{} failed", self.definition))
    }
}

#[async_trait]
impl Op for Fake {
    type Value = Tree;

    async fn cache_map(&self, _cx: &Context) -> Result<CacheMap, OpError> {
        self.map_now()
    }

    async fn content(&self, _cx: &Context, index: usize, value: &Tree) -> Result<Digest, OpError> {
        self.digest_now(index, *value)
    }

    async fn run(&self, cx: &Context, inputs: Vec<Tree>) -> Result<Vec<Tree>, OpError> {
        self.begin(&inputs);
        cx.log(Stream::Stdout, Bytes::from("began"));
        let work = async {
            if !self.waits.is_zero() {
                cx.aside(tokio::time::sleep(self.waits)).await;
            }
            tokio::time::sleep(self.takes).await;
        };
        tokio::select! {
            () = work => {
                cx.log(Stream::Stdout, Bytes::from("ended"));
                self.end(&inputs, false)
            }
            () = cx.cancelled() => {
                // Killing takes its time too, and nobody wants to hear of it.
                cx.log(Stream::Stderr, Bytes::from("killed"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                self.end(&inputs, true)
            }
        }
    }

    fn content_key(value: &Tree) -> Digest {
        Digest::of(value.0.to_le_bytes())
    }

    fn weight(&self) -> Weight {
        self.weight
    }

    fn is_shared(&self) -> bool {
        self.is_shared
    }
}

/// A cache in memory.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) records: Mutex<BTreeMap<Digest, Vec<Tree>>>,
    pub(super) traces: Mutex<BTreeMap<Digest, Trace>>,
    /// Keys that somebody runs. Several solvers over one memory are as good as several processes.
    pub(super) claims: Arc<Mutex<BTreeSet<Digest>>>,
    /// Traces written.
    pub(super) kept: Mutex<usize>,
    pub(super) broken: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Cache<Tree> for Memory {
    async fn lookup(&self, key: &Digest) -> Result<Option<Vec<Tree>>, OpError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(self.records.lock().unwrap().get(key).cloned())
    }

    async fn store(&self, keys: &[Digest], values: &[Tree]) -> Result<(), OpError> {
        if self.broken.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(OpError::new(ErrorKind::Environment, "disk full"));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut records = self.records.lock().unwrap();
        records.extend(keys.iter().map(|key| (*key, values.to_vec())));
        Ok(())
    }

    async fn claim(&self, key: &Digest) -> Result<Claim, OpError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let is_free = self.claims.lock().unwrap().insert(*key);
        let held = || Held { key: *key, claims: self.claims.clone() };
        Ok(if is_free {
            Claim::Acquired(Guard::new(held()))
        } else {
            Claim::Held { by: "process 7".to_owned() }
        })
    }

    async fn trace(&self, lineage: &Digest) -> Result<Option<Trace>, OpError> {
        Ok(self.traces.lock().unwrap().get(lineage).cloned())
    }

    async fn keep_trace(&self, lineage: &Digest, trace: &Trace) -> Result<(), OpError> {
        *self.kept.lock().unwrap() += 1;
        self.traces.lock().unwrap().insert(*lineage, trace.clone());
        Ok(())
    }
}

/// A claim, until it is dropped.
pub(super) struct Held {
    pub(super) key: Digest,
    pub(super) claims: Arc<Mutex<BTreeSet<Digest>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        assert!(self.claims.lock().unwrap().remove(&self.key));
    }
}

/// Builds graphs of fakes by name: the name is the definition, the vertex digest and the lineage.
pub(super) struct Graph {
    pub(super) world: World,
    pub(super) vertices: Vec<VertexSpec<Fake>>,
}

/// The digest of a vertex, by its name.
pub(super) fn id(name: &str) -> Digest {
    Digest::of(format!("vertex {name}"))
}

impl Graph {
    pub(super) fn new(world: &World) -> Self {
        Self { world: world.clone(), vertices: Vec::new() }
    }

    /// Adds a vertex that uses output 0 of each of `inputs`.
    pub(super) fn add(self, name: &str, inputs: &[&str]) -> Self {
        self.add_with(name, inputs, |_| {})
    }

    /// The same, with changes to the op.
    pub(super) fn add_with(mut self, name: &str, inputs: &[&str], change: impl FnOnce(&mut Fake)) -> Self {
        let mut fake = Fake::new(&self.world, name);
        fake.uses = vec![Use::default(); inputs.len()];
        change(&mut fake);
        let inputs = inputs.iter().map(|input| (id(input), 0)).collect();
        let mut vertex = VertexSpec::new(id(name), name, Arc::new(fake), inputs);
        vertex.lineage = Some(Digest::of(format!("lineage {name}")));
        self.vertices.push(vertex);
        self
    }
}
