//! Runs. A flight is one run of one key, with all nodes, of whichever jobs, that wait for it.
//!
//! **Invariant:** of two flights that exist at once no usable key is the same, so no key is run twice at a time;
//! with `landed`, which covers answers of the cache that are older than a store, no key is run twice at all. Vertices
//! that ignore the cache are the exception: each is run once for each job, beside equal ones if need be.
//! A flight keeps its op and inputs itself, so that it goes on when the job that began it leaves others behind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rb_oci::Digest;

use super::interest::Pending;
use super::node::{Gathered, Keyed, Outcome, Search, State};
use super::{Effect, Follower, Machine, NodeId, Owner, RequestId, Ticket, Values};
use crate::error::OpError;
use crate::events::{Event, Trace};
use crate::job::Mode;
use crate::op::{Guard, Op, Weight};

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FlightId(u64);

pub(super) struct Flight<O: Op> {
    /// What the result will be stored under.
    pub(super) keys: BTreeSet<Digest>,
    pub(super) waiters: BTreeSet<NodeId>,
    /// Whose op and inputs these are. It may have left; then an error of the run is not the others' error.
    pub(super) leader: NodeId,
    pub(super) vertex: Digest,
    op: Arc<O>,
    inputs: Values<O>,
    pub(super) place: Place,
    /// What is claimed among processes before the run; nothing where its result is not shared.
    pub(super) claim: Option<Digest>,
    /// The claim, once it has it, until it is gone.
    pub(super) guard: Option<Guard>,
    pub(super) state: FlightState<O>,
    /// Solves that wait for its end.
    pub(super) awaited_by: BTreeSet<RequestId>,
}

/// What a flight has of the places there are. Before its run starts this says what it will need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It needs none.
    Free,
    /// It has one while it runs.
    Taken,
    /// It runs without one, since it waits for something.
    GivenBack,
    /// It waits for one again.
    Wanted,
}

pub(super) enum FlightState<O: Op> {
    /// Waiting for a place.
    Queued,
    /// Claiming its key among processes.
    Claiming {
        ticket: Ticket,
        /// The process that has it.
        held: Option<Arc<str>>,
    },
    /// The op runs.
    Running { ticket: Ticket },
    /// The claim or the op was told to stop. Nodes that join wait for its end, and then start anew if need be.
    Stopping { ticket: Ticket },
    /// The result is being stored.
    Storing {
        ticket: Ticket,
        values: Values<O>,
        duration: Duration,
        /// Whose traces are stored with it.
        traced: BTreeSet<NodeId>,
    },
}

impl<O: Op> Flight<O> {
    /// Its effect, if it has one in flight.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match &self.state {
            FlightState::Queued => None,
            FlightState::Claiming { ticket, .. }
            | FlightState::Running { ticket }
            | FlightState::Stopping { ticket }
            | FlightState::Storing { ticket, .. } => Some(*ticket),
        }
    }

    /// Tells whether other processes are kept from running its key.
    pub(super) fn has_claim(&self) -> bool {
        self.guard.is_some()
    }

    #[cfg(test)]
    pub(super) fn work(&self) -> (Arc<O>, Values<O>) {
        (self.op.clone(), self.inputs.clone())
    }
}

impl<O: Op> Machine<O> {
    /// No key found a node that has all it needs: it joins an equal run, or begins its own.
    pub(super) fn launch(&mut self, id: NodeId) {
        let State::Ready(gathered) = self.take_state(id) else { return };
        let keyed = gathered.keyed.clone();
        self.tell_miss(id, &gathered);
        if self.mode(id) == Mode::Look && self.node(id).op.weight() == Weight::Slot {
            self.node_mut(id).state = State::Keyed(keyed);
            return self.fail(id, &Arc::new(OpError::withheld()));
        }
        let usable = gathered.keys().filter(|key| keyed.trusts_fast || *key != keyed.fast);
        let search = keyed.search;
        if let Some(flight) = usable.filter_map(|key| self.joinable(id, search, &key)).next() {
            return self.join(id, keyed, flight, Some(gathered));
        }
        let flight = FlightId(self.next);
        self.next += 1;
        let claim = self.claim_of(id, &gathered);
        let node = self.node(id);
        self.flights.insert(
            flight,
            Flight {
                keys: BTreeSet::new(),
                waiters: BTreeSet::new(),
                leader: id,
                vertex: node.vertex,
                op: node.op.clone(),
                inputs: gathered.inputs.clone(),
                place: match node.op.weight() {
                    Weight::Free => Place::Free,
                    Weight::Slot => Place::Taken,
                },
                claim,
                guard: None,
                state: FlightState::Queued,
                awaited_by: BTreeSet::new(),
            },
        );
        self.board(id, keyed, flight, Some(gathered));
        match self.flights[&flight].place {
            Place::Free => self.start(flight),
            Place::Taken | Place::GivenBack | Place::Wanted => self.queue.push_back(flight),
        }
    }

