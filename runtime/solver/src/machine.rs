//! The scheduler: a synchronous state machine. `step` takes one signal and gives the effects to start.
//!
//! In: what callers ask ([`Signal::Solve`] and its like) and what effects answered. Out: effects for the driver,
//! among them answers to callers. A step never blocks, never calls an op's futures, and does not recurse: what one
//! vertex means for another is put on an agenda (`releases` before `pokes`) and worked off in the same step.
//!
//! Three kinds of things wait for one another, always in this direction, so that there is no circle:
//! requests (one per `solve`) → nodes (one per vertex and job; [`node`]) → flights (one per run; [`flight`]).
//! [`search`] moves nodes from state to state, [`claims`] takes flights past other processes, [`interest`] keeps who wants what and ends what nobody wants,
//! [`audit`] checks after each step that every wait has a cause.

mod audit;
mod claims;
mod flight;
mod interest;
mod node;
mod search;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use rb_oci::Digest;

use crate::error::{OpError, SolveError};
use crate::events::{Event, Gone, MissReason, Trace};
use crate::job::{Mode, Recognised};
use crate::op::{CacheMap, Guard, Op, VertexSpec};

use flight::{Flight, FlightId, Landed};
use interest::{Pending, Request};
use node::{Node, State};

/// One job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobId(pub(crate) u64);

/// One solve of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestId(pub(crate) u64);

/// One vertex of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u64);

/// One effect in flight. Later tickets are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// All outputs of a vertex.
pub(crate) type Values<O> = Arc<Vec<<O as Op>::Value>>;

/// What is known of a vertex without any work.
pub(crate) enum Known<O: Op> {
    /// Its outputs.
    Values(Values<O>),
    /// Only the key under which they may be stored.
    Key(Digest),
    /// Nothing.
    Nothing,
}

/// What a lookup found.
pub(crate) struct Found<V> {
    /// All outputs, on a hit.
    pub(crate) values: Option<Vec<V>>,
    /// On a miss: what is remembered of the vertex, as far as it was asked for.
    pub(crate) past: Past,
}

/// What is remembered of a vertex, to explain a miss.
#[derive(Clone, Default)]
pub(crate) struct Past {
    /// What was last known of it.
    pub(crate) trace: Option<Trace>,
    /// When and why its result went.
    pub(crate) gone: Option<Gone>,
}

impl Past {
    /// Adds what `later` knows and this does not.
    fn or(self, later: Self) -> Self {
        Self { trace: self.trace.or(later.trace), gone: self.gone.or(later.gone) }
    }

    /// Says why a search with what is known now missed.
    fn explain(&self, now: &Trace) -> MissReason {
        match Trace::explain(self.trace.as_ref(), now) {
            MissReason::Evicted { gone: _ } => MissReason::Evicted { gone: self.gone },
            reason => reason,
        }
    }
}

/// What the last lookup of a vertex is to find out, should it miss.
pub(crate) struct Inquiry {
    /// What was last known of the vertex, if it was found before.
    pub(crate) was: Option<Trace>,
    /// What is known now.
    pub(crate) now: Trace,
    /// All its keys.
    pub(crate) keys: Vec<Digest>,
}

impl Inquiry {
    /// Returns the keys to ask about: only where a result should be stored.
    pub(crate) fn keys_to_ask(&self, found: Option<&Trace>) -> Option<&[Digest]> {
        let reason = Trace::explain(self.was.as_ref().or(found), &self.now);
        matches!(reason, MissReason::Evicted { .. }).then_some(&self.keys[..])
    }
}

/// How a claim ended.
pub(crate) enum Claimed<V> {
    /// Nobody else runs the key, and nothing is stored under it.
    Acquired(Guard),
    /// The result is there by now; the claim was given up again.
    Found(Vec<V>),
}

