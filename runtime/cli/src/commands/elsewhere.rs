//! An engine elsewhere in the place of the bundled one.
//!
//! Images that it makes come back into the image store of this machine, as those made here are; all else stays where the daemon has it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rb_api::{Engine, SolveError};
use rb_diag::{ErrorKind, chain};
use rb_engine::{EngineError, LocalEngine, SaveFormat};
use rb_exec::Limits;
use rb_exporters::Precious;
use rb_oci::{Digest, Reference};
use rb_registry::{Anonymous, Credentials};
use rb_remote::{
    About, Address, Certificates, Clock, Hears, ImageStore, KnownImage, NodeOptions, NodesEngine,
    RemoteEngine, RemoteError, RemoteOptions,
};
use rb_store::{Store, StoreError};

use super::docker;
use super::engines::nodes::inspect;
use crate::args::DoctorArgs;
use crate::environment::Environment;
use crate::report::{self, Failure};
use crate::settings::engine::{EngineAt, EngineSettings, KnownNode, NodesSettings};
use crate::settings::{self, Settings};

/// Returns the engine elsewhere that settings name; it is connected to when a job needs it. `hears` is told which node of several builds.
pub(super) fn engine(
    settings: &Settings,
    credentials: Arc<dyn Credentials>,
    images: &Arc<LocalEngine>,
    directories: Vec<(PathBuf, &'static str)>,
    hears: Hears,
) -> Result<Option<Arc<dyn Engine>>, Failure> {
    let Some(engine) = settings.engine.clone() else { return Ok(None) };
    limits_are_here(settings)?;
    let state = settings.state_directory.clone();
    let precious = Precious { directories, state: Some(state.clone()) };
    let store: Arc<dyn ImageStore> = Arc::new(Images(Arc::clone(images)));
    let options = |at: EngineAt| -> Result<RemoteOptions, Failure> {
        let at = of_docker(at)?;
        let certificates = certificates(&at)?;
        Ok(RemoteOptions {
            address: at.address,
            certificates,
            credentials: Arc::clone(&credentials),
            scratch: images.store().temp_path(),
            precious: precious.clone(),
            images: Some(Arc::clone(&store)),
        })
    };
    let NodesSettings { name, nodes } = match engine {
        EngineSettings::One(at) => return Ok(Some(Arc::new(RemoteEngine::new(options(at)?)))),
        EngineSettings::Nodes(nodes) => nodes,
    };
    let node = |(name, known, at): (String, KnownNode, EngineAt)| {
        let KnownNode { platforms, weight, drained: is_drained, .. } = known;
        Ok(NodeOptions { name, platforms, weight, is_drained, remote: options(at)? })
    };
    let nodes = nodes.into_iter().map(node).collect::<Result<Vec<_>, Failure>>()?;
    let store = images.store().clone();
    let clock: Clock = Arc::new(move || store.clock().now());
    Ok(Some(Arc::new(NodesEngine::new(&name, nodes, (state.join("nodes"), clock), hears))))
}

/// Finds the Docker that is in use, where that is meant.
fn of_docker(engine: EngineAt) -> Result<EngineAt, Failure> {
    if !engine.address.is_docker_in_use() {
        return Ok(engine);
    }
    let Some(host) = docker::host() else { return Ok(engine) };
    let Some(path) = host.strip_prefix("unix://") else {
        let help = "BuildKit itself there is reached by ssh://, tcp:// or docker-container://".to_owned();
        let message = format!(
            "the Docker in use is at {host}: its BuildKit is reached at a socket of this machine only"
        );
        return Err(Failure::input(message, Some(help)));
    };
    let address = format!("docker://{path}").parse::<Address>();
    let address = address.map_err(|error| Failure::input(error.to_string(), Some(error.help())))?;
    Ok(engine.at(address))
}

/// Reads what proves who is who, as far as that makes sense.
fn certificates(engine: &EngineAt) -> Result<Certificates, Failure> {
    let unreadable = |error| {
        Failure::environment(&format!("the certificates for {} cannot be read", engine.address), &error)
    };
    let certificates = engine.certificates().map_err(unreadable)?;
    certificates.check(&engine.address)?;
    Ok(certificates)
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
        () => {
            let Some(option) = settings.asked_of_here else { return Ok(()) };
            let help = "leave it out, or build with --engine=here".to_owned();
            let message = format!(
                "{option} is for steps on this machine: an engine elsewhere runs them as it is set up"
            );
            return Err(Failure::input(message, Some(help)));
        }
    };
    let help = "leave it out, and in config.toml, too; or build with --engine=here".to_owned();
    Err(Failure::input(
        format!("limits on {what} hold on this machine, and not on an engine elsewhere"),
        Some(help),
    ))
}

