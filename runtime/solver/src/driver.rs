//! The one task that owns the scheduler: turns commands and ends of work into signals, effects into futures.
//!
//! Every effect with a ticket is one spawned future; its end is one signal. Work of ops has a [`Work`], through
//! which it is told to stop and its output reaches observers; it is never aborted. A future that panics ends as an
//! error of its vertex. The task ends when nobody can send commands any more and no work is left.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rb_oci::Digest;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::context::{Aside, Context, Work};
use crate::error::{Misuse, OpError, SolveError};
use crate::events::{Observer, Stream, Trace};
use crate::job::{Mode, Recognised};
use crate::machine::{
    Claimed, Effect, Follower, Found, Inquiry, JobId, Known, Machine, Past, RequestId, Signal, Ticket,
};
use crate::op::{Cache, Claim, Op, VertexSpec};
use crate::status::Status;

/// How soon a claim that another process has is tried again, at first and in the end: soon enough that nobody notices, and
/// seldom enough that it costs nothing.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(100));

/// How long one waits for another process before it is told.
const SILENCE: Duration = Duration::from_secs(1);

/// The answer of a solve.
pub(crate) type Answer<O> = Result<Vec<<O as Op>::Value>, SolveError>;

/// The outputs of a vertex, if they are known.
pub(crate) type Peeked<O> = Result<Option<Vec<<O as Op>::Value>>, OpError>;

/// What callers ask.
pub(crate) enum Command<O: Op> {
    Open {
        job: JobId,
        mode: Mode,
        observer: Arc<dyn Observer>,
    },
    Extend {
        job: JobId,
        graph: Vec<VertexSpec<O>>,
    },
    Solve {
        request: RequestId,
        job: JobId,
        edges: Vec<(Digest, u32)>,
        keep_going: bool,
        reply: oneshot::Sender<Answer<O>>,
    },
    Peek {
        job: JobId,
        vertex: Digest,
        reply: oneshot::Sender<Peeked<O>>,
    },
    Recognise {
        job: JobId,
        vertex: Digest,
        reply: oneshot::Sender<Option<Recognised<O>>>,
    },
    Abandon {
        request: RequestId,
    },
    Cancel {
        job: JobId,
    },
    Close {
        job: JobId,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
    Idle {
        reply: oneshot::Sender<()>,
    },
}

/// Which signal a future ends in, should it not live to say so itself.
#[derive(Clone, Copy)]
enum Kind {
    Map,
    Lookup,
    Digest,
    Claim,
    Run { began: Instant },
    Store,
}

struct Driver<O: Op> {
    machine: Machine<O>,
    cache: Arc<dyn Cache<O::Value>>,
    tasks: JoinSet<Signal<O>>,
    /// What is in flight, to tell whose future panicked.
    kinds: HashMap<tokio::task::Id, (Ticket, Kind)>,
    works: BTreeMap<Ticket, Work>,
    /// When what is in flight began.
    begun: BTreeMap<Ticket, Instant>,
    observers: BTreeMap<JobId, Arc<dyn Observer>>,
    replies: BTreeMap<RequestId, oneshot::Sender<Answer<O>>>,
    waiting_for_idle: Vec<oneshot::Sender<()>>,
    /// Where runs say that they need no place for a while.
    asides: mpsc::UnboundedSender<Aside>,
    /// Runs that wait to have a place again.
    coming_back: BTreeMap<Ticket, Vec<oneshot::Sender<()>>>,
}

/// Serves `inbox` until it is closed and all work has ended.
pub(crate) async fn drive<O: Op>(
    cache: Arc<dyn Cache<O::Value>>,
    jobs: NonZeroUsize,
    mut inbox: mpsc::UnboundedReceiver<Command<O>>,
) {
    let (asides, mut told_aside) = mpsc::unbounded_channel();
    let mut driver = Driver {
        machine: Machine::new(jobs),
        cache,
        tasks: JoinSet::new(),
        kinds: HashMap::new(),
        works: BTreeMap::new(),
        begun: BTreeMap::new(),
        observers: BTreeMap::new(),
        replies: BTreeMap::new(),
        waiting_for_idle: Vec::new(),
        asides,
        coming_back: BTreeMap::new(),
    };
    let mut open = true;
    while open || !driver.tasks.is_empty() {
        tokio::select! {
            command = inbox.recv(), if open => match command {
                Some(command) => driver.command(command),
                None => open = false,
            },
            Some(ended) = driver.tasks.join_next_with_id() => driver.ended(ended),
            Some(aside) = told_aside.recv() => driver.aside(aside),
        }
        driver.answer_idle();
    }
}

impl<O: Op> Driver<O> {
    fn command(&mut self, command: Command<O>) {
        match command {
            Command::Open { job, mode, observer } => {
                self.observers.insert(job, observer);
                self.step(Signal::Open { job, mode });
            }
            Command::Extend { job, graph } => self.step(Signal::Extend { job, graph }),
            Command::Solve { request, job, edges, keep_going, reply } => {
                self.replies.insert(request, reply);
                self.step(Signal::Solve { request, job, edges, keep_going });
            }
            Command::Peek { job, vertex, reply } => match self.machine.known(job, &vertex) {
                Known::Values(values) => drop(reply.send(Ok(Some(values.to_vec())))),
                Known::Nothing => drop(reply.send(Ok(None))),
                Known::Key(key) => {
                    let cache = self.cache.clone();
                    drop(tokio::spawn(async move { reply.send(cache.lookup(&key).await).ok() }));
                }
            },
            Command::Recognise { job, vertex, reply } => {
                // An error means that nobody waits for it any more.
                reply.send(self.machine.recognised(job, &vertex)).ok();
            }
            Command::Abandon { request } => {
                self.replies.remove(&request);
                self.step(Signal::Abandon { request });
            }
            Command::Cancel { job } => self.step(Signal::Cancel { job }),
            Command::Close { job } => {
                self.step(Signal::Close { job });
                self.observers.remove(&job);
            }
            Command::Status { reply } => {
                // An error means that nobody waits for it any more; so with the other replies.
                let age = |ticket: &Ticket| self.begun.get(ticket).map(Instant::elapsed);
                reply.send(self.machine.status(&age)).ok();
            }
            Command::Idle { reply } => self.waiting_for_idle.push(reply),
        }
    }

