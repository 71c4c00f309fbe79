//! No wait without a cause: the rules that hold after every step, and who waits for what, for people.
//!
//! Only what a step touched is checked, and of each set that is waited for only the first member, so that a check
//! costs no more than the step. Since the graph has no circles, rules about neighbours add up to the whole: who
//! waits, waits for an effect in flight. `audit_all` checks everything; tests use it.

use std::sync::Arc;
use std::time::Duration;

use rb_oci::Digest;

use super::flight::{Flight, FlightState, Place};
use super::interest::RequestState;
use super::node::{Mapping, Node, State, Wanter};
use super::{Machine, NodeId, Owner, Ticket};
use crate::job::Mode;
use crate::op::Op;
use crate::status::{Phase, Status, VertexStatus, WaitsFor};

/// A broken rule.
#[derive(Debug)]
pub(super) struct Stuck {
    /// `None`: it concerns all.
    pub(super) node: Option<NodeId>,
    pub(super) vertex: Digest,
    pub(super) name: Arc<str>,
    pub(super) detail: &'static str,
}

impl<O: Op> Machine<O> {
    /// Checks what this step touched.
    pub(super) fn audit(&self) -> Result<(), Stuck> {
        for id in &self.touched {
            if let Some(node) = self.nodes.get(id) {
                self.check(*id, node).map_err(|detail| self.stuck(Some(*id), *id, detail))?;
            }
        }
        for request in self.requests.values() {
            match &request.state {
                RequestState::Waiting(nodes) => {
                    let Some(first) = nodes.first() else { continue };
                    if self.node(*first).value_wanted_by.is_empty() {
                        return Err(self.stuck(Some(*first), *first, "a solve waits for what nobody wants"));
                    }
                    if self.tickets.is_empty() {
                        return Err(self.stuck(None, *first, "a solve waits, and nothing is in flight"));
                    }
                }
                RequestState::Ending { pending, .. } if pending.is_empty() || self.tickets.is_empty() => {
                    let first = self.nodes.keys().next().copied();
                    return first.map_or(Ok(()), |first| {
                        Err(self.stuck(None, first, "a solve that ended is not answered"))
                    });
                }
                RequestState::Ending { .. } => {}
            }
        }
        Ok(())
    }

    fn stuck(&self, node: Option<NodeId>, named: NodeId, detail: &'static str) -> Stuck {
        let Node { vertex, name, .. } = self.node(named);
        Stuck { node, vertex: *vertex, name: name.clone(), detail }
    }

