//! Which vertices of a graph must be run, which are already known, and in what order.
//!
//! In: a graph of [`VertexSpec`]s, each with an [`Op`] that knows how to recognise and how to make its result, and
//! a [`Cache`] of earlier results. Out: one value per edge asked for, and an [`Event`] for all that happened on
//! the way. This crate knows no disk, no LLB and no clock but the runtime's; what a value is, is the op's affair.
//!
//! # When may an old result stand in for a new one?
//!
//! A vertex is recognised by any of three keys, tried from the cheapest to the dearest. Each key finds a result
//! with *all* outputs of the vertex.
//!
//! | what enters                                   | fast | content | slow | why |
//! | --------------------------------------------- | ---- | ------- | ---- | --- |
//! | number of the key schema                      | yes  | yes     | yes  | a new `rb` misses knowingly |
//! | digest of the cache map                       | yes  | yes     | yes  | what is done, and what a source is pinned to |
//! | per input: fast key of the input's vertex     | yes  | no      | no   | definitions alone; nothing below is needed |
//! | per input: index of the output that is used   | yes  | no      | no   | the outputs of one vertex share its fast key |
//! | per input: selector                           | yes  | yes     | (1)  | an op's digest may leave the path it reads out |
//! | per input: content key of the value           | no   | yes     | (1)  | equal trees, however they came to be |
//! | per input: digest of the part that is read    | no   | no      | (2)  | a changed file that is not read changes nothing |
//! | digest and name of the vertex, job, options   | no   | no      | no   | they decide nothing about the result |
//! | times, paths of this machine, environment     | no   | no      | no   | a key is a function of digests only |
//!
//! (1) for inputs whose [`CacheInput::content`] is false; (2) for the others, and their selector is then left out,
//! since the digest is that of the selected part. Without any such input the slow key is the content key and is
//! not asked for twice. A vertex without inputs has a fast key only.
//!
//! # The search
//!
//! 1. The cache maps of a vertex and of all below it give its **fast key**. Found: done. Inputs are not looked up,
//!    not pulled, not read, not run.
//! 2. Missed: the inputs are wanted, all at once, each by its own search. When all are known, the **content key**
//!    is looked up. This is *early cutoff*: an input that was made anew but came out equal changes nothing above.
//! 3. Missed, and an input has a narrower part: [`Op::content`] is asked for its digest, and the **slow key** is
//!    looked up.
//! 4. Missed: the op is run, within [`Options::jobs`]. A run that waits for what others have gives its place back
//!    meanwhile ([`Context::aside`]).
//!
//! Before a run that has its place, the last key that missed is **claimed** among all processes that share the cache, and
//! looked up once more under the claim, which lasts until the result is stored. Where another process has the claim,
//! the run gives its place back and waits; then it finds the result, or, if that process failed or died, makes
//! it. So what several processes want at once is run once. One that runs waits for no claim, so processes never wait
//! for each other in a circle. What ignores the cache, and ops that say so ([`Op::is_shared`]), claim nothing.
//!
//! A result is stored under every key of the vertex known by then; one found under one key is linked to the others.
//! A vertex of which an equal key is being made already, for whichever job, waits for that run instead of
//! starting another. So a key is run at most once, however many want it, unless they ignore the cache.
//!
//! Whoever has to run is told why ([`MissReason`]), by what the cache remembers of the vertex of this lineage (its
//! [`Trace`]). Only where all of that is the same as it was, the cache is asked what became of the result
//! ([`Cache::gone`]). None of this decides anything.
//!
//! `ignore_cache` makes a vertex skip its lookups: it is run once for each job, and neither what is stored nor the run
//! of an equal vertex of that job stands in for it (that of another job may, while it lasts). What depends on it does
//! not trust fast keys any more, since these say nothing of what the new run gave, but keeps the cutoff by content;
//! with `taint_dependents` it is run again as well. Results are stored in either case.
//!
//! # Failing and cancelling
//!
//! Interest is what keeps work alive: a solve wants its edges, a vertex that needs its inputs wants them. When the
//! last interest in a piece of work goes (an error, a dropped future, a cancelled job), the work is told through
//! its [`Context`], and awaited: when `solve` returns, what only it wanted has ended. A run that was told to stop,
//! and is wanted again before it ended, is awaited and then started again; two runs of one key never overlap. An
//! error goes to all who want the vertex at that moment and is not kept: the next solve tries again, unless the job
//! keeps going ([`Mode::KeepGoing`]), in which nothing that failed is tried twice.
//!
//! A job that only looks ([`Mode::Look`]) searches as any other, and fails what it would have to run
//! ([`Event::Withheld`]); sources, which weigh nothing, are looked at. So what is `Cached` would be found, what is
//! `Withheld` would run, for the reason told, what is `Cancelled` has an input of which nobody knows how it comes out,
//! and what has no event is not needed.
//!
//! # How it is made
//!
//! [`keys`](mod@keys) makes keys. `machine` is the scheduler: a synchronous `step(signal) -> effects`, one enum of
//! states per vertex (`machine::node`) and one per run (`machine::flight`). `driver` is the one task that owns the
//! machine, turns effects into futures and their ends into signals. `job` is what callers hold.
//! **Invariant:** no wait without a cause. After each step every vertex that was touched is checked: who is waited
//! for, is waited for by somebody, and has an effect in flight or waits in turn. A violation panics in a debug
//! build; otherwise the solves concerned end with [`SolveError::Stuck`]. Graphs are acyclic by construction
//! (inputs come first), and nothing here recurses.
//! Source: buildkit docs/dev/solver.md for fast and slow keys and cancelling by interest.

mod context;
mod driver;
mod error;
mod events;
mod job;
pub mod keys;
mod machine;
mod op;
mod status;

#[cfg(test)]
mod tests;

pub use context::Context;
pub use error::{Failure, OpError, SolveError};
pub use events::{
    Event, Gone, GoneReason, InputTrace, KeyKind, MissReason, Observer, Progress, Stream, Trace,
};
pub use job::{JobHandle, Mode, Options, Recognised, Solver};
pub use op::{Cache, CacheInput, CacheMap, Claim, Guard, Op, VertexSpec, Weight};
pub use status::{Phase, Status, VertexStatus, WaitsFor};
