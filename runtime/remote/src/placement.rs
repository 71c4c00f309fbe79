//! Which node of an engine builds a graph.
//!
//! In: what is known of the nodes, the platforms that commands need, and two [`Keys`] of the graph. Out: the nodes that may build it,
//! the best first, each with why it stands there; and those that may not. No clock and no connection: equal input, equal answer, on every
//! machine, so that all clients of an engine send what is alike to the same place without asking one another.
//!
//! How: weighted rendezvous hashing in two steps. The *ground* of a graph, what is made before any file of the client comes in (its base
//! and what is installed on it), chooses √n of n nodes: so a base lies on few of them. Among these its *first* step with files of the
//! client (what installs dependencies) chooses one: targets that share it meet there. Then bounded load: who has more than 1.25 times its
//! part of the builds that are known stands behind those that have room, and who did not answer lately behind all.
//! **Invariants:** a node that is drained or lacks a platform is in no ranking; each other is in it once; the first has room where any that
//! is up has; a node that goes moves only graphs that it was, or was nearly, the place of.
//! Source: Thaler and Ravishankar 1998 (rendezvous), Mirrokni, Thorup and Zadimoghaddam 2018 (bounded loads).

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use rb_llb::{Graph, Op, Vertex};
use rb_oci::{Digest, Platform};

/// A node may have so many times its part of all builds, in percent.
const BOUND_PERCENT: u64 = 125;

/// So many vertices are weighed for each key; of more, those with the least digests.
const MOST_WEIGHED: usize = 64;

/// What is known of a node.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Its name: what its place among others is a function of.
    pub(crate) name: String,
    /// What it builds for; none where that is not known.
    pub(crate) platforms: Option<BTreeSet<Platform>>,
    /// How much it takes beside others.
    pub(crate) weight: NonZeroU32,
    /// Builds that are known to be there.
    pub(crate) load: usize,
    /// It gets nothing new.
    pub(crate) is_drained: bool,
    /// It is not known to have failed a moment ago.
    pub(crate) is_up: bool,
}

/// Part of a graph that others may have, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// Of its last vertex: that is a digest of all of it.
    pub(crate) digest: Digest,
    /// What that vertex is called.
    pub(crate) name: String,
}

/// What a graph is placed by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    /// The most that is made before any file of the client comes in.
    pub(crate) ground: Option<Prefix>,
    /// The first step behind that.
    pub(crate) first: Option<Prefix>,
}

/// A node, at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranked {
    /// Which of the candidates.
    pub(crate) node: usize,
    /// Why it stands there.
    pub(crate) why: Why,
}

/// Why a node stands where it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It most likely has what the graph begins with.
    Likely {
        /// What that is.
        has: Option<String>,
    },
    /// One that more likely has it, has as many builds as it may.
    Room {
        /// That one.
        full: usize,
        /// Its builds, and how many it may have.
        load: (usize, u64),
    },
    /// It is the next.
    Next,
    /// It has as many builds as it may.
    Full,
    /// It did not answer a moment ago.
    Silent,
}

/// Why a node may not build a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeftOut {
    /// It gets nothing new.
    Drained,
    /// It does not build for these.
    Lacks(Vec<Platform>),
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranking {
    /// Who may build it, the best first.
    pub(crate) ranked: Vec<Ranked>,
    /// Who may not.
    pub(crate) left_out: Vec<(usize, LeftOut)>,
}

