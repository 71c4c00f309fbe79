//! Contexts with names: `context:NAME[::PLATFORM]=SOURCE` takes the place of a stage, an image or a `--from`.
//!
//! In: a name as FROM or `--from` has it, and the platform it is wanted for. Out: what is used instead, or nothing.
//! `docker-image://`, `oci-layout://STORE@DIGEST`, `local:NAME`, `input:NAME` and addresses of git and the web are known.

use std::collections::BTreeMap;

use rb_diag::{Diagnostic, nearest};
use rb_frontend::{Gateway, ImageLocation, ImageRequest};
use rb_llb::{NodeMeta, State, attr};
use rb_oci::{Digest, ImageConfig, Platform, Reference};

use super::{Folder, Taken, ignore, is_web, own_ignore_file, remote_file};
use crate::codes;
use crate::failure::{self, Fallible};
use crate::filesystem::Filesystem;
use crate::git_reference::GitReference;
use crate::image;
use crate::options::Options;

/// Kinds of sources.
const KINDS: [&str; 7] = ["docker-image", "git", "http", "https", "input", "local", "oci-layout"];

/// The contexts of a build.
pub(crate) struct NamedContexts<'a> {
    gateway: &'a dyn Gateway,
    options: &'a Options,
}

/// A context that takes something's place.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// Where its files are.
    pub(crate) origin: Origin,
    /// What its containers run with, if it is an image.
    pub(crate) image: Option<ImageConfig>,
}

/// Where files are.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// In this tree.
    Tree(Filesystem),
    /// In a folder that the client lends.
    Client(Folder),
}

impl Origin {
    /// Returns the tree, or what of it is taken.
    pub(crate) fn filesystem(&self, options: &Options, taken: &Taken) -> Filesystem {
        match self {
            Self::Tree(filesystem) => filesystem.clone(),
            Self::Client(folder) => Filesystem::of_tree(folder.state(options, taken)),
        }
    }
}

/// An option that was found for a name.
struct Found<'a> {
    /// The name as contexts have it.
    name: String,
    /// The same with its platform, if the option has one.
    key: String,
    /// The source.
    source: &'a str,
    /// What it is wanted for.
    platform: Option<&'a Platform>,
}

impl<'a> NamedContexts<'a> {
    /// Looks into these options.
    pub(crate) fn new(gateway: &'a dyn Gateway, options: &'a Options) -> Self {
        Self { gateway, options }
    }

    /// Tells whether a name has a context.
    pub(crate) fn has(&self, name: &str, platform: Option<&Platform>) -> bool {
        self.find(name, platform).is_some()
    }

    /// Returns the context of a name, if it has one.
    pub(crate) async fn load(&self, name: &str, platform: Option<&Platform>) -> Fallible<Option<Loaded>> {
        match self.find(name, platform) {
            Some(found) => self.load_found(&found).await.map(Some),
            None => Ok(None),
        }
    }

    /// Returns what the context of a name is, as it is written.
    pub(crate) fn source(&self, name: &str) -> Option<&str> {
        self.find(name, None).map(|found| found.source)
    }

