//! An engine of several nodes: a job goes to one of them, and to another where that fails.
//!
//! In: nodes, each a daemon. Out: an [`Engine`] whose jobs are each at one node at a time. The first graph of a job chooses it
//! ([`placement`]); what is asked before that (images, repositories) is asked of any. A node is connected to as its turn comes; one that
//! cannot be reached, or goes away in the middle, is told of ([`Heard`]), left, and not asked again by that job: the call begins anew at the
//! next one. Names, results that were told and images that are lent stay with the job.
//! A request whose commands no one node is for is parted ([`parted`](crate::parted)): each part is a job of its own, placed by itself.
//! **Invariants:** what the user wrote wrong is tried once; after a graph with a `RUN --push`, or an export that pushes, was sent, the job
//! stays where it is, whatever happens; a node that is drained, or lacks a platform that a command needs, is sent nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use rb_api::{
    Engine, EventSink, Job, JobOptions, Outlook, ProcessRequest, Root, SolveError, SolveRequest, SolveResult,
    Summary,
};
use rb_frontend::{Answer, GitFacts, ImageRequest, Query, RepositoryRequest, ResolvedImage, WorldError};
use rb_llb::{Definition, Graph, Op};
use rb_oci::{Digest, Platform};
use tokio::sync::{Mutex, OnceCell};

use crate::error::Failed;
use crate::job::{RemoteJob, Shared, cannot_look, no_containers};
use crate::known::{self, Clock, Held, Known};
use crate::parted::Parted;
use crate::placement::{self, Candidate, Keys, LeftOut, Prefix, Why};
use crate::{RemoteEngine, RemoteError, RemoteOptions};

/// One node of an engine.
#[derive(Clone)]
pub struct NodeOptions {
    /// What it is called.
    pub name: String,
    /// What it builds for; nothing where it is to be asked.
    pub platforms: BTreeSet<Platform>,
    /// How much it takes beside others.
    pub weight: NonZeroU32,
    /// It gets nothing new.
    pub is_drained: bool,
    /// The daemon.
    pub remote: RemoteOptions,
}

/// What is told of where a job goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is at a node from now on.
    Placed(Placement),
    /// A node failed; another is tried.
    Failed(FailedNode),
}

/// Where a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The engine's name.
    pub engine: String,
    /// The node's.
    pub node: String,
    /// Where that is.
    pub address: String,
    /// Why it was chosen.
    pub why: String,
    /// The platforms that it is for, where it is a part of a build that is at several nodes; none of the first part.
    pub part: Option<String>,
}

/// A node that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedNode {
    /// The engine's name.
    pub engine: String,
    /// The node's.
    pub node: String,
    /// What is wrong with it.
    pub why: String,
    /// No other is tried: what it was at is done once.
    pub is_last: bool,
}

/// Hears where jobs go.
pub type Hears = Arc<dyn Fn(Heard) + Send + Sync>;

/// An engine of several nodes.
#[derive(Clone)]
pub struct NodesEngine {
    name: Arc<str>,
    pub(crate) nodes: Arc<Vec<Node>>,
    known: Known,
    hears: Hears,
}

pub(crate) struct Node {
    pub(crate) options: NodeOptions,
    engine: RemoteEngine,
    /// What the node builds for, as it says.
    offers: OnceCell<BTreeSet<Platform>>,
    /// What it is called among what is known.
    key: String,
}

impl NodesEngine {
    /// Makes an engine; nothing is connected to yet. `folder` is where processes of this client tell one another what they have at nodes.
    pub fn new(name: &str, nodes: Vec<NodeOptions>, (folder, clock): (PathBuf, Clock), hears: Hears) -> Self {
        let node = |options: NodeOptions| Node {
            engine: RemoteEngine::new(options.remote.clone()),
            offers: OnceCell::new(),
            key: known::key(name, &options.name, &options.remote.address.to_string()),
            options,
        };
        Self {
            name: name.into(),
            nodes: Arc::new(nodes.into_iter().map(node).collect()),
            known: Known::new(folder, clock),
            hears,
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |node: &Node| {
            let given = Some(&node.options.platforms).filter(|given| !given.is_empty());
            Candidate {
                name: node.options.name.clone(),
                platforms: given.or(node.offers.get()).cloned(),
                weight: node.options.weight,
                load: self.known.count(&node.key),
                is_drained: node.options.is_drained,
                is_up: !self.known.is_silent(&node.key),
            }
        };
        self.nodes.iter().map(candidate).collect()
    }
}

impl Node {
    /// Returns what it builds for: what the user says, or else what it says.
    async fn offers(&self) -> Result<&BTreeSet<Platform>, RemoteError> {
        if !self.options.platforms.is_empty() {
            return Ok(&self.options.platforms);
        }
        let ask = || async {
            let workers = self.engine.about().await?.workers;
            let texts = workers.into_iter().flat_map(|worker| worker.platforms);
            Ok(texts.filter_map(|text| text.parse().ok()).collect())
        };
        self.offers.get_or_try_init(ask).await
    }
}

#[async_trait]
impl Engine for NodesEngine {
    fn job(&self, options: JobOptions, events: EventSink) -> Arc<dyn Job> {
        Arc::new(NodesJob::new(self.clone(), Shared::new(options, events)))
    }