/// Ranks nodes for a graph whose commands need these platforms.
pub(crate) fn rank(nodes: &[Candidate], wanted: &BTreeSet<Platform>, keys: &Keys) -> Ranking {
    let mut left_out = Vec::new();
    let mut open = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        match barred(node, wanted) {
            Some(why) => left_out.push((at, why)),
            None => open.push(at),
        }
    }
    let order = in_order(nodes, open, keys);
    let total: u64 = order.iter().map(|at| nodes[*at].load as u64).sum();
    let weights: u64 = order.iter().map(|at| u64::from(nodes[*at].weight.get())).sum();
    let bound = |node: &Candidate| {
        let part = BOUND_PERCENT.saturating_mul(total + 1).saturating_mul(u64::from(node.weight.get()));
        part.div_ceil(100 * weights.max(1))
    };
    let is_full = |at: usize| nodes[at].load as u64 >= bound(&nodes[at]);
    let class = |at: &usize| match (nodes[*at].is_up, is_full(*at)) {
        (true, false) => 0,
        (true, true) => 1,
        (false, _) => 2,
    };
    let mut ranked = order.clone();
    // Stable: within a class the order stays.
    ranked.sort_by_key(class);
    let has = keys.first.as_ref().or(keys.ground.as_ref()).map(|prefix| prefix.name.clone());
    let why = |place: usize, at: usize| match class(&at) {
        2 => Why::Silent,
        1 => Why::Full,
        _ if place > 0 => Why::Next,
        _ => match order.first() {
            Some(best) if *best != at && class(best) == 1 => {
                Why::Room { full: *best, load: (nodes[*best].load, bound(&nodes[*best])) }
            }
            Some(best) if *best == at => Why::Likely { has: has.clone() },
            Some(_) | None => Why::Next,
        },
    };
    let ranked = ranked.into_iter().enumerate().map(|(place, at)| Ranked { node: at, why: why(place, at) });
    Ranking { ranked: ranked.collect(), left_out }
}

fn barred(node: &Candidate, wanted: &BTreeSet<Platform>) -> Option<LeftOut> {
    if node.is_drained {
        return Some(LeftOut::Drained);
    }
    let missing: Vec<Platform> = wanted.difference(node.platforms.as_ref()?).cloned().collect();
    (!missing.is_empty()).then_some(LeftOut::Lacks(missing))
}

/// Orders nodes by what they most likely have, whatever they are at.
fn in_order(nodes: &[Candidate], open: Vec<usize>, keys: &Keys) -> Vec<usize> {
    let seed = |prefix: Option<&Prefix>| prefix.map_or(0, |prefix| number(&prefix.digest));
    let ground = seed(keys.ground.as_ref().or(keys.first.as_ref()));
    let first = seed(keys.first.as_ref().or(keys.ground.as_ref()));
    let names: Vec<u64> = nodes.iter().map(|node| of_name(&node.name)).collect();
    let sorted = |mut some: Vec<usize>, key: u64| {
        let scores: Vec<f64> =
            nodes.iter().zip(&names).map(|(node, name)| score(key, *name, node.weight)).collect();
        some.sort_by(|one, other| {
            scores[*other].total_cmp(&scores[*one]).then_with(|| nodes[*one].name.cmp(&nodes[*other].name))
        });
        some
    };
    // Of all: it does not change as one is drained.
    let near = ceiling_of_root(nodes.len());
    let mut order = sorted(open, ground);
    let far = order.split_off(near.min(order.len()));
    let mut order = sorted(order, first);
    order.extend(far);
    order
}

/// Returns the least number whose square is no less.
fn ceiling_of_root(count: usize) -> usize {
    let root = count.isqrt();
    root + usize::from(root * root < count)
}

fn number(digest: &Digest) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_be_bytes(first)
}