/// What happened outside.
pub(crate) enum Signal<O: Op> {
    /// A job begins.
    Open { job: JobId, mode: Mode },
    /// It gets vertices.
    Extend { job: JobId, graph: Vec<VertexSpec<O>> },
    /// It wants values.
    Solve { request: RequestId, job: JobId, edges: Vec<(Digest, u32)>, keep_going: bool },
    /// Nobody waits for this answer any more.
    Abandon { request: RequestId },
    /// The job wants nothing any more, now and later.
    Cancel { job: JobId },
    /// The job is gone.
    Close { job: JobId },
    /// The end of [`Effect::Map`].
    Mapped { ticket: Ticket, result: Result<CacheMap, OpError> },
    /// The end of [`Effect::Lookup`].
    LookedUp { ticket: Ticket, result: Result<Found<O::Value>, OpError> },
    /// The end of [`Effect::Digest`].
    Digested { ticket: Ticket, result: Result<Digest, OpError> },
    /// Another process has what is claimed; the claim waits for it, and needs no place meanwhile.
    Held { ticket: Ticket, by: Arc<str> },
    /// The end of [`Effect::Claim`].
    Claimed { ticket: Ticket, result: Result<Claimed<O::Value>, OpError> },
    /// A run waits for something that others have, and needs no place meanwhile.
    SteppedAside { ticket: Ticket },
    /// It needs a place again.
    ComesBack { ticket: Ticket },
    /// The end of [`Effect::Run`].
    Ran { ticket: Ticket, result: Result<Vec<O::Value>, OpError>, duration: Duration },
    /// The end of [`Effect::Store`].
    Stored { ticket: Ticket, result: Result<(), OpError> },
}

/// What is to be done outside. Those with a ticket end in a signal with that ticket, in any order.
pub(crate) enum Effect<O: Op> {
    /// Ask for a cache map.
    Map { ticket: Ticket, op: Arc<O>, followers: Vec<Follower> },
    /// Ask the cache; on a miss, for the trace of `lineage`, and after the last lookup what became of the result.
    Lookup { ticket: Ticket, key: Digest, lineage: Option<Digest>, inquiry: Option<Box<Inquiry>> },
    /// Ask for the digest of the part that is read of an input.
    Digest { ticket: Ticket, op: Arc<O>, index: usize, value: O::Value, followers: Vec<Follower> },
    /// Claim a key among all processes, and look it up again.
    Claim { ticket: Ticket, key: Digest, followers: Vec<Follower> },
    /// Give a claim up.
    Release { guard: Guard },
    /// Run an op.
    Run { ticket: Ticket, op: Arc<O>, inputs: Values<O>, followers: Vec<Follower> },
    /// Store under all keys, and keep traces by lineage.
    Store { ticket: Ticket, keys: Vec<Digest>, values: Values<O>, traces: Vec<(Digest, Trace)> },
    /// Tell a run that came back that it has a place.
    Admit { ticket: Ticket },
    /// Tell the map, digest, claim or run of this ticket to stop.
    Cancel { ticket: Ticket },
    /// Let one more hear what the work of this ticket says.
    Follow { ticket: Ticket, follower: Follower },
    /// No more.
    Unfollow { ticket: Ticket, node: NodeId },
    /// Tell the observer of a job.
    Tell { job: JobId, vertex: Digest, event: Event },
    /// Answer a solve.
    Answer { request: RequestId, result: Result<Vec<O::Value>, SolveError> },
}

/// Who hears what a piece of work says. The first follower of an effect is the one whose op it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Follower {
    pub(crate) node: NodeId,
    pub(crate) job: JobId,
    pub(crate) vertex: Digest,
}

/// Whose effect it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Node(NodeId),
    Flight(FlightId),
}

struct Job {
    mode: Mode,
    vertices: BTreeMap<Digest, NodeId>,
    /// What is wrong with its graph.
    fault: Option<SolveError>,
    cancelled: bool,
    closed: bool,
    requests: BTreeSet<RequestId>,
    /// How many of its nodes are being stopped.
    stopping: usize,
}

/// The scheduler. See the module's header.
pub(crate) struct Machine<O: Op> {
    jobs: BTreeMap<JobId, Job>,
    closed: BTreeSet<JobId>,
    requests: BTreeMap<RequestId, Request>,
    nodes: BTreeMap<NodeId, Node<O>>,
    flights: BTreeMap<FlightId, Flight<O>>,
    /// The flights, by each key they will be stored under. Several have one key only where the cache is ignored.
    by_key: BTreeSet<(Digest, FlightId)>,
    /// Flights that wait for a place, oldest first; may name some that are gone.
    queue: VecDeque<FlightId>,
    /// Flights that had a place, gave it back and wait for one again; they go before those of `queue`.
    returning: VecDeque<FlightId>,
    places: usize,
    busy: usize,
    tickets: BTreeMap<Ticket, Owner>,
    /// Lookups in flight.
    lookups: BTreeSet<Ticket>,
    landed: Landed<O>,
    next: u64,