    async fn idle(&self) {
        // Calls end as they are dropped, and the daemons' work with them.
    }
}

/// A job at one of several nodes.
pub(crate) struct NodesJob {
    pub(crate) engine: NodesEngine,
    shared: Shared,
    placed: Mutex<Placed>,
    /// What it is for, where it is a part of another.
    part: Option<String>,
    /// Parts of it for which no node has all that the job needs, by what they need.
    lanes: Mutex<BTreeMap<BTreeSet<Platform>, Arc<Self>>>,
}

/// Where a job is.
#[derive(Default)]
struct Placed {
    at: Option<At>,
    /// A graph has chosen it.
    is_settled: bool,
    /// What commands of its graphs needed so far.
    wanted: BTreeSet<Platform>,
    /// Nodes that are not asked again, and why.
    failed: BTreeMap<usize, String>,
    over: Option<(String, String, &'static str)>,
}

#[derive(Clone)]
struct At {
    node: usize,
    job: Arc<RemoteJob>,
    _held: Option<Arc<Held>>,
}

/// What a call is about.
enum Asked<'a> {
    Graphs(Vec<&'a Definition>),
    /// A thing with a name that is no graph.
    Named(String),
}

/// What a call at a node comes to.
type Called<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

impl NodesJob {
    fn new(engine: NodesEngine, shared: Shared) -> Self {
        Self { engine, shared, placed: Mutex::default(), part: None, lanes: Mutex::default() }
    }

    /// Solves a request at one node.
    pub(crate) async fn solve_at_one(&self, request: &SolveRequest) -> Result<SolveResult, SolveError> {
        let asked = Asked::Graphs(request.roots.iter().map(|root| &root.definition).collect());
        self.call(&asked, |job| Box::pin(async move { job.solve(request.clone()).await })).await
    }

    /// Returns the part of the job that is for these platforms and no others.
    pub(crate) async fn part(&self, wanted: &BTreeSet<Platform>) -> Arc<Self> {
        let new = || {
            let part = Some(listed(wanted.iter()));
            Arc::new(Self { part, ..Self::new(self.engine.clone(), self.shared.clone()) })
        };
        Arc::clone(self.lanes.lock().await.entry(wanted.clone()).or_insert_with(new))
    }

    /// Returns the part of the job that is for these platforms, where no node is for all that the job needs with them.
    pub(crate) async fn lane(&self, wanted: &BTreeSet<Platform>) -> Option<Arc<Self>> {
        let mut all = self.placed.lock().await.wanted.clone();
        if wanted.is_subset(&all) || all.is_empty() {
            return None;
        }
        all.extend(wanted.iter().cloned());
        if self.is_of_one(&all).await {
            return None;
        }
        Some(self.part(wanted).await)
    }

    /// Whether some node, as far as they answer, builds for all of these.
    pub(crate) async fn is_of_one(&self, all: &BTreeSet<Platform>) -> bool {
        if all.len() < 2 {
            return true;
        }
        let failed: BTreeSet<usize> = self.placed.lock().await.failed.keys().copied().collect();
        let there = |(at, node): &(usize, &Node)| !node.options.is_drained && !failed.contains(at);
        for (_, node) in self.engine.nodes.iter().enumerate().filter(there) {
            if node.offers().await.is_ok_and(|offers| offers.is_superset(all)) {
                return true;
            }
        }
        false
    }

