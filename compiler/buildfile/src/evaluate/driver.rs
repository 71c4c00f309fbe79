//! Which key is evaluated next: callees before their callers, without recursion.
//!
//! A recipe that needs another key asks for it and gives way; the driver then evaluates that key first and comes
//! back with its output in the memo. So the depth of a build costs memory and never stack, and keys that do not wait
//! for one another could be driven at the same time from here.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::task::Poll;

use rb_diag::{Diagnostic, ErrorKind, Span};
use rb_frontend::TargetKey;

use super::{Evaluated, Evaluator, Fallible};
use crate::codes;
use crate::resolve::cycle;

/// Calls nest no deeper than this. The settled calls of a program have no cycles, so in practice only variables that
/// change with each call get here.
const MAX_DEPTH: usize = 1000;

/// So many steps of a trail are shown on each side of what is left out.
const TRAIL_ENDS: usize = 10;

/// What was evaluated, and what is asked for next.
#[derive(Default)]
pub(super) struct Memo {
    done: Mutex<BTreeMap<TargetKey, Evaluated>>,
    wanted: Mutex<Option<(TargetKey, Option<Span>)>>,
}

type Running<'a> = Pin<Box<dyn Future<Output = Fallible<Evaluated>> + Send + 'a>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

impl Evaluator<'_> {
    /// Returns what a key gives, evaluating it unless that was done; `at` is the reference that asks.
    pub(super) async fn target(&self, key: TargetKey, at: Option<Span>) -> Fallible<Evaluated> {
        if let Some(evaluated) = self.known(&key) {
            return Ok(evaluated);
        }
        *lock(&self.memo.wanted) = Some((key.clone(), at));
        let mut asked = false;
        poll_fn(|_| if std::mem::replace(&mut asked, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        self.known(&key).ok_or_else(|| {
            let message = format!("{key} was asked for and not evaluated");
            Diagnostic::error(codes::NESTING, message).with_kind(ErrorKind::Internal)
        })
    }

    fn known(&self, key: &TargetKey) -> Option<Evaluated> {
        lock(&self.memo.done).get(key).cloned()
    }

    /// Evaluates a key and all that it needs. On an error the trail tells how the build got there.
    pub(super) async fn drive(&self, root: TargetKey) -> Fallible<Evaluated> {
        // The recipes that have begun, the one that runs last; the others wait for the one behind them.
        let mut open: Vec<(TargetKey, Running<'_>)> = vec![(root.clone(), self.start(root, None))];
        poll_fn(move |context| {
            while let Some((key, running)) = open.last_mut() {
                let result = match running.as_mut().poll(context) {
                    Poll::Ready(result) => result,
                    Poll::Pending => {
                        // Without a wish it waits for the world, which will wake us.
                        let Some((key, at)) = lock(&self.memo.wanted).take() else { return Poll::Pending };
                        if let Err(error) = check(open.iter().map(|(open, _)| open), &key, at) {
                            return Poll::Ready(Err(with_trail(error, open.iter().map(|(open, _)| open))));
                        }
                        open.push((key.clone(), self.start(key, at)));
                        continue;
                    }
                };
                match result {
                    Ok(evaluated) => {
                        lock(&self.memo.done).insert(key.clone(), evaluated.clone());
                        open.pop();
                        if open.is_empty() {
                            return Poll::Ready(Ok(evaluated));
                        }
                    }
                    Err(error) => {
                        return Poll::Ready(Err(with_trail(error, open.iter().map(|(open, _)| open))));
                    }
                }
            }
            Poll::Pending
        })
        .await
    }

    fn start(&self, key: TargetKey, at: Option<Span>) -> Running<'_> {
        Box::pin(async move { self.recipe(&key, at).await })
    }
}

/// Checks that a key may be begun while others are open.
fn check<'a>(
    open: impl ExactSizeIterator<Item = &'a TargetKey> + Clone,
    key: &'a TargetKey,
    at: Option<Span>,
) -> Fallible<()> {
    let label = |error: Diagnostic| match at {
        Some(span) => error.with_label(span, "called here"),
        None => error,
    };
    if let Some(start) = open.clone().position(|open| open == key) {
        let names: Vec<_> = open.skip(start).chain([key]).map(ToString::to_string).collect();
        return Err(label(cycle(&names)));
    }
    if open.len() >= MAX_DEPTH {
        let message = format!("targets call each other more than {MAX_DEPTH} deep");
        let error = Diagnostic::error(codes::NESTING, message)
            .with_help("an argument that changes with every call makes each call a new one");
        return Err(label(error));
    }
    Ok(())
}

/// Adds the open recipes to an error, innermost first, and leaves out the middle of many.
fn with_trail<'a>(
    error: Diagnostic,
    open: impl ExactSizeIterator<Item = &'a TargetKey> + DoubleEndedIterator,
) -> Diagnostic {
    let count = open.len();
    open.rev().enumerate().fold(error, |error, (at, key)| match at {
        0 => error.with_trail(format!("in {key}")),
        at if at < TRAIL_ENDS || at >= count - TRAIL_ENDS => error.with_trail(format!("called from {key}")),
        TRAIL_ENDS => error.with_trail(format!("… {} more", count - 2 * TRAIL_ENDS)),
        _ => error,
    })
}
