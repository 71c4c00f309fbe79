//! `rb engine`: BuildKit daemons by name, kept in `config.toml`.
//!
//! In: names and addresses. Out: the user's file, changed as little as can be; lists on stdout. Only `inspect` connects.

use toml_edit::{DocumentMut, Item, Table, Value, value};

use super::docker;
use super::elsewhere;
use super::table::table;
use crate::args::{DoctorArgs, EngineAddArgs, EngineCommand};
use crate::environment::Environment;
use crate::report::{self, Failure};
use crate::settings::config::Config;
use crate::settings::edit::{EditError, edit};
use crate::settings::engine::{self, EngineName, HERE, is_name};
use crate::settings::{self, SettingsError};

/// Does it.
pub(super) fn execute(environment: &Environment, command: &EngineCommand) -> Result<u8, Failure> {
    match command {
        EngineCommand::Add(args) => add(environment, args),
        EngineCommand::Ls(args) => ls(environment, args.json),
        EngineCommand::Use(args) => take(environment, &args.engine),
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
    let EngineAddArgs { certs, name, address } = args;
    if !is_name(name) || name == HERE {
        let help = "letters and digits, and `.`, `_` and `-` in between; `here` is this machine".to_owned();
        return Err(Failure::input(format!("`{name}` is no name of an engine"), Some(help)));
    }
    let config = settings::read_config_to_change(environment)?;
    if let Some(known) = config.engines.get(name) {
        let message = format!("`{name}` is an engine already, at {}", known.address);
        return Err(Failure::input(message, Some(format!("`rb engine rm {name}` forgets it"))));
    }
    let certs = certs.as_ref().map(|folder| environment.cwd.join(folder));
    if let Some(folder) = &certs {
        if !address.is_tcp() {
            let help = "leave --certs out: it is for tcp://".to_owned();
            return Err(Failure::input(format!("nobody at {address} looks at certificates"), Some(help)));
        }
        engine::read_certificates(folder).map_err(|error| {
            let help = "ca.pem is who signs for the daemon, cert.pem and key.pem are who you are".to_owned();
            Failure::input(format!("the certificates cannot be read: {error}"), Some(help))
        })?;
    }
    let (file, ()) = edit(environment, |document| {
        let engines = document.entry("engines").or_insert_with(|| {
            // Only tables of engines are shown, and none that holds them.
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        let mut own = Table::new();
        own["address"] = value(address.to_string());
        if let Some(certs) = certs {
            own["certs"] = value(certs.display().to_string());
        }
        engines[name.as_str()] = Item::Table(own);
    })?;
    report::tell(&format!(
        "`{name}` is {address} now, in {}; `rb engine inspect {name}` tries it, `rb engine use {name}` has it build\n",
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
    let here = [(HERE.to_owned(), "this machine".to_owned(), None)];
    let known = config.engines.iter().map(|(name, known)| {
        let certs = known.certs.as_ref().map(|folder| folder.display().to_string());
        (name.clone(), known.address.to_string(), certs)
    });
    let all = here.into_iter().chain(known).chain(nameless.map(|text| (text.clone(), text.clone(), None)));
    let text = if json {
        let list = all.map(|(name, address, certs)| {
            let used = is_used(&name);
            let address = (name != HERE).then_some(address);
            serde_json::json!({ "name": name, "address": address, "certs": certs, "used": used })
        });
        format!("{:#}\n", serde_json::Value::from(list.collect::<Vec<_>>()))
    } else {
        let heading = ["", "NAME", "ADDRESS"].map(str::to_owned).to_vec();
        let rows = all.map(|(name, address, _)| {
            let mark = if is_used(&name) { "*" } else { "" };
            let name = if name.contains("://") { String::new() } else { name };
            vec![mark.to_owned(), name, address]
        });
        table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>(), &[])
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
    if let Some(name) = names.iter().find(|name| !config.engines.contains_key(*name)) {
        let help = engine::help_with(name, &config.engines);
        return Err(SettingsError::NoEngine { name: name.clone(), help }.into());
    }
    let (file, (left, was_used)) = edit(environment, |document| {
        let left: Vec<&String> = names.iter().filter(|name| !forget(document, name)).collect();
        let used = document.get("engine").and_then(Item::as_str).map(str::to_owned);
        let was_used = used.filter(|used| names.contains(used) && !left.contains(&used));
        if was_used.is_some() {
            put(document, HERE);
        }
        (left, was_used)
    })?;
    if let Some(name) = was_used {
        report::tell(&format!("`{name}` was in use: this machine builds from now on\n"));
    }
    match left.first() {
        None => Ok(0),
        Some(name) => {
            let message = format!("`{name}` is not of {}", file.display());
            let help = "it is the machine's: /etc/rb/config.toml".to_owned();
            Err(Failure::input(message, Some(help)))
        }
    }
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
            EditError::Toml { .. } => Self::input(rb_diag::chain(&error), None),
            EditError::File { ref file, ref source } => {
                Self::environment(&format!("`{}` cannot be changed", file.display()), source)
            }
        }
    }
}
