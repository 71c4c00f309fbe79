//! A driver without threads or time: effects end when, and in which order, a test says.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rb_oci::Digest;

use super::fake::{Fake, Held, Tree};
use crate::machine::{Claimed, Effect, Found, Inquiry, JobId, Machine, Past, RequestId, Signal, Ticket};
use crate::{Event, Gone, Guard, Mode, OpError, SolveError, Trace, VertexSpec};

/// Numbers that look random and are the same each time.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15))
    }

    /// Returns a number below `sides`.
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// An effect in flight.
pub(super) enum Flying {
    Map {
        op: Arc<Fake>,
    },
    /// What was found may be older than the end.
    Lookup {
        key: Digest,
        lineage: Option<Digest>,
        inquiry: Option<Box<Inquiry>>,
        early: Option<Option<Vec<Tree>>>,
    },
    Digest {
        op: Arc<Fake>,
        index: usize,
        value: Tree,
    },
    Claim {
        key: Digest,
        op: Arc<Fake>,
        inputs: Arc<Vec<Tree>>,
        told: bool,
        /// Another process has it.
        held: bool,
    },
    Run {
        op: Arc<Fake>,
        inputs: Arc<Vec<Tree>>,
        told: bool,
        aside: Aside,
    },
    Store {
        keys: Vec<Digest>,
        values: Arc<Vec<Tree>>,
        traces: Vec<(Digest, Trace)>,
        is_early: bool,
    },
}

/// Where a run stands with its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Aside {
    No,
    /// It gave it back.
    Yes,
    /// It waits for it.
    ComesBack,
}

pub(super) struct Simulation {
    pub(super) machine: Machine<Fake>,
    pub(super) cache: BTreeMap<Digest, Vec<Tree>>,
    pub(super) traces: BTreeMap<Digest, Trace>,
    /// What is known of results that went.
    pub(super) gone: BTreeMap<Digest, Gone>,
    /// How often that was asked.
    pub(super) asked_for_gone: usize,
    pub(super) flying: BTreeMap<Ticket, Flying>,
    pub(super) answers: BTreeMap<RequestId, Result<Vec<Tree>, SolveError>>,
    /// All events, with the words of a test: `a cached fast`.
    pub(super) events: Vec<(JobId, Digest, Event)>,
    started: BTreeSet<(JobId, Digest)>,
    /// Those of which it was told why they cannot have what is stored: missed, and shared.
    missed: BTreeSet<(JobId, Digest)>,
    shared: BTreeSet<(JobId, Digest)>,
    followed: BTreeMap<Ticket, BTreeSet<u64>>,
    pub(super) dice: Dice,
    /// Keys that are claimed.
    pub(super) claims: Arc<Mutex<BTreeSet<Digest>>>,
    /// One of so many claims finds that another process has the key; none of 0.
    pub(super) others: usize,
    /// Check all rules for all vertices after each step; otherwise for those it touched.
    pub(super) audits_all: bool,
}

impl Simulation {
    pub(super) fn new(places: usize, seed: u64) -> Self {
        Self {
            machine: Machine::new(NonZeroUsize::new(places).unwrap()),
            cache: BTreeMap::new(),
            traces: BTreeMap::new(),
            gone: BTreeMap::new(),
            asked_for_gone: 0,
            flying: BTreeMap::new(),
            answers: BTreeMap::new(),
            events: Vec::new(),
            started: BTreeSet::new(),
            missed: BTreeSet::new(),
            shared: BTreeSet::new(),
            followed: BTreeMap::new(),
            dice: Dice::new(seed),
            claims: Arc::default(),
            others: 0,
            audits_all: true,
        }
    }

    pub(super) fn open(&mut self, job: u64, graph: Vec<VertexSpec<Fake>>) {
        self.open_in(Mode::Stop, job, graph);
    }

    pub(super) fn open_in(&mut self, mode: Mode, job: u64, graph: Vec<VertexSpec<Fake>>) {
        self.step(Signal::Open { job: JobId(job), mode });
        self.step(Signal::Extend { job: JobId(job), graph });
    }

    pub(super) fn solve(&mut self, request: u64, job: u64, edges: &[(Digest, u32)], keep_going: bool) {
        let (request, job, edges) = (RequestId(request), JobId(job), edges.to_vec());
        self.step(Signal::Solve { request, job, edges, keep_going });
    }