    fn aside(&mut self, aside: Aside) {
        match aside {
            Aside::Held { ticket, by } => self.step(Signal::Held { ticket, by: by.into() }),
            Aside::Begin { ticket } => self.step(Signal::SteppedAside { ticket }),
            // The end of the run itself may have come first; then the sender is dropped.
            Aside::End { ticket, granted } if self.works.contains_key(&ticket) => {
                self.coming_back.entry(ticket).or_default().push(granted);
                self.step(Signal::ComesBack { ticket });
            }
            Aside::End { .. } => {}
        }
    }

    fn answer_idle(&mut self) {
        if self.machine.is_idle() && self.tasks.is_empty() {
            for reply in self.waiting_for_idle.drain(..) {
                reply.send(()).ok();
            }
        }
    }

    fn ended(&mut self, ended: Result<(tokio::task::Id, Signal<O>), JoinError>) {
        let (id, signal) = match ended {
            Ok((id, signal)) => (id, Some(signal)),
            Err(error) => (error.id(), None),
        };
        let Some((ticket, kind)) = self.kinds.remove(&id) else { return };
        self.works.remove(&ticket);
        self.begun.remove(&ticket);
        self.coming_back.remove(&ticket);
        let panicked = || OpError::from(Misuse::Panicked);
        self.step(signal.unwrap_or_else(|| match kind {
            Kind::Map => Signal::Mapped { ticket, result: Err(panicked()) },
            Kind::Lookup => Signal::LookedUp { ticket, result: Err(panicked()) },
            Kind::Digest => Signal::Digested { ticket, result: Err(panicked()) },
            Kind::Claim => Signal::Claimed { ticket, result: Err(panicked()) },
            Kind::Run { began } => Signal::Ran { ticket, result: Err(panicked()), duration: began.elapsed() },
            Kind::Store => Signal::Stored { ticket, result: Err(panicked()) },
        }));
    }

    fn step(&mut self, signal: Signal<O>) {
        for effect in self.machine.step(signal) {
            self.start(effect);
        }
    }

    fn start(&mut self, effect: Effect<O>) {
        match effect {
            Effect::Map { ticket, op, followers } => {
                let cx = self.work(ticket, &followers, None);
                self.spawn(ticket, Kind::Map, async move {
                    Signal::Mapped { ticket, result: op.cache_map(&cx).await }
                });
            }
            Effect::Lookup { ticket, key, lineage, inquiry } => {
                let cache = self.cache.clone();
                self.spawn(ticket, Kind::Lookup, async move {
                    Signal::LookedUp { ticket, result: look_up(&*cache, key, lineage, inquiry).await }
                });
            }
            Effect::Digest { ticket, op, index, value, followers } => {
                let cx = self.work(ticket, &followers, None);
                self.spawn(ticket, Kind::Digest, async move {
                    Signal::Digested { ticket, result: op.content(&cx, index, &value).await }
                });
            }
            Effect::Claim { ticket, key, followers } => {
                let (cache, asides) = (self.cache.clone(), self.asides.clone());
                let cx = self.work(ticket, &followers, None);
                self.spawn(ticket, Kind::Claim, async move {
                    // An error means that the solver is gone; then nobody counts places either.
                    let held = |by| drop(asides.send(Aside::Held { ticket, by }));
                    Signal::Claimed { ticket, result: claim(&*cache, &cx, &key, held).await }
                });
            }
            Effect::Release { guard } => drop(guard),
            Effect::Run { ticket, op, inputs, followers } => {
                let cx = self.work(ticket, &followers, Some(self.asides.clone()));
                let began = Instant::now();
                self.spawn(ticket, Kind::Run { began }, async move {
                    let result = op.run(&cx, inputs.to_vec()).await;
                    Signal::Ran { ticket, result, duration: began.elapsed() }
                });
            }
            Effect::Store { ticket, keys, values, traces } => {
                let cache = self.cache.clone();
                self.spawn(ticket, Kind::Store, async move {
                    Signal::Stored { ticket, result: store(&*cache, &keys, &values, traces).await }
                });
            }
            Effect::Cancel { ticket } => {
                if let Some(work) = self.works.get(&ticket) {
                    work.cancel();
                }
            }
            Effect::Follow { ticket, follower } => {
                if let Some(work) = self.works.get(&ticket) {
                    self.follow(work, &follower);
                }
            }
            Effect::Unfollow { ticket, node } => {
                if let Some(work) = self.works.get(&ticket) {
                    work.unfollow(node.0);
                }
            }
            Effect::Admit { ticket } => {
                for granted in self.coming_back.remove(&ticket).into_iter().flatten() {
                    // An error means that the run was cancelled and does not wait any more.
                    granted.send(()).ok();
                }
            }
            Effect::Tell { job, vertex, event } => {
                if let Some(observer) = self.observers.get(&job) {
                    observer.event(vertex, event);
                }
            }
            Effect::Answer { request, result } => {
                if let Some(reply) = self.replies.remove(&request) {
                    reply.send(result).ok();
                }
            }
        }
    }

