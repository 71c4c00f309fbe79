//! An engine elsewhere in the place of the bundled one.
//!
//! Images that it makes come back into the image store of this machine, as those made here are; all else stays where the daemon has it.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use rb_api::SolveError;
use rb_diag::{ErrorKind, chain};
use rb_engine::{EngineError, LocalEngine};
use rb_exec::Limits;
use rb_exporters::Precious;
use rb_registry::{Anonymous, Credentials};
use rb_remote::{About, ImageStore, RemoteEngine, RemoteError, RemoteOptions};

use crate::args::DoctorArgs;
use crate::environment::Environment;
use crate::report::{self, Failure};
use crate::settings::{self, Settings};

/// Returns the engine elsewhere that settings name; it is connected to when a job needs it.
pub(super) fn engine(
    settings: &Settings,
    credentials: Arc<dyn Credentials>,
    images: &Arc<LocalEngine>,
    directories: Vec<(PathBuf, &'static str)>,
) -> Result<Option<RemoteEngine>, Failure> {
    let Some(engine) = &settings.engine else { return Ok(None) };
    limits_are_here(settings)?;
    let certificates = engine.certificates().map_err(|error| {
        Failure::environment("the certificates of RB_ENGINE_CERTS cannot be read", &error)
    })?;
    let state = settings.state_directory.clone();
    Ok(Some(RemoteEngine::new(RemoteOptions {
        address: engine.address.clone(),
        certificates,
        credentials,
        scratch: images.store().temp_path(),
        precious: Precious { directories, state: Some(state) },
        images: Some(Arc::new(Images(Arc::clone(images)))),
    })))
}

/// Refuses limits around steps, which the bundled runtime alone sets.
fn limits_are_here(settings: &Settings) -> Result<(), Failure> {
    let steps = &settings.steps;
    let what = match () {
        () if steps.limits != Limits::default() => {
            "memory, processors and processes (--memory, --cpus, --pids-limit)"
        }
        () if !steps.rlimits.is_empty() => "each process (--ulimit)",
        () if steps.shm_bytes.is_some() => "/dev/shm (--shm-size)",
        () if steps.cgroup_parent.is_some() => "control groups (--cgroup-parent)",
        () => return Ok(()),
    };
    let help = "leave it out, and in config.toml, too; or build without --engine (RB_ENGINE)".to_owned();
    Err(Failure::input(
        format!("limits on {what} hold on this machine, and not on an engine elsewhere"),
        Some(help),
    ))
}

/// Refuses what needs the steps of this machine, where an engine elsewhere is to build.
pub(super) fn only_here(settings: &Settings, what: &str) -> Result<(), Failure> {
    if settings.engine.is_none() {
        return Ok(());
    }
    let help = "use it without --engine (RB_ENGINE)".to_owned();
    Err(Failure::input(format!("{what} needs steps that ran on this machine"), Some(help)))
}

/// The image store of this machine.
struct Images(Arc<LocalEngine>);

impl ImageStore for Images {
    fn load(&self, archive: &mut dyn Read, names: &[String]) -> Result<u64, SolveError> {
        let failed = |error: EngineError| SolveError::Job {
            kind: error.kind(),
            message: chain(&error),
            help: error.help(),
        };
        let mut archive = Counted { archive, bytes: 0 };
        let loaded = self.0.load_stream(&mut archive, names.first().map(String::as_str)).map_err(failed)?;
        if loaded.is_empty() {
            let message = "the engine sent an archive without an image".to_owned();
            return Err(SolveError::Job { kind: ErrorKind::Environment, message, help: None });
        }
        if let Some((first, others)) = names.split_first() {
            for name in others {
                self.0.tag_image(first, name).map_err(failed)?;
            }
        }
        Ok(archive.bytes)
    }
}

/// Counts what is read.
struct Counted<'a> {
    archive: &'a mut dyn Read,
    bytes: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.archive.read(buffer)?;
        self.bytes += length as u64;
        Ok(length)
    }
}

/// `rb doctor --engine`: tells what a daemon is and offers, 0 where it answers; nothing where none is named.
pub(super) fn doctor(environment: &Environment, doctor: &DoctorArgs) -> Result<Option<u8>, Failure> {
    let Some(engine) = settings::engine::named(doctor.engine.clone(), environment)? else { return Ok(None) };
    let certificates = engine.certificates().map_err(|error| {
        Failure::environment("the certificates of RB_ENGINE_CERTS cannot be read", &error)
    })?;
    let address = engine.address.to_string();
    let engine = RemoteEngine::new(RemoteOptions {
        address: engine.address,
        certificates,
        credentials: Arc::new(Anonymous),
        scratch: Environment::temporary(),
        precious: Precious::default(),
        images: None,
    });
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let threads = threads.map_err(|error| Failure::environment("no threads can be started", &error))?;
    let about = threads.block_on(engine.about())?;
    let text =
        if doctor.json { format!("{:#}\n", as_json(&address, &about)) } else { lines(&address, &about) };
    report::print(text.as_bytes())?;
    Ok(Some(0))
}

fn lines(address: &str, about: &About) -> String {
    let version = about.version.as_deref().unwrap_or("of an unknown version");
    let mut text = format!("engine           ok  {address}: BuildKit {version}\n");
    for worker in &about.workers {
        let label = |name: &str| {
            let wanted = format!("org.mobyproject.buildkit.worker.{name}");
            worker.labels.iter().find(|(key, _)| *key == wanted).map(|(_, value)| value.as_str())
        };
        let words =
            [label("executor"), label("snapshotter")].into_iter().flatten().collect::<Vec<_>>().join(", ");
        text.push_str(&format!("worker           ok  {}: {words}\n", worker.platforms.join(" ")));
    }
    text.push_str("\nonly here: `FROM @host`, what a failed command left (TRY, -i, resume), plan, --dry-run, --expect-cached,\n");
    text.push_str("why, --provenance and --sbom\n");
    text
}

fn as_json(address: &str, about: &About) -> serde_json::Value {
    let workers = about.workers.iter().map(|worker| {
        let labels: serde_json::Map<_, _> =
            worker.labels.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        serde_json::json!({ "platforms": worker.platforms, "labels": labels })
    });
    serde_json::json!({ "engine": address, "version": about.version, "workers": workers.collect::<Vec<_>>() })
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        Self::Said { kind: error.kind(), message: chain(&error), help: error.help() }
    }
}
