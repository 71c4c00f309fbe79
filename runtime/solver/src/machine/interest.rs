//! Who wants what; and what ends when nobody does.
//!
//! A request wants its edges, a node that keys or gathers wants its inputs. When a request ends early, its wants
//! are taken back, and so on downwards through nodes that nobody else wants; what is in flight there is told to
//! stop. The request is answered when all that has ended. Failures go the other way, upwards to every request that
//! wants the node, directly or not.

use std::collections::BTreeSet;
use std::sync::Arc;

use rb_oci::Digest;

use super::audit::Stuck;
use super::flight::FlightId;
use super::node::{Mapping, State, Wanter};
use super::{Effect, JobId, Machine, NodeId, RequestId, Ticket};
use crate::error::{Failure, Misuse, OpError, SolveError};
use crate::events::Event;
use crate::job::Mode;
use crate::op::Op;

/// One solve.
pub(super) struct Request {
    pub(super) job: JobId,
    edges: Vec<(NodeId, u32)>,
    keep_going: bool,
    /// What failed, each vertex once.
    failures: Vec<Failure>,
    pub(super) state: RequestState,
}

pub(super) enum RequestState {
    /// It waits for the values of these nodes.
    Waiting(BTreeSet<NodeId>),
    /// It has taken its wants back, and waits for the end of what that stopped.
    Ending {
        /// What it will be answered; `None` for its failures.
        error: Option<SolveError>,
        pending: BTreeSet<Pending>,
    },
}

/// Something that is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pending {
    Node(NodeId),
    Flight(FlightId),
}

impl<O: Op> Machine<O> {
    /// A job wants values.
    pub(super) fn solve(&mut self, id: RequestId, job_id: JobId, edges: &[(Digest, u32)], keep_going: bool) {
        let refused = match self.jobs.get(&job_id) {
            None => Some(SolveError::Cancelled),
            Some(job) if job.cancelled => Some(SolveError::Cancelled),
            Some(job) => job.fault.clone(),
        };
        let found: Result<Vec<(NodeId, u32)>, SolveError> = edges
            .iter()
            .map(|(vertex, index)| {
                let node = self.jobs.get(&job_id).and_then(|job| job.vertices.get(vertex));
                node.map(|node| (*node, *index)).ok_or(SolveError::UnknownVertex { vertex: *vertex })
            })
            .collect();
        let edges = match (refused, found) {
            (Some(error), _) | (None, Err(error)) => {
                return self.effects.push(Effect::Answer { request: id, result: Err(error) });
            }
            (None, Ok(edges)) => edges,
        };
        let waiting: BTreeSet<NodeId> = edges.iter().map(|(node, _)| *node).collect();
        for node in &waiting {
            self.node_mut(*node).value_wanted_by.insert(Wanter::Request(id));
            self.pokes.push_back(*node);
        }
        let is_empty = waiting.is_empty();
        let state = RequestState::Waiting(waiting);
        self.requests.insert(id, Request { job: job_id, edges, keep_going, failures: Vec::new(), state });
        if let Some(job) = self.jobs.get_mut(&job_id) {
            job.requests.insert(id);
        }
        if is_empty {
            self.complete(id);
        }
    }

    /// Gives the value of a node to all who want it.
    pub(super) fn answer_done(&mut self, id: NodeId) {
        for wanter in std::mem::take(&mut self.node_mut(id).value_wanted_by) {
            match wanter {
                Wanter::Request(request) => self.settle_request(request, id, None),
                Wanter::Node(user) => {
                    if let State::Gathering { waiting, .. } = &mut self.node_mut(user).state {
                        waiting.remove(&id);
                        self.pokes.push_back(user);
                    }
                }
            }
        }
    }

