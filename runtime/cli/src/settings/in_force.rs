//! What is in force and who says so: `rb config`.
//!
//! In: what is typed, the [`Environment`], the user's files. Out: [`Setting`]s. Values are settled where builds settle them
//! ([`super`]); here the files are read once more for the lines that keys stand in.
//! **Invariant:** a value is shown without the credentials that it may hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rb_diag::{SourceFile, SourceId};
use toml::de::{DeTable, DeValue};

use super::engine::KnownEngine;
use super::registry::usual_name;
use super::{SettingsError, config, keys, memory, network, read_config, registry, snapshotter, steps};
use crate::args::{BuildOptions, StepNetworkChoice};
use crate::environment::Environment;
use crate::world::{read_regular, scrub};

/// One value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its key in `config.toml`: `network.ca`.
    pub(crate) key: String,
    /// What it is.
    pub(crate) value: Value,
    /// `FILE:line`, a variable, an option, or `default`.
    pub(crate) from: String,
}

/// A value of `config.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A text.
    Text(String),
    /// Several.
    List(Vec<String>),
    /// A number, a yes or a no: what is written without quotes.
    Bare(String),
}

/// All that is in force.
#[derive(Debug)]
pub(crate) struct InForce {
    /// Where files are looked for, the strongest first, and whether they are there.
    pub(crate) files: Vec<(PathBuf, bool)>,
    /// What is set, and what has a default.
    pub(crate) settings: Vec<Setting>,
    /// Variables that say something else, and whether `.env` sets them.
    pub(crate) variables: Vec<(&'static str, String, bool)>,
}

/// Variables that say where things lie for every program.
const OF_ALL: [&str; 5] = ["TERM", "HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"];

/// Variables whose values are secrets.
const HIDDEN: [&str; 4] = ["RB_SECRETS", "EARTHLY_SECRETS", "RB_BUILD_ARGS", "EARTHLY_BUILD_ARGS"];

/// Finds out.
pub(crate) fn find(options: &BuildOptions, environment: &Environment) -> Result<InForce, SettingsError> {
    let config = read_config(environment)?;
    let places = Places::read(&config.files);
    let registry = registry::settle(&config, environment);
    let mut settings = Vec::new();
    let mut shown = Vec::new();
    let mut add = |key: &str, value: Value, from: String| {
        settings.push(Setting { key: key.to_owned(), value, from });
    };

    let state = environment.state_directory(config.root.as_deref())?;
    let from = match environment.get("RB_ROOT") {
        Some((name, _)) => name.to_owned(),
        None => places.of("", "root").unwrap_or_else(default),
    };
    add("root", Value::Text(state.display().to_string()), from);
    let variable = environment.get("RB_JOBS").map(|(name, _)| variable(environment, name));
    let from = match (options.jobs, variable) {
        (Some(_), _) => "--jobs".to_owned(),
        (None, Some(variable)) => variable,
        (None, None) => places.of("", "jobs").unwrap_or_else(default),
    };
    add("jobs", Value::Bare(super::jobs(options, &config, environment)?.to_string()), from);

    let meant = match (&options.engine, environment.get("RB_ENGINE")) {
        (Some(typed), _) => Some((typed.to_string(), "--engine".to_owned())),
        (None, Some((name, value))) => Some((value.to_string_lossy().into_owned(), name.to_owned())),
        (None, None) => {
            let from = || places.of("", "engine").unwrap_or_else(default);
            config.engine.as_ref().map(|engine| (engine.to_string(), from()))
        }
    };
    if let Some((engine, from)) = meant {
        add("engine", Value::Text(scrub(&engine)), from);
    }

    let (snapshotter, said) = snapshotter::settle(&config, environment)?;
    if let Some(from) = said.map(ToOwned::to_owned).or_else(|| places.of("", "snapshotter")) {
        add("snapshotter", Value::Text(snapshotter.name().to_owned()), from);
    }

    let network = &config.network;
    let proxies = &registry.proxies;
    let http = proxies.http.clone().unwrap_or_default();
    let https = proxies.https.clone().unwrap_or_default();
    for (name, own, names, value) in [
        ("http_proxy", &network.http_proxy, &["HTTP_PROXY", "ALL_PROXY"][..], http),
        ("https_proxy", &network.https_proxy, &["HTTPS_PROXY", "ALL_PROXY"], https),
        ("no_proxy", &network.no_proxy, &["NO_PROXY"], proxies.none.clone()),
    ] {
        let said = names.iter().find_map(|name| environment.get(name));
        shown.extend(said.map(|(name, _)| name));
        let from = match (own, said) {
            (Some(_), _) => places.of("network", name).unwrap_or_else(default),
            (None, Some((name, _))) => name.to_owned(),
            (None, None) => continue,
        };
        add(&format!("network.{name}"), Value::Text(scrub(&value)), from);
    }
    let typed = (!options.ca.is_empty()).then(|| "--ca".to_owned());
    let from: Vec<String> = places.of("network", "ca").into_iter().chain(typed).collect();
    let files = network::ca_files(options, &config, environment);
    if !from.is_empty() {
        add("network.ca", Value::List(files.iter().map(shown_path).collect()), from.join(", "));
    }
    let (of_steps, said) = network::steps(options, &config, environment)?;
    if let Some(from) = said.map(ToOwned::to_owned).or_else(|| places.of("network", "steps")) {
        let of_steps = match of_steps {
            StepNetworkChoice::Sandbox => "sandbox",
            StepNetworkChoice::Host => "host",
        };
        add("network.steps", Value::Text(of_steps.to_owned()), from);
    }
    let (runtime, said) = steps::runtime(options, &config, environment)?;
    if let Some(from) = said.map(ToOwned::to_owned).or_else(|| places.of("steps", "runtime")) {
        add("steps.runtime", Value::Text(runtime.unwrap_or_else(|| steps::OWN_RUNTIME.to_owned())), from);
    }
    let memory = memory::settle(&options.limits, &config, environment)?;
    if let Some(from) = memory.from.map(ToOwned::to_owned).or_else(|| places.of("steps", "memory_budget")) {
        add("steps.memory_budget", Value::Text(memory.budget.to_string()), from);
    }
    let (isolation, said) = steps::isolation(options, &config, environment)?;
    if let Some(from) = said.map(ToOwned::to_owned).or_else(|| places.of("steps", "isolation")) {
        add("steps.isolation", Value::Text(isolation.name().to_owned()), from);
    }
    if let (Some(folders), Some(from)) = (&config.device_folders, places.of("devices", "folders")) {
        add("devices.folders", Value::List(folders.iter().map(shown_path).collect()), from);
    }
    for (host, said) in &config.hosts {
        let keypair =
            said.client_certificate.iter().flat_map(|(cert, key)| [key, cert]).map(shown_path).collect();
        for (name, value) in [
            ("mirrors", Value::List(said.mirrors.clone())),
            ("http", Value::Bare(said.plain_http.to_string())),
            ("insecure", Value::Bare(said.skip_verify.to_string())),
            ("ca", Value::List(said.ca.iter().map(shown_path).collect())),
            ("keypair", Value::List(keypair)),
        ] {
            if let Some(from) = places.of(host, name) {
                add(&format!("registry.\"{host}\".{name}"), value, from);
            }
        }
    }
    for (name, value, from) in super::space::in_force(&config.cache, environment)? {
        let from = from.map(ToOwned::to_owned).or_else(|| places.of("cache", name)).unwrap_or_else(default);
        add(&format!("cache.{name}"), Value::Text(value), from);
    }
    for (host, said) in &config.git.0 {
        let password = said.password.as_ref().map(|_| "…".to_owned());
        for (name, value) in [
            ("url", &said.url),
            ("suffix", &said.suffix),
            ("user", &said.user),
            ("password", &password),
            ("ssh_command", &said.ssh_command),
        ] {
            let key = format!("git.\"{host}\"");
            if let (Some(value), Some(from)) = (value, places.of(&key, name)) {
                add(&format!("{key}.{name}"), Value::Text(value.clone()), from);
            }
        }
    }
    for (name, engine) in &config.engines {
        let table = format!("engines.\"{name}\"");
        let mut put = |table: &str, key: &str, value: Option<Value>| {
            if let (Some(value), Some(from)) = (value, places.of(table, key)) {
                add(&format!("{table}.{key}"), value, from);
            }
        };
        let text = |value: String| Some(Value::Text(value));
        match engine {
            KnownEngine::One { address, certs } => {
                put(&table, "address", text(address.to_string()));
                put(&table, "certs", certs.as_ref().map(shown_path).and_then(text));
            }
            KnownEngine::Nodes(nodes) => {
                for (node, known) in nodes {
                    let table = format!("{table}.{}.\"{node}\"", keys::NODES);
                    let platforms = known.platforms.iter().map(ToString::to_string).collect();
                    put(&table, "address", text(known.address.to_string()));
                    put(&table, "certs", known.certs.as_ref().map(shown_path).and_then(text));
                    put(&table, "platforms", Some(Value::List(platforms)));
                    put(&table, "weight", Some(Value::Bare(known.weight.to_string())));
                    put(&table, "drained", Some(Value::Bare(known.drained.to_string())));
                }
            }
        }
    }
    let hidden =
        |name: &str, value: String| if HIDDEN.contains(&name) { "…".to_owned() } else { scrub(&value) };
    let variables = environment
        .all()
        .filter(|(name, _)| !OF_ALL.contains(name) && !shown.contains(name))
        .filter(|(name, _)| settings.iter().all(|setting| setting.from != *name))
        .map(|(name, value)| {
            let value = hidden(name, value.to_string_lossy().into_owned());
            (name, value, environment.only_in_file(name))
        })
        .collect();
    let files = config::places(environment).into_iter();
    let files = files
        .map(|file| {
            let there = config.files.contains(&file);
            (file, there)
        })
        .collect();
    Ok(InForce { files, settings, variables })
}

fn default() -> String {
    "default".to_owned()
}

fn variable(environment: &Environment, name: &'static str) -> String {
    if environment.only_in_file(name) { format!("{name} in .env") } else { name.to_owned() }
}

fn shown_path(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

/// Lines of keys: by table, or host, and name; `FILE:line`.
struct Places(BTreeMap<(String, String), String>);

impl Places {
    /// Reads files that are known to be good, the strongest first. One that went meanwhile says nothing.
    fn read(files: &[PathBuf]) -> Self {
        let mut places = Self(BTreeMap::new());
        for file in files {
            if let Some(text) =
                read_regular(file, config::LIMIT_BYTES).ok().and_then(|bytes| String::from_utf8(bytes).ok())
            {
                places.add(file, &text);
            }
        }
        places
    }

    fn add(&mut self, file: &Path, text: &str) {
        let Ok(table) = DeTable::parse(text) else { return };
        let source = SourceFile::new(SourceId::default(), file.display().to_string(), text);
        let line = |start: usize| source.position(u32::try_from(start).unwrap_or(u32::MAX)).line;
        let mut note = |table: &str, name: &str, start: usize| {
            let place = format!("{}:{}", source.name, line(start));
            self.0.entry((table.to_owned(), name.to_owned())).or_insert(place);
        };
        for (key, value) in table.get_ref() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                (table @ ("network" | "steps" | "devices"), DeValue::Table(inner)) => {
                    inner.keys().for_each(|key| note(table, key.get_ref(), key.span().start));
                }
                ("registry", DeValue::Table(hosts)) => {
                    for (host, registry) in hosts {
                        let DeValue::Table(registry) = registry.get_ref() else { continue };
                        let host = usual_name(host.get_ref());
                        registry.keys().for_each(|key| note(host, key.get_ref(), key.span().start));
                    }
                }
                ("cache", DeValue::Table(cache)) => {
                    cache.keys().for_each(|key| note("cache", key.get_ref(), key.span().start));
                }
                (kind @ ("git" | "engines"), DeValue::Table(named)) => {
                    for (name, said) in named {
                        let DeValue::Table(said) = said.get_ref() else { continue };
                        let table = format!("{kind}.\"{}\"", name.get_ref());
                        said.keys().for_each(|key| note(&table, key.get_ref(), key.span().start));
                        let nodes = said.iter().filter(|(key, _)| key.get_ref() == keys::NODES);
                        for (node, said) in
                            nodes.filter_map(|(_, nodes)| nodes.get_ref().as_table()).flatten()
                        {
                            let DeValue::Table(said) = said.get_ref() else { continue };
                            let table = format!("{table}.{}.\"{}\"", keys::NODES, node.get_ref());
                            said.keys().for_each(|key| note(&table, key.get_ref(), key.span().start));
                        }
                    }
                }
                (name, _) => note("", name, key.span().start),
            }
        }
    }