    /// Returns a run of this key whose result a node may have. One that ignores the cache wants a run for itself:
    /// it shares with other jobs, never with another vertex of its own.
    pub(super) fn joinable(&self, id: NodeId, search: Search, key: &Digest) -> Option<FlightId> {
        let job = self.node(id).job;
        let of_key = self.by_key.range((*key, FlightId(0))..=(*key, FlightId(u64::MAX)));
        let mut flights = of_key.map(|(_, flight)| *flight);
        match search {
            Search::Anything => flights.next(),
            Search::Made { .. } => flights.find(|flight| {
                self.flights[flight].waiters.iter().all(|waiter| self.node(*waiter).job != job)
            }),
        }
    }

    /// Lets a node wait for the run of another.
    pub(super) fn join(
        &mut self,
        id: NodeId,
        keyed: Arc<Keyed>,
        flight: FlightId,
        gathered: Option<Box<Gathered<O>>>,
    ) {
        self.tell(id, Event::Shared { with: self.flights[&flight].vertex });
        match self.flights[&flight].state {
            FlightState::Claiming { ticket, .. } => {
                self.effects.push(Effect::Follow { ticket, follower: self.follower(id) });
            }
            FlightState::Running { ticket } => {
                self.tell(id, Event::Running);
                self.effects.push(Effect::Follow { ticket, follower: self.follower(id) });
            }
            FlightState::Queued | FlightState::Stopping { .. } | FlightState::Storing { .. } => {}
        }
        self.board(id, keyed, flight, gathered);
    }

    fn board(
        &mut self,
        id: NodeId,
        keyed: Arc<Keyed>,
        flight_id: FlightId,
        gathered: Option<Box<Gathered<O>>>,
    ) {
        let flight = self.flights.get_mut(&flight_id).expect("a flight that is joined was found just now");
        flight.waiters.insert(id);
        if !matches!(flight.state, FlightState::Storing { .. }) {
            for key in gathered.iter().flat_map(|gathered| gathered.keys()) {
                flight.keys.insert(key);
                self.by_key.insert((key, flight_id));
            }
        }
        self.set_state(id, State::Flying { keyed, flight: flight_id, gathered });
    }

    /// A run needs no place for a while.
    pub(super) fn stepped_aside(&mut self, ticket: Ticket) {
        if let Some(flight) = self.running(ticket)
            && flight.place == Place::Taken
        {
            flight.place = Place::GivenBack;
            self.busy -= 1;
        }
    }

    /// A run needs a place again.
    pub(super) fn comes_back(&mut self, ticket: Ticket) {
        let Some(Owner::Flight(id)) = self.tickets.get(&ticket).copied() else { return };
        match self.running(ticket) {
            Some(flight) if flight.place == Place::GivenBack => {
                flight.place = Place::Wanted;
                self.returning.push_back(id);
            }
            Some(_) => self.effects.push(Effect::Admit { ticket }),
            None => {}
        }
    }

    /// Returns the flight whose op runs as `ticket`, told to stop or not.
    fn running(&mut self, ticket: Ticket) -> Option<&mut Flight<O>> {
        let Some(Owner::Flight(id)) = self.tickets.get(&ticket) else { return None };
        let flight = self.flights.get_mut(id)?;
        match flight.state {
            FlightState::Running { .. } | FlightState::Stopping { .. } => Some(flight),
            FlightState::Queued | FlightState::Claiming { .. } | FlightState::Storing { .. } => None,
        }
    }

    /// Starts what is queued while there are places; who had one before goes first.
    pub(super) fn start_queued(&mut self) {
        while self.busy < self.places {
            if let Some(id) = self.returning.pop_front() {
                // It may have ended meanwhile.
                if let Some(flight) = self.flights.get_mut(&id)
                    && flight.place == Place::Wanted
                {
                    flight.place = Place::Taken;
                    self.busy += 1;
                    let admitted = flight.ticket().map(|ticket| Effect::Admit { ticket });
                    self.effects.extend(admitted);
                }
                continue;
            }
            let Some(id) = self.queue.pop_front() else { break };
            if matches!(self.flights.get(&id), Some(Flight { state: FlightState::Queued, .. })) {
                self.start(id);
            }
        }
    }