    pub(super) fn step(&mut self, signal: Signal<Fake>) {
        let effects = self.machine.step(signal);
        if self.audits_all {
            self.machine.audit_all();
        }
        for effect in effects {
            self.start(effect);
        }
    }

    fn start(&mut self, effect: Effect<Fake>) {
        let coin = self.dice.roll(2) == 0;
        let (ticket, flying, followers) = match effect {
            Effect::Map { ticket, op, followers } => (ticket, Flying::Map { op }, followers),
            Effect::Lookup { ticket, key, lineage, inquiry } => {
                let early = coin.then(|| self.cache.get(&key).cloned());
                (ticket, Flying::Lookup { key, lineage, inquiry, early }, vec![])
            }
            Effect::Digest { ticket, op, index, value, followers } => {
                (ticket, Flying::Digest { op, index, value }, followers)
            }
            Effect::Claim { ticket, key, followers } => {
                let (op, inputs) = self.machine.claimed_run(ticket);
                (ticket, Flying::Claim { key, op, inputs, told: false, held: false }, followers)
            }
            Effect::Release { guard } => return drop(guard),
            Effect::Run { ticket, op, inputs, followers } => {
                op.begin(&inputs);
                (ticket, Flying::Run { op, inputs, told: false, aside: Aside::No }, followers)
            }
            Effect::Store { ticket, keys, values, traces } => {
                if coin {
                    self.keep(&keys, &values);
                }
                (ticket, Flying::Store { keys, values, traces, is_early: coin }, vec![])
            }
            Effect::Cancel { ticket } => {
                let deserted = self.followed[&ticket].is_empty();
                match self.flying.get_mut(&ticket).expect("only what is in flight is cancelled") {
                    Flying::Run { told, .. } | Flying::Claim { told, .. } => {
                        assert!(!*told, "told twice");
                        *told = true;
                        assert!(deserted, "nobody wants it, and somebody listens");
                    }
                    Flying::Map { .. } => assert!(deserted, "nobody wants it, and somebody listens"),
                    // The others of a vertex are stopped when one of its digests fails.
                    Flying::Digest { .. } => {}
                    Flying::Lookup { .. } | Flying::Store { .. } => panic!("the cache is not told to stop"),
                }
                return;
            }
            Effect::Follow { ticket, follower } => {
                assert!(self.followed.entry(ticket).or_default().insert(follower.node.0));
                return;
            }
            Effect::Unfollow { ticket, node } => {
                assert!(self.followed.entry(ticket).or_default().remove(&node.0));
                return;
            }
            Effect::Admit { ticket } => {
                let Some(Flying::Run { aside, .. }) = self.flying.get_mut(&ticket) else {
                    panic!("only runs are admitted")
                };
                assert!(std::mem::replace(aside, Aside::No) == Aside::ComesBack, "admitted out of turn");
                return;
            }
            Effect::Tell { job, vertex, event } => return self.tell(job, vertex, event),
            Effect::Answer { request, result } => {
                assert!(self.answers.insert(request, result).is_none(), "answered twice");
                return;
            }
        };
        self.followed.insert(ticket, followers.iter().map(|follower| follower.node.0).collect());
        self.flying.insert(ticket, flying);
    }

    /// Checks that a vertex begins and ends in turn, and that nothing runs without a word on why.
    fn tell(&mut self, job: JobId, vertex: Digest, event: Event) {
        let at = (job, vertex);
        match &event {
            Event::Started => {
                assert!(self.started.insert(at), "started twice");
                self.missed.remove(&at);
                self.shared.remove(&at);
            }
            Event::Cached { .. }
            | Event::Done { .. }
            | Event::Failed { .. }
            | Event::Withheld
            | Event::Cancelled => {
                assert!(self.started.remove(&at), "ended without a start: {event:?}");
            }
            Event::Missed { .. }
            | Event::Shared { .. }
            | Event::Running
            | Event::Log { .. }
            | Event::Progress(_) => assert!(self.started.contains(&at), "{event:?} out of turn"),
        }
        match &event {
            Event::Missed { .. } => assert!(self.missed.insert(at), "missed twice"),
            Event::Shared { .. } => drop(self.shared.insert(at)),
            Event::Running | Event::Done { .. } => {
                assert!(self.missed.contains(&at) || self.shared.contains(&at), "{event:?} without a reason");
            }
            _ => {}
        }
        self.events.push((job, vertex, event));
    }