    /// Tells all who want anything of a node that they will not get it. They stay its wanters until they leave.
    pub(super) fn answer_failed(&mut self, id: NodeId, failure: &Failure) {
        let users: Vec<NodeId> = self.node(id).key_wanted_by.iter().copied().collect();
        let wanters: Vec<Wanter> = self.node(id).value_wanted_by.iter().copied().collect();
        let by_value = wanters.iter().filter_map(|wanter| match wanter {
            Wanter::Node(user) => Some(*user),
            Wanter::Request(_) => None,
        });
        for user in users.into_iter().chain(by_value) {
            match &mut self.node_mut(user).state {
                State::Keying { waiting, failure: noted, .. }
                | State::Gathering { waiting, failure: noted, .. } => {
                    if waiting.remove(&id) {
                        noted.get_or_insert_with(|| failure.clone());
                        self.pokes.push_back(user);
                    }
                }
                State::New
                | State::Keyed(_)
                | State::Looking { .. }
                | State::Comparing { .. }
                | State::Digesting { .. }
                | State::Matching { .. }
                | State::Ready(_)
                | State::Flying { .. }
                | State::Linking { .. }
                | State::Done { .. }
                | State::Failed { .. }
                | State::Stopping { .. } => {}
            }
        }
        for wanter in wanters {
            if let Wanter::Request(request) = wanter {
                self.settle_request(request, id, Some(failure));
            }
        }
    }

    /// A node that a request waits for is done, or has failed.
    pub(super) fn settle_request(&mut self, id: RequestId, node: NodeId, failure: Option<&Failure>) {
        if let Some(failure) = failure {
            self.note(id, failure);
        }
        let Some(Request { state: RequestState::Waiting(waiting), .. }) = self.requests.get_mut(&id) else {
            return;
        };
        if waiting.remove(&node) && waiting.is_empty() {
            self.complete(id);
        }
    }

    /// Every edge of a request is settled.
    fn complete(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if request.failures.is_empty() {
            let mut result = Vec::with_capacity(request.edges.len());
            for (node, index) in &request.edges {
                let node = &self.nodes[node];
                let outputs = node.values().map_or(&[][..], |values| values);
                if let Some(value) = outputs.get(*index as usize) {
                    result.push(value.clone());
                    continue;
                }
                let error = Misuse::Output { index: *index, outputs: outputs.len() };
                request.failures.push(Failure {
                    vertex: node.vertex,
                    name: node.name.clone(),
                    source: Arc::new(error.into()),
                });
                break;
            }
            if request.failures.is_empty() {
                return self.answer(id, Ok(result));
            }
        }
        self.end_with([id], None);
    }

    fn answer(&mut self, id: RequestId, result: Result<Vec<O::Value>, SolveError>) {
        if let Some(request) = self.requests.remove(&id)
            && let Some(job) = self.jobs.get_mut(&request.job)
        {
            job.requests.remove(&id);
        }
        self.effects.push(Effect::Answer { request: id, result });
    }

    /// Ends requests early.
    pub(super) fn end(&mut self, requests: impl IntoIterator<Item = RequestId>, error: &SolveError) {
        self.end_with(requests, Some(error));
    }

    fn end_with(&mut self, requests: impl IntoIterator<Item = RequestId>, error: Option<&SolveError>) {
        for id in requests {
            let Some(request) = self.requests.get_mut(&id) else { continue };
            if let RequestState::Ending { .. } = request.state {
                continue;
            }
            request.state = RequestState::Ending { error: error.cloned(), pending: BTreeSet::new() };
            let roots: BTreeSet<NodeId> = request.edges.iter().map(|(node, _)| *node).collect();
            for root in roots {
                self.node_mut(root).value_wanted_by.remove(&Wanter::Request(id));
                self.releases.push_back(root);
            }
            self.ending.insert(id);
        }
    }

    /// Answers the requests that ended in this step, or has them wait for what was told to stop in it.
    pub(super) fn finish_ending(&mut self) {
        let stopped = std::mem::take(&mut self.stopped);
        for id in std::mem::take(&mut self.ending) {
            for pending in &stopped {
                match pending {
                    Pending::Node(node) => self.node_mut(*node).awaited_by.insert(id),
                    Pending::Flight(flight) => {
                        self.flights.get_mut(flight).is_some_and(|flight| flight.awaited_by.insert(id))
                    }
                };
            }
            if let Some(Request { state: RequestState::Ending { pending, .. }, .. }) =
                self.requests.get_mut(&id)
            {
                pending.extend(stopped.iter().copied());
            }
            self.answer_ended(id);
        }
    }