    // What lives for one step only.
    effects: Vec<Effect<O>>,
    releases: VecDeque<NodeId>,
    pokes: VecDeque<NodeId>,
    touched: BTreeSet<NodeId>,
    /// Solves whose interest was taken back in this step: they wait for all that was told to stop in it.
    ending: BTreeSet<RequestId>,
    stopped: BTreeSet<Pending>,
}

impl<O: Op> Machine<O> {
    /// A machine at rest.
    pub(crate) fn new(jobs: NonZeroUsize) -> Self {
        Self {
            jobs: BTreeMap::new(),
            closed: BTreeSet::new(),
            requests: BTreeMap::new(),
            nodes: BTreeMap::new(),
            flights: BTreeMap::new(),
            by_key: BTreeSet::new(),
            queue: VecDeque::new(),
            returning: VecDeque::new(),
            places: jobs.get(),
            busy: 0,
            tickets: BTreeMap::new(),
            lookups: BTreeSet::new(),
            landed: Landed::default(),
            next: 0,
            effects: Vec::new(),
            releases: VecDeque::new(),
            pokes: VecDeque::new(),
            touched: BTreeSet::new(),
            ending: BTreeSet::new(),
            stopped: BTreeSet::new(),
        }
    }

    /// Takes one signal to all its consequences and returns what is to be done outside.
    pub(crate) fn step(&mut self, signal: Signal<O>) -> Vec<Effect<O>> {
        self.apply(signal);
        self.settle();
        if let Err(stuck) = self.audit() {
            if cfg!(debug_assertions) {
                panic!("{stuck:?}");
            }
            self.give_up(stuck);
            self.settle();
        }
        self.touched.clear();
        std::mem::take(&mut self.effects)
    }

    fn apply(&mut self, signal: Signal<O>) {
        match signal {
            Signal::Open { job, mode } => self.open(job, mode),
            Signal::Extend { job, graph } => self.extend(job, graph),
            Signal::Solve { request, job, edges, keep_going } => self.solve(request, job, &edges, keep_going),
            Signal::Abandon { request } => self.end([request], &SolveError::Cancelled),
            Signal::Cancel { job } => self.cancel(job),
            Signal::Close { job } => self.close(job),
            Signal::Mapped { ticket, result } => self.mapped(ticket, result),
            Signal::LookedUp { ticket, result } => self.looked_up(ticket, result),
            Signal::Digested { ticket, result } => self.digested(ticket, result),
            Signal::Held { ticket, by } => self.held(ticket, by),
            Signal::Claimed { ticket, result } => self.claimed(ticket, result),
            Signal::SteppedAside { ticket } => self.stepped_aside(ticket),
            Signal::ComesBack { ticket } => self.comes_back(ticket),
            Signal::Ran { ticket, result, duration } => self.ran(ticket, result, duration),
            Signal::Stored { ticket, result } => self.stored(ticket, result),
        }
    }

    /// Works off the agenda. Interest goes before new work begins, so that none begins in vain.
    fn settle(&mut self) {
        loop {
            if let Some(id) = self.releases.pop_front() {
                self.touched.insert(id);
                self.release(id);
            } else if let Some(id) = self.pokes.pop_front() {
                self.touched.insert(id);
                self.poke(id);
            } else {
                break;
            }
        }
        self.start_queued();
        self.finish_ending();
        self.reap();
    }

    fn open(&mut self, job: JobId, mode: Mode) {
        self.jobs.insert(
            job,
            Job {
                mode,
                vertices: BTreeMap::new(),
                fault: None,
                cancelled: false,
                closed: false,
                requests: BTreeSet::new(),
                stopping: 0,
            },
        );
    }

    fn extend(&mut self, job_id: JobId, graph: Vec<VertexSpec<O>>) {
        let Some(job) = self.jobs.get_mut(&job_id) else { return };
        for VertexSpec { id: vertex, op, inputs, name, lineage } in graph {
            if job.vertices.contains_key(&vertex) {
                continue;
            }
            let mut found = Vec::with_capacity(inputs.len());
            for (input, index) in inputs {
                let Some(id) = job.vertices.get(&input) else {
                    job.fault.get_or_insert(SolveError::UnknownInput { vertex, input });
                    return;
                };
                found.push((*id, index));
            }
            let id = NodeId(self.next);
            self.next += 1;
            job.vertices.insert(vertex, id);
            self.nodes.insert(id, Node::new(job_id, vertex, name.into(), lineage, op, found));
        }
    }

