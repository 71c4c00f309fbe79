//! Which engine builds: that of this process, or a BuildKit daemon, and what proves who is who there.
//!
//! In: `--engine`, else RB_ENGINE, else `engine` of `config.toml`; each an address, or a name that `config.toml` has a table for; and
//! RB_ENGINE_CERTS, a folder as docker's clients have them, for those whose table names none. A table has an address, or nodes that have
//! one each. `.env` says nothing of it: where files and secrets of the user are sent is the user's to say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rb_diag::nearest;
use rb_oci::Platform;
use rb_remote::{Address, Certificates};

use super::SettingsError;
use super::config::Config;
use crate::environment::Environment;

/// The name of the engine of this process.
pub(crate) const HERE: &str = "here";

/// Longest name of an engine.
const NAME_LENGTH: usize = 100;

/// Which engine is meant, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EngineName {
    /// That of this process.
    Here,
    /// One that `config.toml` has a table for.
    Named(String),
    /// The one at this address.
    At(Address),
}

impl fmt::Display for EngineName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => out.write_str(HERE),
            Self::Named(name) => out.write_str(name),
            Self::At(address) => address.fmt(out),
        }
    }
}

/// A text names no engine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoEngine {
    /// It is no address.
    #[error("{0}; {help}", help = .0.help())]
    Address(#[from] rb_remote::AddressError),
    /// It is neither.
    #[error("`{0}` is neither a name nor an address of an engine; {help}", help = NAME_HELP)]
    Name(String),
}

const NAME_HELP: &str =
    "a name has letters, digits, `.`, `_` and `-`, and an address a scheme: `tcp://HOST:PORT`";

impl FromStr for EngineName {
    type Err = NoEngine;

    fn from_str(text: &str) -> Result<Self, NoEngine> {
        match text {
            HERE => Ok(Self::Here),
            _ if text.contains("://") => Ok(Self::At(text.parse()?)),
            _ if is_name(text) => Ok(Self::Named(text.to_owned())),
            _ => Err(NoEngine::Name(text.chars().take(NAME_LENGTH).collect())),
        }
    }
}

/// Tells whether an engine may be called so.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= NAME_LENGTH
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-'))
}

/// Reads the name of a node: `ENGINE/NODE`.
pub(crate) fn node_name(text: &str) -> Option<(&str, &str)> {
    text.split_once('/').filter(|(engine, node)| is_name(engine) && is_name(node))
}

/// An engine that `config.toml` has a table for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KnownEngine {
    /// One daemon.
    One {
        /// Where it is.
        address: Address,
        /// Folder of certificates, absolute.
        certs: Option<PathBuf>,
    },
    /// Several, by name; there is at least one.
    Nodes(BTreeMap<String, KnownNode>),
}

/// A node of an engine, in `config.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownNode {
    /// Where it is.
    pub(crate) address: Address,
    /// Folder of certificates, absolute.
    pub(crate) certs: Option<PathBuf>,
    /// What it builds for; nothing where it is asked.
    pub(crate) platforms: BTreeSet<Platform>,
    /// How much it takes beside others.
    pub(crate) weight: NonZeroU32,
    /// It gets nothing new.
    pub(crate) drained: bool,
}

impl fmt::Display for KnownEngine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One { address, .. } => address.fmt(out),
            Self::Nodes(nodes) if nodes.len() == 1 => out.write_str("1 node"),
            Self::Nodes(nodes) => write!(out, "{} nodes", nodes.len()),
        }
    }
}

/// An engine elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EngineSettings {
    /// One daemon.
    One(EngineAt),
    /// Several.
    Nodes(NodesSettings),
}

/// Where a daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EngineAt {
    /// Where.
    pub(crate) address: Address,
    /// Folder of certificates.
    certificates: Option<PathBuf>,
}

/// An engine of several nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodesSettings {
    /// Its name.
    pub(crate) name: String,
    /// Its nodes by name, each with where it is.
    pub(crate) nodes: Vec<(String, KnownNode, EngineAt)>,
}