    /// What was being stopped has ended.
    pub(super) fn ended(&mut self, what: Pending, awaited_by: &BTreeSet<RequestId>) {
        for id in awaited_by {
            if let Some(Request { state: RequestState::Ending { pending, .. }, .. }) =
                self.requests.get_mut(id)
            {
                pending.remove(&what);
            }
            self.answer_ended(*id);
        }
    }

    fn answer_ended(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let RequestState::Ending { error, pending } = &mut request.state else { return };
        if pending.is_empty() {
            let failures = std::mem::take(&mut request.failures);
            let error = error.take().unwrap_or_else(|| Failure::into_error(failures));
            self.answer(id, Err(error));
        }
    }

    /// A node fails by itself.
    pub(super) fn fail(&mut self, id: NodeId, error: &Arc<OpError>) {
        let keyed = self.node(id).keyed().cloned();
        let failure = self.report(id, error);
        self.set_state(id, State::Failed { keyed, failure });
    }

    /// Tells of a failure at once: observers, and all solves that want the node.
    pub(super) fn report(&mut self, id: NodeId, error: &Arc<OpError>) -> Failure {
        let node = self.node(id);
        let failure = Failure { vertex: node.vertex, name: node.name.clone(), source: error.clone() };
        self.tell_end(
            id,
            if error.is_withheld() { Event::Withheld } else { Event::Failed { error: error.clone() } },
        );
        for request in self.wanting(id) {
            self.note(request, &failure);
        }
        failure
    }

    /// A node cannot go on because one below it failed.
    pub(super) fn fail_by_input(
        &mut self,
        id: NodeId,
        keyed: Option<Arc<super::node::Keyed>>,
        failure: Failure,
    ) {
        // Who only looks hears of all that nobody can know, although none of it was begun. What failed itself was told.
        let is_below = failure.vertex != self.node(id).vertex && failure.source.is_withheld();
        if is_below && !std::mem::replace(&mut self.node_mut(id).started, true) {
            self.tell(id, Event::Started);
        }
        self.tell_end(id, Event::Cancelled);
        self.set_state(id, State::Failed { keyed, failure });
    }

