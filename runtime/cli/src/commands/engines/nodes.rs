//! Nodes of engines: added, drained, forgotten in `config.toml`, and shown with what they say of themselves.
//!
//! An engine of one daemon keeps its address in its own table; as it gets a second one, both are nodes below it. **Invariant:** nothing
//! but the tables of that engine is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use rb_oci::Platform;
use rb_remote::{About, Address, RemoteError};
use serde_json::{Value as Json, json};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, value};

use super::super::elsewhere;
use crate::args::EngineDrainArgs;
use crate::environment::Environment;
use crate::report::{self, Failure};
use crate::settings::config::Config;
use crate::settings::edit::edit;
use crate::settings::engine::{
    self, EngineAt, EngineName, EngineSettings, KnownEngine, KnownNode, node_name,
};
use crate::settings::{self, SettingsError, keys};

/// How long `rb engine ls` waits for a node.
const LIST_PATIENCE: Duration = Duration::from_secs(5);

/// What is said of a new node.
pub(super) struct NewNode {
    pub(super) address: Address,
    pub(super) certs: Option<PathBuf>,
    pub(super) platforms: Vec<Platform>,
    pub(super) weight: Option<NonZeroU32>,
}

impl NewNode {
    /// Returns its table, which is that of an engine, too.
    pub(super) fn table(&self) -> Table {
        let mut own = Table::new();
        own["address"] = value(self.address.to_string());
        if let Some(certs) = &self.certs {
            own["certs"] = value(certs.display().to_string());
        }
        if !self.platforms.is_empty() {
            own["platforms"] = value(self.platforms.iter().map(ToString::to_string).collect::<Array>());
        }
        if let Some(weight) = self.weight {
            own["weight"] = value(i64::from(weight.get()));
        }
        own
    }

    /// Returns the table of an engine of this node alone.
    pub(super) fn alone(&self, engine: &str, node: Option<&str>) -> Table {
        let mut own = Table::new();
        own.set_implicit(true);
        let mut nodes = Table::new();
        nodes.set_implicit(true);
        nodes.insert(node.unwrap_or(&numbered(engine, 0)), Item::Table(self.table()));
        own.insert(keys::NODES, Item::Table(nodes));
        own
    }
}

fn numbered(engine: &str, number: usize) -> String {
    format!("{engine}{number}")
}

/// Finds a name for a new node of an engine that has these.
pub(super) fn name_for(engine: &str, known: &KnownEngine, wanted: Option<&str>) -> Result<String, Failure> {
    let taken = |name: &str| match known {
        KnownEngine::One { .. } => name == numbered(engine, 0),
        KnownEngine::Nodes(nodes) => nodes.contains_key(name),
    };
    match wanted {
        Some(name) if taken(name) => {
            let help = format!("`rb engine rm {engine}/{name}` forgets it");
            Err(Failure::input(format!("`{engine}/{name}` is a node already"), Some(help)))
        }
        Some(name) => Ok(name.to_owned()),
        None => {
            Ok((0..).map(|number| numbered(engine, number)).find(|name| !taken(name)).unwrap_or_default())
        }
    }
}

/// Adds a node to an engine; false where that is not of this file.
pub(super) fn append(document: &mut DocumentMut, engine: &str, node: &str, new: &NewNode) -> bool {
    let engines = document.get_mut("engines").and_then(Item::as_table_like_mut);
    let Some(own) = engines.and_then(|engines| engines.get_mut(engine)) else { return false };
    if !own.is_table() {
        // One written in a line becomes a table.
        if let Ok(table) = std::mem::take(own).into_table() {
            *own = Item::Table(table);
        }
    }
    let Some(own) = own.as_table_mut() else { return false };
    if !own.contains_key(keys::NODES) {
        let mut first = Table::new();
        for key in ["address", "certs"] {
            if let Some((key, item)) = own.remove_entry(key) {
                first.insert_formatted(&key, item);
            }
        }
        own.set_implicit(true);
        let mut nodes = Table::new();
        nodes.set_implicit(true);
        nodes.insert(&numbered(engine, 0), Item::Table(first));
        own.insert(keys::NODES, Item::Table(nodes));
    }
    let Some(nodes) = own.get_mut(keys::NODES).and_then(Item::as_table_like_mut) else { return false };
    nodes.insert(node, Item::Table(new.table()));
    true
}

