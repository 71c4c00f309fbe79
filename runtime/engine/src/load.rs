//! Images into the store of another program of this machine: `--load`.
//!
//! In: images of our store, and whose store is meant. Out: how many layers were handed over, or an [`EngineError`] that names
//! what is missing. A program that is asked for is used; else the first that is there, in the order of [`Loader::ALL`].
//!
//! Only layers that the other has not are handed over. Docker and containerd are asked for those they have and are sent the
//! others ([`docker`], [`containerd`]); podman is shown the blobs where they lie, and reads of them what it lacks ([`podman`]).
//! **Invariant:** who does not take part of an image is given all of it.

mod containerd;
mod docker;
mod http;
mod podman;

use std::path::{Path, PathBuf};

use rb_exec::{ExecError, ExitStatus, HostCommand, KillSwitch, Outside, Stream};
use rb_oci::Descriptor;

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
    /// What CONTAINERD_ADDRESS says.
    pub containerd_address: Option<String>,
}

impl LoadPlaces {
    /// Tells whether there is a socket of Docker's.
    pub fn has_docker(&self) -> bool {
        docker::socket(self).is_ok_and(|socket| socket.is_some())
    }
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
    pub layers: Option<Layers>,
}

/// Layers sent, and layers that were there.
pub type Layers = (usize, usize);

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
        let host = Host { outside, kill };
        for loader in wanted {
            let done = match loader {
                Loader::Docker => self.give_docker(images, places)?,
                Loader::Podman => podman::give(self, images, host)?,
                Loader::Containerd => {
                    containerd::give(self, images, places.containerd_address.as_deref(), host)?
                }
            };
            if let Given::Taken(layers) = done {
                return Ok(LoadReport { loader: *loader, layers });
            }
        }
        Err(EngineError::NoLoader { wanted: places.loader })
    }

    fn give_docker(&self, images: &[LoadedImage], places: &LoadPlaces) -> Result<Given, EngineError> {
        let Some(socket) = docker::socket(places)? else { return Ok(Given::Absent) };
        let daemon = docker::Daemon::new(socket);
        let known = daemon.known_layers()?;
        let (mut sent, mut there) = (0, 0);
        for image in images {
            let report = daemon.load(&self.parts.store, image, &known)?;
            sent += report.sent;
            there += report.known;
        }
        Ok(Given::Taken(Some((sent, there))))
    }
}

/// What came of handing images over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// They were taken.
    Taken(Option<Layers>),
    /// There is nobody to take them.
    Absent,
}

/// The user's own machine.
#[derive(Clone, Copy)]
struct Host<'a> {
    outside: &'a Outside,
    kill: &'a KillSwitch,
}

impl Host<'_> {
    /// Runs a program in `cwd` and returns what it says on stdout; none where there is no such program.
    fn call(self, cwd: &Path, args: &[&str]) -> Result<Option<String>, EngineError> {
        let (mut told, mut said) = (Vec::new(), Vec::new());
        let command = HostCommand {
            args: args.iter().map(Into::into).collect(),
            cwd: cwd.to_owned(),
            ..HostCommand::default()
        };
        let mut hear = |stream, bytes: &[u8]| {
            if stream == Stream::Stdout {
                told.extend_from_slice(bytes);
            }
            said.extend_from_slice(bytes);
        };
        match self.outside.run(&command, self.kill, &mut hear) {
            Err(ExecError::NotFoundOutside { .. }) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(ExitStatus::Exited(0)) => Ok(Some(String::from_utf8_lossy(&told).into_owned())),
            Ok(ExitStatus::Exited(_) | ExitStatus::Signaled(_)) => {
                let reason = String::from_utf8_lossy(&said).trim().to_owned();
                Err(EngineError::Loading { who: args[0].to_owned(), reason, help: None })
            }
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