    fn check(&self, id: NodeId, node: &Node<O>) -> Result<(), &'static str> {
        let rule = |holds: bool, detail| if holds { Ok(()) } else { Err(detail) };
        let wanted = !node.value_wanted_by.is_empty();
        let in_flight = |ticket: &Ticket| self.tickets.get(ticket) == Some(&Owner::Node(id));
        match &node.state {
            State::New => rule(!node.is_wanted(), "it is wanted, and nothing was begun"),
            State::Keyed(_) => rule(!node.is_wanted(), "its value is wanted, and no search was begun"),
            State::Done { .. } => rule(!node.is_wanted(), "it is done, and somebody was not told"),
            State::Failed { keyed, .. } => {
                let wanted = if keyed.is_none() { node.is_wanted() } else { wanted };
                rule(
                    wanted || self.mode(id) != Mode::Stop,
                    "it failed, and its error is kept though nobody wants it",
                )
            }
            State::Ready(_) => Err("it is ready, and was not launched"),
            State::Keying { map, waiting, .. } => {
                rule(node.is_wanted(), "its key is sought, and nobody wants it")?;
                let asked = matches!(map, Mapping::Asked(ticket) if in_flight(ticket));
                let below = waiting.first().map(|below| self.node(*below));
                let waits = below.is_some_and(|below| {
                    below.key_wanted_by.contains(&id)
                        && matches!(below.state, State::Keying { .. } | State::Stopping { .. })
                });
                rule(asked || waits, "it waits for a cache map or a key that nobody is about to give")
            }
            State::Gathering { waiting, .. } => {
                rule(wanted, "its inputs are gathered, and nobody wants it")?;
                let below = waiting.first().map(|below| self.node(*below));
                let waits = below.is_some_and(|below| {
                    below.value_wanted_by.contains(&Wanter::Node(id)) && below.is_at_work()
                });
                rule(waits, "it waits for an input that nobody is about to make")
            }
            State::Looking { ticket, .. }
            | State::Comparing { ticket, .. }
            | State::Matching { ticket, .. }
            | State::Linking { ticket, .. } => {
                rule(wanted, "the cache is asked for it, and nobody wants it")?;
                rule(in_flight(ticket), "it waits for a cache that was not asked")
            }
            State::Digesting { asked, .. } => {
                rule(wanted, "inputs are digested for it, and nobody wants it")?;
                rule(!asked.is_empty() && asked.keys().all(in_flight), "it waits for digests not asked for")
            }
            State::Stopping { tickets, .. } => {
                rule(!tickets.is_empty() && tickets.iter().all(in_flight), "it waits for the end of nothing")
            }
            State::Flying { flight, .. } => {
                rule(wanted, "it is being made, and nobody wants it")?;
                let Some(run) = self.flights.get(flight) else {
                    return Err("it waits for a run that is gone");
                };
                rule(run.waiters.contains(&id), "it waits for a run that does not know it")?;
                let claims = matches!(run.state, FlightState::Claiming { .. });
                // So no process waits for another that waits for it.
                rule(!(claims && run.has_claim()), "it waits for a claim while it has one")?;
                match (&run.state, run.ticket()) {
                    (FlightState::Queued, _) => {
                        rule(self.busy >= self.places, "it is queued, and there is a place")
                    }
                    (_, ticket) => rule(
                        ticket
                            .is_some_and(|ticket| self.tickets.get(&ticket) == Some(&Owner::Flight(*flight))),
                        "it waits for a run that is not in flight",
                    ),
                }
            }
        }
    }

    /// Returns who waits for what. `age` says how long an effect has been in flight.
    pub(crate) fn status(&self, age: &dyn Fn(&Ticket) -> Option<Duration>) -> Status {
        let vertices = self.nodes.values().filter_map(|node| {
            let (phase, waits_for, ticket) = self.phase(node)?;
            let since = ticket.and_then(|ticket| age(&ticket));
            debug_assert!(!waits_for.is_empty(), "`{}` is {phase:?} and waits for nothing", node.name);
            Some(VertexStatus {
                job: node.job.0,
                vertex: node.vertex,
                name: node.name.to_string(),
                phase,
                since_ms: since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
                waits_for,
            })
        });
        Status {
            jobs: self.places,
            busy: self.busy,
            solves: self.requests.len(),
            vertices: vertices.collect(),
        }
    }

    /// Returns what a node is at, what it waits for, and its effect in flight, or the oldest of several.
    fn phase(&self, node: &Node<O>) -> Option<(Phase, Vec<WaitsFor>, Option<Ticket>)> {
        let vertex = |id: &NodeId| self.node(*id).vertex;
        let asks = |phase, ticket: &Ticket| Some((phase, vec![WaitsFor::Cache], Some(*ticket)));
        match &node.state {
            State::New | State::Keyed(_) | State::Ready(_) | State::Done { .. } | State::Failed { .. } => {
                None
            }
            State::Keying { map, waiting, .. } => {
                let asked = match map {
                    Mapping::Asked(ticket) => Some(*ticket),
                    Mapping::Known(_) | Mapping::Failed => None,
                };
                let map = asked.map(|_| WaitsFor::CacheMap);
                let keys = waiting.iter().map(|id| WaitsFor::KeyOf { vertex: vertex(id) });
                Some((Phase::Keying, map.into_iter().chain(keys).collect(), asked))
            }
            State::Looking { ticket, .. } => asks(Phase::Looking, ticket),
            State::Gathering { waiting, .. } => {
                let values = waiting.iter().map(|id| WaitsFor::ValueOf { vertex: vertex(id) });
                Some((Phase::Gathering, values.collect(), None))
            }
            State::Comparing { ticket, .. } => asks(Phase::Comparing, ticket),
            State::Digesting { asked, .. } => {
                let parts = asked.values().map(|input| WaitsFor::Content { input: *input });
                Some((Phase::Digesting, parts.collect(), asked.keys().next().copied()))
            }
            State::Matching { ticket, .. } => asks(Phase::Matching, ticket),
            State::Linking { ticket, .. } => asks(Phase::Storing, ticket),
            State::Stopping { tickets, .. } => {
                Some((Phase::Stopping, vec![WaitsFor::Stop], tickets.first().copied()))
            }
            State::Flying { flight, .. } => self.flights.get(flight).map(phase_of_flight),
        }
    }

    /// Checks everything, whether this step touched it or not; and that nothing is left over when all is at rest.
    #[cfg(test)]
    pub(crate) fn audit_all(&mut self) {
        self.touched = self.nodes.keys().copied().collect();
        let result = self.audit();
        self.touched.clear();
        assert!(result.is_ok(), "{result:?}");
        let status = self.status(&|_| None);
        assert!(status.vertices.iter().all(|vertex| !vertex.waits_for.is_empty()), "{status:?}");
        let running = self.flights.values().filter(|flight| {
            flight.place == Place::Taken
                && matches!(
                    flight.state,
                    FlightState::Claiming { .. } | FlightState::Running { .. } | FlightState::Stopping { .. }
                )
        });
        assert_eq!(running.count(), self.busy);
        if self.is_idle() {
            assert!(self.requests.is_empty() && self.flights.is_empty() && self.by_key.is_empty());
            assert!(self.lookups.is_empty() && self.landed.is_empty());
            assert!(self.nodes.values().all(|node| !node.is_wanted() && !node.started));
            assert!(self.jobs.values().all(|job| job.stopping == 0 && job.requests.is_empty()));
        }
    }

    /// Returns what would be run under the claim of this ticket.
    #[cfg(test)]
    pub(crate) fn claimed_run(&self, ticket: Ticket) -> (Arc<O>, super::Values<O>) {
        let Some(Owner::Flight(id)) = self.tickets.get(&ticket) else { panic!("no flight claims") };
        self.flights[id].work()
    }

    /// Breaks a rule on purpose: forgets that effects are in flight.
    #[cfg(test)]
    pub(crate) fn lose_effects(&mut self) {
        self.tickets.clear();
        self.touched = self.nodes.keys().copied().collect();
    }

    /// What a release build does about a broken rule. Returns the effects.
    #[cfg(test)]
    pub(crate) fn audit_as_released(&mut self) -> Vec<super::Effect<O>> {
        if let Err(stuck) = self.audit() {
            self.give_up(stuck);
            self.settle();
        }
        std::mem::take(&mut self.effects)
    }
}

