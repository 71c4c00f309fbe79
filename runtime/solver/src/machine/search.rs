//! How a node moves from state to state: keys first, then lookups from the cheapest to the dearest, then the run.
//!
//! Each function here takes a node from one state into the next; answers of effects arrive in `mapped`,
//! `looked_up` and `digested`. What they answer to a node that is being stopped does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rb_oci::Digest;

use super::flight::FlightId;
use super::node::{Gathered, Keyed, Mapping, Outcome, Search, State, Taint, Wanter};
use super::{Effect, Found, Inquiry, Machine, NodeId, Owner, Past, Ticket, Values};
use crate::error::{Misuse, OpError};
use crate::events::{Event, InputTrace, KeyKind, MissReason, Trace};
use crate::job::Mode;
use crate::keys::{self, ContentInput, FastInput};
use crate::op::{CacheMap, Op};

/// A node at the one of its keys that is to be tried now.
enum Try<O: Op> {
    Fast(Arc<Keyed>),
    Content(Box<Gathered<O>>),
    Slow(Box<Gathered<O>>),
}

/// What this process knows of a key.
enum Probe<O: Op> {
    /// It is being made.
    Flying(FlightId),
    /// It was made just now, or for this vertex.
    Known(Values<O>),
    /// Nothing.
    Unknown,
}

impl<O: Op> Machine<O> {
    /// Moves a node on, if it can go on by itself, and answers those who want what it has.
    pub(super) fn poke(&mut self, id: NodeId) {
        let node = self.node(id);
        match &node.state {
            State::New if node.is_wanted() => self.begin_keying(id),
            State::Keying { map: Mapping::Known(_) | Mapping::Failed, waiting, .. } if waiting.is_empty() => {
                self.finish_keying(id);
            }
            State::Keyed(_) if !node.value_wanted_by.is_empty() => self.begin_search(id),
            State::Gathering { waiting, .. } if waiting.is_empty() => self.finish_gathering(id),
            State::Digesting { asked, .. } if asked.is_empty() => self.finish_digesting(id),
            State::Ready(_) => self.launch(id),
            State::Stopping { tickets, .. } if tickets.is_empty() => self.finish_stopping(id),
            State::Done { .. } => self.answer_done(id),
            State::Failed { failure, .. } => {
                let failure = failure.clone();
                self.answer_failed(id, &failure);
            }
            // These go on when something else happens.
            State::New
            | State::Keying { .. }
            | State::Keyed(_)
            | State::Looking { .. }
            | State::Gathering { .. }
            | State::Comparing { .. }
            | State::Digesting { .. }
            | State::Matching { .. }
            | State::Flying { .. }
            | State::Linking { .. }
            | State::Stopping { .. } => {}
        }
    }

    /// Takes the ticket of an effect that has ended; returns its node, unless that is being stopped.
    fn returned(&mut self, ticket: Ticket) -> Option<NodeId> {
        self.lookups.remove(&ticket);
        let oldest = self.lookups.first().copied();
        self.landed.forget_before(oldest);
        let Some(Owner::Node(id)) = self.tickets.remove(&ticket) else { return None };
        self.touched.insert(id);
        if let State::Stopping { tickets, .. } = &mut self.node_mut(id).state {
            tickets.remove(&ticket);
            self.pokes.push_back(id);
            return None;
        }
        Some(id)
    }

    fn begin_keying(&mut self, id: NodeId) {
        let mut waiting = BTreeSet::new();
        for source in self.node(id).sources() {
            if self.node(source).keyed().is_none() {
                self.node_mut(source).key_wanted_by.insert(id);
                self.pokes.push_back(source);
                waiting.insert(source);
            }
        }
        let ticket = self.ticket(Owner::Node(id));
        let (op, followers) = (self.node(id).op.clone(), vec![self.follower(id)]);
        self.effects.push(Effect::Map { ticket, op, followers });
        self.set_state(id, State::Keying { map: Mapping::Asked(ticket), waiting, failure: None });
    }