/// Refuses to look at what would run, where an engine elsewhere is to build.
pub(super) fn looks_here(settings: &Settings) -> Result<(), Failure> {
    if settings.engine.is_none() {
        return Ok(());
    }
    let rb_api::SolveError::Job { message, help, .. } = rb_remote::cannot_look() else { return Ok(()) };
    Err(Failure::input(message, help))
}

/// Refuses what needs the steps of this machine, where an engine elsewhere is to build.
pub(super) fn only_here(settings: &Settings, what: &str) -> Result<(), Failure> {
    if settings.engine.is_none() {
        return Ok(());
    }
    let help = "use it with --engine=here, or RB_ENGINE=here in front".to_owned();
    Err(Failure::input(format!("{what} needs steps that ran on this machine"), Some(help)))
}

/// The image store of this machine.
struct Images(Arc<LocalEngine>);

/// What goes wrong in the store.
fn failed(error: &EngineError) -> SolveError {
    SolveError::Job { kind: error.kind(), message: chain(error), help: error.help() }
}

/// Longest manifest or index.
const DOCUMENT_BYTES: u64 = 4 << 20;

/// Layers of an image; of an index, those of all its images. What is not here is passed over.
fn layers(store: &Store, image: &Digest, depth: u8) -> Result<Vec<Digest>, StoreError> {
    let Ok(bytes) = store.read_blob(image, DOCUMENT_BYTES) else { return Ok(Vec::new()) };
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let digests = |key: &str| -> Vec<Digest> {
        let list = document[key].as_array().into_iter().flatten();
        list.filter_map(|entry| entry["digest"].as_str()?.parse().ok()).collect()
    };
    let mut all = digests("layers");
    if depth > 0 {
        for below in digests("manifests") {
            all.extend(layers(store, &below, depth - 1)?);
        }
    }
    Ok(all)
}

#[async_trait]
impl ImageStore for Images {
    fn known(&self, name: &Reference) -> Result<Option<KnownImage>, SolveError> {
        let store = self.0.store();
        let of_store = |error: StoreError| failed(&error.into());
        let Some(row) = store.image(&name.familiar()).map_err(of_store)? else { return Ok(None) };
        let Ok(digest) = row.descriptor.digest().to_string().parse::<Digest>() else { return Ok(None) };
        let repository = name.repository().to_string();
        let layers = layers(store, &digest, 2).map_err(of_store)?;
        let mut is_of_registry = !layers.is_empty();
        for layer in &layers {
            // What was not fetched is nowhere else.
            let is_here = store.has_blob(layer).map_err(of_store)?;
            is_of_registry &= !is_here || store.origins(layer).map_err(of_store)?.contains(&repository);
        }
        Ok(Some(KnownImage { digest, is_of_registry }))
    }

    fn write_layout(&self, name: &Reference, folder: &Path) -> Result<(), SolveError> {
        let written = self.0.save_image(&[name.familiar()], SaveFormat::OciDirectory, folder);
        written.map_err(|error| failed(&error))
    }

    fn load(&self, archive: &mut dyn Read, names: &[String]) -> Result<u64, SolveError> {
        let failed = |error: EngineError| failed(&error);
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

    async fn push_index(
        &self,
        names: &[Reference],
        media_type: &str,
        index: Vec<u8>,
    ) -> Result<(), SolveError> {
        self.0.push_index(names, media_type, &index).await.map_err(|error| failed(&error))
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

/// Returns a daemon that is to say what it is, and builds nothing.
pub(super) fn asked(at: EngineAt) -> Result<RemoteEngine, Failure> {
    let at = of_docker(at)?;
    let certificates = certificates(&at)?;
    Ok(RemoteEngine::new(RemoteOptions {
        address: at.address,
        certificates,
        credentials: Arc::new(Anonymous),
        scratch: Environment::temporary(),
        precious: Precious::default(),
        images: None,
    }))
}

/// `rb doctor --engine`: tells what a daemon is and offers, 0 where it answers; nothing where this machine is meant.
pub(super) fn doctor(environment: &Environment, doctor: &DoctorArgs) -> Result<Option<u8>, Failure> {
    let at = match settings::engine::named(doctor.engine.as_ref(), environment)? {
        None => return Ok(None),
        Some(EngineSettings::Nodes(nodes)) => return inspect(nodes, doctor.json).map(Some),
        Some(EngineSettings::One(at)) => at,
    };
    let engine = asked(at)?;
    let address = engine.address().to_string();
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let threads = threads.map_err(|error| Failure::environment("no threads can be started", &error))?;
    let about = threads.block_on(engine.about()).map_err(|error| match &error {
        // Who asks has just tried it.
        RemoteError::Connect { is_bare: false, .. } => Failure::Said {
            kind: error.kind(),
            message: chain(&error),
            help: Some("see whether buildkitd runs there, and listens at that address".to_owned()),
        },
        _ => error.into(),
    })?;
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
    text.push_str("why, --sbom, and --provenance beside files\n");
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
