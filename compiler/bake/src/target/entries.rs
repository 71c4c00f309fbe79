//! The parts of a target that are written `key=value,…` or as objects.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::fields::{split, truth};
use crate::value::{Kind, Value, convert, to_i64};

/// An attestation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attest {
    /// `sbom` or `provenance`.
    pub kind: String,
    /// Whether it is switched off.
    pub disabled: bool,
    /// What else is said of it.
    pub attributes: BTreeMap<String, String>,
}

/// A cache to read or to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheEntry {
    /// `registry`, `local`, `gha` and others.
    pub kind: String,
    /// What else is said of it.
    pub attributes: BTreeMap<String, String>,
}

/// Where a result goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// `image`, `local`, `tar`, `oci`, `docker`, `registry`, `cacheonly`.
    pub kind: String,
    /// The path it is written to; empty if none.
    pub destination: String,
    /// What else is said of it.
    pub attributes: BTreeMap<String, String>,
}

/// A secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// The name that RUN uses.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The file it is in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub src: String,
    /// The variable of the environment it is in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub env: String,
}

/// An agent, or keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Ssh {
    /// The name that RUN uses.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Sockets or keys; none for the agent of the environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// A policy for sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    /// Its files.
    pub files: Option<Vec<PolicyFile>>,
    /// Whether it replaces those before it.
    pub reset: bool,
    /// Whether none counts.
    pub disabled: bool,
    /// Whether what it does not know is refused.
    pub strict: Option<bool>,
    /// How much it tells.
    pub log_level: Option<String>,
}

/// A file of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PolicyFile {
    /// Its path.
    pub filename: String,
    /// Its bytes, as far as they were read: never here.
    pub data: Option<String>,
}

/// Limits of each step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are those of the kernel's limits")]
pub struct Resources {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<String>,
}

/// What can be written as one text or as an object of texts.
pub(crate) trait Entry: Sized {
    fn from_text(text: &str) -> Result<Self, String>;
    fn from_object(object: BTreeMap<String, String>) -> Result<Self, String>;
}

/// Reads texts, leaving out empty ones.
pub(crate) fn parse_each<T: Entry>(texts: &[String]) -> Result<Vec<T>, String> {
    texts.iter().filter(|text| !text.is_empty()).map(|text| T::from_text(text)).collect()
}

/// Reads caches: a text without `=` names several images.
pub(crate) fn parse_cache(texts: &[String]) -> Result<Vec<CacheEntry>, String> {
    let mut entries = Vec::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        if text.contains('=') {
            entries.push(CacheEntry::from_text(text)?);
        } else {
            for field in split(text, ',')? {
                entries.push(CacheEntry::from_text(&field)?);
            }
        }
    }
    Ok(entries)
}

/// Writes what `--sbom` and `--provenance` take as an attestation.
pub(crate) fn canonical_attest(kind: &str, text: &str) -> String {
    match truth(text) {
        Some(on) => format!("type={kind},disabled={}", !on),
        None => format!("type={kind},{text}"),
    }
}

/// Splits `key=value` fields, the keys in small letters and without space around them.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |field: String| {
        let (key, value) =
            field.split_once('=').ok_or_else(|| format!("`{field}` is not of the form key=value"))?;
        Ok((key.trim().to_lowercase(), value.to_owned()))
    };
    split(text, ',')?.into_iter().map(pair).collect()
}

impl Entry for Attest {
    fn from_text(text: &str) -> Result<Self, String> {
        let mut made = Self::default();
        for field in split(text, ',')? {
            let (key, value) =
                field.split_once('=').ok_or_else(|| format!("`{field}` is not of the form key=value"))?;
            made.put(key, value)?;
        }
        made.checked()
    }

    fn from_object(object: BTreeMap<String, String>) -> Result<Self, String> {
        let mut made = Self::default();
        object.iter().try_for_each(|(key, value)| made.put(key, value))?;
        made.checked()
    }
}

