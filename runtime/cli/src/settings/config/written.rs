//! `config.toml` as it is written, and how it is read.
//!
//! In: a text and where it stands, which paths in it start at. Out: what it [says](Said), or every fault of it with its place. What
//! always holds: a key that means nothing is a fault, with the nearest that means something.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use rb_diag::{Diagnostics, Findings};
use rb_exec::Machine;
use rb_oci::Platform;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Network;
use super::said::{Said, SaidOfHost};
use crate::args::IsolationChoice;
use crate::codes::{BAD_VALUE, UNKNOWN_KEY};
use crate::settings::engine::{EngineName, HERE, KnownEngine, KnownNode, NoEngine, help, is_name};
use crate::settings::git::GitHost;
use crate::settings::keys;
use crate::settings::memory::MemoryBudget;
use crate::settings::registry::{check_host, resolve, usual_name};
use crate::settings::snapshotter::SnapshotterChoice;
use crate::settings::space::CacheSpace;

/// A file as it is written.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Written {
    jobs: Option<NonZeroUsize>,
    root: Option<Spanned<PathBuf>>,
    snapshotter: Option<SnapshotterChoice>,
    network: Network,
    steps: WrittenSteps,
    emulators: BTreeMap<String, PathBuf>,
    devices: WrittenDevices,
    registry: BTreeMap<Spanned<String>, WrittenRegistry>,
    git: BTreeMap<Spanned<String>, GitHost>,
    cache: CacheSpace,
    engine: Option<Spanned<String>>,
    engines: BTreeMap<Spanned<String>, WrittenEngine>,
}

#[derive(Deserialize)]
struct WrittenEngine {
    address: Option<Spanned<String>>,
    certs: Option<PathBuf>,
    #[serde(default)]
    nodes: BTreeMap<Spanned<String>, WrittenNode>,
}