fn nodes_of<'d>(document: &'d mut DocumentMut, engine: &str) -> Option<&'d mut dyn TableLike> {
    let own = document.get_mut("engines")?.as_table_like_mut()?.get_mut(engine)?;
    own.as_table_like_mut()?.get_mut(keys::NODES)?.as_table_like_mut()
}

/// Takes a node out; tells whether it was there. The last one takes its engine along.
pub(super) fn forget(document: &mut DocumentMut, engine: &str, node: &str) -> bool {
    let Some(nodes) = nodes_of(document, engine) else { return false };
    let was_there = nodes.remove(node).is_some();
    if was_there && nodes.is_empty() {
        super::forget(document, engine);
    }
    was_there
}

/// Finds a node that was named.
pub(super) fn find<'c, 't>(
    config: &'c Config,
    text: &'t str,
) -> Result<(&'t str, &'t str, &'c KnownNode), Failure> {
    let Some((engine, node)) = node_name(text) else {
        let help = "write NAME/NODE; `rb engine ls` lists them".to_owned();
        return Err(Failure::input(format!("`{text}` names no node"), Some(help)));
    };
    match config.engines.get(engine) {
        None => {
            let help = engine::help_with(engine, &config.engines);
            Err(SettingsError::NoEngine { name: engine.to_owned(), help }.into())
        }
        Some(KnownEngine::One { .. }) => {
            let help = format!("`rb engine add --append {engine} ADDRESS` gives it a second one");
            Err(Failure::input(format!("`{engine}` is one daemon and has no nodes"), Some(help)))
        }
        Some(KnownEngine::Nodes(nodes)) => match nodes.get(node) {
            Some(known) => Ok((engine, node, known)),
            None => {
                let names: Vec<&str> = nodes.keys().map(String::as_str).collect();
                let help = format!("it has {}", names.join(", "));
                Err(Failure::input(format!("`{engine}` has no node `{node}`"), Some(help)))
            }
        },
    }
}

/// `rb engine drain`
pub(super) fn drain(environment: &Environment, args: &EngineDrainArgs) -> Result<u8, Failure> {
    let config = settings::read_config_to_change(environment)?;
    let found = args.nodes.iter().map(|text| find(&config, text)).collect::<Result<Vec<_>, _>>()?;
    let (file, left) = edit(environment, |document| {
        let mut left = None;
        for (engine, node, _) in &found {
            let own = nodes_of(document, engine).and_then(|nodes| nodes.get_mut(node)?.as_table_like_mut());
            match own {
                None => left = Some(format!("{engine}/{node}")),
                Some(own) if args.undo => drop(own.remove("drained")),
                Some(own) => drop(own.insert("drained", value(true))),
            }
        }
        left
    })?;
    if let Some(name) = left {
        return Err(super::of_the_machine(&name, &file));
    }
    for (engine, node, _) in &found {
        let told = if args.undo { "gets builds again" } else { "gets nothing new" };
        report::tell(&format!("`{engine}/{node}` {told}, by {}\n", file.display()));
    }
    Ok(0)
}

/// A node with what it says of itself.
pub(super) struct Shown {
    pub(super) name: String,
    known: KnownNode,
    about: Result<About, String>,
}

/// Asks all nodes of an engine at once.
fn ask(nodes: Vec<(String, KnownNode, EngineAt)>, limit: Option<Duration>) -> Result<Vec<Shown>, Failure> {
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let threads = threads.map_err(|error| Failure::environment("no threads can be started", &error))?;
    let each = nodes.into_iter().map(|(name, known, at)| async move {
        let asked = async {
            let engine = elsewhere::asked(at).map_err(|failure| failure.message())?;
            engine.about().await.map_err(|error: RemoteError| rb_diag::chain(&error))
        };
        let about = match limit {
            None => asked.await,
            Some(limit) => tokio::time::timeout(limit, asked)
                .await
                .unwrap_or_else(|_| Err(format!("does not answer within {} seconds", limit.as_secs()))),
        };
        Shown { name, known, about }
    });
    Ok(threads.block_on(futures_util::future::join_all(each)))
}