    /// A flight has the place it needs: it claims its key, or runs if it has done that or need not.
    pub(super) fn start(&mut self, id: FlightId) {
        let ticket = self.ticket(Owner::Flight(id));
        let flight = self.flights.get_mut(&id).expect("a flight that starts was found just now");
        if flight.place == Place::Taken {
            self.busy += 1;
        }
        match flight.claim {
            Some(key) if flight.guard.is_none() => {
                flight.state = FlightState::Claiming { ticket, held: None };
                let followers = self.followers(id);
                self.effects.push(Effect::Claim { ticket, key, followers });
            }
            Some(_) | None => self.run(id, ticket),
        }
    }

    fn run(&mut self, id: FlightId, ticket: Ticket) {
        let followers = self.followers(id);
        for follower in &followers {
            self.tell(follower.node, Event::Running);
        }
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.state = FlightState::Running { ticket };
            let (op, inputs) = (flight.op.clone(), flight.inputs.clone());
            self.effects.push(Effect::Run { ticket, op, inputs, followers });
        }
    }

    /// All who wait for a flight, its leader first.
    fn followers(&self, id: FlightId) -> Vec<Follower> {
        let flight = &self.flights[&id];
        let others = flight.waiters.iter().filter(|waiter| **waiter != flight.leader);
        std::iter::once(&flight.leader).chain(others).map(|waiter| self.follower(*waiter)).collect()
    }

    /// A node waits no longer. The last one to leave stops the run; a leader that leaves before the start hands
    /// over to one who could have begun it, and where there is none, the others go on with their own search.
    pub(super) fn leave(&mut self, id: NodeId, flight_id: FlightId) {
        let Some(flight) = self.flights.get_mut(&flight_id) else { return };
        flight.waiters.remove(&id);
        let (is_leader, deserted) = (flight.leader == id, flight.waiters.is_empty());
        match flight.state {
            FlightState::Queued if deserted => drop(self.remove_flight(flight_id)),
            FlightState::Queued if is_leader => self.hand_over(flight_id),
            // A claim that lost its leader looks for another when it is had.
            FlightState::Claiming { ticket, .. } | FlightState::Running { ticket } => {
                self.effects.push(Effect::Unfollow { ticket, node: id });
                if deserted {
                    flight.state = FlightState::Stopping { ticket };
                    self.effects.push(Effect::Cancel { ticket });
                    self.stopped.insert(Pending::Flight(flight_id));
                }
            }
            FlightState::Stopping { .. } | FlightState::Storing { .. } if deserted => {
                self.stopped.insert(Pending::Flight(flight_id));
            }
            FlightState::Queued | FlightState::Stopping { .. } | FlightState::Storing { .. } => {}
        }
    }

    pub(super) fn hand_over(&mut self, id: FlightId) {
        let heir =
            self.flights[&id].waiters.iter().copied().find_map(|waiter| match &self.node(waiter).state {
                State::Flying { gathered: Some(gathered), .. } => {
                    Some((waiter, gathered.inputs.clone(), self.claim_of(waiter, gathered)))
                }
                _ => None,
            });
        let Some((leader, inputs, claim)) = heir else { return self.dissolve(id) };
        let (vertex, op) = (self.node(leader).vertex, self.node(leader).op.clone());
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.leader = leader;
            flight.vertex = vertex;
            flight.op = op;
            flight.inputs = inputs;
            // What the first leader meant to claim is the narrower key: the heir may not know all of its own.
            flight.claim = flight.claim.or(claim);
        }
    }

    /// Ends a flight without a result: who waits for it goes on from where it joined.
    pub(super) fn dissolve(&mut self, id: FlightId) {
        let waiters: Vec<NodeId> = self.flights[&id].waiters.iter().copied().collect();
        self.remove_flight(id);
        for waiter in waiters {
            self.go_on(waiter);
        }
    }

    /// A node whose flight is gone goes on from where it joined.
    pub(super) fn go_on(&mut self, waiter: NodeId) {
        match self.take_state(waiter) {
            State::Flying { gathered: Some(gathered), .. } => self.set_state(waiter, State::Ready(gathered)),
            State::Flying { keyed, gathered: None, .. } => self.try_fast(waiter, keyed),
            other => self.set_state(waiter, other),
        }
    }

    pub(super) fn remove_flight(&mut self, id: FlightId) -> Option<Flight<O>> {
        let mut flight = self.flights.remove(&id)?;
        self.effects.extend(flight.guard.take().map(|guard| Effect::Release { guard }));
        for key in &flight.keys {
            self.by_key.remove(&(*key, id));
        }
        self.ended(Pending::Flight(id), &flight.awaited_by);
        Some(flight)
    }

    pub(super) fn flight_of(&mut self, ticket: Ticket) -> Option<FlightId> {
        match self.tickets.remove(&ticket) {
            Some(Owner::Flight(id)) => Some(id),
            Some(Owner::Node(_)) | None => None,
        }
    }

    /// A run has ended.
    pub(super) fn ran(&mut self, ticket: Ticket, result: Result<Vec<O::Value>, OpError>, duration: Duration) {
        let Some(id) = self.flight_of(ticket) else { return };
        let flight = self.flights.get_mut(&id).expect("a flight lives as long as its run");
        if flight.place == Place::Taken {
            self.busy -= 1;
        }
        flight.place = Place::Free;
        let flight = &self.flights[&id];
        match result {
            Ok(values) => {
                let values = Arc::new(values);
                let keys = flight.keys.iter().copied().collect();
                let traces = flight.waiters.iter().filter_map(|waiter| self.flying_trace(*waiter)).collect();
                let traced = flight.waiters.clone();
                let ticket = self.ticket(Owner::Flight(id));
                self.effects.push(Effect::Store { ticket, keys, values: values.clone(), traces });
                if let Some(flight) = self.flights.get_mut(&id) {
                    flight.state = FlightState::Storing { ticket, values, duration, traced };
                }
            }
            Err(error) => {
                let was_stopped = matches!(flight.state, FlightState::Stopping { .. });
                if was_stopped || !flight.waiters.contains(&flight.leader) {
                    self.dissolve(id);
                } else {
                    self.fail_flight(id, error);
                }
            }
        }
    }

    /// An effect of the kind `Store` has ended: that of a flight or of a node that links.
    pub(super) fn stored(&mut self, ticket: Ticket, result: Result<(), OpError>) {
        let Some(Owner::Flight(_)) = self.tickets.get(&ticket) else { return self.linked(ticket, result) };
        let Some(id) = self.flight_of(ticket) else { return };
        match result {
            Ok(()) => self.land(id),
            Err(error) => self.fail_flight(id, error),
        }
    }

    pub(super) fn fail_flight(&mut self, id: FlightId, error: OpError) {
        let error = Arc::new(error);
        for waiter in self.remove_flight(id).into_iter().flat_map(|flight| flight.waiters) {
            self.fail(waiter, &error);
        }
    }

    /// The result is made and stored: all who wait for it have it.
    fn land(&mut self, id: FlightId) {
        let Some(flight) = self.remove_flight(id) else { return };
        let FlightState::Storing { values, duration, traced, .. } = flight.state else { return };
        if !self.lookups.is_empty() {
            self.landed.insert(Ticket(self.next), &flight.keys, &values);
        }
        for waiter in flight.waiters {
            let State::Flying { keyed, gathered, .. } = self.take_state(waiter) else { continue };
            let keys: Vec<Digest> = match &gathered {
                Some(gathered) => gathered.keys().collect(),
                None => vec![keyed.fast],
            };
            self.node_mut(waiter).made = Some(values.clone());
            // One that joined while the others' keys were being stored has its own left to store.
            let links = keys.into_iter().filter(|key| !flight.keys.contains(key)).collect();
            let trace = (!traced.contains(&waiter)).then(|| self.trace(waiter, &keyed, gathered.as_deref()));
            self.link(waiter, keyed, values.clone(), Outcome::Made(duration), links, trace);
        }
    }

    fn flying_trace(&self, id: NodeId) -> Option<(Digest, Trace)> {
        let node = self.node(id);
        match (&node.state, node.lineage) {
            (State::Flying { keyed, gathered, .. }, Some(lineage)) => {
                Some((lineage, self.trace(id, keyed, gathered.as_deref())))
            }
            _ => None,
        }
    }
}