    /// Notes a failure for a request, once; it ends the request unless that keeps going.
    fn note(&mut self, id: RequestId, failure: &Failure) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if !request.failures.iter().any(|known| known.vertex == failure.vertex) {
            request.failures.push(failure.clone());
        }
        if !request.keep_going {
            self.end_with([id], None);
        }
    }

    /// Returns the requests that want a node, directly or through others.
    fn wanting(&self, id: NodeId) -> BTreeSet<RequestId> {
        let mut requests = BTreeSet::new();
        let mut seen = BTreeSet::from([id]);
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            let node = self.node(id);
            let by_key = node.key_wanted_by.iter().map(|user| Wanter::Node(*user));
            for wanter in by_key.chain(node.value_wanted_by.iter().copied()) {
                match wanter {
                    Wanter::Request(request) => {
                        requests.insert(request);
                    }
                    Wanter::Node(user) if seen.insert(user) => todo.push(user),
                    Wanter::Node(_) => {}
                }
            }
        }
        requests
    }

    /// Brings a node to rest, if nobody wants what it is about.
    pub(super) fn release(&mut self, id: NodeId) {
        let node = self.node(id);
        let wanted = match &node.state {
            State::Keying { .. } | State::Failed { keyed: None, .. } => node.is_wanted(),
            State::New
            | State::Keyed(_)
            | State::Looking { .. }
            | State::Gathering { .. }
            | State::Comparing { .. }
            | State::Digesting { .. }
            | State::Matching { .. }
            | State::Ready(_)
            | State::Flying { .. }
            | State::Linking { .. }
            | State::Done { .. }
            | State::Failed { keyed: Some(_), .. }
            | State::Stopping { .. } => !node.value_wanted_by.is_empty(),
        };
        if wanted {
            return;
        }
        let keyed = node.keyed().cloned();
        match self.take_state(id) {
            state @ (State::New | State::Keyed(_) | State::Done { .. }) => self.node_mut(id).state = state,
            state @ State::Stopping { .. } => {
                self.node_mut(id).state = state;
                self.stopped.insert(Pending::Node(id));
            }
            State::Keying { map, .. } => {
                self.drop_wants(id);
                match map {
                    Mapping::Asked(ticket) => self.stop(id, BTreeSet::from([ticket]), true),
                    Mapping::Known(_) | Mapping::Failed => self.rest(id),
                }
            }
            State::Gathering { keyed, .. } => {
                self.drop_wants(id);
                self.node_mut(id).state = State::Keyed(keyed);
                self.rest(id);
            }
            State::Failed { keyed, failure } => {
                self.drop_wants(id);
                let is_kept = self.mode(id) != Mode::Stop && !failure.source.is_cancelled();
                self.node_mut(id).state = match keyed {
                    keyed if is_kept => State::Failed { keyed, failure },
                    Some(keyed) => State::Keyed(keyed),
                    None => State::New,
                };
                self.rest(id);
            }
            State::Ready(gathered) => {
                self.node_mut(id).state = State::Keyed(gathered.keyed);
                self.rest(id);
            }
            State::Flying { keyed, flight, .. } => {
                self.node_mut(id).state = State::Keyed(keyed);
                self.leave(id, flight);
                self.rest(id);
            }
            State::Digesting { asked, .. } => {
                self.node_mut(id).state = keyed.map_or(State::New, State::Keyed);
                self.stop(id, asked.into_keys().collect(), true);
            }
            State::Looking { ticket, .. }
            | State::Comparing { ticket, .. }
            | State::Matching { ticket, .. }
            | State::Linking { ticket, .. } => {
                self.node_mut(id).state = keyed.map_or(State::New, State::Keyed);
                self.stop(id, BTreeSet::from([ticket]), false);
            }
        }
    }

    /// The end of a node's work that led to nothing.
    fn rest(&mut self, id: NodeId) {
        self.tell_end(id, Event::Cancelled);
        self.pokes.push_back(id);
    }

    /// Has a node wait for the end of its effects. Those of ops are told to stop, those of the cache are short.
    fn stop(&mut self, id: NodeId, tickets: BTreeSet<Ticket>, tell: bool) {
        for ticket in tickets.iter().copied().filter(|_| tell) {
            self.effects.push(Effect::Unfollow { ticket, node: id });
            self.effects.push(Effect::Cancel { ticket });
        }
        let keyed = self.node(id).keyed().cloned();
        self.node_mut(id).state = State::Stopping { keyed, tickets };
        self.job_mut(id).stopping += 1;
        self.stopped.insert(Pending::Node(id));
        self.rest(id);
    }

    /// All that was told to stop has ended; if the node is wanted again by now, it begins anew.
    pub(super) fn finish_stopping(&mut self, id: NodeId) {
        let State::Stopping { keyed, .. } = self.take_state(id) else { return };
        self.set_state(id, keyed.map_or(State::New, State::Keyed));
        self.job_mut(id).stopping -= 1;
        let awaited_by = std::mem::take(&mut self.node_mut(id).awaited_by);
        self.ended(Pending::Node(id), &awaited_by);
    }

    fn drop_wants(&mut self, id: NodeId) {
        for source in self.node(id).sources() {
            let node = self.node_mut(source);
            node.key_wanted_by.remove(&id);
            node.value_wanted_by.remove(&Wanter::Node(id));
            self.releases.push_back(source);
        }
    }

    /// Ends at once the requests that a broken rule concerns, since what they wait for may never come.
    pub(super) fn give_up(&mut self, stuck: Stuck) {
        let concerned = match stuck.node {
            Some(node) => self.wanting(node),
            None => self.requests.keys().copied().collect(),
        };
        let error =
            SolveError::Stuck { vertex: stuck.vertex, name: stuck.name.clone(), detail: stuck.detail };
        self.end(concerned.iter().copied(), &error);
        self.ending.retain(|id| !concerned.contains(id));
        for id in concerned {
            self.answer(id, Err(error.clone()));
        }
    }
}