/// Settles which engine builds; none is that of this process.
pub(crate) fn settle(
    typed: Option<&EngineName>,
    config: &Config,
    environment: &Environment,
) -> Result<Option<EngineSettings>, SettingsError> {
    let meant = match typed {
        Some(typed) => Some(typed.clone()),
        None => environment.parsed("RB_ENGINE", |text| text.parse().ok())?.or_else(|| config.engine.clone()),
    };
    let of_environment = || environment.path("RB_ENGINE_CERTS").map(|path| environment.cwd.join(path));
    let one = |address: &Address, certs: Option<&PathBuf>| EngineAt {
        address: address.clone(),
        certificates: certs.cloned().or_else(of_environment),
    };
    match meant {
        None | Some(EngineName::Here) => Ok(None),
        Some(EngineName::At(address)) => Ok(Some(EngineSettings::One(one(&address, None)))),
        Some(EngineName::Named(name)) => match config.engines.get(&name) {
            Some(KnownEngine::One { address, certs }) => {
                Ok(Some(EngineSettings::One(one(address, certs.as_ref()))))
            }
            Some(KnownEngine::Nodes(nodes)) => {
                let at = |(node, known): (&String, &KnownNode)| {
                    (node.clone(), known.clone(), one(&known.address, known.certs.as_ref()))
                };
                let nodes = nodes.iter().map(at).collect();
                Ok(Some(EngineSettings::Nodes(NodesSettings { name, nodes })))
            }
            None => Err(SettingsError::NoEngine { help: help_with(&name, &config.engines), name }),
        },
    }
}

/// The same of a name that was typed elsewhere.
pub(crate) fn named(
    typed: Option<&EngineName>,
    environment: &Environment,
) -> Result<Option<EngineSettings>, SettingsError> {
    settle(typed, &super::read_config(environment)?, environment)
}

/// Says what to do about a name that nobody gave.
pub(crate) fn help_with(name: &str, known: &BTreeMap<String, KnownEngine>) -> String {
    // What other tools call this machine.
    if name == "default" {
        return format!("this machine is `{HERE}`: `rb engine use {HERE}`, or --engine={HERE}");
    }
    match nearest(name, known.keys().map(String::as_str).chain([HERE])) {
        Some(near) => format!("did you mean `{near}`? `rb engine ls` lists them"),
        None => format!("`rb engine add {name} ADDRESS` makes one known, `rb engine ls` lists them"),
    }
}

/// Says what a value looks like that names no engine.
pub(crate) fn help(value: &str) -> String {
    match value.parse::<EngineName>() {
        Err(NoEngine::Address(error)) => error.help(),
        Err(NoEngine::Name(_)) | Ok(_) => NAME_HELP.to_owned(),
    }
}

impl EngineAt {
    /// Leads elsewhere: to the Docker that is in use.
    pub(crate) fn at(self, address: Address) -> Self {
        Self { address, ..self }
    }

    /// Reads the certificates, as far as there are any.
    pub(crate) fn certificates(&self) -> std::io::Result<Certificates> {
        self.certificates.as_deref().map_or_else(|| Ok(Certificates::default()), read_certificates)
    }
}

/// Reads the certificates of a folder: `ca.pem`, and `cert.pem` with `key.pem`.
pub(crate) fn read_certificates(folder: &Path) -> std::io::Result<Certificates> {
    let authority = optional(&folder.join("ca.pem"))?;
    let own = match optional(&folder.join("cert.pem"))? {
        Some(certificate) => {
            let key = folder.join("key.pem");
            let missing = || {
                let reason = format!("`{}` is not there, and cert.pem is", key.display());
                std::io::Error::new(std::io::ErrorKind::NotFound, reason)
            };
            Some((certificate, optional(&key)?.ok_or_else(missing)?))
        }
        None => None,
    };
    if authority.is_none() && own.is_none() {
        let reason = format!("`{}` holds neither ca.pem nor cert.pem", folder.display());
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, reason));
    }
    Ok(Certificates { authority, own, name: None })
}

/// How each piece of a PEM file begins.
const PEM: &[u8] = b"-----BEGIN ";

