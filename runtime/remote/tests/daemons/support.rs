//! Engines to try: where they are, what they are lent, and what was told of their jobs.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rb_api::{Course, Event, EventKind, JobOptions, PullPolicy};
use rb_registry::Anonymous;
use rb_remote::{Certificates, RemoteEngine, RemoteOptions};
use rb_session::Session;

/// Returns an engine at a socket, and a folder of its own for it.
pub(crate) fn engine(socket: &Path, scratch: &Path) -> RemoteEngine {
    RemoteEngine::new(remote(socket, scratch))
}

/// Returns what such an engine is made of.
pub(crate) fn remote(socket: &Path, scratch: &Path) -> RemoteOptions {
    RemoteOptions {
        address: format!("unix://{}", socket.display()).parse().expect("an address"),
        certificates: Certificates::default(),
        credentials: Arc::new(Anonymous),
        scratch: scratch.to_owned(),
        precious: rb_exporters::Precious::default(),
        images: None,
    }
}

/// Returns what a job is opened with.
pub(crate) fn options(session: Arc<dyn Session>) -> JobOptions {
    JobOptions {
        session,
        no_cache: false,
        cache_from: Vec::new(),
        pull: PullPolicy::Newest,
        allow_insecure: false,
        allow_host_network: false,
        allowed_devices: Default::default(),
        epoch_seconds: 1_000_000_000,
        course: Course::Stop,
    }
}

/// What was told of a job.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    pub(crate) fn sink(&self) -> rb_api::EventSink {
        let told = Arc::clone(&self.0);
        Arc::new(move |event| told.lock().expect("nobody panics").push(event))
    }

    /// Returns all output of steps.
    pub(crate) fn log(&self) -> String {
        let told = self.0.lock().expect("nobody panics");
        let bytes = told.iter().filter_map(|event| match &event.kind {
            EventKind::Log { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        });
        bytes.collect()
    }
}