    /// The cache map of a node has come.
    pub(super) fn mapped(&mut self, ticket: Ticket, result: Result<CacheMap, OpError>) {
        let Some(id) = self.returned(ticket) else { return };
        let expected = self.node(id).inputs.len();
        let actual = result.as_ref().map_or(expected, |map| map.inputs.len());
        let result = result.and_then(|map| {
            if actual == expected { Ok(map) } else { Err(Misuse::Inputs { expected, actual }.into()) }
        });
        let (answer, own) = match result {
            Ok(map) => (Mapping::Known(map), None),
            Err(error) => (Mapping::Failed, Some(self.report(id, &Arc::new(error)))),
        };
        if let State::Keying { map, failure, .. } = &mut self.node_mut(id).state {
            *map = answer;
            *failure = own.or(failure.take());
        }
        self.pokes.push_back(id);
    }

    fn finish_keying(&mut self, id: NodeId) {
        let map = match self.take_state(id) {
            State::Keying { failure: Some(failure), .. } => return self.fail_by_input(id, None, failure),
            State::Keying { map: Mapping::Known(map), .. } => map,
            other => return self.set_state(id, other),
        };
        let node = self.node(id);
        let mut inputs = Vec::with_capacity(node.inputs.len());
        let mut inherited = Taint::None;
        for ((source, index), input) in node.inputs.iter().zip(&map.inputs) {
            let Some(below) = self.node(*source).keyed() else { return };
            inputs.push(FastInput { key: below.fast, index: *index, selector: input.selector });
            inherited = inherited.max(below.taint);
        }
        let search = match inherited {
            Taint::None | Taint::Content if map.ignore_cache => Search::Made { inherited_from: None },
            Taint::None | Taint::Content => Search::Anything,
            Taint::Rerun(from) => Search::Made { inherited_from: Some(from) },
        };
        let own = match (map.ignore_cache, map.taint_dependents) {
            (true, true) => Taint::Rerun(node.vertex),
            (true, false) => Taint::Content,
            (false, _) => Taint::None,
        };
        let keyed = Keyed {
            definition: map.digest,
            fast: keys::fast_key(&map.digest, &inputs),
            inputs: map.inputs,
            search,
            trusts_fast: inherited == Taint::None,
            taint: inherited.max(own),
        };
        self.set_state(id, State::Keyed(Arc::new(keyed)));
        for user in std::mem::take(&mut self.node_mut(id).key_wanted_by) {
            if let State::Keying { waiting, .. } = &mut self.node_mut(user).state {
                waiting.remove(&id);
                self.pokes.push_back(user);
            }
        }
    }

    fn begin_search(&mut self, id: NodeId) {
        let State::Keyed(keyed) = self.take_state(id) else { return };
        let node = self.node_mut(id);
        (node.started, node.explained) = (true, false);
        self.tell(id, Event::Started);
        self.try_fast(id, keyed);
    }

    /// Begins with the fast key, if that says what the result is.
    pub(super) fn try_fast(&mut self, id: NodeId, keyed: Arc<Keyed>) {
        if keyed.trusts_fast {
            self.try_key(id, Try::Fast(keyed), None);
        } else {
            self.begin_gathering(id, keyed, Past::default());
        }
    }

    /// Tries one key. `missed` is the answer of the cache, if it was asked already: what it remembers.
    fn try_key(&mut self, id: NodeId, at: Try<O>, missed: Option<Past>) {
        let (keyed, key, was) = match &at {
            Try::Fast(keyed) => (keyed, Some(keyed.fast), None),
            Try::Content(gathered) => (&gathered.keyed, gathered.whole, gathered.past.trace.as_ref()),
            Try::Slow(gathered) => (&gathered.keyed, gathered.slow, gathered.past.trace.as_ref()),
        };
        let Some(key) = key else { return self.next_key(id, at, Past::default()) };
        let (search, known_was) = (keyed.search, was.is_some());
        match (self.probe(id, search, &key), missed) {
            (Probe::Flying(flight), missed) => {
                let (keyed, gathered) = at.with_past(missed.unwrap_or_default()).into_parts();
                self.join(id, keyed, flight, gathered);
            }
            (Probe::Known(values), _) => self.found(id, at, values),
            (Probe::Unknown, None) if search == Search::Anything => {
                let ticket = self.ticket(Owner::Node(id));
                self.lookups.insert(ticket);
                let lineage = self.node(id).lineage.filter(|_| !known_was);
                let inquiry = self.inquiry(id, &at).map(Box::new);
                self.effects.push(Effect::Lookup { ticket, key, lineage, inquiry });
                let state = match at {
                    Try::Fast(keyed) => State::Looking { keyed, ticket },
                    Try::Content(gathered) => State::Comparing { gathered, ticket },
                    Try::Slow(gathered) => State::Matching { gathered, ticket },
                };
                self.set_state(id, state);
            }
            (Probe::Unknown, missed) => self.next_key(id, at, missed.unwrap_or_default()),
        }
    }