    /// Does a call at the job's node; where that goes away, at the next one.
    async fn call<'a, T, E: Failed>(
        &self,
        asked: &Asked<'_>,
        call: impl Fn(Arc<RemoteJob>) -> Called<'a, T, E>,
    ) -> Result<T, E> {
        loop {
            let at = self.at(asked).await?;
            let error = match call(Arc::clone(&at.job)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.is_users() {
                return Err(error);
            }
            let Some(reason) = at.job.lost().await else { return Err(error) };
            self.leave(&at, reason).await?;
        }
    }

    /// Leaves a node that failed.
    async fn leave(&self, at: &At, reason: String) -> Result<(), RemoteError> {
        let mut placed = self.placed.lock().await;
        let name = &self.engine.nodes[at.node].options.name;
        if let Some(what) = at.job.sent_once() {
            if placed.over.is_none() {
                let name = name.clone();
                self.failed(&mut placed, at.node, reason.clone(), true);
                placed.over = Some((name, reason, what));
            }
            return placed.is_not_over();
        }
        if placed.at.as_ref().is_some_and(|now| Arc::ptr_eq(&now.job, &at.job)) {
            placed.at = None;
            self.failed(&mut placed, at.node, reason, false);
            self.shared.vertices().begin_anew();
        }
        Ok(())
    }

    fn failed(&self, placed: &mut Placed, node: usize, why: String, is_last: bool) {
        let known = &self.engine.nodes[node];
        self.engine.known.is_silent_now(&known.key);
        let (engine, name) = (self.engine.name.to_string(), known.options.name.clone());
        (self.engine.hears)(Heard::Failed(FailedNode { engine, node: name, why: why.clone(), is_last }));
        placed.failed.insert(node, why);
    }

    /// Finds the node for a call, connected.
    async fn at(&self, asked: &Asked<'_>) -> Result<At, RemoteError> {
        let graphs = asked.graphs()?;
        let mut placed = self.placed.lock().await;
        placed.is_not_over()?;
        placed.wanted.extend(graphs.iter().flat_map(platforms));
        if let Some(at) = placed.at.clone().filter(|_| placed.is_settled || graphs.is_empty())
            && self.engine.nodes[at.node].offers().await?.is_superset(&placed.wanted)
        {
            return Ok(at);
        }
        if let Some((at, what)) = placed.at.as_ref().and_then(|at| Some((at, at.job.sent_once()?))) {
            let node = self.engine.nodes[at.node].options.name.clone();
            let reason = format!("it does not build for {}", listed(placed.wanted.iter()));
            return Err(RemoteError::NotTwice { node, reason, what });
        }
        let keys = match asked {
            Asked::Graphs(_) => placement::keys(&graphs.iter().collect::<Vec<_>>()),
            Asked::Named(name) => {
                let ground = Prefix { digest: Digest::of(name), name: name.clone() };
                Keys { ground: Some(ground), first: None }
            }
        };
        let candidates = self.engine.candidates();
        let ranking = placement::rank(&candidates, &placed.wanted, &keys);
        let mut reasons: BTreeMap<usize, String> =
            ranking.left_out.iter().map(|(node, why)| (*node, left_out(why))).collect();
        let mut is_away = false;
        for ranked in ranking.ranked {
            if let Some(why) = placed.failed.get(&ranked.node) {
                reasons.insert(ranked.node, format!("failed: {why}"));
                is_away = true;
                continue;
            }
            let node = &self.engine.nodes[ranked.node];
            let mut at = match placed.at.as_ref().filter(|at| at.node == ranked.node) {
                Some(at) => at.clone(),
                None => At {
                    node: ranked.node,
                    job: Arc::new(RemoteJob::new(node.engine.clone(), self.shared.clone())),
                    _held: None,
                },
            };
            let offers = match at.job.connected().await {
                Ok(()) => node.offers().await,
                Err(error) => Err(error),
            };
            match offers {
                Ok(offers) if offers.is_superset(&placed.wanted) => {}
                Ok(offers) => {
                    let missing = placed.wanted.difference(offers).cloned().collect();
                    reasons.insert(ranked.node, left_out(&LeftOut::Lacks(missing)));
                    continue;
                }
                Err(error) if error.is_infrastructure() => {
                    let why = rb_diag::chain(&error);
                    reasons.insert(ranked.node, format!("failed: {why}"));
                    is_away = true;
                    self.failed(&mut placed, ranked.node, why, false);
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.engine.known.answers(&node.key);
            // A question alone is no build.
            if !graphs.is_empty() {
                at._held = self.engine.known.hold(&node.key).map(Arc::new);
            }
            placed.at = Some(at.clone());
            if !graphs.is_empty() {
                placed.is_settled = true;
                let why = self.reason(&ranked.why, &placed);
                (self.engine.hears)(Heard::Placed(Placement {
                    engine: self.engine.name.to_string(),
                    node: node.options.name.clone(),
                    address: node.engine.address().to_string(),
                    why,
                    part: self.part.clone(),
                }));
            }
            return Ok(at);
        }
        let name = |node: usize| self.engine.nodes[node].options.name.clone();
        let reasons = reasons.into_iter().map(|(node, why)| (name(node), why)).collect();
        Err(RemoteError::NoNode { engine: self.engine.name.to_string(), reasons, is_away })
    }

    /// Says why a node was chosen.
    fn reason(&self, why: &Why, placed: &Placed) -> String {
        match why {
            Why::Likely { has: Some(has) } => format!("most likely has `{has}`"),
            Why::Likely { has: None } => "the first for what begins with nothing".to_owned(),
            Why::Room { full, load: (load, bound) } => {
                let full = &self.engine.nodes[*full].options.name;
                format!("has room; `{full}` comes before it and has {load} builds of at most {bound}")
            }
            Why::Full => "all have as many builds as they may".to_owned(),
            Why::Silent => "no other is left; it did not answer a moment ago".to_owned(),
            Why::Next if placed.failed.is_empty() => "the next that builds for these platforms".to_owned(),
            Why::Next => "the next behind those that failed".to_owned(),
        }
    }
}

impl Placed {
    /// Refuses whatever comes behind a push that may have been.
    fn is_not_over(&self) -> Result<(), RemoteError> {
        match &self.over {
            None => Ok(()),
            Some((node, reason, what)) => {
                Err(RemoteError::NotTwice { node: node.clone(), reason: reason.clone(), what })
            }
        }
    }
}

impl Asked<'_> {
    /// Returns the graphs; one that says nothing is one of no vertices.
    fn graphs(&self) -> Result<Vec<Graph>, RemoteError> {
        let Self::Graphs(definitions) = self else { return Ok(Vec::new()) };
        let graph = |definition: &&Definition| {
            definition.graph().map_err(|error| RemoteError::answer(rb_diag::chain(&error)))
        };
        definitions.iter().map(graph).collect()
    }
}

/// Returns what the commands of a graph are for.
pub(crate) fn platforms(graph: &Graph) -> impl Iterator<Item = Platform> {
    let execs = graph.vertices().filter(|vertex| matches!(vertex.op, Op::Exec(_)));
    execs.filter_map(|vertex| {
        let platform = vertex.platform.as_ref()?;
        let parts = [&platform.os, &platform.architecture, &platform.variant];
        let parts: Vec<&str> =
            parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        parts.join("/").parse().ok()
    })
}

fn listed<'p>(platforms: impl Iterator<Item = &'p Platform>) -> String {
    platforms.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn left_out(why: &LeftOut) -> String {
    match why {
        LeftOut::Drained => "is drained".to_owned(),
        LeftOut::Lacks(missing) => format!("does not build for {}", listed(missing.iter())),
    }
}

#[async_trait]
impl Job for NodesJob {
    async fn solve(&self, request: SolveRequest) -> Result<SolveResult, SolveError> {
        if let Some(parted) = Parted::of(self, &request).await? {
            return parted.solve().await;
        }
        self.solve_at_one(&request).await
    }

    async fn query(&self, definition: Definition, query: Query) -> Result<Answer, SolveError> {
        let asked = Asked::Graphs(vec![&definition]);
        if let Some(lane) = self.lane(&asked.graphs()?.iter().flat_map(platforms).collect()).await {
            return lane.query(definition, query).await;
        }
        let (definition, query) = (&definition, &query);
        self.call(&asked, |job| Box::pin(async move { job.query(definition.clone(), query.clone()).await }))
            .await
    }

    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        let asked = Asked::Named(format!("{:?}", request.location));
        self.call(&asked, |job| Box::pin(async move { job.resolve_image(request).await })).await
    }

    async fn resolve_repository(&self, request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
        let asked = Asked::Named("a repository".to_owned());
        self.call(&asked, |job| Box::pin(async move { job.resolve_repository(request).await })).await
    }

    async fn process(&self, _request: ProcessRequest) -> Result<i32, SolveError> {
        Err(no_containers())
    }

    async fn look(&self, _roots: &[Root]) -> Result<Vec<Outlook>, SolveError> {
        Err(cannot_look())
    }

    fn summary(&self) -> Summary {
        self.shared.vertices().summary()
    }
}