    fn find<'p>(&'p self, name: &str, platform: Option<&'p Platform>) -> Option<Found<'p>> {
        if ["scratch", "context"].iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return None;
        }
        let familiar = name.parse::<Reference>().ok()?.familiar();
        let name = familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned();
        let wanted = platform.unwrap_or(&self.options.build_platform);
        let keys = [format!("{name}::{wanted}"), name.clone()];
        let known = &self.options.named_contexts;
        let (key, source) = keys.into_iter().find_map(|key| known.get(&key).map(|source| (key, source)))?;
        Some(Found { name, key, source, platform })
    }

    async fn load_found(&self, found: &Found<'_>) -> Fallible<Loaded> {
        let (kind, rest) = found.source.split_once(':').unwrap_or((found.source, ""));
        let place = rest.strip_prefix("//").unwrap_or(rest);
        match kind {
            "docker-image" => self.image(found, place).await,
            "oci-layout" => self.layout(found, place).await,
            "local" => self.folder(found, rest).await,
            "input" => self.input(found, rest),
            "git" | "http" | "https" => address(found),
            kind if kind.starts_with("git@") => address(found),
            kind => {
                Err(found.wrong(format!("`{kind}` is no kind of source")).with_nearest(nearest(kind, KINDS)))
            }
        }
    }

    async fn image(&self, found: &Found<'_>, name: &str) -> Fallible<Loaded> {
        if name == "scratch" {
            return Ok(Loaded { origin: Origin::Tree(Filesystem::default()), image: None });
        }
        let reference: Reference = name.parse().map_err(|error| found.wrong(format!("{error}")))?;
        let location = ImageLocation::Registry(reference.to_string());
        let image = self.resolve(found, location).await?;
        let meta = NodeMeta::named(format!("[context {}] {name}", found.key));
        let identifier = format!("docker-image://{reference}");
        Ok(self.of_image(found, &identifier, BTreeMap::new(), image, meta))
    }

    async fn layout(&self, found: &Found<'_>, place: &str) -> Fallible<Loaded> {
        let (store, digest) = place.rsplit_once('@').ok_or_else(|| {
            found
                .wrong("an image of a layout is named by its digest".to_owned())
                .with_help("write `oci-layout://STORE@sha256:…`")
        })?;
        let digest: Digest = digest.parse().map_err(|error| found.wrong(format!("{error}")))?;
        let store =
            store.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(store, |(store, _)| store);
        let name: Reference = found.name.parse().map_err(|error| found.wrong(format!("{error}")))?;
        let image = self.resolve(found, ImageLocation::OciStore { store: store.to_owned(), digest }).await?;
        let mut attrs = BTreeMap::from([(attr::OCI_STORE.to_owned(), store.to_owned())]);
        if let Some(session) = &self.options.session {
            attrs.insert(attr::OCI_SESSION.to_owned(), session.clone());
        }
        let meta = NodeMeta::named(format!("[context {}] OCI load from client", found.key));
        let identifier = format!("oci-layout://{}", name.pinned(digest));
        Ok(self.of_image(found, &identifier, attrs, image, meta))
    }

    async fn resolve(&self, found: &Found<'_>, location: ImageLocation) -> Fallible<ImageConfig> {
        let platform = found.platform.unwrap_or(&self.options.build_platform).clone();
        let resolved = self.gateway.resolve_image(&ImageRequest { location, platform }).await;
        let resolved = resolved.map_err(|error| found.told(failure::world(codes::IMAGE, &error, None)))?;
        Ok(image::understood(resolved.config))
    }

    fn of_image(
        &self,
        found: &Found<'_>,
        identifier: &str,
        attrs: BTreeMap<String, String>,
        image: ImageConfig,
        meta: NodeMeta,
    ) -> Loaded {
        let platform = found.platform.unwrap_or(&self.options.build_platform);
        let tree = State::source(identifier, attrs, Some(platform), meta);
        let filesystem = Filesystem::of_image(tree, platform).with_config(&image);
        Loaded { origin: Origin::Tree(filesystem), image: Some(image) }
    }

    async fn folder(&self, found: &Found<'_>, name: &str) -> Fallible<Loaded> {
        let mut folder = Folder {
            name: name.to_owned(),
            shared_key: format!("context:{}", found.key),
            unique: None,
            excludes: Vec::new(),
            shown: format!("[context {}] load from client", found.key),
        };
        let shown = format!("[context {}] load .dockerignore", found.key);
        let ignore = own_ignore_file(self.gateway, self.options, &folder, shown).await;
        let ignore = ignore.map_err(|error| found.told(error))?;
        folder.excludes = ignore::patterns(&ignore.unwrap_or_default());
        let shared = self.options.shared_keys.get(&found.key).map_or("", String::as_str);
        folder.shared_key = format!("context:{}-{shared}", found.key);
        Ok(Loaded { origin: Origin::Client(folder), image: None })
    }

    fn input(&self, found: &Found<'_>, name: &str) -> Fallible<Loaded> {
        let inputs = &self.options.inputs;
        let input = inputs.get(name).ok_or_else(|| {
            let near = nearest(name, inputs.keys().map(String::as_str));
            found.wrong(format!("there is no input `{name}`")).with_nearest(near)
        })?;
        let filesystem = Filesystem::of_tree(input.state.clone());
        let filesystem = input.config.iter().fold(filesystem, Filesystem::with_config);
        Ok(Loaded { origin: Origin::Tree(filesystem), image: input.config.clone() })
    }
}

/// Reads an address: of a repository, or of a file.
fn address(found: &Found<'_>) -> Fallible<Loaded> {
    let address = found.source;
    let repository = GitReference::parse_context(address).map_err(|reason| found.wrong(reason))?;
    let tree = match repository {
        Some(repository) => {
            repository.state(NodeMeta::named(super::internal(&format!("load git source {address}"))))
        }
        None if is_web(address) => {
            remote_file(address, NodeMeta::named(format!("[context {}] {address}", found.key)))
        }
        None => return Err(found.wrong(format!("`{address}` is not the address of a repository"))),
    };
    Ok(Loaded { origin: Origin::Tree(Filesystem::of_tree(tree)), image: None })
}

impl Found<'_> {
    fn wrong(&self, reason: String) -> Diagnostic {
        Diagnostic::error(codes::CONTEXT, format!("the context `{}` cannot be used: {reason}", self.key))
    }

    fn told(&self, error: Diagnostic) -> Diagnostic {
        error.with_trail(format!("for the context `{}`", self.key))
    }
}
