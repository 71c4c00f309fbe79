//! Claims: a run that another process may be at already waits for that process, and takes what it made.
//!
//! A flight that has its place claims one key, the last one that missed: whoever makes an equal result stores it
//! under that key too, so there is nothing more to look up. Under the claim the key is looked up again, since the
//! other may have stored it between the lookup and the claim. While another process has the key, the flight gives its
//! place back; when it has the claim, it goes to the front of the queue, since others may wait for it now.
//!
//! **Invariants:** a flight asks for its only claim before it runs, and gives it up when it is gone, which is after
//! its result is stored. While it has it, it waits for a place or for its own effects, never for a claim. Places
//! are had by those that run, or ask without waiting. So whoever has a claim gets on.

use std::sync::Arc;

use rb_oci::Digest;

use super::flight::{FlightId, FlightState, Place};
use super::node::{Gathered, Outcome, Search, State};
use super::{Claimed, Machine, NodeId, Owner, Ticket};
use crate::error::OpError;
use crate::events::{Event, KeyKind};
use crate::op::Op;

impl<O: Op> Machine<O> {
    /// Returns the key to claim before a run for this node: the last of those that were looked up.
    pub(super) fn claim_of(&self, id: NodeId, gathered: &Gathered<O>) -> Option<Digest> {
        let looks = gathered.keyed.search == Search::Anything && self.node(id).op.is_shared();
        gathered.keys().last().filter(|_| looks)
    }

    /// Another process has the key.
    pub(super) fn held(&mut self, ticket: Ticket, by: Arc<str>) {
        let Some(Owner::Flight(id)) = self.tickets.get(&ticket).copied() else { return };
        let Some(flight) = self.flights.get_mut(&id) else { return };
        if flight.place == Place::Taken {
            flight.place = Place::GivenBack;
            self.busy -= 1;
        }
        if let FlightState::Claiming { held, .. } = &mut flight.state {
            *held = Some(by);
            let (with, waiters) = (flight.vertex, flight.waiters.clone());
            for waiter in waiters {
                self.tell(waiter, Event::Shared { with });
            }
        }
    }

    /// A claim has ended.
    pub(super) fn claimed(&mut self, ticket: Ticket, result: Result<Claimed<O::Value>, OpError>) {
        let Some(id) = self.flight_of(ticket) else { return };
        let flight = self.flights.get_mut(&id).expect("a flight lives as long as its claim");
        match flight.place {
            Place::Taken => self.busy -= 1,
            // It will need it again.
            Place::GivenBack | Place::Wanted => flight.place = Place::Taken,
            Place::Free => {}
        }
        let was_stopped = matches!(flight.state, FlightState::Stopping { .. });
        let is_led = flight.waiters.contains(&flight.leader);
        flight.state = FlightState::Queued;
        match result {
            Ok(Claimed::Acquired(guard)) => {
                flight.guard = Some(guard);
                self.go(id, is_led, was_stopped);
            }
            Ok(Claimed::Found(values)) => self.found_elsewhere(id, values),
            Err(_) if was_stopped || !is_led => self.dissolve(id),
            Err(error) => self.fail_flight(id, error),
        }
    }

    /// The key is this flight's: the run begins, in its turn.
    fn go(&mut self, id: FlightId, is_led: bool, was_stopped: bool) {
        if was_stopped {
            return self.dissolve(id);
        }
        if !is_led {
            self.hand_over(id);
        }
        match self.flights.get(&id).map(|flight| flight.place) {
            Some(Place::Free) => self.start(id),
            Some(Place::Taken | Place::GivenBack | Place::Wanted) => self.queue.push_front(id),
            // It had no heir.
            None => {}
        }
    }

    /// Another process has made it: all have the result who may take what is stored.
    fn found_elsewhere(&mut self, id: FlightId, values: Vec<O::Value>) {
        let Some(flight) = self.remove_flight(id) else { return };
        let values = Arc::new(values);
        if !self.lookups.is_empty() {
            self.landed.insert(Ticket(self.next), &flight.keys, &values);
        }
        for waiter in flight.waiters {
            match self.take_state(waiter) {
                State::Flying { keyed, gathered, .. } if keyed.search == Search::Anything => {
                    let kind = gathered.as_ref().map_or(KeyKind::Fast, |gathered| gathered.last_kind());
                    let keys: Vec<Digest> = match &gathered {
                        Some(gathered) => gathered.keys().collect(),
                        None => vec![keyed.fast],
                    };
                    let by = flight.claim.or(keys.last().copied()).unwrap_or(keyed.fast);
                    let links = keys.into_iter().filter(|key| Some(*key) != flight.claim).collect();
                    let trace = self.trace(waiter, &keyed, gathered.as_deref());
                    self.link(waiter, keyed, values.clone(), Outcome::Found(kind, by), links, Some(trace));
                }
                state => {
                    self.node_mut(waiter).state = state;
                    self.go_on(waiter);
                }
            }
        }
    }
}

impl<O: Op> Gathered<O> {
    /// Says which of its keys is the last.
    fn last_kind(&self) -> KeyKind {
        match (self.whole, self.slow) {
            (_, Some(_)) => KeyKind::Slow,
            (Some(_), None) => KeyKind::Content,
            (None, None) => KeyKind::Fast,
        }
    }
}
