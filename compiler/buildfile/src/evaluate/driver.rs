//! Which recipes run: callees before what needs them, without recursion, as many at once as wait for the world.
//!
//! A recipe that needs other keys asks for all of them at once and gives way; the driver starts those that nobody
//! evaluates yet and comes back once they are in the memo. Recipes are polled in the order they were begun, so what a
//! build asks of the world is asked in the order of the text. Depth costs memory and never stack.
//! **Invariant:** what waits for keys waits for recipes that are open, and no chain of such waits leads back.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use rb_diag::{Diagnostic, Diagnostics, ErrorKind, Span};
use rb_frontend::TargetKey;

use super::inputs::Handed;
use super::memo::Memo;
use super::{Evaluated, Evaluator, Fallible, internal};
use crate::codes;
use crate::resolve::cycle;

/// Calls nest no deeper than this. The settled calls of a program have no cycles, so in practice only variables that
/// change with each call get here.
const MAX_DEPTH: usize = 1000;

/// So many steps of a trail are shown on each side of what is left out.
const TRAIL_ENDS: usize = 10;

/// A key that is needed.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// Which.
    pub(super) key: TargetKey,
    /// The reference that asks.
    pub(super) at: Option<Span>,
    /// Its outputs are written, and its `RUN --push` run.
    pub(super) loud: bool,
    /// How the call hands on arguments.
    pub(super) handed: Arc<Handed>,
}

impl Wish {
    /// Wishes for a key that no call names.
    pub(super) fn new(key: TargetKey, at: Option<Span>, loud: bool) -> Self {
        Self { key, at, loud, handed: Arc::default() }
    }
}

/// What recipes tell the driver, and the reverse.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) memo: Memo,
    /// The recipe that is being polled.
    current: usize,
    /// What recipes have asked for since they were polled last.
    wishes: BTreeMap<usize, Vec<Wish>>,
    /// The recipe whose command runs on the host; others that want to run one wait.
    host: Option<usize>,
    /// How many tries each recipe is in: it deals with what fails.
    trying: BTreeMap<usize, usize>,
    /// Keys that could not be evaluated, and why; only where the build keeps going, or somebody deals with it.
    failed: BTreeMap<TargetKey, Diagnostic>,
}

/// What a key gave, and how the call hands on arguments.
pub(super) type Given = (Evaluated, Arc<Handed>);

/// What came of the targets that were asked for.
pub(super) struct Driven {
    /// Those that could be evaluated, in order.
    pub(super) targets: Vec<Evaluated>,
    /// How many were asked for.
    pub(super) asked: usize,
    /// Why others could not, where the build keeps going.
    pub(super) failures: Diagnostics,
}

type Running<'a> = Pin<Box<dyn Future<Output = Fallible<Evaluated>> + Send + 'a>>;

/// A recipe that has begun.
struct Open<'a> {
    key: TargetKey,
    caller: Option<usize>,
    depth: usize,
    running: Running<'a>,
    /// Keys it waits for.
    waits: Vec<TargetKey>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

impl Evaluator<'_> {
    /// Returns what some keys give, in their order, evaluating those that were not evaluated yet.
    pub(super) async fn targets(&self, wishes: Vec<Wish>) -> Fallible<Vec<Given>> {
        self.targets_each(wishes).await?.into_iter().collect()
    }

    /// The same, and where the build keeps going or this is tried, of each that could not be evaluated why.
    pub(super) async fn targets_each(&self, wishes: Vec<Wish>) -> Fallible<Vec<Fallible<Given>>> {
        let mut asked = 0;
        poll_fn(|_| {
            let mut desk = lock(&self.desk);
            let one = |wish: &Wish| match desk.memo.get(&wish.key, wish.loud) {
                Some(known) => Some(Ok((known.clone(), Arc::clone(&wish.handed)))),
                None => desk.failed.get(&wish.key).map(|error| Err(error.clone())),
            };
            let known: Option<Vec<_>> = wishes.iter().map(one).collect();
            if let Some(known) = known {
                return Poll::Ready(Ok(known));
            }
            // Twice where a key was on its way for a caller that wants no outputs of it.
            if asked == 2 {
                return Poll::Ready(Err(internal("a target was asked for and not evaluated")));
            }
            asked += 1;
            let current = desk.current;
            desk.wishes.insert(current, wishes.clone());
            Poll::Pending
        })
        .await
    }

    /// Waits for the host's turn: commands outside of sandboxes run one after the other.
    pub(super) async fn host_turn(&self) -> HostTurn<'_> {
        poll_fn(|_| {
            let mut desk = lock(&self.desk);
            match desk.host {
                Some(_) => Poll::Pending,
                None => {
                    desk.host = Some(desk.current);
                    Poll::Ready(())
                }
            }
        })
        .await;
        HostTurn { desk: &self.desk }
    }

    /// Notes that the recipe deals with what fails, until what this returns is dropped.
    pub(super) fn tries(&self) -> Tries<'_> {
        let mut desk = lock(&self.desk);
        let recipe = desk.current;
        *desk.trying.entry(recipe).or_default() += 1;
        Tries { desk: &self.desk, recipe }
    }

    /// Evaluates keys, each of which is named once, and all that they need. On an error the trail tells how the build got
    /// there. The first one ends it, unless the build keeps going; recipes that try what failed deal with it before.
    pub(super) async fn drive(&self, roots: Vec<TargetKey>) -> Fallible<Driven> {
        let mut drive = Drive {
            evaluator: self,
            open: BTreeMap::new(),
            by_key: BTreeMap::new(),
            next: 0,
            roots: vec![None; roots.len()],
            failures: Vec::new(),
            first: None,
            dealing: BTreeSet::new(),
        };
        for root in roots {
            drive.start(Wish::new(root, None, true), None, 0);
        }
        poll_fn(|context| drive.poll(context)).await?;
        let Drive { roots, failures, .. } = drive;
        let asked = roots.len();
        Ok(Driven { targets: roots.into_iter().flatten().collect(), asked, failures })
    }

    fn start(&self, wish: Wish) -> Running<'_> {
        Box::pin(async move { self.recipe(wish).await })
    }
}

