//! What a graph takes from outside.
//!
//! In: the graph of a root, those that its frontend read, and what sources stood for. Out: [`Captured`], each thing once and sorted.
//! A folder of the client, this machine, and a graph that lies in a tree have no digest for others: what takes of them is not
//! complete.

use std::collections::BTreeMap;

use rb_api::{AskedBuild, AskedImage};
use rb_llb::{Definition, ExecOp, MountKind, NetworkMode, Op, SourceOp, Vertex, attr};
use rb_oci::{Digest, Platform, Reference};
use rb_sources::git::GitRequest;
use serde_json::{Value, json};

use super::purl;
use super::seen::Seen;
use super::strike::without_credentials;
use crate::error::EngineError;

/// What a graph takes from outside.
#[derive(Debug, Default)]
pub(super) struct Captured {
    images: Vec<Image>,
    blobs: BTreeMap<String, Option<Digest>>,
    /// Commits by address.
    git: BTreeMap<String, String>,
    /// Bundles that they came from.
    bundles: BTreeMap<String, Digest>,
    web: BTreeMap<String, String>,
    /// Folders of the client, by the names that the user knows.
    pub(super) folders: Vec<String>,
    /// Ids, and whether each may be missing.
    pub(super) secret_ids: BTreeMap<String, bool>,
    pub(super) agents: BTreeMap<String, bool>,
    /// A command has a network.
    pub(super) has_network: bool,
    /// What has no digest for others, beside folders.
    others: Vec<String>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Image {
    name: Reference,
    platform: Option<Platform>,
    digest: Option<Digest>,
    /// It lies in a layout of the client.
    is_local: bool,
}

impl Captured {
    /// Looks at a graph and at what its frontend asked for.
    pub(super) fn of(definition: &Definition, asked: &AskedBuild, seen: &Seen) -> Result<Self, EngineError> {
        let mut captured = Self::default();
        for definition in std::iter::once(definition).chain(&asked.read) {
            for vertex in definition.graph()?.vertices() {
                match &vertex.op {
                    Op::Source(source) => captured.source(vertex, source, asked, seen)?,
                    Op::Exec(exec) => captured.exec(exec),
                    Op::Build(_) => captured.others.push("a graph that a step made".to_owned()),
                    Op::File(_) | Op::Merge(_) | Op::Diff(_) => {}
                }
            }
        }
        captured.asked_for(asked);
        captured.drop_pinned_twins();
        captured.images.sort_by_key(|image| (image.name.to_string(), image.platform.clone()));
        captured.folders.sort();
        captured.folders.dedup();
        captured.others.sort();
        captured.others.dedup();
        Ok(captured)
    }

    fn source(
        &mut self,
        vertex: &Vertex,
        source: &SourceOp,
        asked: &AskedBuild,
        seen: &Seen,
    ) -> Result<(), EngineError> {
        let (scheme, name) = source.scheme();
        match scheme {
            "docker-image" | "oci-layout" => {
                let name: Reference = name.parse()?;
                let platform = vertex.platform.as_ref().map(Platform::from);
                let digest = name.digest();
                self.add(Image { name, platform, digest, is_local: scheme == "oci-layout" });
            }
            "docker-image+blob" | "oci-layout+blob" => {
                let name: Reference = name.parse()?;
                self.blobs.insert(purl::blob(&name, scheme.starts_with("oci")), name.digest());
            }
            "git" => {
                let request = GitRequest::parse(name, &source.attrs)?;
                let mut address = without_credentials(&request.remote.to_string());
                if !request.reference.is_empty() {
                    address = format!("{address}#{}", request.reference);
                }
                for id in request.token_secret.iter().chain(&request.header_secret) {
                    self.secret_ids.entry(id.clone()).or_insert(true);
                }
                if let Some(id) = &request.ssh {
                    self.agents.entry(id.clone()).or_insert(true);
                }
                if let Some(bundle) = &request.bundle {
                    let (scheme, name) = bundle.source.scheme();
                    let uri = purl::bundle(&name.parse()?, scheme.starts_with("oci"), &address);
                    self.bundles.insert(uri, bundle.digest);
                }
                match seen.pin(&vertex.digest) {
                    Some(commit) => drop(self.git.insert(address, commit)),
                    None => self.others.push(address),
                }
            }
            "http" | "https" => {
                let address = without_credentials(&source.identifier);
                let pin = seen.pin(&vertex.digest).or_else(|| source.attrs.get(attr::HTTP_CHECKSUM).cloned());
                match pin {
                    Some(digest) => drop(self.web.insert(address, digest)),
                    None => self.others.push(address),
                }
            }
            "local" => {
                let known = asked.folders.iter().find(|(_, lent)| lent.as_str() == name);
                self.folders.push(known.map_or(name, |(known, _)| known).to_owned());
            }
            // This machine, and what a step left that failed.
            other => self.others.push(format!("{other}://")),
        }
        Ok(())
    }