    fn work(
        &mut self,
        ticket: Ticket,
        followers: &[Follower],
        asides: Option<mpsc::UnboundedSender<Aside>>,
    ) -> Context {
        let vertex = followers.first().map_or_else(|| Digest::of([]), |first| first.vertex);
        let work = Work::new(vertex);
        for follower in followers {
            self.follow(&work, follower);
        }
        let context = work.context(asides.map(|asides| (ticket, asides)));
        self.works.insert(ticket, work);
        context
    }

    fn follow(&self, work: &Work, follower: &Follower) {
        if let Some(observer) = self.observers.get(&follower.job) {
            work.follow(follower.node.0, follower.vertex, observer.clone());
        }
    }

    fn spawn(&mut self, ticket: Ticket, kind: Kind, work: impl Future<Output = Signal<O>> + Send + 'static) {
        let task = self.tasks.spawn(work);
        self.kinds.insert(task.id(), (ticket, kind));
        self.begun.insert(ticket, Instant::now());
    }
}

async fn look_up<V>(
    cache: &dyn Cache<V>,
    key: Digest,
    lineage: Option<Digest>,
    inquiry: Option<Box<Inquiry>>,
) -> Result<Found<V>, OpError> {
    let values = cache.lookup(&key).await?;
    let mut past = Past::default();
    if values.is_none() {
        if let Some(lineage) = lineage {
            past.trace = cache.trace(&lineage).await?;
        }
        if let Some(keys) = inquiry.as_ref().and_then(|inquiry| inquiry.keys_to_ask(past.trace.as_ref())) {
            past.gone = cache.gone(keys).await?;
        }
    }
    Ok(Found { values, past })
}

/// Claims a key, however long another process has it, and looks it up again. Says at once that it waits, and tells people
/// if it takes long.
async fn claim<V>(
    cache: &dyn Cache<V>,
    cx: &Context,
    key: &Digest,
    held: impl FnOnce(String),
) -> Result<Claimed<V>, OpError> {
    let (mut pause, longest) = RETRY;
    let mut held = Some(held);
    let mut tell_at = Some(Instant::now() + SILENCE);
    loop {
        let by = match cache.claim(key).await? {
            Claim::Held { by } => by,
            Claim::Acquired(guard) => {
                let found = cache.lookup(key).await?;
                return Ok(found.map_or(Claimed::Acquired(guard), Claimed::Found));
            }
        };
        if tell_at.is_some_and(|at| at <= Instant::now()) {
            tell_at = None;
            let line = format!("waiting for {by}, which is making the same\n");
            cx.log(Stream::Stderr, Bytes::from(line));
        }
        if let Some(tell) = held.take() {
            tell(by);
        }
        tokio::select! {
            () = cx.cancelled() => return Err(OpError::cancelled()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 3 / 2).min(longest);
    }
}

async fn store<V>(
    cache: &dyn Cache<V>,
    keys: &[Digest],
    values: &[V],
    traces: Vec<(Digest, Trace)>,
) -> Result<(), OpError> {
    if !keys.is_empty() {
        cache.store(keys, values).await?;
    }
    for (lineage, trace) in traces {
        // A fast hit knows nothing of what is in its inputs; most often the last trace does, and is the same.
        let was = if trace.is_whole() { None } else { cache.trace(&lineage).await? };
        let trace = trace.with_contents_of(was.as_ref());
        if was.as_ref() != Some(&trace) {
            cache.keep_trace(&lineage, &trace).await?;
        }
    }
    Ok(())
}