    fn of(&self, table: &str, name: &str) -> Option<String> {
        self.0.get(&(table.to_owned(), name.to_owned())).cloned()
    }
}

/// Returns the key that a user names: hosts with quotes or without; `None` where there is no such key.
pub(crate) fn key(text: &str) -> Option<String> {
    let of_host = |rest: &str, table: &str| {
        let (host, name) = rest.rsplit_once('.')?;
        let host = usual_name(host.trim_matches('"'));
        let known = keys::KEYS.iter().any(|key| key.table == table && key.name == name);
        (known && !host.is_empty()).then(|| format!("{}.{name}", table.replace("HOST", host)))
    };
    let of_engine = |rest: &str| {
        let (engine, name) = rest.rsplit_once('.')?;
        let is_key = |table: &str| keys::KEYS.iter().any(|key| key.table == table && key.name == name);
        if let Some((engine, node)) = engine.split_once(&format!(".{}.", keys::NODES)) {
            let (engine, node) = (engine.trim_matches('"'), node.trim_matches('"'));
            let table = keys::NODE.replace("NAME", engine).replace("\"NODE\"", &format!("\"{node}\""));
            let known = is_key(keys::NODE) && !engine.is_empty() && !node.is_empty();
            return known.then(|| format!("{table}.{name}"));
        }
        let engine = engine.trim_matches('"');
        let known = is_key(keys::ENGINE);
        (known && !engine.is_empty()).then(|| format!("{}.{name}", keys::ENGINE.replace("NAME", engine)))
    };
    match (text.strip_prefix("registry."), text.strip_prefix("git."), text.strip_prefix("engines.")) {
        (Some(rest), _, _) => of_host(rest, keys::REGISTRY),
        (None, Some(rest), _) => of_host(rest, keys::GIT),
        (None, None, Some(rest)) => of_engine(rest),
        (None, None, None) => keys::KEYS.iter().map(keys::Key::path).find(|path| path == text),
    }
}