    fn exec(&mut self, exec: &ExecOp) {
        let mut add = |ids: fn(&mut Self) -> &mut BTreeMap<String, bool>, id: &str, is_optional: bool| {
            let entry = ids(self).entry(id.to_owned()).or_insert(is_optional);
            *entry &= is_optional;
        };
        for mount in &exec.mounts {
            match &mount.kind {
                MountKind::Secret(secret) => add(|own| &mut own.secret_ids, &secret.id, secret.optional),
                MountKind::Ssh(agent) => {
                    let id = if agent.id.is_empty() { "default" } else { &agent.id };
                    add(|own| &mut own.agents, id, agent.optional);
                }
                _ => {}
            }
        }
        for secret in &exec.secret_env {
            add(|own| &mut own.secret_ids, &secret.id, secret.optional);
        }
        self.has_network |= exec.network != NetworkMode::None;
    }

    fn add(&mut self, image: Image) {
        let is_same = |known: &Image| {
            known.name == image.name && known.is_local == image.is_local && known.platform == image.platform
        };
        if !self.images.iter().any(is_same) {
            self.images.push(image);
        }
    }

    /// Adds the images that the frontend asked for. What it asked for once for each platform of the build counts for that of the
    /// root alone.
    fn asked_for(&mut self, asked: &AskedBuild) {
        for AskedImage { name, platform, digest } in &asked.images {
            let Ok(reference) = name.parse::<Reference>() else { continue };
            let is_for = |wanted: &Platform| {
                asked.images.iter().any(|other| other.name == *name && other.platform == *wanted)
            };
            let is_other = asked.platform.as_ref().is_some_and(|own| own != platform);
            if asked.platforms.len() > 1 && is_other && asked.platforms.iter().all(is_for) {
                continue;
            }
            let (platform, digest) = (Some(platform.clone()), Some(*digest));
            self.add(Image { name: reference, platform, digest, is_local: false });
        }
    }

    /// Leaves images out that are named by digest where the same name stands there without.
    fn drop_pinned_twins(&mut self) {
        let name = |image: &Image| {
            let tag = image.name.tag().unwrap_or("latest").to_owned();
            (image.name.repository().to_string(), tag)
        };
        let plain: Vec<_> =
            self.images.iter().filter(|image| image.name.digest().is_none()).map(name).collect();
        self.images.retain(|image| image.name.digest().is_none() || !plain.contains(&name(image)));
    }

    /// Returns what it is made of, as SLSA has it: addresses with digests.
    pub(super) fn materials(&self) -> Vec<Value> {
        let sha256 = |uri: String, digest: Option<String>| match digest {
            Some(hex) => json!({ "uri": uri, "digest": { "sha256": hex } }),
            None => json!({ "uri": uri }),
        };
        let hex = |digest: &Option<Digest>| digest.as_ref().map(Digest::hex);
        let images = self.images.iter().map(|Image { name, platform, digest, is_local }| {
            sha256(purl::reference(name, platform.as_ref(), *is_local), hex(digest))
        });
        let blobs = self.blobs.iter().map(|(uri, digest)| sha256(uri.clone(), hex(digest)));
        let git = self
            .git
            .iter()
            .map(|(uri, commit)| json!({ "uri": uri, "digest": { algorithm_of(commit): commit } }));
        let web = self
            .web
            .iter()
            .map(|(uri, digest)| sha256(uri.clone(), Some(digest.trim_start_matches("sha256:").to_owned())));
        let bundles = self.bundles.iter().map(|(uri, digest)| sha256(uri.clone(), Some(digest.hex())));
        images.chain(blobs).chain(git).chain(bundles).chain(web).collect()
    }

    /// Returns address and digest of what an address of a context stands for.
    pub(super) fn config(&self, address: &str) -> Option<Value> {
        let address = without_credentials(address);
        if let Some(digest) = self.web.get(&address) {
            return Some(
                json!({ "uri": address, "digest": { "sha256": digest.trim_start_matches("sha256:") } }),
            );
        }
        // A fragment names a folder, too.
        let (remote, fragment) = address.split_once('#').unwrap_or((address.as_str(), ""));
        let reference = fragment.split(':').next().unwrap_or_default();
        let known = |uri: &str| {
            let (known, named) = uri.split_once('#').unwrap_or((uri, ""));
            named == reference && known.trim_end_matches('/') == remote.trim_end_matches('/')
        };
        let (_, commit) = self.git.iter().find(|(uri, _)| known(uri))?;
        Some(json!({ "uri": address, "digest": { algorithm_of(commit): commit } }))
    }

    /// Tells whether all it takes has a digest for others.
    pub(super) fn is_complete(&self) -> bool {
        self.folders.is_empty() && self.others.is_empty()
    }

    /// Returns what has none.
    pub(super) fn untold(&self) -> Vec<String> {
        let folder = |name: &String| format!("the folder `{name}`");
        self.folders.iter().map(folder).chain(self.others.iter().cloned()).collect()
    }

    /// Returns the ids of secrets.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secret_ids.keys().map(String::as_str)
    }
}

/// Returns the algorithm of a commit's digest.
fn algorithm_of(commit: &str) -> &'static str {
    if commit.len() == 64 { "sha256" } else { "sha1" }
}