    /// Says what the lookup of this key is to find out if it misses; nothing, unless it is the last of a vertex that
    /// may be remembered.
    fn inquiry(&self, id: NodeId, at: &Try<O>) -> Option<Inquiry> {
        self.node(id).lineage?;
        let (keyed, gathered) = match at {
            Try::Fast(keyed) if keyed.inputs.is_empty() => (keyed, None),
            Try::Content(gathered) if gathered.keyed.inputs.iter().all(|input| !input.content) => {
                (&gathered.keyed, Some(gathered))
            }
            Try::Slow(gathered) => (&gathered.keyed, Some(gathered)),
            Try::Fast(_) | Try::Content(_) => return None,
        };
        Some(Inquiry {
            was: gathered.and_then(|gathered| gathered.past.trace.clone()),
            now: self.trace(id, keyed, gathered.map(|gathered| &**gathered)),
            keys: gathered.map_or_else(|| vec![keyed.fast], |gathered| gathered.keys().collect()),
        })
    }

    fn probe(&self, id: NodeId, search: Search, key: &Digest) -> Probe<O> {
        let known = match search {
            Search::Anything => self.landed.get(key),
            Search::Made { .. } => self.node(id).made.as_ref(),
        };
        match known {
            Some(values) => Probe::Known(values.clone()),
            None => self.joinable(id, search, key).map_or(Probe::Unknown, Probe::Flying),
        }
    }

    /// The cache has answered.
    pub(super) fn looked_up(&mut self, ticket: Ticket, result: Result<Found<O::Value>, OpError>) {
        // The ticket is taken only after what landed in the meantime was seen.
        let id = match self.tickets.get(&ticket) {
            Some(Owner::Node(id)) => *id,
            Some(Owner::Flight(_)) | None => return,
        };
        if let State::Stopping { .. } = self.node(id).state {
            self.returned(ticket);
            return;
        }
        match result {
            Err(error) => self.fail(id, &Arc::new(error)),
            Ok(found) => {
                let at = match self.take_state(id) {
                    State::Looking { keyed, .. } => Try::Fast(keyed),
                    State::Comparing { gathered, .. } => Try::Content(gathered),
                    State::Matching { gathered, .. } => Try::Slow(gathered),
                    other => return self.set_state(id, other),
                };
                match found.values {
                    Some(values) => self.found(id, at, Arc::new(values)),
                    None => self.try_key(id, at, Some(found.past)),
                }
            }
        }
        self.returned(ticket);
    }

    /// A key has found the result: it is linked to the keys that had not.
    fn found(&mut self, id: NodeId, at: Try<O>, values: Values<O>) {
        let (key, links) = match &at {
            Try::Fast(_) => (KeyKind::Fast, vec![]),
            Try::Content(gathered) => (KeyKind::Content, vec![gathered.keyed.fast]),
            Try::Slow(gathered) => {
                (KeyKind::Slow, [Some(gathered.keyed.fast), gathered.whole].into_iter().flatten().collect())
            }
        };
        let (keyed, gathered) = at.into_parts();
        let of_content = gathered.as_ref().and_then(|gathered| match key {
            KeyKind::Fast => None,
            KeyKind::Content => gathered.whole,
            KeyKind::Slow => gathered.slow,
        });
        let outcome = Outcome::Found(key, of_content.unwrap_or(keyed.fast));
        let trace = self.trace(id, &keyed, gathered.as_deref());
        self.link(id, keyed, values, outcome, links, Some(trace));
    }

