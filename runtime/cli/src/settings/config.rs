//! `config.toml`: what the user, and below that the machine, sets for every `rb`.
//!
//! In: the [`Environment`], which says where the files are. Out: a [`Config`]; without files all defaults, with a wrong
//! one all its errors. The user's file is `$RB_CONFIG`, else `rb/config.toml` in `$XDG_CONFIG_HOME` or `~/.config`; what it
//! does not say, `/etc/rb/config.toml` may, key by key. Names of a registry's keys are those of buildkitd.toml.
//! ```toml
//! jobs = 4
//! root = "/data/rb"
//!
//! [network]
//! https_proxy = "http://proxy.example:3128"
//! no_proxy = "localhost,.example"
//! ca = ["company.pem"]
//!
//! [registry."docker.io"]
//! mirrors = ["mirror.example"]
//!
//! [registry."localhost:5000"]
//! http = true
//!
//! [registry."registry.example"]
//! ca = ["ca.pem"]
//! keypair = [{ key = "key.pem", cert = "cert.pem" }]
//! ```
//! Places are told in the message, as `FILE:line:column`; the text is not shown, as a proxy's address may hold a password.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rb_diag::{Diagnostic, Diagnostics, ErrorKind, SourceFile, SourceId, chain, nearest};
use rb_registry::HostOptions;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::registry::{check_host, resolve, usual_name};
use crate::environment::Environment;
use crate::world::{ReadError, read_regular};

/// The machine's file.
const SYSTEM_FILE: &str = "/etc/rb/config.toml";

/// Largest file that is read.
const LIMIT_BYTES: u64 = 1 << 20;

const BAD_VALUE: &str = "rb::config::bad_value";
const UNKNOWN_KEY: &str = "rb::config::unknown_key";
const UNREADABLE: &str = "rb::config::unreadable";

/// What the files set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// The files that were read, the strongest first.
    pub(crate) files: Vec<PathBuf>,
    /// Steps at once.
    pub(crate) jobs: Option<NonZeroUsize>,
    /// State directory, absolute.
    pub(crate) root: Option<PathBuf>,
    /// Proxies.
    pub(crate) network: Network,
    /// Registries by their names in images.
    pub(crate) hosts: BTreeMap<String, HostOptions>,
}

/// Proxies, each over that of the environment; an empty one means none. And authorities for every host.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Network {
    pub(crate) http_proxy: Option<String>,
    pub(crate) https_proxy: Option<String>,
    pub(crate) no_proxy: Option<String>,
    /// PEM files, beside this file or absolute.
    pub(crate) ca: Option<Vec<PathBuf>>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Addresses of proxies may hold passwords.
        out.write_str("Network")
    }
}

/// A file as it is written.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Written {
    jobs: Option<NonZeroUsize>,
    root: Option<Spanned<PathBuf>>,
    network: Network,
    registry: BTreeMap<Spanned<String>, WrittenRegistry>,
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

/// Keys of the file and of its tables.
const KEYS: [&str; 4] = ["jobs", "root", "network", "registry"];
const NETWORK_KEYS: [&str; 4] = ["http_proxy", "https_proxy", "no_proxy", "ca"];
const REGISTRY_KEYS: [&str; 5] = ["mirrors", "http", "insecure", "ca", "keypair"];
const KEYPAIR_KEYS: [&str; 2] = ["key", "cert"];

/// What one file says, checked.
#[derive(Default)]
struct Said {
    jobs: Option<NonZeroUsize>,
    root: Option<PathBuf>,
    network: Network,
    hosts: BTreeMap<String, SaidOfHost>,
}

#[derive(Default)]
struct SaidOfHost {
    mirrors: Option<Vec<String>>,
    http: Option<bool>,
    insecure: Option<bool>,
    ca: Option<Vec<PathBuf>>,
    /// Certificate and key.
    keypair: Option<(PathBuf, PathBuf)>,
}