    fn keep(&mut self, keys: &[Digest], values: &Arc<Vec<Tree>>) {
        self.cache.extend(keys.iter().map(|key| (*key, values.to_vec())));
    }

    /// Ends one effect.
    pub(super) fn end(&mut self, ticket: Ticket) {
        self.followed.remove(&ticket);
        let signal = match self.flying.remove(&ticket).expect("it is in flight") {
            Flying::Map { op } => Signal::Mapped { ticket, result: op.map_now() },
            Flying::Lookup { key, lineage, inquiry, early } => {
                let values = early.unwrap_or_else(|| self.cache.get(&key).cloned());
                let trace = lineage.and_then(|lineage| self.traces.get(&lineage).cloned());
                let inquiry = inquiry.filter(|_| values.is_none());
                let asked = inquiry.as_ref().and_then(|inquiry| inquiry.keys_to_ask(trace.as_ref()));
                self.asked_for_gone += usize::from(asked.is_some());
                let gone = asked.into_iter().flatten().find_map(|key| self.gone.get(key).copied());
                Signal::LookedUp { ticket, result: Ok(Found { values, past: Past { trace, gone } }) }
            }
            Flying::Digest { op, index, value } => {
                Signal::Digested { ticket, result: op.digest_now(index, value) }
            }
            Flying::Claim { key, told, .. } => Signal::Claimed { ticket, result: self.claim(key, told) },
            Flying::Run { op, inputs, told, aside: _ } => {
                // One that is told too late may have its result all the same.
                let result = op.end(&inputs, told && self.dice.roll(4) > 0);
                Signal::Ran { ticket, result, duration: Duration::ZERO }
            }
            Flying::Store { keys, values, traces, is_early } => {
                if !is_early {
                    self.keep(&keys, &values);
                }
                for (lineage, trace) in traces {
                    let trace = trace.with_contents_of(self.traces.get(&lineage));
                    self.traces.insert(lineage, trace);
                }
                Signal::Stored { ticket, result: Ok(()) }
            }
        };
        self.step(signal);
    }

    fn claim(&mut self, key: Digest, told: bool) -> Result<Claimed<Tree>, OpError> {
        // One that is told too late has its claim all the same.
        if told && self.dice.roll(3) > 0 {
            return Err(OpError::cancelled());
        }
        assert!(self.claims.lock().unwrap().insert(key), "two have {key}");
        let guard = Guard::new(Held { key, claims: self.claims.clone() });
        Ok(match self.cache.get(&key) {
            Some(values) => Claimed::Found(values.clone()),
            None => Claimed::Acquired(guard),
        })
    }

    /// Has a claim find that another process has its key.
    pub(super) fn hold(&mut self, ticket: Ticket) {
        let Some(Flying::Claim { held, .. }) = self.flying.get_mut(&ticket) else { panic!("no claim") };
        assert!(!std::mem::replace(held, true));
        self.step(Signal::Held { ticket, by: "process 7".into() });
    }

    /// Has that process run the op and store what came of it, if anything did.
    pub(super) fn run_elsewhere(&mut self, ticket: Ticket) {
        let Some(Flying::Claim { key, op, inputs, held: true, .. }) = self.flying.get(&ticket) else {
            panic!("no other process has it")
        };
        let (key, op, inputs) = (*key, op.clone(), inputs.clone());
        op.begin(&inputs);
        if let Ok(values) = op.end(&inputs, false) {
            self.keep(&[key], &Arc::new(values));
        }
    }

    /// Goes on with a claim.
    fn claim_on(&mut self, ticket: Ticket) {
        let Some(Flying::Claim { key, held, .. }) = self.flying.get(&ticket) else { panic!("no claim") };
        let (key, held) = (*key, *held);
        let is_ours = self.claims.lock().unwrap().contains(&key);
        if !held && (is_ours || self.others > 0 && self.dice.roll(self.others) == 0) {
            self.hold(ticket);
        } else if !is_ours {
            // The other one ends with a result or without, or dies before it begins; or was not there.
            if held && self.dice.roll(3) > 0 && !self.cache.contains_key(&key) {
                self.run_elsewhere(ticket);
            }
            self.end(ticket);
        }
    }