    /// Stores `values` under `links` and keeps the trace, if there is any such thing to do; then the node is done.
    pub(super) fn link(
        &mut self,
        id: NodeId,
        keyed: Arc<Keyed>,
        values: Values<O>,
        outcome: Outcome,
        links: Vec<Digest>,
        trace: Option<Trace>,
    ) {
        let traces: Vec<_> = self.node(id).lineage.into_iter().zip(trace).collect();
        if (links.is_empty() && traces.is_empty()) || self.mode(id) == Mode::Look {
            return self.finish(id, keyed, values, outcome);
        }
        let ticket = self.ticket(Owner::Node(id));
        self.effects.push(Effect::Store { ticket, keys: links, values: values.clone(), traces });
        self.set_state(id, State::Linking { keyed, values, outcome, ticket });
    }

    /// The links of a node are stored.
    pub(super) fn linked(&mut self, ticket: Ticket, result: Result<(), OpError>) {
        let Some(id) = self.returned(ticket) else { return };
        match (result, self.take_state(id)) {
            (Ok(()), State::Linking { keyed, values, outcome, .. }) => {
                self.finish(id, keyed, values, outcome);
            }
            (Err(error), state) => {
                self.set_state(id, state);
                self.fail(id, &Arc::new(error));
            }
            (Ok(()), other) => self.set_state(id, other),
        }
    }

    pub(super) fn finish(&mut self, id: NodeId, keyed: Arc<Keyed>, values: Values<O>, outcome: Outcome) {
        let event = match outcome {
            Outcome::Found(key, id) => Event::Cached { key, id },
            Outcome::Made(duration) => Event::Done { duration },
        };
        self.tell_end(id, event);
        self.set_state(id, State::Done { keyed, values });
    }

    /// A key has missed: on to the next.
    fn next_key(&mut self, id: NodeId, at: Try<O>, past: Past) {
        match at.with_past(past.clone()) {
            Try::Fast(keyed) => self.begin_gathering(id, keyed, past),
            Try::Content(gathered) => {
                if gathered.keyed.inputs.iter().any(|input| input.content) {
                    self.begin_digesting(id, gathered);
                } else {
                    self.set_state(id, State::Ready(gathered));
                }
            }
            Try::Slow(gathered) => self.set_state(id, State::Ready(gathered)),
        }
    }

    /// Wants the values of all inputs.
    pub(super) fn begin_gathering(&mut self, id: NodeId, keyed: Arc<Keyed>, past: Past) {
        let mut waiting = BTreeSet::new();
        for source in self.node(id).sources() {
            if self.node(source).values().is_none() {
                self.node_mut(source).value_wanted_by.insert(Wanter::Node(id));
                self.pokes.push_back(source);
                waiting.insert(source);
            }
        }
        self.set_state(id, State::Gathering { keyed, past, waiting, failure: None });
    }

    fn finish_gathering(&mut self, id: NodeId) {
        let State::Gathering { keyed, past, failure, .. } = self.take_state(id) else { return };
        if let Some(failure) = failure {
            return self.fail_by_input(id, Some(keyed), failure);
        }
        let mut inputs = Vec::with_capacity(keyed.inputs.len());
        let mut misuse = None;
        for (source, index) in &self.node(id).inputs {
            let outputs = self.node(*source).values().map_or(&[][..], |values| values);
            match outputs.get(*index as usize) {
                Some(value) => inputs.push(value.clone()),
                None => misuse = Some(Misuse::Output { index: *index, outputs: outputs.len() }),
            }
        }
        if let Some(misuse) = misuse {
            self.node_mut(id).state = State::Keyed(keyed);
            return self.fail(id, &Arc::new(misuse.into()));
        }
        let mut gathered = Gathered {
            keyed,
            inputs: Arc::new(inputs),
            whole: None,
            slow: None,
            parts: BTreeMap::new(),
            past,
        };
        if !gathered.inputs.is_empty() {
            gathered.whole = Some(gathered.content_key());
        }
        self.try_key(id, Try::Content(Box::new(gathered)), None);
    }