fn optional(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) if bytes.windows(PEM.len()).any(|piece| piece == PEM) => Ok(Some(bytes)),
        Ok(_) => {
            let reason = format!("`{}` holds nothing in PEM", path.display());
            Err(std::io::Error::new(std::io::ErrorKind::InvalidData, reason))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::environment;

    fn known() -> Config {
        let engine = |address: &str, certs: Option<&str>| KnownEngine::One {
            address: address.parse().expect("an address"),
            certs: certs.map(PathBuf::from),
        };
        let engines = [
            ("far".to_owned(), engine("tcp://far:1", Some("/certs"))),
            ("near".to_owned(), engine("unix:///run/n.sock", None)),
        ];
        Config { engines: engines.into(), ..Config::default() }
    }

    fn of(typed: Option<&str>, variable: &'static str, config: &Config) -> Option<EngineAt> {
        let typed: Option<EngineName> = typed.map(|text| text.parse().expect("an engine"));
        let variables = [("RB_ENGINE", variable), ("RB_ENGINE_CERTS", "/nowhere")];
        one(settle(typed.as_ref(), config, &environment(&variables)).expect("settles"))
    }

    fn one(settled: Option<EngineSettings>) -> Option<EngineAt> {
        settled.map(|engine| match engine {
            EngineSettings::One(at) => at,
            EngineSettings::Nodes(nodes) => panic!("{nodes:?} is one"),
        })
    }

    #[test]
    fn nodes_have_certificates_of_their_own_or_those_of_the_environment() {
        let node = |address: &str, certs: Option<&str>| KnownNode {
            address: address.parse().expect("an address"),
            certs: certs.map(PathBuf::from),
            platforms: BTreeSet::new(),
            weight: NonZeroU32::MIN,
            drained: false,
        };
        let nodes = [
            ("a".to_owned(), node("tcp://a:1", Some("/certs"))),
            ("b".to_owned(), node("unix:///run/b.sock", None)),
        ];
        let engines = [("farm".to_owned(), KnownEngine::Nodes(nodes.into()))];
        let config = Config { engines: engines.into(), ..Config::default() };
        let variables = [("RB_ENGINE", "farm"), ("RB_ENGINE_CERTS", "/nowhere")];
        let Some(EngineSettings::Nodes(found)) =
            settle(None, &config, &environment(&variables)).expect("settles")
        else {
            panic!("has nodes")
        };
        let certs: Vec<_> = found.nodes.iter().map(|(_, _, at)| at.certificates.as_deref()).collect();
        assert_eq!((found.name.as_str(), certs.len()), ("farm", 2));
        assert_eq!(certs, [Some(Path::new("/certs")), Some(Path::new("/nowhere"))]);
        assert_eq!(node_name("farm/a"), Some(("farm", "a")));
        assert!(["farm", "farm/", "/a", "a/b/c", "-x/a"].into_iter().all(|text| node_name(text).is_none()));
    }

    #[test]
    fn what_is_typed_wins_and_certificates_are_not_taken_for_none() {
        let address = |found: Option<EngineAt>| found.map(|engine| engine.address.to_string());
        let some = |text: &str| Some(text.to_owned());
        let mut config = known();
        assert_eq!(address(of(None, "unix:///run/a.sock", &config)), some("unix:///run/a.sock"));
        assert_eq!(address(of(Some("tcp://x:1"), "unix:///run/a.sock", &config)), some("tcp://x:1"));
        assert_eq!(address(of(Some("far"), "unix:///run/a.sock", &config)), some("tcp://far:1"));
        assert_eq!(address(of(None, "near", &config)), some("unix:///run/n.sock"));
        assert_eq!(of(Some("here"), "near", &config), None);
        assert!(of(None, "near", &config).expect("is named").certificates().is_err());
        let certificates = of(Some("far"), "near", &config).expect("is named").certificates;
        assert_eq!(certificates.as_deref(), Some(Path::new("/certs")));
        config.engine = Some(EngineName::Named("far".to_owned()));
        let bare = environment(&[]);
        assert_eq!(address(one(settle(None, &config, &bare).expect("settles"))), some("tcp://far:1"));
        assert_eq!(settle(None, &known(), &bare).expect("settles"), None);
    }

    #[test]
    fn what_nobody_made_known_is_told_with_what_to_do() {
        let told = |variable: &'static str| {
            let error = settle(None, &known(), &environment(&[("RB_ENGINE", variable)])).expect_err(variable);
            (error.to_string(), error.help().unwrap_or_default())
        };
        let (message, help) = told("fat");
        assert!(
            message.contains("no engine `fat`") && help.contains("did you mean `far`?"),
            "{message}: {help}"
        );
        assert!(told("other").1.contains("rb engine add other ADDRESS"));
        assert!(told("hre").1.contains("did you mean `here`?"));
        assert!(told("default").1.contains("rb engine use here"));
        let (message, help) = told("http://far");
        assert!(message.contains("RB_ENGINE") && help.contains("ssh://"), "{message}: {help}");
        assert!(told("-x").1.contains("a scheme"));
    }
}
