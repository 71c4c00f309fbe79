//! `--set target.key=value`: what the command line changes in a target.

use super::entries::{Entry as _, parse_cache, parse_each};
use super::{Export, Secret, Target};
use crate::fields::truth;

/// What is set under one key of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// The value, of keys that have one.
    pub(crate) value: String,
    /// The values, of keys that have many.
    pub(crate) values: Vec<String>,
    /// Whether they are added to what is there.
    pub(crate) append: bool,
}

/// Keys with many values.
const MANY: &[&str] = &[
    "output",
    "cache-to",
    "cache-from",
    "tags",
    "platform",
    "secrets",
    "ssh",
    "attest",
    "entitlements",
    "network",
    "annotations",
    "policy",
    "no-cache-filter",
    "ulimits",
];

/// Keys that name one of many: `args.NAME`.
const NAMED: &[&str] = &["args", "contexts", "labels", "extra-hosts", "resources", "secret"];

/// Keys with one value.
const SINGLE: &[&str] =
    &["context", "dockerfile", "target", "call", "no-cache", "shm-size", "pull", "push", "load"];

/// Returns all keys that can be set.
pub(crate) fn keys() -> impl Iterator<Item = &'static str> {
    MANY.iter().chain(NAMED).chain(SINGLE).copied()
}

impl Change {
    /// Adds what was typed for a key; `name` is what stands behind its dot, `value` is missing without `=`.
    ///
    /// `environment` gives an argument without a value its value; without one it stays as it is.
    pub(crate) fn add(
        &mut self,
        key: &str,
        name: Option<&str>,
        value: Option<&str>,
        append: bool,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<bool, String> {
        if MANY.contains(&key) {
            self.append = append;
            self.values.extend(value.map(str::to_owned));
            return Ok(true);
        }
        if NAMED.contains(&key) && name.is_none() {
            return Err(format!("`{key}` needs a name: write `{key}.NAME`"));
        }
        if append && matches!(key, "resources" | "secret") {
            return Err(format!("nothing can be added to `{key}` by `+=`"));
        }
        let given = match value {
            Some(value) => value.to_owned(),
            None => match name.and_then(environment) {
                Some(value) => value,
                None => return Ok(false),
            },
        };
        self.value = given;
        Ok(true)
    }
}

impl Target {
    /// Changes one key.
    pub(crate) fn set(&mut self, key: &str, name: Option<&str>, change: &Change) -> Result<(), String> {
        let value = || change.value.clone();
        let named =
            || name.map(str::to_owned).ok_or_else(|| format!("`{key}` needs a name: write `{key}.NAME`"));
        let flag = || {
            truth(&change.value).ok_or_else(|| format!("`{key}` is true or false, not `{}`", change.value))
        };
        match key {
            "context" => self.context = Some(value()),
            "dockerfile" => self.dockerfile = Some(value()),
            "args" => drop(self.args.insert(named()?, value())),
            "contexts" => drop(self.contexts.insert(named()?, value())),
            "labels" => drop(self.labels.insert(named()?, value())),
            "extra-hosts" => drop(self.extra_hosts.insert(named()?, value())),
            "tags" => put(&mut self.tags, change.values.clone(), change.append),
            "policy" => put(&mut self.policy, parse_each(&change.values)?, change.append),
            "cache-from" => put(&mut self.cache_from, parse_cache(&change.values)?, change.append),
            "cache-to" => put(&mut self.cache_to, parse_cache(&change.values)?, change.append),
            "target" => self.target = Some(value()),
            "call" => self.call = Some(value()),
            "secret" => self.set_secret(&named()?, &change.value)?,
            "secrets" => put(&mut self.secret, parse_each(&change.values)?, change.append),
            "ssh" => put(&mut self.ssh, parse_each(&change.values)?, change.append),
            "platform" => put(&mut self.platforms, change.values.clone(), change.append),
            "output" => put(&mut self.output, parse_each(&change.values)?, change.append),
            "entitlements" => put(&mut self.entitlements, change.values.clone(), true),
            "annotations" => put(&mut self.annotations, change.values.clone(), true),
            "attest" => put(&mut self.attest, parse_each(&change.values)?, true),
            "no-cache" => self.no_cache = Some(flag()?),
            "no-cache-filter" => put(&mut self.no_cache_filter, change.values.clone(), change.append),
            "ulimits" => put(&mut self.ulimits, change.values.clone(), change.append),
            "shm-size" => self.shm_size = Some(value()),
            "resources" => self.resources.get_or_insert_default().put(&named()?, &change.value)?,
            "network" => self.network = change.values.last().cloned(),
            "pull" => self.pull = Some(flag()?),
            "push" => self.set_push(flag()?),
            "load" if flag()? => self.set_load(),
            "load" => {}
            other => {
                let near = rb_diag::nearest(other, keys());
                let help = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                return Err(format!("a target has no key `{other}` that can be set{help}"));
            }
        }
        self.deduplicate();
        Ok(())
    }

    /// Changes where a secret comes from; it has to be declared.
    fn set_secret(&mut self, id: &str, value: &str) -> Result<(), String> {
        let secret = self.secret.iter_mut().flatten().find(|secret| secret.id == id);
        let secret =
            secret.ok_or_else(|| format!("the target has no secret `{id}` that could be changed"))?;
        let next = Secret::from_text(value)?;
        if !next.id.is_empty() && next.id != id {
            return Err(format!("the secret `{id}` cannot become `{}`", next.id));
        }
        secret.src = next.src;
        secret.env = next.env;
        Ok(())
    }

    fn set_push(&mut self, push: bool) {
        let outputs = self.output.get_or_insert_default();
        for output in outputs.iter_mut().filter(|output| output.kind == "image") {
            output.attributes.insert("push".to_owned(), push.to_string());
        }
        if !push {
            let mut at = 0;
            while at < outputs.len() {
                if outputs[at].kind == "registry" {
                    outputs.swap_remove(at);
                } else {
                    at += 1;
                }
            }
        } else if outputs.iter().all(|output| output.kind == "docker") {
            let attributes = [("push".to_owned(), "true".to_owned())].into();
            outputs.push(Export { kind: "image".to_owned(), attributes, ..Export::default() });
        }
    }

    fn set_load(&mut self) {
        let outputs = self.output.get_or_insert_default();
        let loads = |output: &Export| output.kind == "docker" && output.destination.is_empty();
        let images =
            |output: &Export| matches!(output.kind.as_str(), "docker" | "image" | "registry" | "oci");
        if outputs.iter().any(loads) || !outputs.iter().all(images) {
            return;
        }
        outputs.push(Export { kind: "docker".to_owned(), ..Export::default() });
    }
}

/// Puts entries in the place of those that are there, or behind them.
fn put<T>(list: &mut Option<Vec<T>>, entries: Vec<T>, append: bool) {
    if append {
        list.get_or_insert_default().extend(entries);
    } else {
        *list = Some(entries);
    }
}