impl Said {
    /// Fills what is not said here with what is said below.
    fn or(self, below: Self) -> Self {
        let mut hosts = below.hosts;
        for (host, said) in self.hosts {
            let other = hosts.remove(&host).unwrap_or_default();
            let joined = SaidOfHost {
                mirrors: said.mirrors.or(other.mirrors),
                http: said.http.or(other.http),
                insecure: said.insecure.or(other.insecure),
                ca: said.ca.or(other.ca),
                keypair: said.keypair.or(other.keypair),
            };
            hosts.insert(host, joined);
        }
        Self {
            jobs: self.jobs.or(below.jobs),
            root: self.root.or(below.root),
            network: Network {
                http_proxy: self.network.http_proxy.or(below.network.http_proxy),
                https_proxy: self.network.https_proxy.or(below.network.https_proxy),
                no_proxy: self.network.no_proxy.or(below.network.no_proxy),
                ca: self.network.ca.or(below.network.ca),
            },
            hosts,
        }
    }
}

/// Reads the files.
pub(crate) fn load(environment: &Environment) -> Result<Config, Diagnostics> {
    let named = environment.path("RB_CONFIG").map(|path| environment.cwd.join(path));
    let (own, required) = match named {
        Some(path) => (Some(path), true),
        None => (usual_place(environment), false),
    };
    load_from(own.as_deref(), required, Path::new(SYSTEM_FILE), environment.home())
}

/// Returns where the user's file is looked for if nobody names another.
fn usual_place(environment: &Environment) -> Option<PathBuf> {
    // The XDG specification has relative paths ignored.
    let folder = environment.path("XDG_CONFIG_HOME").filter(|folder| folder.is_absolute());
    let folder = folder.or_else(|| environment.home().map(|home| home.join(".config")));
    folder.filter(|folder| folder.is_absolute()).map(|folder| folder.join("rb/config.toml"))
}

