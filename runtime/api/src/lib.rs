//! The border between what is to be built and what builds it.
//!
//! In: [`JobOptions`] with the client's session, which open a [`Job`]; then any number of [`SolveRequest`]s
//! (definitions, exports) and queries. Out: a [`SolveResult`] or a [`SolveError`] for each, and [`Event`]s on the way.
//! Plain values; whether the [`Engine`] is this process or a BuildKit elsewhere nobody on the client's side can tell.

mod attest;
mod caches;
mod engine;
mod event;
mod layered;
pub mod op_parts;
mod parts;
mod process;
mod request;

pub use attest::{AskedBuild, AskedImage, Attached, Attest, Detail, Provenance, ProvenanceVersion, Scan};
pub use caches::{CacheExport, CacheExtent, CachePlace, CacheTarget, CacheWritten};
pub use engine::{Engine, Job, SolveError};
pub use event::{
    CacheKey, CacheVerdict, Event, EventKind, EventSink, GoneBecause, LogStream, Miss, Progress,
};
pub use layered::{Finish, Layered};
pub use parts::{FileEntry, FileKind, FileList, KeyPart, KeyParts, PartKind};
pub use process::{ProcessHears, ProcessOrder, ProcessOrders, ProcessRequest};
pub use request::{
    AllowedDevices, Annotations, Course, Export, ExportResult, Fate, ImageFormat, ImageName, JobOptions,
    LayoutPlace, Outlook, Place, PlatformImage, PullPolicy, Push, PushedImage, Root, SolveRequest,
    SolveResult, Stream, Summary,
};