    fn cancel(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.cancelled = true;
        let requests = job.requests.clone();
        self.end(requests, &SolveError::Cancelled);
    }

    fn close(&mut self, id: JobId) {
        self.cancel(id);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.closed = true;
            self.closed.insert(id);
        }
    }

    /// Forgets closed jobs in which nothing moves any more.
    fn reap(&mut self) {
        let at_rest = |id: &JobId| self.jobs[id].requests.is_empty() && self.jobs[id].stopping == 0;
        let gone: Vec<JobId> = self.closed.iter().copied().filter(at_rest).collect();
        for id in gone {
            self.closed.remove(&id);
            for node in self.jobs.remove(&id).into_iter().flat_map(|job| job.vertices.into_values()) {
                self.nodes.remove(&node);
            }
        }
    }

    /// Tells whether no effect is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Returns what is known of a vertex of a job.
    pub(crate) fn known(&self, job: JobId, vertex: &Digest) -> Known<O> {
        let id = self.jobs.get(&job).and_then(|job| job.vertices.get(vertex));
        let Some(node) = id.map(|id| self.node(*id)) else { return Known::Nothing };
        match (node.values().or(node.made.as_ref()), node.keyed()) {
            (Some(values), _) => Known::Values(values.clone()),
            (None, Some(keyed)) if keyed.trusts_fast && keyed.search == node::Search::Anything => {
                Known::Key(keyed.fast)
            }
            (None, _) => Known::Nothing,
        }
    }

    /// Returns how a vertex of a job is recognised, once that is known.
    pub(crate) fn recognised(&self, job: JobId, vertex: &Digest) -> Option<Recognised<O>> {
        let node = self.node(*self.jobs.get(&job)?.vertices.get(vertex)?);
        let keyed = node.keyed()?;
        let inputs = node.inputs.iter().zip(&keyed.inputs);
        let known = node.values().or(node.made.as_ref());
        Some(Recognised {
            op: node.op.clone(),
            definition: keyed.definition,
            fast: keyed.trusts_fast.then_some(keyed.fast),
            inputs: inputs
                .map(|((source, index), used)| (self.node(*source).vertex, *index, used.clone()))
                .collect(),
            values: known.map(|values| values.to_vec()),
        })
    }

    fn ticket(&mut self, owner: Owner) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.tickets.insert(ticket, owner);
        ticket
    }

    fn follower(&self, id: NodeId) -> Follower {
        let node = self.node(id);
        Follower { node: id, job: node.job, vertex: node.vertex }
    }

    fn node(&self, id: NodeId) -> &Node<O> {
        &self.nodes[&id]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node<O> {
        self.nodes.get_mut(&id).expect("a node lives until its job has come to rest")
    }

    fn job_mut(&mut self, id: NodeId) -> &mut Job {
        let job = self.node(id).job;
        self.jobs.get_mut(&job).expect("a job lives as long as its nodes")
    }

    /// Returns how far the job of a node goes.
    fn mode(&self, id: NodeId) -> Mode {
        self.jobs.get(&self.node(id).job).map_or(Mode::Stop, |job| job.mode)
    }

    /// Takes the state of a node out; the caller puts another in its place.
    fn take_state(&mut self, id: NodeId) -> State<O> {
        std::mem::replace(&mut self.node_mut(id).state, State::New)
    }

    fn set_state(&mut self, id: NodeId, state: State<O>) {
        self.node_mut(id).state = state;
        self.pokes.push_back(id);
    }

    fn tell(&mut self, id: NodeId, event: Event) {
        let node = self.node(id);
        let (job, vertex) = (node.job, node.vertex);
        self.effects.push(Effect::Tell { job, vertex, event });
    }

    /// Tells the one event that ends what `Started` began.
    fn tell_end(&mut self, id: NodeId, event: Event) {
        if !std::mem::take(&mut self.node_mut(id).started) {
            if !matches!(event, Event::Failed { .. } | Event::Withheld) {
                return;
            }
            self.tell(id, Event::Started);
        }
        self.tell(id, event);
    }
}