impl Attest {
    fn put(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key.trim().to_lowercase().as_str() {
            "type" => value.clone_into(&mut self.kind),
            "disabled" => {
                self.disabled =
                    truth(value).ok_or_else(|| format!("`disabled` is true or false, not `{value}`"))?;
            }
            _ => {
                self.attributes.insert(key.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }

    fn checked(self) -> Result<Self, String> {
        if self.kind.is_empty() {
            Err("an attestation needs its `type`: sbom or provenance".to_owned())
        } else {
            Ok(self)
        }
    }
}

impl Entry for CacheEntry {
    fn from_text(text: &str) -> Result<Self, String> {
        let fields = split(text, ',')?;
        if let [single] = fields.as_slice()
            && !single.contains('=')
        {
            let attributes = BTreeMap::from([("ref".to_owned(), single.clone())]);
            return Ok(Self { kind: "registry".to_owned(), attributes });
        }
        Self::from_object(pairs(text)?.into_iter().collect())
    }

    fn from_object(mut object: BTreeMap<String, String>) -> Result<Self, String> {
        let kind = object.remove("type").filter(|kind| !kind.is_empty());
        let kind = kind.ok_or("a cache needs its `type`: registry, local, gha …")?;
        Ok(Self { kind, attributes: object })
    }
}

impl Entry for Export {
    fn from_text(text: &str) -> Result<Self, String> {
        let fields = split(text, ',')?;
        if fields.len() == 1 && fields[0] == text && !text.starts_with("type=") {
            let kind = if text == "-" { "tar" } else { "local" };
            return Ok(Self {
                kind: kind.to_owned(),
                destination: text.to_owned(),
                attributes: BTreeMap::new(),
            });
        }
        Self::from_object(pairs(text)?.into_iter().collect())
    }

    fn from_object(mut object: BTreeMap<String, String>) -> Result<Self, String> {
        let kind = object.remove("type").filter(|kind| !kind.is_empty());
        let kind = kind.ok_or("an output needs its `type`: image, local, tar, oci, docker …")?;
        let destination = object.remove("dest").unwrap_or_default();
        Ok(Self { kind, destination, attributes: object })
    }
}

impl Entry for Secret {
    fn from_text(text: &str) -> Result<Self, String> {
        let mut made = Self::default();
        let mut kind = String::new();
        for field in split(text, ',')? {
            let (key, value) =
                field.split_once('=').ok_or_else(|| format!("`{field}` is not of the form key=value"))?;
            let value = value.to_owned();
            match key.to_lowercase().as_str() {
                "type" if matches!(value.as_str(), "file" | "env") => kind = value,
                "type" => return Err(format!("there is no type of secret `{value}`: file or env")),
                "id" => made.id = value,
                "source" | "src" => made.src = value,
                "env" => made.env = value,
                other => return Err(format!("a secret has no `{other}`: id, src, env or type")),
            }
        }
        if kind == "env" && made.env.is_empty() {
            made.env = std::mem::take(&mut made.src);
        }
        Ok(made)
    }

    fn from_object(mut object: BTreeMap<String, String>) -> Result<Self, String> {
        let mut take = |name| object.remove(name).unwrap_or_default();
        Ok(Self { id: take("id"), src: take("src"), env: take("env") })
    }
}

impl Entry for Ssh {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(match text.split_once('=') {
            Some((id, paths)) => {
                Self { id: id.to_owned(), paths: paths.split(',').map(str::to_owned).collect() }
            }
            None => Self { id: text.to_owned(), paths: Vec::new() },
        })
    }

    fn from_object(object: BTreeMap<String, String>) -> Result<Self, String> {
        let id = object.get("id").cloned().unwrap_or_default();
        let paths = object.get("paths").map(|paths| paths.split(',').map(str::to_owned).collect());
        Ok(Self { id, paths: paths.unwrap_or_default() })
    }
}

impl Entry for Policy {
    fn from_text(text: &str) -> Result<Self, String> {
        let mut made = Self::default();
        pairs(text)?.into_iter().try_for_each(|(key, value)| made.put(&key, &value))?;
        Ok(made)
    }

    fn from_object(object: BTreeMap<String, String>) -> Result<Self, String> {
        let mut made = Self::default();
        object.iter().try_for_each(|(key, value)| made.put(&key.trim().to_lowercase(), value))?;
        Ok(made)
    }
}

impl Policy {
    fn put(&mut self, key: &str, value: &str) -> Result<(), String> {
        let flag = || truth(value).ok_or_else(|| format!("`{key}` is true or false, not `{value}`"));
        match key {
            "filename" if value.is_empty() => return Err("`filename` is empty".to_owned()),
            "filename" => {
                let file = PolicyFile { filename: value.to_owned(), data: None };
                self.files.get_or_insert_default().push(file);
            }
            "reset" => self.reset = flag()?,
            "disabled" => self.disabled = flag()?,
            "strict" => self.strict = Some(flag()?),
            "log-level" => {
                let level = value.to_lowercase();
                let level = if level == "warn" { "warning".to_owned() } else { level };
                let known = ["panic", "fatal", "error", "warning", "info", "debug", "trace"];
                if !known.contains(&level.as_str()) {
                    return Err(format!("there is no log level `{value}`: {}", known.join(", ")));
                }
                self.log_level = Some(level);
            }
            other => {
                return Err(format!(
                    "a policy has no `{other}`: filename, reset, disabled, strict, log-level"
                ));
            }
        }
        Ok(())
    }
}

impl Resources {
    /// Sets one limit by its name.
    pub(crate) fn put(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = || value.parse().map_err(|_| format!("`{name}` is a whole number, not `{value}`"));
        let text = || Some(value.to_owned());
        match name {
            "memory" => self.memory = text(),
            "memory-swap" => self.memory_swap = text(),
            "cpu-shares" => self.cpu_shares = Some(number()?),
            "cpu-period" => self.cpu_period = Some(number()?),
            "cpu-quota" => self.cpu_quota = Some(number()?),
            "cpuset-cpus" => self.cpuset_cpus = text(),
            "cpuset-mems" => self.cpuset_mems = text(),
            other => return Err(format!("there is no resource `{other}`")),
        }
        Ok(())
    }

    /// Reads an object; what it does not know, it leaves out, as the object may be of a common type.
    pub(crate) fn from_value(value: &Value) -> Result<Self, String> {
        let entries =
            value.entries().ok_or_else(|| format!("an object is required, not a {}", value.kind().name()))?;
        let mut made = Self::default();
        for (name, value) in entries.iter().filter(|(_, value)| !value.is_null()) {
            let text = match convert(value.clone(), &Kind::Number) {
                Ok(Value::Number(number)) if name.starts_with("cpu-") => {
                    to_i64(&number).map(|number| number.to_string())
                }
                _ => None,
            };
            let ((Some(text), _) | (None, Value::Text(text))) = (text, convert(value.clone(), &Kind::Text)?)
            else {
                continue;
            };
            made.put(name, &text)?;
        }
        Ok(made)
    }

    pub(crate) fn merge(&mut self, other: Self) {
        let Self { memory, memory_swap, cpu_shares, cpu_period, cpu_quota, cpuset_cpus, cpuset_mems } = other;
        self.memory = memory.or(self.memory.take());
        self.memory_swap = memory_swap.or(self.memory_swap.take());
        self.cpu_shares = cpu_shares.or(self.cpu_shares);
        self.cpu_period = cpu_period.or(self.cpu_period);
        self.cpu_quota = cpu_quota.or(self.cpu_quota);
        self.cpuset_cpus = cpuset_cpus.or(self.cpuset_cpus.take());
        self.cpuset_mems = cpuset_mems.or(self.cpuset_mems.take());
    }
}

impl Serialize for Attest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all: BTreeMap<&str, serde_json::Value> = texts(&self.attributes);
        all.insert("type", self.kind.as_str().into());
        if self.disabled {
            all.insert("disabled", true.into());
        }
        all.serialize(serializer)
    }
}

impl Serialize for CacheEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = texts(&self.attributes);
        all.insert("type", self.kind.as_str().into());
        all.serialize(serializer)
    }
}

impl Serialize for Export {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = texts(&self.attributes);
        all.insert("type", self.kind.as_str().into());
        if !self.destination.is_empty() {
            all.insert("dest", self.destination.as_str().into());
        }
        all.serialize(serializer)
    }
}

fn texts(attributes: &BTreeMap<String, String>) -> BTreeMap<&str, serde_json::Value> {
    attributes.iter().map(|(name, value)| (name.as_str(), value.as_str().into())).collect()
}
