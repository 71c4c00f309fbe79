//! Candidates: the modules that an order names, with where each lies and what its own file says.
//!
//! In: what labels say of a builder or a package, folders that are lent, scripts of a project. Out: [`Candidates`]. A module of
//! the builder counts unless the user brings one of the same id and version.
//! **Invariant:** a module is what its file says that it is; its id and version are safe as names of folders.

use std::collections::{BTreeMap, BTreeSet};

use rb_frontend::ImageLocation;
use rb_llb::{MkfileAction, NodeMeta, State};
use rb_oci::{Platform, names_host};

use super::error::FrontendError;
use super::gate::{Folder, Gate, tree_of};
use super::package;
use super::registry::{Registered, registered};
use crate::builder::{Builder, Buildpackage};
use crate::detect::Modules;
use crate::export::EPOCH_SECONDS;
use crate::{Module, ModuleKey, ModuleKind, Order, escape_id};

/// How many modules are looked at.
const MOST: usize = 4096;

/// A module, and where it lies.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) module: Module,
    pub(super) place: Folder,
}

impl Candidate {
    pub(super) fn key(&self) -> ModuleKey {
        self.module.key()
    }

    /// Returns where programs see it.
    pub(super) fn folder(&self) -> String {
        folder(&self.key())
    }
}

/// Returns where a module lies in a builder, and where programs see it.
fn folder(key: &ModuleKey) -> String {
    let top = match key.kind {
        ModuleKind::Buildpack => "buildpacks",
        ModuleKind::Extension => "extensions",
    };
    format!("/cnb/{top}/{}/{}", escape_id(&key.id), key.version)
}

/// A buildpack that the user chooses.
#[derive(Clone, Debug)]
pub enum BuildpackChoice {
    /// One that is there by this id.
    Id {
        /// Its id.
        id: String,
        /// Its version; the only one if none is said.
        version: Option<String>,
        /// The registry that is asked where the builder has none of it.
        registry: Option<State>,
    },
    /// The order of the builder, each group of it.
    FromBuilder,
    /// A folder.
    Folder {
        /// The tree that it is in.
        state: State,
        /// Where in that; absolute.
        path: String,
        /// What people call it.
        shown: String,
    },
    /// An image of packages.
    Package(String),
    /// A package that lies in a layout, which is lent.
    Lent {
        /// Where.
        location: ImageLocation,
        /// What people call it.
        shown: String,
    },
    /// What a registry of buildpacks says of an id.
    Registered {
        /// The files of the registry.
        index: State,
        /// The id, `NAMESPACE/NAME`.
        id: String,
        /// The version; the newest if none is said.
        version: Option<String>,
    },
    /// A script, which always takes part.
    Inline {
        /// Its id.
        id: String,
        /// Its version.
        version: String,
        /// The API that it speaks.
        api: String,
        /// Its text.
        script: String,
        /// What runs it.
        shell: String,
    },
}

/// What a choice stands for.
pub(super) enum Chosen {
    One(ModuleKey),
    Builder,
}

/// All modules that may be asked.
#[derive(Default)]
pub(super) struct Candidates {
    /// Where modules lie that nobody has read yet.
    places: BTreeMap<ModuleKey, Folder>,
    read: BTreeMap<ModuleKey, Candidate>,
    /// What users should know of what was chosen.
    pub(super) warnings: Vec<String>,
}

impl Candidates {
    /// Takes those of a builder, which lie in its tree.
    pub(super) fn of_builder(builder: &Builder, tree: &State) -> Self {
        let mut all = Self::default();
        all.add(builder.modules.keys(), tree);
        all
    }