/// Asks all engines at once, for a list of them, and one at an address, which has no name; who is alone is a node without one.
pub(super) fn listed(
    config: &Config,
    nameless: Option<&String>,
    environment: &Environment,
) -> Result<BTreeMap<String, Vec<Shown>>, Failure> {
    let named = config.engines.keys().map(|name| (name.clone(), EngineName::Named(name.clone())));
    let nameless = nameless.and_then(|text| Some((text.clone(), text.parse().ok()?)));
    let mut asked = Vec::new();
    for (name, engine) in named.chain(nameless) {
        match engine::settle(Some(&engine), config, environment)? {
            Some(EngineSettings::Nodes(nodes)) => {
                asked.extend(nodes.nodes.into_iter().map(|node| (name.clone(), node)));
            }
            Some(EngineSettings::One(at)) => {
                let known = KnownNode {
                    address: at.address.clone(),
                    certs: None,
                    platforms: BTreeSet::new(),
                    weight: NonZeroU32::MIN,
                    drained: false,
                };
                asked.push((name, (String::new(), known, at)));
            }
            None => {}
        }
    }
    let (names, nodes): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    let mut all: BTreeMap<String, Vec<Shown>> = BTreeMap::new();
    for (name, shown) in names.into_iter().zip(ask(nodes, Some(LIST_PATIENCE))?) {
        all.entry(name).or_default().push(shown);
    }
    Ok(all)
}

impl Shown {
    fn platforms(&self) -> Vec<String> {
        if !self.known.platforms.is_empty() {
            return self.known.platforms.iter().map(ToString::to_string).collect();
        }
        let workers = self.about.iter().flat_map(|about| &about.workers);
        let mut all: Vec<String> = workers.flat_map(|worker| worker.platforms.clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    fn state(&self) -> &'static str {
        match (self.known.drained, &self.about) {
            (true, Ok(_)) => "drained",
            (true, Err(_)) => "drained, away",
            (false, Ok(_)) => "up",
            (false, Err(_)) => "away",
        }
    }

    /// Returns its row in a list: address, platforms, weight, state.
    pub(super) fn cells(&self) -> [String; 4] {
        let KnownNode { address, weight, .. } = &self.known;
        [address.to_string(), self.platforms().join(","), weight.to_string(), self.state().to_owned()]
    }

    pub(super) fn json(&self) -> Json {
        let KnownNode { address, certs, weight, drained, platforms: _ } = &self.known;
        json!({
            "node": self.name, "address": address.to_string(), "certs": certs, "platforms": self.platforms(),
            "weight": weight, "drained": drained, "up": self.about.is_ok(),
            "version": self.about.as_ref().ok().and_then(|about| about.version.clone()),
            "error": self.about.as_ref().err(),
        })
    }

    fn lines(&self) -> String {
        let KnownNode { address, weight, .. } = &self.known;
        let said = match &self.about {
            Ok(about) => format!("BuildKit {}", about.version.as_deref().unwrap_or("of an unknown version")),
            Err(why) => why.clone(),
        };
        format!(
            "node {:<12} {}  {address}: {said}\n  platforms {}; weight {weight}\n",
            self.name,
            self.state(),
            self.platforms().join(" "),
        )
    }
}

/// `rb engine inspect` of an engine with nodes: 0 where one of them builds.
pub(in crate::commands) fn inspect(nodes: engine::NodesSettings, json: bool) -> Result<u8, Failure> {
    let name = nodes.name.clone();
    let shown = ask(nodes.nodes, None)?;
    let text = if json {
        let nodes: Vec<Json> = shown.iter().map(Shown::json).collect();
        format!("{:#}\n", json!({ "engine": name, "nodes": nodes }))
    } else {
        shown.iter().map(Shown::lines).collect()
    };
    report::print(text.as_bytes())?;
    let builds = shown.iter().any(|node| node.state() == "up");
    Ok(if builds { 0 } else { 3 })
}
