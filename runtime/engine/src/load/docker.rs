//! A Docker daemon: which layers it has, and images for it.
//!
//! In: its socket. A daemon with image stores of its own asks for layers by ChainID and takes an archive without those it has;
//! one that keeps images in containerd wants them whole. Which it is, it tells.
//! Source: moby API v1.41; moby image/tarexport/load.go.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use rb_exporters::{ExportError, Sent, chain_ids, write_docker_tar};
use rb_oci::Digest;
use rb_store::Store;
use serde::Deserialize;
use serde_json::Value;

use super::http::{self, Body};
use super::{LoadPlaces, LoadedImage, Loader};
use crate::error::EngineError;

/// Where a daemon of the machine listens.
const SOCKET: &str = "/var/run/docker.sock";

/// Returns the socket of a daemon; none where there is none and none was asked for.
pub(super) fn socket(places: &LoadPlaces) -> Result<Option<PathBuf>, EngineError> {
    if let Some(host) = places.docker_host.as_deref().filter(|host| !host.is_empty()) {
        return match host.strip_prefix("unix://") {
            Some(path) => Ok(Some(path.into())),
            None if places.loader == Some(Loader::Docker) => Err(EngineError::Unsupported {
                what: format!("DOCKER_HOST={host}"),
                help: Some("a socket of this machine: DOCKER_HOST=unix:///var/run/docker.sock".to_owned()),
            }),
            None => Ok(None),
        };
    }
    let own = places.runtime_directory.iter().map(|directory| directory.join("docker.sock"));
    Ok([PathBuf::from(SOCKET)].into_iter().chain(own).find(|path| path.exists()))
}

/// A daemon behind its socket.
pub(super) struct Daemon {
    socket: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(default)]
    driver_status: Option<Vec<(String, String)>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(rename = "RootFS")]
    root_fs: Layers,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Layers {
    #[serde(default)]
    layers: Option<Vec<Digest>>,
}

impl Daemon {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Returns the ChainIDs of the layers that need not be sent.
    pub(super) fn known_layers(&self) -> Result<BTreeSet<Digest>, EngineError> {
        let info: Info = self.get("/info")?;
        let of_containerd = |(key, value): &(String, String)| {
            key == "driver-type" && value.starts_with("io.containerd.snapshotter")
        };
        if info.driver_status.iter().flatten().any(of_containerd) {
            return Ok(BTreeSet::new());
        }
        let listed: Vec<Listed> = self.get("/images/json")?;
        let mut known = BTreeSet::new();
        for image in listed {
            // One that was removed meanwhile has nothing for us.
            match self.get::<Inspected>(&format!("/images/{}/json", image.id)) {
                Ok(image) => known.extend(chain_ids(&image.root_fs.layers.unwrap_or_default())),
                Err(EngineError::Loading { reason, .. }) => {
                    tracing::debug!(reason, "an image is not looked into");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(known)
    }

    /// Sends an image without what is `known`.
    pub(super) fn load(
        &self,
        store: &Store,
        image: &LoadedImage,
        known: &BTreeSet<Digest>,
    ) -> Result<Sent, EngineError> {
        let mut sent = Sent::default();
        let mut broken = None;
        let answer =
            http::post(&self.socket, "/images/load?quiet=1", "application/x-tar", &mut |body: &mut Body<
                '_,
            >| {
                match write_docker_tar(store, &image.descriptor, &image.names, known, body) {
                    Ok(report) => {
                        sent = report;
                        Ok(())
                    }
                    Err(ExportError::Write(error)) => Err(error),
                    Err(error) => {
                        broken = Some(error);
                        Err(io::Error::other("the image cannot be read"))
                    }
                }
            });
        if let Some(error) = broken {
            return Err(error.into());
        }
        let body = self.checked(answer)?;
        // Lines of JSON; what went wrong on the way is one of them.
        for line in body.split(|byte| *byte == b'\n') {
            if let Ok(line) = serde_json::from_slice::<Value>(line)
                && let Some(error) = line["error"].as_str()
            {
                return Err(refused(error));
            }
        }
        Ok(sent)
    }

    fn get<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<T, EngineError> {
        let body = self.checked(http::get(&self.socket, path))?;
        serde_json::from_slice(&body).map_err(|error| refused(&format!("its answer to {path} says {error}")))
    }

    /// Returns the body of an answer that is none of an error.
    fn checked(&self, answer: io::Result<http::Answer>) -> Result<Vec<u8>, EngineError> {
        let answer = answer.map_err(|source| EngineError::Docker { socket: self.socket.clone(), source })?;
        if (200..300).contains(&answer.status) {
            return Ok(answer.body);
        }
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let reason =
            told["message"].as_str().map_or_else(|| format!("status {}", answer.status), str::to_owned);
        Err(refused(&reason))
    }
}

fn refused(reason: &str) -> EngineError {
    // What it says of layers that it cannot decompress does not tell.
    let help = reason.contains("unexpected EOF").then(|| {
        "Docker before 23.0 reads no zstd: leave `compression=zstd` out, or say `force-compression=true,compression=gzip`"
            .to_owned()
    });
    EngineError::Loading { who: "Docker".to_owned(), reason: reason.to_owned(), help }
}

#[cfg(test)]
mod tests;
