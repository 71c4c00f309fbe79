//! Images into the store of another program of this machine: `--load`.
//!
//! In: images of our store, and whose store is meant. Out: how many layers were handed over, or an [`EngineError`] that names
//! what is missing. A program that is asked for is used; else the first that is there, in the order of [`Loader::ALL`].
//!
//! Docker is asked for the layers it has and is sent the others ([`docker`]). podman and containerd do not tell; they are given
//! whole archives, and store no layer twice.
//! Sources: moby API v1.41, "Import images"; podman-load(1); ctr, "images import".

mod docker;
mod http;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use rb_exec::{ExecError, ExitStatus, HostCommand, KillSwitch, Outside};
use rb_oci::{Descriptor, Reference};

use crate::LocalEngine;
use crate::error::EngineError;

/// Who keeps images on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    /// A Docker daemon, by its socket.
    Docker,
    /// `podman`.
    Podman,
    /// containerd, by `ctr`.
    Containerd,
}

/// Where to look for them.
#[derive(Debug, Clone, Default)]
pub struct LoadPlaces {
    /// The one that is meant; the first there is, if none.
    pub loader: Option<Loader>,
    /// What DOCKER_HOST says.
    pub docker_host: Option<String>,
    /// The user's directory for sockets.
    pub runtime_directory: Option<PathBuf>,
}

/// One image to hand over.
#[derive(Debug, Clone)]
pub struct LoadedImage {
    /// Its names.
    pub names: Vec<String>,
    /// Its manifest, in our store.
    pub descriptor: Descriptor,
}

/// What was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadReport {
    /// To whom.
    pub loader: Loader,
    /// Layers sent and layers that were there; unknown where the other reads for itself.
    pub layers: Option<(usize, usize)>,
}

/// Where containerd listens.
const CONTAINERD: &str = "/run/containerd/containerd.sock";

impl Loader {
    /// All, in the order in which they are looked for.
    pub const ALL: [Self; 3] = [Self::Docker, Self::Podman, Self::Containerd];

    /// Returns what people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
        }
    }
}

impl LocalEngine {
    /// Hands images of the store to another program. Blocking; `kill` ends what was started.
    pub fn hand_over(
        &self,
        images: &[LoadedImage],
        places: &LoadPlaces,
        outside: &Outside,
        kill: &KillSwitch,
    ) -> Result<LoadReport, EngineError> {
        let wanted: &[Loader] = places.loader.as_ref().map_or(&Loader::ALL, std::slice::from_ref);
        for loader in wanted {
            let done = match loader {
                Loader::Docker => self.give_docker(images, places)?,
                Loader::Podman => self.give_podman(images, outside, kill)?,
                Loader::Containerd => self.give_containerd(images, outside, kill)?,
            };
            if let Some(layers) = done {
                return Ok(LoadReport { loader: *loader, layers });
            }
        }
        Err(EngineError::NoLoader { wanted: places.loader })
    }

    fn give_docker(
        &self,
        images: &[LoadedImage],
        places: &LoadPlaces,
    ) -> Result<Option<Option<(usize, usize)>>, EngineError> {
        let Some(socket) = docker::socket(places)? else { return Ok(None) };
        let daemon = docker::Daemon::new(socket);
        let known = daemon.known_layers()?;
        let (mut sent, mut there) = (0, 0);
        for image in images {
            let report = daemon.load(&self.parts.store, image, &known)?;
            sent += report.sent;
            there += report.known;
        }
        Ok(Some(Some((sent, there))))
    }

    fn give_podman(
        &self,
        images: &[LoadedImage],
        outside: &Outside,
        kill: &KillSwitch,
    ) -> Result<Option<Option<(usize, usize)>>, EngineError> {
        let place = Temporary::new(self)?;
        let archive = place.path.join("image.tar");
        for image in images {
            // An archive of docker's holds all names of an image; podman looks at one of an OCI archive's.
            let file = File::create(&archive).map_err(|source| failed("create", &archive, source))?;
            let LoadedImage { names, descriptor } = image;
            rb_exporters::write_docker_tar(&self.parts.store, descriptor, names, &BTreeSet::new(), file)
                .map_err(|error| error.in_file(&archive))?;
            let from = archive.display().to_string();
            if !call(outside, kill, &place.path, &["podman", "load", "--quiet", "--input", &from])? {
                return Ok(None);
            }
        }
        Ok(Some(None))
    }

    fn give_containerd(
        &self,
        images: &[LoadedImage],
        outside: &Outside,
        kill: &KillSwitch,
    ) -> Result<Option<Option<(usize, usize)>>, EngineError> {
        if !Path::new(CONTAINERD).exists() {
            return Ok(None);
        }
        let place = Temporary::new(self)?;
        let archive = place.path.join("images.tar");
        let mut all = Vec::new();
        for image in images {
            for name in &image.names {
                // containerd knows whole names only.
                let whole = name.parse::<Reference>().map_or_else(|_| name.clone(), |name| name.to_string());
                all.push((Some(whole), image.descriptor.clone()));
            }
        }
        rb_exporters::write_oci_tar_file(&self.parts.store, &all, &archive)?;
        let archive = archive.display().to_string();
        Ok(call(outside, kill, &place.path, &["ctr", "images", "import", &archive])?.then_some(None))
    }
}

/// Runs a program of the user's; `false` where there is none.
fn call(outside: &Outside, kill: &KillSwitch, cwd: &Path, args: &[&str]) -> Result<bool, EngineError> {
    let mut said = Vec::new();
    let command = HostCommand {
        args: args.iter().map(Into::into).collect(),
        cwd: cwd.to_owned(),
        ..HostCommand::default()
    };
    match outside.run(&command, kill, &mut |_, bytes| said.extend_from_slice(bytes)) {
        Err(ExecError::NotFoundOutside { .. }) => Ok(false),
        Err(error) => Err(error.into()),
        Ok(ExitStatus::Exited(0)) => Ok(true),
        Ok(ExitStatus::Exited(_) | ExitStatus::Signaled(_)) => {
            let said = String::from_utf8_lossy(&said);
            let reason = said.trim().to_owned();
            Err(EngineError::Loading { who: args[0].to_owned(), reason, help: None })
        }
    }
}

/// A folder below the state directory, gone when dropped.
struct Temporary<'a> {
    engine: &'a LocalEngine,
    path: PathBuf,
}

impl<'a> Temporary<'a> {
    fn new(engine: &'a LocalEngine) -> Result<Self, EngineError> {
        let path = engine.parts.store.temp_path();
        std::fs::create_dir(&path).map_err(|source| failed("create", &path, source))?;
        Ok(Self { engine, path })
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.engine.parts.store.remove_tree(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a temporary folder stays");
        }
    }
}

fn failed(action: &'static str, path: &Path, source: std::io::Error) -> EngineError {
    rb_exporters::ExportError::Io { action, path: path.to_owned(), source }.into()
}
