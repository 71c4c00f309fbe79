//! From values to the attributes of a target, and back for those who refer to it.

use std::collections::BTreeMap;

use crate::target::{Attest, CacheEntry, Export, Policy, Resources, Secret, Ssh};
use crate::value::{Kind, Value, convert};
use crate::{Group, Target, target};

/// Sets an attribute of a target; `name` is one of `document::ATTRIBUTES`.
pub(crate) fn attribute(target: &mut Target, name: &str, value: Value) -> Result<(), String> {
    match name {
        "annotations" => target.annotations = texts(value)?,
        "args" => target.args = map(value, true)?,
        "attest" => target.attest = entries(value, target::parse_each)?,
        "cache-from" => target.cache_from = entries(value, target::parse_cache)?,
        "cache-to" => target.cache_to = entries(value, target::parse_cache)?,
        "call" => target.call = text(value)?,
        "context" => target.context = text(value)?,
        "contexts" => target.contexts = map(value, false)?,
        "description" => target.description = text(value)?.unwrap_or_default(),
        "dockerfile" => target.dockerfile = text(value)?,
        "dockerfile-inline" => target.dockerfile_inline = text(value)?,
        "entitlements" => target.entitlements = texts(value)?,
        "extra-hosts" => target.extra_hosts = map(value, true)?,
        "inherits" => target.inherits = texts(value)?.unwrap_or_default(),
        "labels" => target.labels = map(value, true)?,
        "network" => target.network = text(value)?,
        "no-cache" => target.no_cache = truth(value)?,
        "no-cache-filter" => target.no_cache_filter = texts(value)?,
        "output" => target.output = entries(value, target::parse_each)?,
        "platforms" => target.platforms = texts(value)?,
        "policy" => target.policy = entries(value, target::parse_each)?,
        "pull" => target.pull = truth(value)?,
        "resources" if value.is_null() => {}
        "resources" => target.resources = Some(Resources::from_value(&value)?),
        "secret" => target.secret = entries(value, target::parse_each)?,
        "shm-size" => target.shm_size = text(value)?,
        "ssh" => target.ssh = entries(value, target::parse_each)?,
        "tags" => target.tags = texts(value)?,
        "target" => target.target = text(value)?,
        "ulimits" => target.ulimits = texts(value)?,
        other => return Err(format!("a target has no `{other}`")),
    }
    Ok(())
}

/// Reads a text, or nothing.
pub(crate) fn text(value: Value) -> Result<Option<String>, String> {
    match convert(value, &Kind::Text)? {
        Value::Text(text) => Ok(Some(text)),
        _ => Ok(None),
    }
}

/// Reads a list of texts, or nothing.
pub(crate) fn texts(value: Value) -> Result<Option<Vec<String>>, String> {
    match convert(value, &Kind::List(Box::new(Kind::Text)))? {
        Value::List(_, values) => values.into_iter().map(some).collect::<Result<_, _>>().map(Some),
        _ => Ok(None),
    }
}

fn some(value: Value) -> Result<String, String> {
    text(value)?.ok_or_else(|| "a text of it is null".to_owned())
}

fn truth(value: Value) -> Result<Option<bool>, String> {
    match convert(value, &Kind::Bool)? {
        Value::Bool(value) => Ok(Some(value)),
        _ => Ok(None),
    }
}

/// Reads texts by name; where null is allowed it means that nothing is said of the name.
fn map(value: Value, nullable: bool) -> Result<BTreeMap<String, String>, String> {
    let mut made = BTreeMap::new();
    if let Value::Map(_, entries) = convert(value, &Kind::Map(Box::new(Kind::Text)))? {
        for (name, value) in entries {
            match text(value)? {
                Some(text) => drop(made.insert(name, text)),
                None if nullable => {}
                None => return Err(format!("`{name}` is null")),
            }
        }
    }
    Ok(made)
}

/// Reads a list whose elements are texts or objects.
fn entries<T: target::Entry>(
    value: Value,
    from_texts: fn(&[String]) -> Result<Vec<T>, String>,
) -> Result<Option<Vec<T>>, String> {
    let values = match value {
        Value::List(_, values) | Value::Tuple(values) => values,
        Value::Null(_) => return Ok(None),
        other => return Err(format!("a list is required, not a {}", other.kind().name())),
    };
    let mut made = Vec::new();
    for (at, value) in values.into_iter().enumerate() {
        let at = |why: String| format!("element {at}: {why}");
        match value {
            Value::Text(text) => made.extend(from_texts(&[text]).map_err(at)?),
            other => made.push(T::from_object(object(other).map_err(at)?).map_err(at)?),
        }
    }
    Ok(Some(made))
}

/// Reads an object of texts; a list in it is joined by commas, null says nothing.
fn object(value: Value) -> Result<BTreeMap<String, String>, String> {
    let Some(entries) = value.entries() else {
        return Err(format!("a text or an object is required, not a {}", value.kind().name()));
    };
    let mut made = BTreeMap::new();
    for (name, value) in entries {
        if value.elements().is_some() {
            made.insert(name.clone(), texts(value.clone())?.unwrap_or_default().join(","));
        } else if let Some(text) = text(value.clone()).map_err(|why| format!("`{name}`: {why}"))? {
            made.insert(name.clone(), text);
        }
    }
    Ok(made)
}

