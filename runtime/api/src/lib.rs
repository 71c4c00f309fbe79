//! The border between what is to be built and what builds it.
//!
//! In: a [`SolveRequest`]: definitions, exports, the client's session. Out: a [`SolveResult`] or a [`SolveError`],
//! and [`Event`]s on the way. Plain values; whether the [`Engine`] is this process or a BuildKit elsewhere nobody
//! on the client's side can tell.

mod engine;
mod event;
mod request;

pub use engine::{Engine, SolveError};
pub use event::{CacheVerdict, Event, EventKind, EventSink, LogStream};
pub use request::{Export, ExportResult, Root, SolveRequest, SolveResult, Summary};