fn load_from(
    own: Option<&Path>,
    required: bool,
    system: &Path,
    home: Option<&Path>,
) -> Result<Config, Diagnostics> {
    let mut config = Config::default();
    let mut errors = Vec::new();
    let mut all = Said::default();
    for (file, required) in own.map(|file| (file, required)).into_iter().chain([(system, false)]) {
        match read(file, required, home) {
            Ok(Some(said)) => {
                config.files.push(file.to_owned());
                all = all.or(said);
            }
            Ok(None) => {}
            Err(found) => errors.extend(found),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    config.jobs = all.jobs;
    config.root = all.root;
    config.network = all.network;
    config.hosts = all.hosts.into_iter().map(|(host, said)| (host, settings_of(said))).collect();
    Ok(config)
}

fn settings_of(said: SaidOfHost) -> HostOptions {
    let SaidOfHost { mirrors, http, insecure, ca, keypair } = said;
    HostOptions {
        mirrors: mirrors.unwrap_or_default(),
        plain_http: http.unwrap_or_default(),
        skip_verify: insecure.unwrap_or_default(),
        ca: ca.unwrap_or_default(),
        client_certificate: keypair,
    }
}

fn read(file: &Path, required: bool, home: Option<&Path>) -> Result<Option<Said>, Diagnostics> {
    let shown = file.display();
    let bytes = match read_regular(file, LIMIT_BYTES) {
        Ok(bytes) => bytes,
        Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            if !required {
                return Ok(None);
            }
            let error = Diagnostic::error(UNREADABLE, format!("`{shown}` is not there"));
            return Err(vec![error.with_help("RB_CONFIG names it: set another path, or none")]);
        }
        Err(error) => {
            let kind =
                if matches!(error, ReadError::Io(_)) { ErrorKind::Environment } else { ErrorKind::Input };
            let message = format!("`{shown}` {}", chain(&error));
            return Err(vec![Diagnostic::error(UNREADABLE, message).with_kind(kind)]);
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => parse(file, &text, home).map(Some),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let message = format!("`{shown}` is not UTF-8: byte {at} belongs to no character");
            Err(vec![Diagnostic::error(BAD_VALUE, message).with_help("write it in UTF-8")])
        }
    }
}

fn parse(file: &Path, text: &str, home: Option<&Path>) -> Result<Said, Diagnostics> {
    let name = file.display().to_string();
    let mut reader = Reader { source: SourceFile::new(SourceId::default(), name, text), errors: Vec::new() };
    match DeTable::parse(text) {
        Ok(table) => reader.check_tables(table.get_ref()),
        Err(error) => {
            reader.refuse(&error);
            return Err(reader.errors());
        }
    }
    let said = match toml::from_str::<Written>(text) {
        Ok(written) => reader.said(written, file.parent().unwrap_or(Path::new("/")), home),
        Err(error) => {
            reader.refuse(&error);
            Said::default()
        }
    };
    if reader.errors.is_empty() { Ok(said) } else { Err(reader.errors()) }
}

/// The text, and what was found in it, each with its first byte.
struct Reader {
    source: SourceFile,
    errors: Vec<(usize, Diagnostic)>,
}

impl Reader {
    fn errors(mut self) -> Diagnostics {
        self.errors.sort_by_key(|(start, _)| *start);
        self.errors.into_iter().map(|(_, error)| error).collect()
    }

    fn error(&mut self, code: &'static str, range: &Range<usize>, message: &str, help: &str) {
        let at = self.source.position(u32::try_from(range.start).unwrap_or(u32::MAX));
        let place = format!("{}:{}:{}", self.source.name, at.line, at.column);
        self.errors
            .push((range.start, Diagnostic::error(code, format!("{place}: {message}")).with_help(help)));
    }

    /// Says what the format has against the text, or a type against a value.
    fn refuse(&mut self, error: &toml::de::Error) {
        let help = "values are written `true`, `4`, `\"text\"` or `[\"one\", \"two\"]`, keys of a table below its `[name]`";
        // A text in the wrong place may be an address with a password.
        let message = error.message();
        let message = match message.split_once("string \"") {
            Some((before, rest)) => {
                format!("{before}string{}", rest.rsplit_once('"').map_or("", |(_, after)| after))
            }
            None => message.to_owned(),
        };
        self.error(BAD_VALUE, &error.span().unwrap_or_default(), &message, help);
    }

    /// Looks for keys that mean nothing.
    fn check_tables(&mut self, table: &DeTable<'_>) {
        self.check_keys(table, &KEYS, "");
        for (key, value) in table {
            let DeValue::Table(inner) = value.get_ref() else { continue };
            match key.get_ref().as_ref() {
                "network" => self.check_keys(inner, &NETWORK_KEYS, " in [network]"),
                "registry" => {
                    for (host, registry) in inner {
                        let place = format!(" in [registry.\"{}\"]", host.get_ref());
                        self.check_registry(registry.get_ref(), &place);
                    }
                }
                _ => {}
            }
        }
    }

    fn check_registry(&mut self, registry: &DeValue<'_>, place: &str) {
        let DeValue::Table(registry) = registry else { return };
        self.check_keys(registry, &REGISTRY_KEYS, place);
        let pairs = registry.iter().filter(|(key, _)| key.get_ref() == "keypair").map(|(_, value)| value);
        for pair in pairs.filter_map(|value| value.get_ref().as_array()).flatten() {
            if let DeValue::Table(pair) = pair.get_ref() {
                self.check_keys(pair, &KEYPAIR_KEYS, " of a keypair");
            }
        }
    }

    fn check_keys(&mut self, table: &DeTable<'_>, known: &[&str], place: &str) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let help = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known keys: {}", known.join(", ")),
            };
            self.error(UNKNOWN_KEY, &key.span(), &format!("there is no key `{name}`{place}"), &help);
        }
    }

    fn said(&mut self, written: Written, folder: &Path, home: Option<&Path>) -> Said {
        let Written { jobs, root, network, registry } = written;
        let ca = network.ca.map(|files| files.iter().map(|file| resolve(file, folder, home)).collect());
        let mut said = Said { jobs, network: Network { ca, ..network }, ..Said::default() };
        if let Some(root) = root {
            let path = resolve(root.get_ref(), Path::new(""), home);
            if !path.is_absolute() {
                let message = format!("`{}` is not an absolute path", path.display());
                self.error(
                    BAD_VALUE,
                    &root.span(),
                    &message,
                    "a state directory has one place: `/data/rb`, `~/rb`",
                );
            }
            said.root = Some(path);
        }
        for (host, written) in registry {
            let name = usual_name(host.get_ref()).to_owned();
            self.check_host(&host, false);
            let of_host = self.said_of_host(written, folder, home);
            if said.hosts.insert(name.clone(), of_host).is_some() {
                let message = format!("`{name}` has another table");
                self.error(BAD_VALUE, &host.span(), &message, "keep one: these are names of one registry");
            }
        }
        said
    }

    fn said_of_host(&mut self, written: WrittenRegistry, folder: &Path, home: Option<&Path>) -> SaidOfHost {
        let WrittenRegistry { mirrors, http, insecure, ca, keypair } = written;
        mirrors.iter().flatten().for_each(|mirror| self.check_host(mirror, true));
        let path = |path: PathBuf| resolve(&path, folder, home);
        if let Some(pairs) = keypair.as_ref().filter(|pairs| pairs.get_ref().len() > 1) {
            let message = "a registry is shown one certificate";
            self.error(BAD_VALUE, &pairs.span(), message, "keep one pair of `key` and `cert`");
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
        self.error(BAD_VALUE, &host.span(), &message, help);
    }
}