#[derive(Deserialize)]
struct WrittenNode {
    address: Spanned<String>,
    certs: Option<PathBuf>,
    #[serde(default)]
    platforms: Vec<Spanned<String>>,
    weight: Option<NonZeroU32>,
    #[serde(default)]
    drained: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenSteps {
    runtime: Option<String>,
    memory_budget: Option<MemoryBudget>,
    isolation: Option<IsolationChoice>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenDevices {
    folders: Option<Vec<PathBuf>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenRegistry {
    mirrors: Option<Vec<Spanned<String>>>,
    http: Option<bool>,
    insecure: Option<bool>,
    ca: Option<Vec<PathBuf>>,
    keypair: Option<Spanned<Vec<WrittenKeypair>>>,
}

#[derive(Deserialize)]
struct WrittenKeypair {
    key: PathBuf,
    cert: PathBuf,
}

/// Reads the text of `file`; a `home` is what `~` stands for.
pub(super) fn parse(file: &Path, text: &str, home: Option<&Path>) -> Result<Said, Diagnostics> {
    let mut reader = Reader { findings: Findings::new(file.display().to_string(), text) };
    match DeTable::parse(text) {
        Ok(table) => reader.check_tables(table.get_ref()),
        Err(error) => {
            reader.refuse(&error);
            return Err(reader.findings.into_diagnostics());
        }
    }
    let said = match toml::from_str::<Written>(text) {
        Ok(written) => reader.said(written, file.parent().unwrap_or(Path::new("/")), home),
        Err(error) => {
            reader.refuse(&error);
            Said::default()
        }
    };
    if reader.findings.is_empty() { Ok(said) } else { Err(reader.findings.into_diagnostics()) }
}

/// What was found in the text so far.
struct Reader {
    findings: Findings,
}

impl Reader {
    fn refuse(&mut self, error: &toml::de::Error) {
        self.findings.refuse(BAD_VALUE, &error.span().unwrap_or_default(), error.message());
    }

    /// Looks for keys that mean nothing.
    fn check_tables(&mut self, table: &DeTable<'_>) {
        self.check_keys(table, &keys::names(""), "");
        for (key, value) in table {
            let DeValue::Table(inner) = value.get_ref() else { continue };
            match key.get_ref().as_ref() {
                "network" => self.check_keys(inner, &keys::names("network"), " in [network]"),
                "emulators" => {
                    let known: Vec<&str> = Machine::all().map(Machine::architecture).collect();
                    self.check_keys(inner, &known, " in [emulators]");
                }
                "steps" => self.check_keys(inner, &keys::names("steps"), " in [steps]"),
                "devices" => self.check_keys(inner, &keys::names("devices"), " in [devices]"),
                "registry" => {
                    for (host, registry) in inner {
                        let place = format!(" in [registry.\"{}\"]", host.get_ref());
                        self.check_registry(registry.get_ref(), &place);
                    }
                }
                "cache" => {
                    self.check_keys(inner, &keys::names("cache"), " in [cache]");
                    for (kind, bounds) in inner {
                        let DeValue::Table(bounds) = bounds.get_ref() else { continue };
                        let place = format!(" of `{}`", kind.get_ref());
                        self.check_keys(bounds, &keys::KIND_KEYS, &place);
                    }
                }
                "engines" => {
                    for (name, said) in inner {
                        let DeValue::Table(said) = said.get_ref() else { continue };
                        let place = format!(" in [engines.\"{}\"]", name.get_ref());
                        let known = [keys::names(keys::ENGINE), vec![keys::NODES]].concat();
                        self.check_keys(said, &known, &place);
                        let nodes = said.iter().filter(|(key, _)| key.get_ref() == keys::NODES);
                        for (_, node) in nodes.filter_map(|(_, nodes)| nodes.get_ref().as_table()).flatten() {
                            if let DeValue::Table(node) = node.get_ref() {
                                let place = format!(" of a node of `{}`", name.get_ref());
                                self.check_keys(node, &keys::names(keys::NODE), &place);
                            }
                        }
                    }
                }
                "git" => {
                    for (host, said) in inner {
                        let DeValue::Table(said) = said.get_ref() else { continue };
                        let place = format!(" in [git.\"{}\"]", host.get_ref());
                        self.check_keys(said, &keys::names(keys::GIT), &place);
                    }
                }
                _ => {}
            }
        }
    }

    fn check_registry(&mut self, registry: &DeValue<'_>, place: &str) {
        let DeValue::Table(registry) = registry else { return };
        self.check_keys(registry, &keys::names(keys::REGISTRY), place);
        let pairs = registry.iter().filter(|(key, _)| key.get_ref() == "keypair").map(|(_, value)| value);
        for pair in pairs.filter_map(|value| value.get_ref().as_array()).flatten() {
            if let DeValue::Table(pair) = pair.get_ref() {
                self.check_keys(pair, &keys::KEYPAIR_KEYS, " of a keypair");
            }
        }
    }

    fn check_keys(&mut self, table: &DeTable<'_>, known: &[&str], place: &str) {
        let keys = table.keys().map(|key| (key.get_ref().as_ref(), key.span()));
        self.findings.check_keys(UNKNOWN_KEY, keys, known, place, |_| None);
    }

    fn said(&mut self, written: Written, folder: &Path, home: Option<&Path>) -> Said {
        let Written {
            jobs,
            root,
            snapshotter,
            network,
            steps,
            emulators,
            devices,
            registry,
            git,
            cache,
            engine,
            engines,
        } = written;
        let ca = network.ca.map(|files| files.iter().map(|file| resolve(file, folder, home)).collect());
        let emulators = emulators.into_iter().map(|(name, path)| (name, resolve(&path, folder, home)));
        let emulators = emulators.collect();
        let absolute = |path: &PathBuf| resolve(path, folder, home);
        let device_folders = devices.folders.map(|folders| folders.iter().map(absolute).collect());
        let network = Network { ca, ..network };
        let isolation = steps.isolation;
        let runtime = steps.runtime.map(|word| match word.contains('/') {
            true => absolute(&PathBuf::from(word)).display().to_string(),
            false => word,
        });
        let mut said = Said {
            jobs,
            snapshotter,
            network,
            runtime,
            memory_budget: steps.memory_budget,
            isolation,
            emulators,
            device_folders,
            cache,
            ..Said::default()
        };
        if let Some(root) = root {
            let path = resolve(root.get_ref(), Path::new(""), home);
            if !path.is_absolute() {
                let message = format!("`{}` is not an absolute path", path.display());
                self.findings.add(
                    BAD_VALUE,
                    &root.span(),
                    &message,
                    "a state directory has one place: `/data/rb`, `~/rb`",
                );
            }
            said.root = Some(path);
        }
        said.engine = engine.and_then(|engine| self.engine(&engine));
        for (name, written) in engines {
            if let Some(known) = self.known_engine(&name, written, &absolute) {
                said.engines.insert(name.into_inner(), known);
            }
        }
        for (host, written) in git {
            let trouble = match check_host(host.get_ref()) {
                Ok(()) if host.get_ref().contains(['/', ':']) => Err("its name is more than a host"),
                Ok(()) => written.check(),
                Err(trouble) => Err(trouble),
            };
            if let Err(trouble) = trouble {
                let message = format!("[git.\"{}\"]: {trouble}", host.get_ref());
                let help = "write `url = \"ssh://git@git.example/\"` below the host's name; a token is the secret \
                            GIT_AUTH_TOKEN.HOST";
                self.findings.add(BAD_VALUE, &host.span(), &message, help);
            }
            said.git.insert(host.into_inner(), written);
        }
        for (host, written) in registry {
            let name = usual_name(host.get_ref()).to_owned();
            self.check_host(&host, false);
            let of_host = self.said_of_host(written, folder, home);
            if said.hosts.insert(name.clone(), of_host).is_some() {
                let message = format!("`{name}` has another table");
                self.findings.add(
                    BAD_VALUE,
                    &host.span(),
                    &message,
                    "keep one: these are names of one registry",
                );
            }
        }
        said
    }

    fn engine(&mut self, text: &Spanned<String>) -> Option<EngineName> {
        let read = text.get_ref().parse();
        let refuse = |error: NoEngine| {
            let help = help(text.get_ref());
            self.findings.add(BAD_VALUE, &text.span(), &error.to_string(), &help);
        };
        read.map_err(refuse).ok()
    }

    /// Reads the table of an engine: an address, or nodes.
    fn known_engine(
        &mut self,
        name: &Spanned<String>,
        written: WrittenEngine,
        absolute: &dyn Fn(&PathBuf) -> PathBuf,
    ) -> Option<KnownEngine> {
        self.check_engine_name(name, "an engine");
        let WrittenEngine { address, certs, nodes } = written;
        match address {
            Some(address) if nodes.is_empty() => {
                let address = self.address(&address)?;
                Some(KnownEngine::One { address, certs: certs.as_ref().map(absolute) })
            }
            None if !nodes.is_empty() && certs.is_none() => {
                let mut known = BTreeMap::new();
                for (node, WrittenNode { address, certs, platforms, weight, drained }) in nodes {
                    self.check_engine_name(&node, "a node");
                    let platforms = platforms.iter().filter_map(|text| self.platform(text)).collect();
                    let certs = certs.as_ref().map(absolute);
                    let weight = weight.unwrap_or(NonZeroU32::MIN);
                    if let Some(address) = self.address(&address) {
                        let own = KnownNode { address, certs, platforms, weight, drained };
                        known.insert(node.into_inner(), own);
                    }
                }
                Some(KnownEngine::Nodes(known))
            }
            Some(_) | None => {
                let message =
                    format!("engine `{}` needs an address, or nodes that have one each", name.get_ref());
                let help = "`address` and `certs` of an engine with nodes stand in [engines.NAME.nodes.NODE]";
                self.findings.add(BAD_VALUE, &name.span(), &message, help);
                None
            }
        }
    }

    fn check_engine_name(&mut self, name: &Spanned<String>, what: &str) {
        if !is_name(name.get_ref()) || name.get_ref() == HERE {
            let message = format!("`{}` is no name of {what}", name.get_ref());
            let help = "letters and digits, and `.`, `_` and `-` in between; `here` is this machine";
            self.findings.add(BAD_VALUE, &name.span(), &message, help);
        }
    }

    fn address(&mut self, text: &Spanned<String>) -> Option<rb_remote::Address> {
        let refuse = |error: rb_remote::AddressError| {
            self.findings.add(BAD_VALUE, &text.span(), &error.to_string(), error.help());
        };
        text.get_ref().parse().map_err(refuse).ok()
    }

    fn platform(&mut self, text: &Spanned<String>) -> Option<Platform> {
        let refuse = |error: rb_oci::PlatformError| {
            let help = "write `linux/amd64`, `linux/arm64`";
            self.findings.add(BAD_VALUE, &text.span(), &error.to_string(), help);
        };
        text.get_ref().parse().map_err(refuse).ok()
    }

    fn said_of_host(&mut self, written: WrittenRegistry, folder: &Path, home: Option<&Path>) -> SaidOfHost {
        let WrittenRegistry { mirrors, http, insecure, ca, keypair } = written;
        mirrors.iter().flatten().for_each(|mirror| self.check_host(mirror, true));
        let path = |path: PathBuf| resolve(&path, folder, home);
        if let Some(pairs) = keypair.as_ref().filter(|pairs| pairs.get_ref().len() > 1) {
            let message = "a registry is shown one certificate";
            self.findings.add(BAD_VALUE, &pairs.span(), message, "keep one pair of `key` and `cert`");
        }
        SaidOfHost {
            mirrors: mirrors.map(|mirrors| mirrors.into_iter().map(Spanned::into_inner).collect()),
            http,
            insecure,
            ca: ca.map(|files| files.into_iter().map(path).collect()),
            keypair: keypair
                .and_then(|pairs| pairs.into_inner().into_iter().next())
                .map(|pair| (path(pair.cert), path(pair.key))),
        }
    }

    /// Checks that a text is a registry's host; a mirror may have a scheme and a path.
    fn check_host(&mut self, host: &Spanned<String>, mirror: bool) {
        let text = host.get_ref();
        let schemes: &[&str] = if mirror { &["https://", "http://"] } else { &[] };
        let bare = schemes.iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
        let trouble = match check_host(bare) {
            Err(trouble) => trouble,
            Ok(()) if bare.contains('/') && !mirror => "it has a path",
            Ok(()) => return,
        };
        // What has a name and a password in front is not repeated.
        let shown = if text.contains('@') { "…" } else { text };
        let message = format!("`{shown}` is not a registry: {trouble}");
        let help =
            "write the host alone, such as `registry.example.com:5000`; `http = true` stands for `http://`";
        self.findings.add(BAD_VALUE, &host.span(), &message, help);
    }
}