/// Results that were stored while lookups were in flight, whose answers may be older than that.
pub(super) struct Landed<O: Op> {
    by_key: BTreeMap<Digest, (Ticket, Values<O>)>,
    order: VecDeque<(Ticket, Digest)>,
}

impl<O: Op> Default for Landed<O> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<O: Op> Landed<O> {
    /// Lookups with tickets before `now` may not have seen this.
    pub(super) fn insert(&mut self, now: Ticket, keys: &BTreeSet<Digest>, values: &Values<O>) {
        for key in keys {
            self.by_key.insert(*key, (now, values.clone()));
            self.order.push_back((now, *key));
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.order.is_empty()
    }

    pub(super) fn get(&self, key: &Digest) -> Option<&Values<O>> {
        self.by_key.get(key).map(|(_, values)| values)
    }

    /// Forgets what every lookup in flight has seen; `oldest` is the first of those.
    pub(super) fn forget_before(&mut self, oldest: Option<Ticket>) {
        while let Some((at, key)) = self.order.front().copied() {
            if oldest.is_some_and(|oldest| oldest < at) {
                break;
            }
            self.order.pop_front();
            if self.by_key.get(&key).is_some_and(|(stored, _)| *stored == at) {
                self.by_key.remove(&key);
            }
        }
    }
}