    /// Ends any one effect; tells whether there was one.
    pub(super) fn end_any(&mut self) -> bool {
        if self.flying.is_empty() {
            return false;
        }
        let at = self.dice.roll(self.flying.len());
        let ticket = *self.flying.keys().nth(at).unwrap();
        if matches!(self.flying[&ticket], Flying::Run { .. }) && self.dice.roll(3) == 0 {
            self.step_aside_or_back(ticket);
        } else if matches!(self.flying[&ticket], Flying::Claim { .. }) {
            self.claim_on(ticket);
        } else {
            self.end(ticket);
        }
        true
    }

    /// Has a run give its place back, or ask for it again. Who waits for one goes on waiting.
    pub(super) fn step_aside_or_back(&mut self, ticket: Ticket) {
        let Some(Flying::Run { aside, .. }) = self.flying.get_mut(&ticket) else { panic!("no run") };
        match *aside {
            Aside::No => {
                *aside = Aside::Yes;
                self.step(Signal::SteppedAside { ticket });
            }
            Aside::Yes => {
                *aside = Aside::ComesBack;
                self.step(Signal::ComesBack { ticket });
            }
            Aside::ComesBack => {}
        }
    }

    /// Ends everything, in any order, until nothing is left to do.
    pub(super) fn drain(&mut self) {
        while self.end_any() {}
        assert!(self.machine.is_idle());
        assert!(self.claims.lock().unwrap().is_empty(), "a claim is kept");
    }

    /// Ends everything, the oldest first.
    pub(super) fn drain_in_order(&mut self) {
        while let Some((ticket, _)) = self.flying.first_key_value() {
            self.end(*ticket);
        }
        self.machine.audit_all();
    }

    /// Ends everything but runs.
    pub(super) fn until_runs(&mut self) {
        while let Some(ticket) = self
            .flying
            .iter()
            .find(|(_, flying)| !matches!(flying, Flying::Run { .. }))
            .map(|(ticket, _)| *ticket)
        {
            self.end(ticket);
        }
    }

    /// Ends everything but runs and claims.
    pub(super) fn until_claims(&mut self) {
        let goes_on = |flying: &Flying| !matches!(flying, Flying::Run { .. } | Flying::Claim { .. });
        while let Some(ticket) =
            self.flying.iter().find(|(_, flying)| goes_on(flying)).map(|(ticket, _)| *ticket)
        {
            self.end(ticket);
        }
    }

    /// Returns the claim for this definition that is in flight.
    pub(super) fn claim_of(&self, definition: &str) -> Ticket {
        let is_it =
            |flying: &Flying| matches!(flying, Flying::Claim { op, .. } if op.definition == definition);
        let found: Vec<Ticket> =
            self.flying.iter().filter(|(_, flying)| is_it(flying)).map(|(ticket, _)| *ticket).collect();
        assert_eq!(found.len(), 1, "claims of {definition}");
        found[0]
    }

    /// Returns the run of this definition that is in flight.
    pub(super) fn run_of(&self, definition: &str) -> Ticket {
        let is_it = |flying: &Flying| matches!(flying, Flying::Run { op, .. } if op.definition == definition);
        let found: Vec<Ticket> =
            self.flying.iter().filter(|(_, flying)| is_it(flying)).map(|(ticket, _)| *ticket).collect();
        assert_eq!(found.len(), 1, "runs of {definition}");
        found[0]
    }

    /// Tells whether the run of this definition was told to stop.
    pub(super) fn is_told(&self, definition: &str) -> bool {
        matches!(self.flying[&self.run_of(definition)], Flying::Run { told: true, .. })
    }

    pub(super) fn answer(&self, request: u64) -> Option<&Result<Vec<Tree>, SolveError>> {
        self.answers.get(&RequestId(request))
    }

    /// Returns the events of one vertex, without durations and contents, for one job.
    pub(super) fn events_of(&self, job: u64, vertex: Digest) -> Vec<String> {
        let mine = self.events.iter().filter(|(of, at, _)| *of == JobId(job) && *at == vertex);
        mine.map(|(.., event)| match event {
            Event::Cached { key, .. } => format!("cached {key:?}"),
            Event::Done { .. } => "done".to_owned(),
            Event::Failed { error } => format!("failed: {error}"),
            Event::Started => "started".to_owned(),
            Event::Missed { .. } => "missed".to_owned(),
            Event::Shared { .. } => "shared".to_owned(),
            Event::Running => "running".to_owned(),
            Event::Withheld => "withheld".to_owned(),
            Event::Cancelled => "cancelled".to_owned(),
            Event::Log { .. } | Event::Progress(_) => "output".to_owned(),
        })
        .collect()
    }
}