#[cfg(test)]
mod tests {
    use crate::environment::tests::environment;

    use super::*;

    fn read_both(own: &str, system: &str) -> Result<Config, Diagnostics> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let files = ["own.toml", "system.toml"].map(|name| dir.path().join(name));
        for (file, text) in files.iter().zip([own, system]) {
            std::fs::write(file, text).expect("writes");
        }
        let read = load_from(Some(&files[0]), true, &files[1], Some(Path::new("/h")));
        let plain = |path: &mut PathBuf| {
            if let Ok(rest) = path.strip_prefix(dir.path()) {
                *path = Path::new("/etc").join(rest);
            }
        };
        read.map(|mut config| {
            for host in config.hosts.values_mut() {
                host.ca.iter_mut().for_each(plain);
                if let Some((certificate, key)) = &mut host.client_certificate {
                    plain(certificate);
                    plain(key);
                }
            }
            config
        })
    }

    fn refused(text: &str) -> Vec<(String, &'static str, String)> {
        let errors = parse(Path::new("/c.toml"), text, None).map(|_| ()).expect_err(text);
        errors.into_iter().map(|error| (error.message, error.code, error.help.unwrap_or_default())).collect()
    }

    #[test]
    fn the_users_file_counts_before_the_machines_key_by_key() {
        let own = "jobs = 3\n[network]\nhttps_proxy = ''\n[registry.'docker.io']\nmirrors = ['m.example/hub']\n\
                   [registry.'r.example:5000']\nca = ['ca.pem', '/x/ca.pem', '~/ca.pem']\ninsecure = false\n\
                   [[registry.'r.example:5000'.keypair]]\nkey = 'key.pem'\ncert = 'cert.pem'\n";
        let system = "jobs = 9\nroot = '~/state'\n[network]\nhttps_proxy = 'http://p'\nno_proxy = 'a'\n\
                      [registry.'index.docker.io']\nmirrors = ['other']\nhttp = true\n\
                      [registry.'r.example:5000']\ninsecure = true\n[registry.plain]\n";
        let config = read_both(own, system).expect("is well formed");
        assert_eq!((config.files.len(), config.jobs.map(NonZeroUsize::get)), (2, Some(3)));
        assert_eq!(config.root.as_deref(), Some(Path::new("/h/state")));
        let some = |text: &str| Some(text.to_owned());
        let network = Network { http_proxy: None, https_proxy: some(""), no_proxy: some("a"), ca: None };
        assert!(config.network == network);
        let hub = HostOptions {
            mirrors: vec!["m.example/hub".to_owned()],
            plain_http: true,
            ..HostOptions::default()
        };
        let own = HostOptions {
            ca: vec!["/etc/ca.pem".into(), "/x/ca.pem".into(), "/h/ca.pem".into()],
            client_certificate: Some(("/etc/cert.pem".into(), "/etc/key.pem".into())),
            ..HostOptions::default()
        };
        let expected =
            [("docker.io", hub), ("plain", HostOptions::default()), ("r.example:5000", own)].into_iter();
        assert_eq!(config.hosts, expected.map(|(host, said)| (host.to_owned(), said)).collect());
    }

    #[test]
    fn mistakes_have_a_place_and_a_near_name() {
        let text = "job = 3\n[network]\nhttp-proxy = ''\n[registry.a]\nplain = 1\nkeypair = [{ key = 'k', crt = 'c' }]\n";
        let told: Vec<_> = refused(text).into_iter().map(|(message, _, help)| (message, help)).collect();
        let expected = [
            ("/c.toml:1:1: there is no key `job`", "did you mean `jobs`?"),
            ("/c.toml:3:1: there is no key `http-proxy` in [network]", "did you mean `http_proxy`?"),
            (
                "/c.toml:5:1: there is no key `plain` in [registry.\"a\"]",
                "known keys: mirrors, http, insecure, ca, keypair",
            ),
            ("/c.toml:6:12: missing field `cert`", ""),
            ("/c.toml:6:25: there is no key `crt` of a keypair", "did you mean `cert`?"),
        ];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for ((message, help), (expected, expected_help)) in told.iter().zip(expected) {
            assert_eq!(message, expected);
            assert!(help.contains(expected_help), "{help}");
        }
    }

    #[test]
    fn wrong_values_have_a_place() {
        for (text, start) in [
            ("jobs = 0", "/c.toml:1:8: invalid value: integer `0`"),
            ("root = 'state'", "/c.toml:1:8: `state` is not an absolute path"),
            ("jobs =", "/c.toml:1:"),
            ("[registry.'https://a']", "/c.toml:1:11: `https://a` is not a registry: it has a scheme"),
            ("[registry.'a/b']", "/c.toml:1:11: `a/b` is not a registry: it has a path"),
            ("[registry.a]\nmirrors = ['b c']", "/c.toml:2:12: `b c` is not a registry: it has a space"),
            ("[registry.a]\nmirrors = ['http://u:hunter2@b']", "/c.toml:2:12: `…` is not a registry"),
            (
                "[registry.a]\nmirrors = ['http://b:1/c', 'ftp://b']",
                "/c.toml:2:28: `ftp://b` is not a registry",
            ),
            (
                "[registry.a]\nhttp = 'http://u:hunter2@a'",
                "/c.toml:2:8: invalid type: string, expected a boolean",
            ),
            (
                "[registry.'docker.io']\n[registry.'index.docker.io']",
                "/c.toml:2:11: `docker.io` has another table",
            ),
            (
                "[registry.a]\nkeypair = [{ key = 'k', cert = 'c' }, { key = 'k', cert = 'c' }]",
                "/c.toml:2:11: a registry is shown one certificate",
            ),
        ] {
            let errors = refused(text);
            let (message, code, _) = errors.first().expect("has an error");
            assert!(*code == BAD_VALUE && message.starts_with(start), "{text}: {errors:?}");
            assert!(!format!("{errors:?}").contains("hunter2"), "{errors:?}");
        }
    }

    #[test]
    fn the_file_lies_where_the_environment_says() {
        let place = |variables: &[(&'static str, &str)]| usual_place(&environment(variables));
        assert_eq!(place(&[]), None);
        assert_eq!(place(&[("HOME", "/h")]), Some("/h/.config/rb/config.toml".into()));
        assert_eq!(place(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "rel")]), place(&[("HOME", "/h")]));
        assert_eq!(place(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")]), Some("/c/rb/config.toml".into()));
        let errors = load(&environment(&[("RB_CONFIG", "no/such.toml")])).expect_err("is named");
        assert_eq!(errors[0].message, "`/work/no/such.toml` is not there");
        let nowhere = Path::new("/nonexistent/config.toml");
        assert_eq!(load_from(Some(nowhere), false, nowhere, None), Ok(Config::default()));
    }
}