    fn begin_digesting(&mut self, id: NodeId, gathered: Box<Gathered<O>>) {
        let mut asked = BTreeMap::new();
        for (index, value) in gathered.inputs.iter().enumerate() {
            if gathered.keyed.inputs[index].content {
                let ticket = self.ticket(Owner::Node(id));
                asked.insert(ticket, index);
                let (op, followers) = (self.node(id).op.clone(), vec![self.follower(id)]);
                self.effects.push(Effect::Digest { ticket, op, index, value: value.clone(), followers });
            }
        }
        self.set_state(id, State::Digesting { gathered, asked, failure: None });
    }

    /// The part of an input is digested.
    pub(super) fn digested(&mut self, ticket: Ticket, result: Result<Digest, OpError>) {
        let Some(id) = self.returned(ticket) else { return };
        let mut stop = Vec::new();
        if let State::Digesting { gathered, asked, failure } = &mut self.node_mut(id).state {
            let index = asked.remove(&ticket);
            match (result, index) {
                (Ok(digest), Some(index)) => {
                    gathered.parts.insert(index, digest);
                }
                (Err(error), _) if failure.is_none() => {
                    *failure = Some(Arc::new(error));
                    stop.extend(asked.keys().copied());
                }
                (Ok(_) | Err(_), _) => {}
            }
        }
        self.effects.extend(stop.into_iter().map(|ticket| Effect::Cancel { ticket }));
        self.pokes.push_back(id);
    }

    fn finish_digesting(&mut self, id: NodeId) {
        let State::Digesting { mut gathered, failure, .. } = self.take_state(id) else { return };
        if let Some(error) = failure {
            self.node_mut(id).state = State::Keyed(gathered.keyed);
            return self.fail(id, &error);
        }
        gathered.slow = Some(gathered.content_key());
        self.try_key(id, Try::Slow(gathered), None);
    }

    /// Tells why a node has to be made, once: of one whose run was another's, and came to nothing, it was told before.
    pub(super) fn tell_miss(&mut self, id: NodeId, gathered: &Gathered<O>) {
        let reason = match gathered.keyed.search {
            Search::Anything => gathered.past.explain(&self.trace(id, &gathered.keyed, Some(gathered))),
            Search::Made { inherited_from } => MissReason::IgnoreCache { inherited_from },
        };
        if !std::mem::replace(&mut self.node_mut(id).explained, true) {
            self.tell(id, Event::Missed { reason });
        }
    }

    /// What is known of a node now, to be remembered.
    pub(super) fn trace(&self, id: NodeId, keyed: &Keyed, gathered: Option<&Gathered<O>>) -> Trace {
        let inputs = self.node(id).inputs.iter().enumerate().map(|(at, (source, index))| {
            let key = self.node(*source).keyed().map_or(keyed.definition, |below| below.fast);
            let fast = FastInput { key, index: *index, selector: keyed.inputs[at].selector };
            let content = gathered.map(|gathered| {
                let part = gathered.parts.get(&at).copied();
                part.unwrap_or_else(|| O::content_key(&gathered.inputs[at]))
            });
            InputTrace { fast: keys::input_key(&fast), content }
        });
        Trace { schema: keys::KEY_SCHEMA, definition: keyed.definition, inputs: inputs.collect() }
    }
}

impl<O: Op> Try<O> {
    fn into_parts(self) -> (Arc<Keyed>, Option<Box<Gathered<O>>>) {
        match self {
            Self::Fast(keyed) => (keyed, None),
            Self::Content(gathered) | Self::Slow(gathered) => (gathered.keyed.clone(), Some(gathered)),
        }
    }

    fn with_past(mut self, past: Past) -> Self {
        match &mut self {
            Self::Fast(_) => {}
            Self::Content(gathered) | Self::Slow(gathered) => {
                gathered.past = std::mem::take(&mut gathered.past).or(past);
            }
        }
        self
    }
}

impl<O: Op> Gathered<O> {
    /// The content key with the parts known so far: the whole key without any, the slow key with all.
    fn content_key(&self) -> Digest {
        let inputs = self.inputs.iter().enumerate().map(|(index, value)| match self.parts.get(&index) {
            Some(content) => ContentInput::Part { content: *content },
            None => ContentInput::Whole {
                content: O::content_key(value),
                selector: self.keyed.inputs[index].selector,
            },
        });
        keys::content_key(&self.keyed.definition, &inputs.collect::<Vec<_>>())
    }
}