#[cfg(test)]
mod tests {
    use crate::environment::tests::environment;

    use super::*;

    #[test]
    fn each_value_is_told_with_who_says_it() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("c.toml");
        let text = "jobs = 3\n[network]\n# remark\nhttps_proxy = 'http://u:hunter2@p'\n[registry.'index.docker.io']\nmirrors = ['m']\n";
        std::fs::write(&file, text).expect("writes");
        let path = file.display().to_string();
        let place = |line: u32| format!("{path}:{line}");
        let leaked: &'static str = Box::leak(path.clone().into_boxed_str());
        let environment = environment(&[
            ("HOME", "/h"),
            ("RB_CONFIG", leaked),
            ("RB_ROOT", "/state"),
            ("HTTP_PROXY", "http://t:hunter2@e"),
            ("https_proxy", "http://e"),
            ("RB_SECRETS", "A=hunter2"),
            ("RB_STRICT", "true"),
        ]);
        let found = find(&BuildOptions::default(), &environment).expect("is good");
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
        let told = |key: &str| {
            let setting = found.settings.iter().find(|setting| setting.key == key);
            setting.map(|Setting { key: _, value, from }| (value.clone(), from.clone()))
        };
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(told("root"), Some((text("/state"), "RB_ROOT".to_owned())));
        assert_eq!(told("jobs"), Some((Value::Bare("3".to_owned()), place(1))));
        assert_eq!(told("network.http_proxy"), Some((text("http://t:xxxxx@e"), "HTTP_PROXY".to_owned())));
        assert_eq!(told("network.https_proxy"), Some((text("http://u:xxxxx@p"), place(4))));
        assert_eq!(told("network.no_proxy"), None);
        let mirrors = Value::List(vec!["m".to_owned()]);
        assert_eq!(told("registry.\"docker.io\".mirrors"), Some((mirrors, place(6))));
        let names: Vec<_> =
            found.variables.iter().map(|(name, value, _)| format!("{name}={value}")).collect();
        assert_eq!(names, ["RB_STRICT=true", "RB_SECRETS=…", &format!("RB_CONFIG={path}")]);
        let typed = BuildOptions { jobs: std::num::NonZeroUsize::new(2), ..BuildOptions::default() };
        let found = find(&typed, &environment).expect("is good");
        assert!(found.settings.iter().any(|setting| setting.from == "--jobs"), "{found:?}");
    }

    #[test]
    fn keys_are_named_with_quotes_or_without() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(key("jobs"), some("jobs"));
        assert_eq!(key("network.ca"), some("network.ca"));
        assert_eq!(key("registry.index.docker.io.mirrors"), some("registry.\"docker.io\".mirrors"));
        assert_eq!(key("registry.\"a:5000\".http"), some("registry.\"a:5000\".http"));
        assert_eq!(key("git.a.example.url"), some("git.\"a.example\".url"));
        assert_eq!(key("engines.far.address"), some("engines.\"far\".address"));
        assert_eq!((key("engines.far.x"), key("engines.address")), (None, None));
        assert_eq!(key("engines.farm.nodes.a.weight"), some("engines.\"farm\".nodes.\"a\".weight"));
        assert_eq!((key("engines.farm.nodes.a.x"), key("engines.farm.weight")), (None, None));
        assert_eq!((key("job"), key("registry.http"), key("registry.a.x")), (None, None, None));
    }
}