fn phase_of_flight<O: Op>(flight: &Flight<O>) -> (Phase, Vec<WaitsFor>, Option<Ticket>) {
    let (phase, cause) = match &flight.state {
        FlightState::Queued => (Phase::Queued, WaitsFor::Place),
        FlightState::Claiming { held, .. } => {
            let process = held.as_ref().map(|by| WaitsFor::Process { name: by.to_string() });
            (Phase::Claiming, process.unwrap_or(WaitsFor::Cache))
        }
        FlightState::Running { .. } if flight.place == Place::Wanted => (Phase::Queued, WaitsFor::Place),
        FlightState::Running { .. } => (Phase::Running, WaitsFor::Run { of: flight.vertex }),
        FlightState::Stopping { .. } => (Phase::Stopping, WaitsFor::Stop),
        FlightState::Storing { .. } => (Phase::Storing, WaitsFor::Cache),
    };
    (phase, vec![cause], flight.ticket())
}

impl<O: Op> Node<O> {
    /// Tells whether it is on its way, so that those who want its value will hear of it.
    fn is_at_work(&self) -> bool {
        match &self.state {
            State::New | State::Keyed(_) | State::Ready(_) | State::Done { .. } | State::Failed { .. } => {
                false
            }
            State::Keying { .. }
            | State::Looking { .. }
            | State::Gathering { .. }
            | State::Comparing { .. }
            | State::Digesting { .. }
            | State::Matching { .. }
            | State::Flying { .. }
            | State::Linking { .. }
            | State::Stopping { .. } => true,
        }
    }
}