/// Returns a group as others see it.
pub(crate) fn group_value(name: &str, group: &Group) -> Value {
    let entries = [
        ("name", Value::text(name)),
        ("description", Value::text(&group.description)),
        ("targets", Value::texts(group.targets.clone())),
    ];
    Value::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Returns a target as others see it: every attribute, null where nothing is said.
pub(crate) fn target_value(name: &str, target: &Target) -> Value {
    let one = |text: &Option<String>| text.as_ref().map_or(Value::Null(Kind::Text), Value::text);
    let flag = |flag: Option<bool>| flag.map_or(Value::Null(Kind::Bool), Value::Bool);
    let list = Kind::List(Box::new(Kind::Text));
    let many =
        |texts: &Option<Vec<String>>| texts.clone().map_or_else(|| Value::Null(list.clone()), Value::texts);
    let named = |map: &BTreeMap<String, String>| {
        if map.is_empty() { Value::Null(Kind::Map(Box::new(Kind::Text))) } else { texts_by_name(map) }
    };
    let entries = [
        ("name", Value::text(name)),
        ("annotations", many(&target.annotations)),
        ("args", named(&target.args)),
        ("attest", objects(target.attest.as_deref(), attest_entries)),
        ("cache-from", objects(target.cache_from.as_deref(), cache_entries)),
        ("cache-to", objects(target.cache_to.as_deref(), cache_entries)),
        ("call", one(&target.call)),
        ("context", one(&target.context)),
        ("contexts", named(&target.contexts)),
        ("description", Value::text(&target.description)),
        ("dockerfile", one(&target.dockerfile)),
        ("dockerfile-inline", one(&target.dockerfile_inline)),
        ("entitlements", many(&target.entitlements)),
        ("extra-hosts", named(&target.extra_hosts)),
        ("inherits", Value::texts(target.inherits.clone())),
        ("labels", named(&target.labels)),
        ("network", one(&target.network)),
        ("no-cache", flag(target.no_cache)),
        ("no-cache-filter", many(&target.no_cache_filter)),
        ("output", objects(target.output.as_deref(), export_entries)),
        ("platforms", many(&target.platforms)),
        ("policy", objects(target.policy.as_deref(), policy_entries)),
        ("pull", flag(target.pull)),
        ("resources", target.resources.as_ref().map_or(Value::Null(Kind::Any), resources)),
        ("secret", structures(target.secret.as_deref(), secret)),
        ("shm-size", one(&target.shm_size)),
        ("ssh", structures(target.ssh.as_deref(), ssh)),
        ("tags", many(&target.tags)),
        ("target", one(&target.target)),
        ("ulimits", many(&target.ulimits)),
    ];
    Value::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn texts_by_name(map: &BTreeMap<String, String>) -> Value {
    Value::Map(Kind::Text, map.iter().map(|(name, text)| (name.clone(), Value::text(text))).collect())
}

/// Returns entries as a list of maps of texts.
fn objects<T>(entries: Option<&[T]>, texts: fn(&T) -> BTreeMap<String, String>) -> Value {
    let maps = entries.unwrap_or_default().iter().map(|entry| texts_by_name(&texts(entry))).collect();
    Value::List(Kind::Map(Box::new(Kind::Text)), maps)
}

fn attest_entries(attest: &Attest) -> BTreeMap<String, String> {
    let mut all = attest.attributes.clone();
    all.insert("type".to_owned(), attest.kind.clone());
    if attest.disabled {
        all.insert("disabled".to_owned(), "true".to_owned());
    }
    all
}

fn cache_entries(cache: &CacheEntry) -> BTreeMap<String, String> {
    let mut all = cache.attributes.clone();
    all.insert("type".to_owned(), cache.kind.clone());
    all
}

fn export_entries(export: &Export) -> BTreeMap<String, String> {
    let mut all = export.attributes.clone();
    all.insert("type".to_owned(), export.kind.clone());
    all.insert("dest".to_owned(), export.destination.clone());
    all
}

fn policy_entries(policy: &Policy) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut put = |name: &str, text: String| drop(all.insert(name.to_owned(), text));
    if let Some(file) = policy.files.iter().flatten().next() {
        put("filename", file.filename.clone());
    }
    for (name, on) in [("reset", policy.reset), ("disabled", policy.disabled)] {
        if on {
            put(name, "true".to_owned());
        }
    }
    if let Some(strict) = policy.strict {
        put("strict", strict.to_string());
    }
    if let Some(level) = &policy.log_level {
        put("log-level", level.clone());
    }
    all
}

/// Returns entries as a list of objects.
fn structures<T>(entries: Option<&[T]>, structure: fn(&T) -> Value) -> Value {
    let values: Vec<_> = entries.unwrap_or_default().iter().map(structure).collect();
    Value::List(values.first().map_or(Kind::Any, Value::kind), values)
}

fn secret(secret: &Secret) -> Value {
    let entries = [("id", &secret.id), ("src", &secret.src), ("env", &secret.env)];
    Value::Object(entries.into_iter().map(|(name, text)| (name.to_owned(), Value::text(text))).collect())
}

fn ssh(ssh: &Ssh) -> Value {
    let entries = [("id", Value::text(&ssh.id)), ("paths", Value::texts(ssh.paths.clone()))];
    Value::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn resources(resources: &Resources) -> Value {
    let text = |text: &Option<String>| text.as_ref().map_or(Value::Null(Kind::Text), Value::text);
    let number = |number: Option<i64>| number.map_or(Value::Null(Kind::Number), Value::number);
    let entries = [
        ("memory", text(&resources.memory)),
        ("memory-swap", text(&resources.memory_swap)),
        ("cpu-shares", number(resources.cpu_shares)),
        ("cpu-period", number(resources.cpu_period)),
        ("cpu-quota", number(resources.cpu_quota)),
        ("cpuset-cpus", text(&resources.cpuset_cpus)),
        ("cpuset-mems", text(&resources.cpuset_mems)),
    ];
    Value::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