/// The right to run a command on the host, until it is dropped.
pub(super) struct HostTurn<'a> {
    desk: &'a Mutex<Desk>,
}

impl Drop for HostTurn<'_> {
    fn drop(&mut self) {
        lock(self.desk).host = None;
    }
}

/// What a recipe tries.
pub(super) struct Tries<'a> {
    desk: &'a Mutex<Desk>,
    recipe: usize,
}

impl Drop for Tries<'_> {
    fn drop(&mut self) {
        let mut desk = lock(self.desk);
        if let Some(count) = desk.trying.get_mut(&self.recipe) {
            *count -= 1;
        }
    }
}

/// All recipes that have begun and not ended.
struct Drive<'a> {
    evaluator: &'a Evaluator<'a>,
    /// By number, in the order they were begun; the first are the roots.
    open: BTreeMap<usize, Open<'a>>,
    by_key: BTreeMap<TargetKey, usize>,
    next: usize,
    /// What the roots gave.
    roots: Vec<Option<Evaluated>>,
    failures: Diagnostics,
    /// What the build ends with.
    first: Option<Diagnostic>,
    /// Recipes that deal with a failure before the build ends.
    dealing: BTreeSet<usize>,
}

impl<'a> Drive<'a> {
    fn start(&mut self, wish: Wish, caller: Option<usize>, depth: usize) {
        let key = wish.key.clone();
        let running = self.evaluator.start(wish);
        self.by_key.insert(key.clone(), self.next);
        self.open.insert(self.next, Open { key, caller, depth, running, waits: Vec::new() });
        self.next += 1;
    }