    fn add<'k>(&mut self, keys: impl Iterator<Item = &'k ModuleKey>, tree: &State) {
        for key in keys {
            self.places.insert(key.clone(), Folder::new(tree.clone(), folder(key)));
        }
    }

    /// Finds what a choice stands for, and brings it in.
    pub(super) async fn choose(
        &mut self,
        gate: Gate<'_>,
        choice: &BuildpackChoice,
        kind: ModuleKind,
        platform: &Platform,
    ) -> Result<Chosen, FrontendError> {
        Ok(Chosen::One(match choice {
            BuildpackChoice::FromBuilder => return Ok(Chosen::Builder),
            BuildpackChoice::Id { id, version, registry } => match self.named(kind, id, version.as_deref()) {
                Ok(found) => found,
                Err(error) => {
                    let image = match (image_of(id, version.as_deref()), registry) {
                        (Some(image), _) => image,
                        (None, Some(index)) => {
                            let found = registered(gate, index, id, version.as_deref()).await;
                            self.of_registry(found.map_err(|other| nowhere(&error, &other))?)
                        }
                        // Where there is no registry, an id may be an image, as in files of builders.
                        (None, None) => {
                            let there = version.is_none() && id.contains('/');
                            match there && gate.image(id, platform).await.is_ok() {
                                true => id.clone(),
                                false => return Err(error),
                            }
                        }
                    };
                    let location = ImageLocation::Registry(image.clone());
                    self.package(gate, location, &image, kind, platform).await?
                }
            },
            BuildpackChoice::Folder { state, path, shown } => {
                let place = Folder::new(state.clone(), path.clone());
                if gate.exists(&place, package::MARK).await? {
                    let (found, tree) = package::in_layout(gate, &place, platform, shown).await?;
                    self.add(found.modules.keys(), &tree);
                    return Ok(Chosen::One(ModuleKey {
                        kind,
                        id: found.info.id,
                        version: found.info.version,
                    }));
                }
                let candidate = read(gate, place, kind, shown).await?;
                self.bring(candidate)
            }
            BuildpackChoice::Package(image) => {
                let location = ImageLocation::Registry(image.clone());
                self.package(gate, location, image, kind, platform).await?
            }
            BuildpackChoice::Lent { location, shown } => {
                self.package(gate, location.clone(), shown, kind, platform).await?
            }
            BuildpackChoice::Registered { index, id, version } => {
                let image = self.of_registry(registered(gate, index, id, version.as_deref()).await?);
                let location = ImageLocation::Registry(image.clone());
                self.package(gate, location, &image, kind, platform).await?
            }
            BuildpackChoice::Inline { id, version, api, script, shell } => {
                let place = inline((id, version), api, script, shell);
                let candidate = read(gate, place, ModuleKind::Buildpack, id).await?;
                self.bring(candidate)
            }
        }))
    }

    /// Takes what a registry says.
    fn of_registry(&mut self, found: Registered) -> String {
        self.warnings.extend(found.warning);
        found.image
    }

    /// Takes the modules of a package, and returns the one that it is for.
    async fn package(
        &mut self,
        gate: Gate<'_>,
        location: ImageLocation,
        shown: &str,
        kind: ModuleKind,
        platform: &Platform,
    ) -> Result<ModuleKey, FrontendError> {
        let found = gate.image_at(location, platform).await?;
        let package = Buildpackage::of_image(&found.config)
            .map_err(|source| FrontendError::Package { image: shown.to_owned(), source })?;
        let tree = tree_of(&found, None, platform, &format!("package {shown}"));
        self.add(package.modules.keys(), &tree);
        Ok(ModuleKey { kind, id: package.info.id, version: package.info.version })
    }

    fn bring(&mut self, candidate: Candidate) -> ModuleKey {
        let key = candidate.key();
        self.places.insert(key.clone(), candidate.place.clone());
        self.read.insert(key.clone(), candidate);
        key
    }

    fn named(&self, kind: ModuleKind, id: &str, version: Option<&str>) -> Result<ModuleKey, FrontendError> {
        let of_id = |key: &&ModuleKey| key.kind == kind && key.id == id;
        let versions: Vec<&ModuleKey> = self.places.keys().filter(of_id).collect();
        let listed = || versions.iter().map(|key| key.version.clone()).collect::<Vec<_>>().join(", ");
        match (version, versions.as_slice()) {
            (None, [only]) => Ok((*only).clone()),
            (Some(version), all) if all.iter().any(|key| key.version == version) => {
                Ok(ModuleKey { kind, id: id.to_owned(), version: version.to_owned() })
            }
            (_, []) => {
                let ids = self.places.keys().filter(|key| key.kind == kind);
                let near = rb_diag::nearest(id, ids.map(|key| key.id.as_str())).map(ToOwned::to_owned);
                Err(FrontendError::NoModule { kind, id: id.to_owned(), near })
            }
            (None, _) => Err(FrontendError::Choice(format!(
                "the builder has several versions of {kind} `{id}`: {}; name one, `{id}@VERSION`",
                listed()
            ))),
            (Some(version), _) => Err(FrontendError::Choice(format!(
                "the builder has no version {version} of {kind} `{id}`, but {}",
                listed()
            ))),
        }
    }

    /// Reads the modules that orders name, and those that composites name. One that is nowhere is left out: who detects says so.
    pub(super) async fn reach(
        &mut self,
        gate: Gate<'_>,
        orders: &[(&Order, ModuleKind)],
    ) -> Result<Modules, FrontendError> {
        let keys = |order: &Order, kind: ModuleKind| {
            let key =
                |id: &String, version: &String| ModuleKey { kind, id: id.clone(), version: version.clone() };
            order
                .iter()
                .flat_map(|group| &group.group)
                .map(|one| key(&one.id, &one.version))
                .collect::<Vec<_>>()
        };
        let mut open: Vec<ModuleKey> = orders.iter().flat_map(|(order, kind)| keys(order, *kind)).collect();
        let mut reached = BTreeSet::new();
        while let Some(key) = open.pop() {
            if !self.places.contains_key(&key) || !reached.insert(key.clone()) {
                continue;
            }
            if reached.len() > MOST {
                return Err(FrontendError::TooMany {
                    what: "the order".to_owned(),
                    most: MOST,
                    of: "modules",
                });
            }
            if !self.read.contains_key(&key) {
                let candidate = read(gate, self.places[&key].clone(), key.kind, &key.to_string()).await?;
                // What its files say has been checked; the builder's label has not.
                if candidate.key() != key {
                    let says = candidate.key();
                    return Err(FrontendError::Choice(format!("{key} says of itself that it is {says}")));
                }
                self.read.insert(key.clone(), candidate);
            }
            open.extend(keys(&self.read[&key].module.order, ModuleKind::Buildpack));
        }
        Ok(reached.into_iter().map(|key| (key.clone(), self.read[&key].module.clone())).collect())
    }

    pub(super) fn get(&self, key: &ModuleKey) -> Result<&Candidate, FrontendError> {
        self.read.get(key).ok_or_else(|| FrontendError::Choice(format!("{} {key} was never read", key.kind)))
    }
}

