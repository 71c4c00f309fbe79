//! What several builds lend on one session.
//!
//! In: the session of each. Out: one session, in which a folder that several lend has one name, and folders that differ have names
//! of their own; each build is told of them. **Invariant:** a name that means two things is an error, or means each where it
//! stands; for secrets and agents it is an error.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rb_oci::Digest;
use rb_session::{LocalDir, LocalSession, Secret, Session, SshAgent};

use super::Build;
use crate::commands::dockerfile::context::{ARCHIVE, CONTEXT, DOCKERFILE, Lent};
use crate::report::Failure;

/// The session of all.
#[derive(Clone, Default)]
pub(super) struct Together {
    sessions: Vec<LocalSession>,
    /// Whose folder a name means, and what it is called there.
    folders: BTreeMap<String, (usize, String)>,
    /// The same of layouts.
    layouts: BTreeMap<String, (usize, String)>,
}

impl Together {
    /// Joins the sessions of builds.
    pub(super) fn of(builds: &mut [Build]) -> Result<Self, Failure> {
        same_secrets(builds)?;
        let mut all = Self::default();
        for Build { name, order, .. } in builds {
            all.sessions.push(order.session());
            all.add(name, &order.options, &mut order.lent);
            rename(&mut order.options, &order.lent);
        }
        Ok(all)
    }

    /// Takes the folders and layouts of the last session.
    fn add(&mut self, part: &str, options: &BTreeMap<String, String>, lent: &mut Lent) {
        let at = self.sessions.len() - 1;
        let own = &self.sessions[at];
        for name in folder_names(options) {
            let Some(folder) = own.local(&name) else { continue };
            let is_same = |(there, called): &(usize, String)| {
                *called == name && self.sessions[*there].local(called).as_ref() == Some(&folder)
            };
            let shared =
                self.folders.iter().find(|(_, meant)| is_same(meant)).map(|(known, _)| known.clone());
            let taken = || {
                let taken = self.folders.contains_key(&name);
                if taken { format!("{name}@{part}") } else { name.clone() }
            };
            let known = shared.unwrap_or_else(taken);
            self.folders.entry(known.clone()).or_insert_with(|| (at, name.clone()));
            lent.renamed.insert(name, known);
        }
        for store in stores(options) {
            let Some(path) = own.oci_layout(&store) else { continue };
            let is_same = |(there, called): &(usize, String)| {
                *called == store && self.sessions[*there].oci_layout(called).as_ref() == Some(&path)
            };
            let shared =
                self.layouts.iter().find(|(_, meant)| is_same(meant)).map(|(known, _)| known.clone());
            let known = shared.unwrap_or_else(|| match self.layouts.contains_key(&store) {
                // One that a reference may have.
                true => Digest::of(format!("{store}@{part}")).hex().chars().take(32).collect(),
                false => store.clone(),
            });
            self.layouts.entry(known.clone()).or_insert_with(|| (at, store.clone()));
            lent.renamed.insert(format!("{LAYOUT}{store}"), known);
        }
    }
}

const LAYOUT: &str = "oci-layout://";
const LOCAL: &str = "local:";

/// Returns the names that folders of a build may have.
fn folder_names(options: &BTreeMap<String, String>) -> Vec<String> {
    let of_its_own = [CONTEXT, DOCKERFILE, ARCHIVE].map(ToOwned::to_owned);
    let named = options.iter().filter(|(option, _)| option.starts_with("context:"));
    let named = named.filter_map(|(_, value)| value.strip_prefix(LOCAL).map(ToOwned::to_owned));
    of_its_own.into_iter().chain(named).collect()
}

fn stores(options: &BTreeMap<String, String>) -> Vec<String> {
    let store = |value: &String| Some(value.strip_prefix(LAYOUT)?.rsplit_once('@')?.0.to_owned());
    options
        .iter()
        .filter(|(option, _)| option.starts_with("context:"))
        .filter_map(|(_, value)| store(value))
        .collect()
}

/// Tells the frontend what things are called now.
fn rename(options: &mut BTreeMap<String, String>, lent: &Lent) {
    let dockerfile = lent.name_of(DOCKERFILE);
    if dockerfile != DOCKERFILE {
        options.insert("dockerfilekey".to_owned(), dockerfile.to_owned());
    }
    for (_, value) in options.iter_mut().filter(|(option, _)| option.starts_with("context:")) {
        if let Some(folder) = value.strip_prefix(LOCAL) {
            *value = format!("{LOCAL}{}", lent.name_of(folder));
        } else if let Some((store, digest)) =
            value.strip_prefix(LAYOUT).and_then(|rest| rest.rsplit_once('@'))
        {
            let key = format!("{LAYOUT}{store}");
            *value = format!("{LAYOUT}{}@{digest}", lent.renamed.get(&key).map_or(store, String::as_str));
        }
    }
}

/// Refuses secrets that are one thing here and another there.
fn same_secrets(builds: &[Build]) -> Result<(), Failure> {
    let mut known: BTreeMap<&String, (&str, &Secret)> = BTreeMap::new();
    for Build { name, order, .. } in builds {
        for (id, secret) in &order.settings.secrets {
            let (first, there) = *known.entry(id).or_insert((name, secret));
            if there != secret {
                let message = format!("the secret `{id}` is one thing in `{first}` and another in `{name}`");
                let help = format!("give one of them another id, or build them apart: `rb bake {name}`");
                return Err(Failure::input(message, Some(help)));
            }
        }
    }
    Ok(())
}

impl Session for Together {
    fn local(&self, name: &str) -> Option<LocalDir> {
        let (at, called) = self.folders.get(name)?;
        self.sessions[*at].local(called)
    }

    fn oci_layout(&self, name: &str) -> Option<PathBuf> {
        let (at, called) = self.layouts.get(name)?;
        self.sessions[*at].oci_layout(called)
    }

    fn secret(&self, id: &str) -> Option<Secret> {
        self.sessions.iter().find_map(|session| session.secret(id))
    }

    fn ssh(&self, id: &str) -> Option<SshAgent> {
        self.sessions.iter().find_map(|session| session.ssh(id))
    }

    fn cache_scope(&self) -> String {
        self.sessions.first().map(Session::cache_scope).unwrap_or_default()
    }
}