    /// Polls every recipe that does not wait for keys, for as long as that makes others go on.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Fallible<()>> {
        while !self.open.is_empty() {
            let mut moved = false;
            let numbers: Vec<usize> = self.open.keys().copied().collect();
            for number in numbers {
                let Some(polled) = self.poll_one(number, context) else { continue };
                let served = match polled {
                    Poll::Ready(Ok(evaluated)) => {
                        if let Some(root) = self.roots.get_mut(number) {
                            *root = Some(evaluated);
                        }
                        Ok(true)
                    }
                    Poll::Ready(Err(error)) => Err(error),
                    Poll::Pending => self.serve(number),
                };
                moved |= match served {
                    Ok(moved) => moved,
                    Err(error) if self.evaluator.request.keep_going => {
                        self.fail(number, error);
                        true
                    }
                    Err(error) => {
                        if error.kind == ErrorKind::Build {
                            self.dealing.extend(self.trying(number));
                        }
                        self.fail(number, error);
                        true
                    }
                };
                if let Some(first) = self.ending() {
                    return Poll::Ready(Err(first));
                }
            }
            if !moved {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Returns what the build ends with, if it ends now.
    fn ending(&mut self) -> Option<Diagnostic> {
        let Self { dealing, open, .. } = self;
        dealing.retain(|number| open.contains_key(number));
        if dealing.is_empty() { self.first.take() } else { None }
    }

    /// Finds the recipes that wait for this one and try that.
    fn trying(&self, number: usize) -> Vec<usize> {
        let mut seen = BTreeSet::from([number]);
        let mut queue = vec![number];
        while let Some(key) = queue.pop().and_then(|number| self.open.get(&number)).map(|open| &open.key) {
            let waiting = self.open.iter().filter(|(_, open)| open.waits.contains(key));
            queue.extend(waiting.map(|(number, _)| *number).filter(|number| seen.insert(*number)));
        }
        seen.remove(&number);
        let desk = lock(&self.evaluator.desk);
        seen.into_iter().filter(|number| desk.trying.get(number).is_some_and(|count| *count > 0)).collect()
    }

    /// Ends a recipe that cannot be evaluated. Who waits for it comes upon that when it is polled next.
    fn fail(&mut self, number: usize, error: Diagnostic) {
        let is_anothers = lock(&self.evaluator.desk).failed.values().any(|known| *known == error);
        let error = if is_anothers { error } else { self.with_trail(error, number) };
        if !is_anothers {
            match self.evaluator.request.keep_going {
                true => self.failures.push(error.clone()),
                false => {
                    self.first.get_or_insert_with(|| error.clone());
                }
            }
        }
        // What it holds goes before the desk is locked: the host's turn, perhaps.
        let Some(Open { key, .. }) = self.open.remove(&number) else { return };
        self.by_key.remove(&key);
        lock(&self.evaluator.desk).failed.insert(key, error);
    }

    /// Polls one recipe; `None` where it waits for keys still.
    fn poll_one(&mut self, number: usize, context: &mut Context<'_>) -> Option<Poll<Fallible<Evaluated>>> {
        let open = self.open.get_mut(&number)?;
        let host_was_taken;
        {
            let mut desk = lock(&self.evaluator.desk);
            if open.waits.iter().any(|key| self.by_key.contains_key(key)) {
                return None;
            }
            desk.current = number;
            host_was_taken = desk.host.is_some();
        }
        open.waits.clear();
        let polled = open.running.as_mut().poll(context);
        let mut desk = lock(&self.evaluator.desk);
        if let Poll::Ready(Ok(evaluated)) = &polled {
            desk.memo.insert(&open.key, evaluated.clone());
            self.by_key.remove(&open.key);
            self.open.remove(&number);
        }
        // Others may be waiting for the host's turn, which nobody wakes them for.
        if host_was_taken && desk.host.is_none() {
            context.waker().wake_by_ref();
        }
        Some(polled)
    }

    /// Starts what a recipe has asked for; returns whether it asked.
    fn serve(&mut self, number: usize) -> Result<bool, Diagnostic> {
        let wishes = lock(&self.evaluator.desk).wishes.remove(&number);
        let Some(wishes) = wishes else { return Ok(false) };
        let depth = self.open.get(&number).map_or(0, |open| open.depth) + 1;
        for wish in wishes {
            let desk = lock(&self.evaluator.desk);
            if desk.memo.get(&wish.key, wish.loud).is_some() || desk.failed.contains_key(&wish.key) {
                continue;
            }
            drop(desk);
            self.check(number, &wish, depth)?;
            if let Some(open) = self.open.get_mut(&number) {
                open.waits.push(wish.key.clone());
            }
            if !self.by_key.contains_key(&wish.key) {
                self.start(wish, Some(number), depth);
            }
        }
        Ok(true)
    }

    /// Checks that a recipe may wait for a key.
    fn check(&self, number: usize, wish: &Wish, depth: usize) -> Fallible<()> {
        let label = |error: Diagnostic| match wish.at {
            Some(span) => error.with_label(span, "called here"),
            None => error,
        };
        if let Some(path) = self.path(&wish.key, number) {
            let names = path.iter().chain([&wish.key]).map(ToString::to_string).collect::<Vec<_>>();
            return Err(label(cycle(&names)));
        }
        if depth >= MAX_DEPTH {
            let message = format!("targets call each other more than {MAX_DEPTH} deep");
            let error = Diagnostic::error(codes::NESTING, message)
                .with_help("an argument that changes with every call makes each call a new one");
            return Err(label(error));
        }
        Ok(())
    }

    /// Finds how an open key comes to wait for recipe `end`, both included.
    fn path(&self, key: &TargetKey, end: usize) -> Option<Vec<TargetKey>> {
        let start = *self.by_key.get(key)?;
        let mut came_from = BTreeMap::new();
        let mut seen = BTreeSet::from([start]);
        let mut queue = vec![start];
        while let Some(number) = queue.pop() {
            if number == end {
                let mut path = vec![number];
                while let Some(before) = path.last().and_then(|at| came_from.get(at)) {
                    path.push(*before);
                }
                path.reverse();
                return Some(
                    path.iter()
                        .filter_map(|number| self.open.get(number))
                        .map(|open| open.key.clone())
                        .collect(),
                );
            }
            let waits = self.open.get(&number).map(|open| open.waits.as_slice()).unwrap_or_default();
            for next in waits.iter().filter_map(|key| self.by_key.get(key)) {
                if seen.insert(*next) {
                    came_from.insert(*next, number);
                    queue.push(*next);
                }
            }
        }
        None
    }

    /// Adds to an error how the build got to a recipe, innermost first, and leaves out the middle of a long way.
    fn with_trail(&self, error: Diagnostic, number: usize) -> Diagnostic {
        let way = std::iter::successors(self.open.get(&number), |open| self.open.get(&open.caller?));
        let keys: Vec<&TargetKey> = way.map(|open| &open.key).collect();
        let count = keys.len();
        keys.into_iter().enumerate().fold(error, |error, (at, key)| match at {
            0 => error.with_trail(format!("in {key}")),
            at if at < TRAIL_ENDS || at >= count - TRAIL_ENDS.min(count) => {
                error.with_trail(format!("called from {key}"))
            }
            TRAIL_ENDS => error.with_trail(format!("… {} more", count - 2 * TRAIL_ENDS)),
            _ => error,
        })
    }
}