/// Returns the image that a word names which is no id of the builder, where it can be no id of a registry either.
fn image_of(id: &str, version: Option<&str>) -> Option<String> {
    match version {
        Some(digest) if digest.starts_with("sha256:") => Some(format!("{id}@{digest}")),
        Some(_) => None,
        None => (names_host(id) || id.contains(':') || id.matches('/').count() > 1).then(|| id.to_owned()),
    }
}

/// Says that neither the builder nor a registry has it.
fn nowhere(builder: &FrontendError, registry: &FrontendError) -> FrontendError {
    FrontendError::Choice(format!("{builder}, and {registry}"))
}

async fn read(
    gate: Gate<'_>,
    place: Folder,
    kind: ModuleKind,
    shown: &str,
) -> Result<Candidate, FrontendError> {
    let (file, other) = match kind {
        ModuleKind::Buildpack => ("buildpack.toml", ModuleKind::Extension),
        ModuleKind::Extension => ("extension.toml", ModuleKind::Buildpack),
    };
    if !gate.exists(&place, file).await? {
        let reason = match gate.exists(&place, &format!("{other}.toml")).await? {
            true => format!("it is for `--{other}`"),
            false => format!("it holds neither `{file}` nor an OCI layout; is it an archive, and whole?"),
        };
        return Err(FrontendError::Choice(format!("`{shown}` is no {kind}: {reason}")));
    }
    let programs: BTreeSet<String> = gate.list(&place.below("bin")).await?.into_keys().collect();
    let read = match kind {
        ModuleKind::Buildpack => Module::buildpack(&gate.read(&place, file).await?, &programs),
        ModuleKind::Extension => Module::extension(&gate.read(&place, file).await?, &programs),
    };
    let module = read.map_err(|source| FrontendError::Module { place: shown.to_owned(), source })?;
    Ok(Candidate { module, place })
}

/// A buildpack that consists of one script.
fn inline((id, version): (&str, &str), api: &str, script: &str, shell: &str) -> Folder {
    let file = |path: &str, mode: u32, text: String| MkfileAction {
        path: path.to_owned(),
        mode,
        data: text.into_bytes().into(),
        owner: None,
        timestamp: Some(EPOCH_SECONDS * 1_000_000_000),
    };
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let (api, version) = (quoted(api), quoted(version));
    let about = format!("api = {api}\n[buildpack]\nid = {}\nversion = {version}\n", quoted(id));
    let folder = rb_llb::MkdirAction {
        path: "/bin".to_owned(),
        mode: 0o755,
        timestamp: Some(EPOCH_SECONDS * 1_000_000_000),
        ..rb_llb::MkdirAction::default()
    };
    let files = State::scratch().files().mkdir(folder);
    let files = files
        .mkfile(file("/buildpack.toml", 0o644, about))
        .mkfile(file("/bin/detect", 0o755, "#!/bin/sh\nexit 0\n".to_owned()))
        .mkfile(file("/bin/build", 0o755, format!("#!{shell}\n\n{script}\n")));
    Folder::new(files.finish(NodeMeta::named(format!("[internal] make buildpack {id}"))), "/")
}