/// FNV-1a: names are short, and nobody gains by choosing them badly.
fn of_name(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finish of splitmix64: every bit of the input moves every bit of the output.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// How well a node fits a key: the best of all is each as often as its weight is part of all weights.
fn score(key: u64, name: u64, weight: NonZeroU32) -> f64 {
    let hash = mixed(key.wrapping_add(mixed(name.wrapping_add(0x9e37_79b9_7f4a_7c15))));
    // In (0, 1): 53 bits, and a half so that no logarithm is of 0 or 1.
    let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(weight.get()) / -uniform.ln()
}

/// What placing has to know of a vertex.
#[derive(Clone, Copy, Default)]
struct Known {
    /// It or what it is made of takes files of the client.
    takes_files: bool,
    /// Commands one after another up to here.
    steps: usize,
    /// The same, of those that take files of the client.
    steps_with_files: usize,
}

/// Finds what graphs that are built as one are placed by.
pub(crate) fn keys(graphs: &[&Graph]) -> Keys {
    let mut grounds: Vec<(usize, Weighed<'_>)> = Vec::new();
    let mut firsts: Vec<Weighed<'_>> = Vec::new();
    for graph in graphs {
        let known = known(graph);
        for (vertex, known) in graph.vertices().zip(&known) {
            let weighed = Weighed { graph, vertex };
            if !known.takes_files {
                grounds.push((known.steps, weighed));
            } else if known.steps_with_files == 1 && matches!(vertex.op, Op::Exec(_)) {
                firsts.push(weighed);
            }
        }
    }
    let most = grounds.iter().map(|(steps, _)| *steps).max().unwrap_or_default();
    let grounds = grounds.into_iter().filter(|(steps, _)| *steps == most).map(|(_, weighed)| weighed);
    let whole = || {
        let graph = graphs.iter().find(|graph| graph.root().is_some())?;
        Some(Weighed { graph, vertex: graph.vertex(&graph.root()?.vertex) }.prefix())
    };
    Keys { ground: heaviest(grounds.collect()), first: heaviest(firsts).or_else(whole) }
}

/// Finds what each vertex of a graph takes, in the order of the graph: inputs come first.
fn known(graph: &Graph) -> Vec<Known> {
    let mut all: Vec<Known> = Vec::with_capacity(graph.len());
    for vertex in graph.vertices() {
        let inputs = vertex.inputs.iter().filter_map(|edge| all.get(graph.position(&edge.vertex)?));
        let mut own = inputs.fold(Known::default(), |most, input| Known {
            takes_files: most.takes_files || input.takes_files,
            steps: most.steps.max(input.steps),
            steps_with_files: most.steps_with_files.max(input.steps_with_files),
        });
        match &vertex.op {
            Op::Source(source) => own.takes_files = source.scheme().0 == "local",
            Op::Exec(_) => {
                own.steps += 1;
                own.steps_with_files += usize::from(own.takes_files);
            }
            Op::File(_) | Op::Build(_) | Op::Merge(_) | Op::Diff(_) => {}
        }
        all.push(own);
    }
    all
}

#[derive(Clone, Copy)]
struct Weighed<'a> {
    graph: &'a Graph,
    vertex: &'a Vertex,
}

impl Weighed<'_> {
    fn prefix(&self) -> Prefix {
        Prefix { digest: self.vertex.digest, name: self.graph.name(self.vertex) }
    }

    /// Counts the commands that need it.
    fn needed_by(&self) -> usize {
        let mut needs = BTreeSet::from([self.vertex.digest]);
        let mut count = 0;
        for vertex in self.graph.vertices() {
            if vertex.inputs.iter().any(|edge| needs.contains(&edge.vertex)) {
                needs.insert(vertex.digest);
                count += usize::from(matches!(vertex.op, Op::Exec(_)));
            }
        }
        count
    }
}

/// Returns what most commands need; of equals the one with the least digest.
fn heaviest(mut all: Vec<Weighed<'_>>) -> Option<Prefix> {
    all.sort_by_key(|weighed| weighed.vertex.digest);
    all.dedup_by_key(|weighed| weighed.vertex.digest);
    all.truncate(MOST_WEIGHED);
    let count = |weighed: &Weighed<'_>| std::cmp::Reverse(weighed.needed_by());
    all.into_iter().min_by_key(count).map(|weighed| weighed.prefix())
}

#[cfg(test)]
mod simulator;
#[cfg(test)]
mod tests;
