//! `rb engine`: BuildKit daemons by name, kept in `config.toml`.
//!
//! In: names and addresses. Out: the user's file, changed as little as can be; lists on stdout. Only `inspect` and `ls` connect ([`nodes`]).

pub(super) mod nodes;

use std::path::Path;

use rb_diag::nearest;
use serde_json::Value as Json;
use toml_edit::{DocumentMut, Item, Table, Value};

use super::docker;
use super::elsewhere;
use super::table::table;
use crate::args::{DoctorArgs, EngineAddArgs, EngineCommand};
use crate::environment::Environment;
use crate::report::{self, Failure};
use crate::settings::config::Config;
use crate::settings::edit::{EditError, edit};
use crate::settings::engine::{self, EngineName, HERE, KnownEngine, is_name, node_name};
use crate::settings::{self, SettingsError};
use nodes::{NewNode, Shown};

/// Architectures that daemons are known to build for.
const KNOWN: [&str; 11] =
    ["amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "s390x", "loong64", "mips64", "mips64le", "wasm"];

/// Does it.
pub(super) fn execute(environment: &Environment, command: &EngineCommand) -> Result<u8, Failure> {
    match command {
        EngineCommand::Add(args) => add(environment, args),
        EngineCommand::Ls(args) => ls(environment, args.json),
        EngineCommand::Use(args) => take(environment, &args.engine),
        EngineCommand::Drain(args) => nodes::drain(environment, args),
        EngineCommand::Rm(args) => remove(environment, &args.engines),
        EngineCommand::Inspect(args) => {
            let doctor = DoctorArgs { engine: args.engine.clone(), json: args.json };
            match elsewhere::doctor(environment, &doctor)? {
                Some(code) => Ok(code),
                None => {
                    let help =
                        "name one: `rb engine inspect NAME`; `rb doctor` tells of this machine".to_owned();
                    Err(Failure::input("this machine builds, and no engine elsewhere", Some(help)))
                }
            }
        }
    }
}

fn add(environment: &Environment, args: &EngineAddArgs) -> Result<u8, Failure> {
    let EngineAddArgs { append, node, platform, weight, certs, name, address } = args;
    let wrong = std::iter::once(name)
        .chain(node)
        .find(|name| !is_name(name) || [HERE, "default"].contains(&name.as_str()));
    if let Some(name) = wrong {
        let help =
            "letters and digits, and `.`, `_` and `-` in between; `here` and `default` are this machine"
                .to_owned();
        return Err(Failure::input(format!("`{name}` is no name of an engine"), Some(help)));
    }
    let config = settings::read_config_to_change(environment)?;
    let known = config.engines.get(name);
    match known {
        Some(known) if !append => {
            let message = format!("`{name}` is an engine already, at {known}");
            let help = format!("`rb engine rm {name}` forgets it, --append adds a node to it");
            return Err(Failure::input(message, Some(help)));
        }
        None if *append => {
            let help = match nearest(name, config.engines.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`? For a new engine leave out --append"),
                None => "leave out --append: it adds to an engine that is there".to_owned(),
            };
            return Err(SettingsError::NoEngine { name: name.clone(), help }.into());
        }
        Some(_) | None => {}
    }
    let certs = certs.as_ref().map(|folder| environment.cwd.join(folder));
    if let Some(folder) = &certs {
        if !address.is_tcp() {
            let help = "leave --certs out: it is for tcp://".to_owned();
            return Err(Failure::input(format!("nobody at {address} looks at certificates"), Some(help)));
        }
        let read = engine::read_certificates(folder).map_err(|error| {
            let help = "ca.pem is who signs for the daemon, cert.pem and key.pem are who you are".to_owned();
            Failure::input(format!("the certificates cannot be read: {error}"), Some(help))
        })?;
        read.check(address)?;
    }
    if let Some(platform) = platform.iter().find(|platform| !KNOWN.contains(&platform.architecture.as_str()))
    {
        report::tell(&format!(
            "warning: --platform {platform}: `{}` is no architecture that rb knows; BuildKit's are {}\n",
            platform.architecture,
            KNOWN.join(", ")
        ));
    }
    let (address, platforms, weight) = (address.clone(), platform.clone(), *weight);
    let is_plain = node.is_none() && platforms.is_empty() && weight.is_none();
    let new = NewNode { address, certs, platforms, weight };
    if let Some(known) = known {
        let node = nodes::name_for(name, known, node.as_deref())?;
        let (file, is_there) = edit(environment, |document| nodes::append(document, name, &node, &new))?;
        if !is_there {
            return Err(of_the_machine(name, &file));
        }
        let address = &new.address;
        let told = format!("`{name}/{node}` is {address} now, in {}", file.display());
        report::tell(&format!("{told}; `rb engine inspect {name}` tries its nodes\n"));
        return Ok(0);
    }
    let (file, ()) = edit(environment, |document| {
        let engines = document.entry("engines").or_insert_with(|| {
            // Only tables of engines are shown, and none that holds them.
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        let own = if is_plain { new.table() } else { new.alone(name, node.as_deref()) };
        engines[name.as_str()] = Item::Table(own);
    })?;
    report::tell(&format!(
        "`{name}` is {} now, in {}; `rb engine inspect {name}` tries it, `rb engine use {name}` has it build\n",
        new.address,
        file.display()
    ));
    Ok(0)
}

fn ls(environment: &Environment, json: bool) -> Result<u8, Failure> {
    let config = settings::read_config(environment)?;
    let in_use = in_use(environment, &config)?;
    let is_used = |name: &str| in_use == name;
    // One at an address has no name, and builds nevertheless.
    let nameless = Some(&in_use).filter(|meant| meant.contains("://"));
    let of_nodes = nodes::listed(&config, nameless, environment)?;
    let here = [(HERE.to_owned(), "this machine".to_owned(), None)];
    let known = config.engines.iter().map(|(name, known)| {
        let certs = match known {
            KnownEngine::One { certs, .. } => certs.as_ref().map(|folder| folder.display().to_string()),
            KnownEngine::Nodes(_) => None,
        };
        (name.clone(), known.to_string(), certs)
    });
    let alone = |name: &str| {
        let shown = of_nodes.get(name)?.first()?;
        matches!(config.engines.get(name), None | Some(KnownEngine::One { .. })).then_some(shown)
    };
    let all = here.into_iter().chain(known).chain(nameless.map(|text| (text.clone(), text.clone(), None)));
    let text = if json {
        let list = all.map(|(name, address, certs)| {
            let used = is_used(&name);
            let nodes = of_nodes.get(&name).filter(|_| alone(&name).is_none());
            let address = (name != HERE && nodes.is_none()).then_some(address);
            let mut value =
                serde_json::json!({ "name": name, "address": address, "certs": certs, "used": used });
            if let Some(nodes) = nodes {
                value["nodes"] = nodes.iter().map(Shown::json).collect::<Vec<_>>().into();
            }
            if let Some(Json::Object(mut told)) = alone(&name).map(Shown::json) {
                for key in ["platforms", "up", "version", "error"] {
                    value[key] = told.remove(key).unwrap_or_default();
                }
            }
            value
        });
        format!("{:#}\n", serde_json::Value::from(list.collect::<Vec<_>>()))
    } else {
        let of_node = ["PLATFORMS", "WEIGHT", "STATE"];
        let more = of_node.into_iter().filter(|_| !of_nodes.is_empty());
        let mut rows = vec![["", "NAME", "ADDRESS"].into_iter().chain(more).map(str::to_owned).collect()];
        for (name, address, _) in all {
            let mark = if is_used(&name) { "*" } else { "" };
            let shown = if name.contains("://") { String::new() } else { name.clone() };
            if let Some(only) = alone(&name) {
                // Nothing is beside it.
                let [_, platforms, _, state] = only.cells();
                rows.push(vec![mark.to_owned(), shown, address, platforms, String::new(), state]);
                continue;
            }
            rows.push(vec![mark.to_owned(), shown, address]);
            for node in of_nodes.get(&name).into_iter().flatten() {
                let own = [String::new(), format!("{name}/{}", node.name)];
                rows.push(own.into_iter().chain(node.cells()).collect());
            }
        }
        table(&rows, &[])
    };
    report::print(text.as_bytes()).map(|()| 0)
}

/// Returns who builds where nothing is typed.
fn in_use(environment: &Environment, config: &Config) -> Result<String, Failure> {
    let named: Option<EngineName> = environment.parsed("RB_ENGINE", |text| text.parse().ok())?;
    Ok(named.or_else(|| config.engine.clone()).unwrap_or(EngineName::Here).to_string())
}

fn take(environment: &Environment, engine: &EngineName) -> Result<u8, Failure> {
    // Whether there is such a one.
    engine::settle(Some(engine), &settings::read_config_to_change(environment)?, environment)?;
    let (file, ()) = edit(environment, |document| put(document, &engine.to_string()))?;
    let mut told = format!("`{engine}` builds from now on, by {}\n", file.display());
    if let Some((name, said)) = environment.get("RB_ENGINE") {
        told.push_str(&format!(
            "but where {name} is set it counts before that: {}\n",
            said.to_string_lossy()
        ));
    }
    report::tell(&told);
    Ok(0)
}

/// Says who builds; remarks above that and behind it stay. So `here` is written, too: the machine's file may say another, and what is
/// taken out takes its remarks along.
fn put(document: &mut DocumentMut, name: &str) {
    let mut new = Value::from(name);
    if let Some(old) = document.get("engine").and_then(Item::as_value) {
        *new.decor_mut() = old.decor().clone();
    }
    document["engine"] = Item::Value(new);
}

fn remove(environment: &Environment, names: &[String]) -> Result<u8, Failure> {
    let config = settings::read_config_to_change(environment)?;
    for name in names {
        if name.contains('/') {
            nodes::find(&config, name)?;
        } else if !config.engines.contains_key(name) {
            let help = engine::help_with(name, &config.engines);
            return Err(SettingsError::NoEngine { name: name.clone(), help }.into());
        }
    }
    let (file, (left, was_used)) = edit(environment, |document| {
        let gone = |document: &mut DocumentMut, name: &str| match node_name(name) {
            Some((engine, node)) => nodes::forget(document, engine, node),
            None => forget(document, name),
        };
        let left: Vec<&String> = names.iter().filter(|name| !gone(document, name)).collect();
        let used = document.get("engine").and_then(Item::as_str).map(str::to_owned);
        let is_gone = |used: &String| {
            let named =
                |name: &&String| *name == used || node_name(name).is_some_and(|(engine, _)| engine == used);
            let is_there = document
                .get("engines")
                .and_then(Item::as_table_like)
                .is_some_and(|all| all.contains_key(used));
            !is_there && names.iter().any(|name| named(&name) && !left.contains(&name))
        };
        let was_used = used.filter(is_gone);
        if was_used.is_some() {
            put(document, HERE);
        }
        (left, was_used)
    })?;
    if let Some(name) = was_used {
        report::tell(&format!("`{name}` was in use: this machine builds from now on\n"));
    }
    left.first().map_or(Ok(0), |name| Err(of_the_machine(name, &file)))
}

fn of_the_machine(name: &str, file: &Path) -> Failure {
    let message = format!("`{name}` is not of {}", file.display());
    Failure::input(message, Some("it is the machine's: /etc/rb/config.toml".to_owned()))
}

/// Takes the table of an engine out; tells whether there was one.
fn forget(document: &mut DocumentMut, name: &str) -> bool {
    let Some(engines) = document.get_mut("engines").and_then(Item::as_table_like_mut) else { return false };
    let was_there = engines.remove(name).is_some();
    if engines.is_empty() {
        document.remove("engines");
    }
    was_there
}

/// Returns the engine that `--engine` or `--builder` mean; a builder of docker's is rb itself.
pub(super) fn meant(
    engine: Option<&EngineName>,
    builder: Option<&str>,
    environment: &Environment,
) -> Result<Option<EngineName>, Failure> {
    let Some(builder) = builder.filter(|name| !name.is_empty()) else { return Ok(engine.cloned()) };
    if settings::read_config(environment)?.engines.contains_key(builder) {
        return Ok(Some(EngineName::Named(builder.to_owned())));
    }
    docker::check_builder(builder)?;
    Ok(Some(EngineName::Here))
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Settings(error) => error.into(),
            EditError::NoPlace => {
                Self::input(error.to_string(), Some("set RB_CONFIG to a file, or HOME".to_owned()))
            }
            EditError::Toml { .. } | EditError::Pack(_) => Self::input(rb_diag::chain(&error), None),
            EditError::File { ref file, ref source } => {
                Self::environment(&format!("`{}` cannot be changed", file.display()), source)
            }
        }
    }
}
